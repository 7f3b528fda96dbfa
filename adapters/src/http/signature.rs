//! Signatures by which a destination knows who a request is from, as Standard Webhooks has them.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use pillarbox_runtime::adapter::SendError;
use pillarbox_store::Timestamp;
use sha2::Sha256;

use super::request::Streamed;
use crate::parcel::{Parcel, body_unreadable};

/// The header with the id that stays the same however often the message is sent: the send key.
pub(super) const ID: HeaderName = HeaderName::from_static("webhook-id");
/// The header with the time of the attempt, in seconds.
pub(super) const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// The header with a signature by each secret.
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// How a secret begins.
const PREFIX: &str = "whsec_";
/// How many bytes a secret may have.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Secrets are written with padding and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Signs with a secret.
pub(super) struct Signer(Hmac<Sha256>);

impl Signer {
    /// Reads a secret as it is written, `whsec_` and base 64.
    ///
    /// # Errors
    /// What it should be; never the secret.
    pub(super) fn parse(secret: &str) -> Result<Self, String> {
        let hint = "a secret is \"whsec_\" and 24 to 64 bytes in base 64";
        let encoded = secret.strip_prefix(PREFIX).ok_or(hint)?;
        let key = BASE64.decode(encoded).map_err(|_| hint)?;
        if !BYTES.contains(&key.len()) {
            return Err(hint.to_owned());
        }
        Ok(Self(Hmac::new_from_slice(&key).map_err(|_| hint)?))
    }
}

/// Adds the three headers to a request. The body is read once more for it.
///
/// # Errors
/// The body cannot be read, or the send key does not fit into a header.
pub(super) fn sign(
    signers: &[Signer],
    parcel: &Parcel<'_>,
    now: Timestamp,
    headers: &mut HeaderMap,
) -> Result<(), SendError> {
    let seconds = now.as_micros().div_euclid(1_000_000);
    let mut all: Vec<Hmac<Sha256>> = signers.iter().map(|signer| signer.0.clone()).collect();
    let mut update = |bytes: &[u8]| all.iter_mut().for_each(|mac| mac.update(bytes));
    update(format!("{}.{seconds}.", parcel.send_key).as_bytes());
    let mut body = Streamed::new(parcel.body.clone());
    while !body.is_read() {
        update(&body.read().map_err(body_unreadable)?);
    }
    let signatures = all.into_iter().map(|mac| format!("v1,{}", BASE64.encode(mac.finalize().into_bytes())));
    let signatures = signatures.collect::<Vec<_>>().join(" ");
    let unfit = |error| SendError::permanent("a signature does not fit into a header").caused_by(error);
    let id = HeaderValue::from_str(parcel.send_key).map_err(unfit)?;
    headers.insert(ID, id);
    headers.insert(TIMESTAMP, HeaderValue::from(seconds));
    headers.insert(SIGNATURE, HeaderValue::from_str(&signatures).map_err(unfit)?);
    Ok(())
}
