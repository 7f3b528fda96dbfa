//! Signatures, as a destination verifies them.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::destination::Seen;
use super::*;
use crate::http::signature::{self, Signer};
use crate::parcel::Parcel;

/// Of the tests of Standard Webhooks, as is what follows from it.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Another one, without the padding that it could have.
const NEW: &str = "whsec_aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMjM";

/// Whether a request is signed with this secret, by what came over the wire only.
fn is_signed(seen: &Seen, secret: &str) -> bool {
    let key = secret.strip_prefix("whsec_").unwrap().replace('=', "");
    let key =
        BASE64_STANDARD.decode(format!("{key}{}", "=".repeat(key.len().next_multiple_of(4) - key.len())));
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.unwrap()).unwrap();
    mac.update(format!("{}.{}.", seen.header("webhook-id"), seen.header("webhook-timestamp")).as_bytes());
    mac.update(&seen.body);
    let mac = mac.finalize().into_bytes();
    let mut signatures = seen.header("webhook-signature").split(' ');
    signatures.any(|one| BASE64_STANDARD.decode(one.strip_prefix("v1,").unwrap()).unwrap() == mac.as_slice())
}

#[test]
fn the_standards_own_example_comes_out() {
    let sample = Sample::new("{\"test\": 2432232314}");
    let parcel = Parcel { send_key: "msg_p5jXN8AQM9LWM0D4loKWxJek", ..sample.parcel() };
    let mut headers = http::HeaderMap::new();
    let now = Timestamp::from_micros(1_614_265_330_999_999);
    signature::sign(&[Signer::parse(SECRET).unwrap()], &parcel, now, &mut headers).unwrap();
    assert_eq!(headers["webhook-id"], "msg_p5jXN8AQM9LWM0D4loKWxJek");
    assert_eq!(headers["webhook-timestamp"], "1614265330");
    assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[tokio::test]
async fn a_destination_that_has_either_secret_knows_who_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old");
    fs::write(&old, format!("{SECRET}\n")).unwrap();
    for known in [SECRET, NEW, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let destination = Destination::start(None, move |seen| {
            let status = if is_signed(&seen, known) { 204 } else { 401 };
            let text = format!("{known} {SECRET} {}", SECRET.strip_prefix("whsec_").unwrap());
            std::future::ready(Response::builder().status(status).body(Full::from(text)).unwrap())
        })
        .await;
        let settings = Settings::default()
            .with("url", destination.url("http"))
            .with("webhook_secrets", json!([NEW, format!("file:{}", old.display())]));
        let sender = open(&settings).unwrap();
        for len in [0, 1, 3 * FRAGMENT_BYTES + 1] {
            let sample = Sample::new(stored(bytes(len), None));
            let sent = sender.deliver(&sample.parcel()).await;
            let seen = destination.seen().pop().unwrap();
            assert_eq!((seen.header("webhook-id"), seen.header("idempotency-key")), (KEY, KEY));
            let seconds = SUBMITTED.as_micros() / 1_000_000;
            assert_eq!(seen.header("webhook-timestamp"), seconds.to_string());
            assert_eq!(seen.header("webhook-signature").split(' ').count(), 2);
            assert_eq!(seen.body, bytes(len));
            if known == SECRET || known == NEW {
                sent.unwrap();
                continue;
            }
            let error = sent.unwrap_err();
            is(&error, ErrorClass::Permanent, "401");
            let shown = format!("{error:?} {:?} {sender:?} {settings:?}", error.to_failure());
            assert!(!shown.contains("MfKQ9r8") && !shown.contains("aHVudGVy"), "{shown}");
        }
    }
}

#[tokio::test]
async fn what_is_not_signed_has_nothing_of_it() {
    let destination = Destination::answering(204, &[], "").await;
    sender(&destination.url("http")).deliver(&Sample::new("hello").parcel()).await.unwrap();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        assert!(!destination.seen()[0].headers.contains_key(name), "{name}");
    }
    // What cannot be read cannot be signed, and nothing of it leaves.
    destination.forget();
    let settings =
        Settings::default().with("url", destination.url("http")).with("webhook_secrets", json!([SECRET]));
    let sender = open(&settings).unwrap();
    for (kind, class) in
        [(ErrorKind::Unavailable, ErrorClass::Temporary), (ErrorKind::Corrupt, ErrorClass::Permanent)]
    {
        let body = stored(bytes(3 * FRAGMENT_BYTES), Some((1, kind)));
        let error = sender.deliver(&Sample::new(body).parcel()).await.unwrap_err();
        is(&error, class, "could not be read from the box");
    }
    assert!(destination.seen().is_empty());
}

#[test]
fn secrets_are_checked_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad");
    fs::write(&bad, "whsec_hunter2").unwrap();
    let base = Settings::default().with("url", "https://example.com/");
    let wrong = base
        .clone()
        .with("webhook_secrets", json!(["hunter2hunter2", "whsec_hunter2", "env:", SECRET, "whsec_ä"]))
        .with("idempotency_header", "webhook-signature")
        .with("headers", json!({ "Webhook-Id": "x" }));
    let error = HttpSettings::check(&wrong).unwrap_err();
    let keys: Vec<&str> = error.0.iter().map(|problem| problem.key.as_str()).collect();
    let expected = [
        "idempotency_header",
        "headers.Webhook-Id",
        "webhook_secrets[0]",
        "webhook_secrets[1]",
        "webhook_secrets[2]",
        "webhook_secrets[4]",
    ];
    assert_eq!(keys, expected);
    assert!(!error.to_string().contains("hunter2"));
    for (from, part) in [(bad.to_str().unwrap(), "a secret is"), ("/nowhere/secret", "cannot be read")] {
        let settings = base.clone().with("webhook_secrets", json!([format!("file:{from}")]));
        let error = open(&settings).unwrap_err();
        is(
            &error,
            ErrorClass::Temporary,
            &format!("webhook_secrets[0]: {}", if part == "a secret is" { part } else { "" }),
        );
        is(&error, ErrorClass::Temporary, part);
        assert!(!format!("{error:?}").contains("hunter2"));
    }
    // Who does not sign may use the names.
    let own =
        base.with("headers", json!({ "webhook-id": "x" })).with("idempotency_header", "webhook-signature");
    HttpSettings::check(&own).unwrap();
}
