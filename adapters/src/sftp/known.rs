//! The keys by which a server is known.

use std::borrow::Cow;
use std::path::Path;

use pillarbox_runtime::adapter::SendError;
use russh::Preferred;
use russh::keys::ssh_key::Fingerprint;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey, known_hosts};

use super::settings::{Host, SftpSettings};

/// The kinds of keys that are taken, most wanted first.
const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
];

/// A key that settings name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pin {
    fingerprint: Fingerprint,
    /// Of what kind the key is, where that is known.
    algorithm: Option<Algorithm>,
}

impl Pin {
    /// Reads `SHA256:...`, or a public key as OpenSSH writes it.
    ///
    /// # Errors
    /// What can be written instead.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let hint = "write a key's fingerprint, \"SHA256:...\", or the key, \"ssh-ed25519 AAAA...\"";
        if text.starts_with("SHA256:") {
            let fingerprint = text.parse().map_err(|_| format!("{text:?} is no fingerprint; {hint}"))?;
            return Ok(Self { fingerprint, algorithm: None });
        }
        let key = PublicKey::from_openssh(text).map_err(|_| format!("{text:?} is no key; {hint}"))?;
        if ALGORITHMS.contains(&key.algorithm()) {
            return Ok(Self::of(&key));
        }
        Err(format!("{text:?} is of a kind that is not spoken; take the server's Ed25519 or ECDSA key"))
    }

    fn of(key: &PublicKey) -> Self {
        Self { fingerprint: key.fingerprint(HashAlg::Sha256), algorithm: Some(key.algorithm()) }
    }
}

/// The key that a line of known_hosts takes back.
fn revoked(line: &str) -> Option<Pin> {
    let mut words = line.split_whitespace();
    let (marker, _hosts) = (words.next()?, words.next()?);
    let key = PublicKey::from_openssh(&format!("{} {}", words.next()?, words.next()?)).ok()?;
    (marker == "@revoked").then(|| Pin::of(&key))
}

/// By what this server is known.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pins: Vec<Pin>,
    /// Where its keys are named.
    by: String,
}

impl Known {
    /// The keys of the settings' server; may read a file.
    ///
    /// # Errors
    /// Temporary: the file cannot be read, or has no key of this server that will do.
    pub(super) fn read(settings: &SftpSettings) -> Result<Self, SendError> {
        match &settings.host {
            Host::Pinned(pins) => Ok(Self { pins: pins.clone(), by: "setting host_keys".to_owned() }),
            Host::File(path) => Self::of_file(settings, path),
        }
    }

    fn of_file(settings: &SftpSettings, path: &Path) -> Result<Self, SendError> {
        let (address, shown) = (&settings.address, path.display());
        let failed = |what: String| SendError::temporary(format!("{address}: known_hosts {shown} {what}"));
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| failed("cannot be read".to_owned()).caused_by(error))?;
        let revoked: Vec<Pin> = text.lines().filter_map(revoked).collect();
        let found = known_hosts::known_host_keys_path(&address.host, address.port, path);
        let found = found.map_err(|error| failed("cannot be read".to_owned()).caused_by(error))?;
        if found.is_empty() {
            return Err(failed(
                "has no key of this server; add the one that its operator tells you".to_owned(),
            ));
        }
        let keys = found.iter().map(|(_, key)| key);
        let spoken = keys.filter(|key| ALGORITHMS.contains(&key.algorithm())).map(Pin::of);
        let pins: Vec<Pin> = spoken.filter(|pin| !revoked.contains(pin)).collect();
        if pins.is_empty() {
            let what = "has only keys of this server that are revoked or of kinds that are not spoken; add its Ed25519 \
                        or ECDSA key";
            return Err(failed(what.to_owned()));
        }
        Ok(Self { pins, by: format!("known_hosts {shown}") })
    }

    /// What is spoken with it: of its kinds of keys only those of which one is known.
    pub(super) fn preferred(&self) -> Preferred {
        let any = self.pins.iter().any(|pin| pin.algorithm.is_none());
        let known =
            |kind: &Algorithm| any || self.pins.iter().any(|pin| pin.algorithm.as_ref() == Some(kind));
        let key = ALGORITHMS.into_iter().filter(known).collect();
        Preferred { key: Cow::Owned(key), ..Preferred::DEFAULT }
    }

    /// Whether the key is one of the server's.
    ///
    /// # Errors
    /// What to tell people of it.
    pub(super) fn check(&self, key: &PublicKey) -> Result<(), String> {
        let fingerprint = key.fingerprint(HashAlg::Sha256);
        if self.pins.iter().any(|pin| pin.fingerprint == fingerprint) {
            return Ok(());
        }
        Err(format!(
            "the server's key is not the one that is known ({}): it shows {} {fingerprint}. Somebody may be in \
             between; nothing was sent. If the server has a new key, have its operator confirm it, and set it",
            self.by,
            key.algorithm()
        ))
    }
}
