//! The HTTP adapter against real servers.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, Version};
use http_body_util::Full;
use pillarbox_runtime::adapter::{DoubleSafety, ErrorClass, SendError, Settings, Transport as _};
use pillarbox_store::{Clock, ErrorKind, FRAGMENT_BYTES, HeaderValue, Timestamp};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use self::destination::{Destination, nobody, raw};
use super::send::HttpSender;
use super::settings::HttpSettings;
use crate::parcel::sample::{ID, KEY, SUBMITTED, Sample, bytes, stored};

mod destination;
mod settings;
mod signed;
mod tls;

#[derive(Debug)]
struct Still(Timestamp);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        self.0
    }
}

fn open(settings: &Settings) -> Result<HttpSender, SendError> {
    HttpSender::open(&HttpSettings::check(settings).unwrap(), Arc::new(Still(SUBMITTED)))
}

fn sender(url: &str) -> HttpSender {
    open(&Settings::default().with("url", url)).unwrap()
}

async fn answered(status: u16, headers: &[(&str, &str)], body: &'static str) -> Result<(), SendError> {
    let destination = Destination::answering(status, headers, body).await;
    let sent = sender(&destination.url("http")).deliver(&Sample::new("hello").parcel()).await;
    assert_eq!(destination.seen().len(), 1);
    sent
}

fn is(error: &SendError, class: ErrorClass, part: &str) {
    assert_eq!(error.class(), class, "{error}");
    let chain = error.to_failure().chain.join(" <- ");
    assert!(chain.contains(part), "{chain}");
}

#[tokio::test]
async fn a_message_becomes_a_request() {
    let destination = Destination::answering(204, &[], "").await;
    let sample = Sample::new("hello")
        .header("Order", "A-17 ü")
        .header("count", 3)
        .header("raw", HeaderValue::Bytes(vec![1, 255]))
        .header("content-type", "text/plain")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .attempt(4);
    sender(&destination.url("http")).deliver(&sample.parcel()).await.unwrap();
    let seen = &destination.seen()[0];
    assert_eq!((&seen.method, seen.uri.path(), seen.version), (&Method::POST, "/in", Version::HTTP_11));
    assert_eq!(seen.body, "hello");
    assert_eq!(seen.header("idempotency-key"), KEY);
    assert_eq!(seen.header("x-pillarbox-message-id"), ID);
    assert_eq!(seen.header("x-pillarbox-attempt"), "4");
    assert_eq!(seen.header("content-type"), "text/plain");
    assert_eq!(seen.header("content-length"), "5");
    assert_eq!(seen.header("traceparent"), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_eq!(seen.headers["x-pillarbox-h-order"].as_bytes(), "A-17 ü".as_bytes());
    assert_eq!(seen.header("x-pillarbox-h-count"), "3");
    assert_eq!(seen.header("x-pillarbox-h-raw"), "01ff");
    assert_eq!(seen.header("host"), destination.address.to_string());
    assert!(!seen.headers.contains_key("x-pillarbox-h-traceparent"));
    assert!(!seen.headers.contains_key("transfer-encoding"));
    assert!(!seen.headers.contains_key("x-pillarbox-in-doubt"));
    sender(&destination.url("http")).deliver(&sample.in_doubt().parcel()).await.unwrap();
    let again = &destination.seen()[1];
    assert_eq!((again.header("x-pillarbox-attempt"), again.header("x-pillarbox-in-doubt")), ("4", "true"));
}

#[tokio::test]
async fn settings_shape_the_request() {
    let destination = Destination::answering(201, &[], "made").await;
    let settings = Settings::default()
        .with("url", format!("{}?a=1", destination.url("http")))
        .with("method", "PUT")
        .with("headers", json!({ "Accept": "application/json", "traceparent": "00-0-0-00" }))
        .with("content_type", "application/json")
        .with("forward_headers", json!(["Wanted"]))
        .with("idempotency_header", "X-Request-Key");
    let sample =
        Sample::new("{}").header("wanted", "yes").header("unwanted", "no").header("traceparent", "own");
    open(&settings).unwrap().deliver(&sample.parcel()).await.unwrap();
    let seen = &destination.seen()[0];
    assert_eq!((&seen.method, seen.uri.to_string().as_str()), (&Method::PUT, "/in?a=1"));
    assert_eq!(seen.header("accept"), "application/json");
    assert_eq!(seen.header("content-type"), "application/json");
    assert_eq!(seen.header("x-request-key"), KEY);
    assert_eq!(seen.header("traceparent"), "own", "the message's own goes before the settings'");
    assert_eq!(seen.header("x-pillarbox-h-wanted"), "yes");
    assert!(!seen.headers.contains_key("x-pillarbox-h-unwanted"));
    assert!(!seen.headers.contains_key("idempotency-key"));
}

#[tokio::test]
async fn bodies_of_every_length_arrive_over_both_versions() {
    let destination = Destination::answering(200, &[], "").await;
    for version in ["1.1", "2"] {
        let settings = Settings::default().with("url", destination.url("http")).with("version", version);
        let sender = open(&settings).unwrap();
        for len in [0, 1, FRAGMENT_BYTES, FRAGMENT_BYTES + 1, 1024 * 1024, 5 * FRAGMENT_BYTES + 7] {
            sender.deliver(&Sample::new(stored(bytes(len), None)).parcel()).await.unwrap();
            let seen = destination.seen().pop().unwrap();
            assert_eq!(seen.body, bytes(len), "{version} {len}");
            assert_eq!(seen.header("content-length"), len.to_string());
            assert_eq!(seen.version == Version::HTTP_2, version == "2");
            assert_eq!(seen.header("idempotency-key"), KEY);
        }
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_not_delivered() {
    let destination = Destination::answering(200, &[], "").await;
    for version in ["1.1", "2"] {
        let settings = Settings::default().with("url", destination.url("http")).with("version", version);
        let sender = open(&settings).unwrap();
        for (kind, class) in
            [(ErrorKind::Unavailable, ErrorClass::Temporary), (ErrorKind::Corrupt, ErrorClass::Permanent)]
        {
            let body = stored(bytes(3 * FRAGMENT_BYTES), Some((1, kind)));
            let error = sender.deliver(&Sample::new(body).parcel()).await.unwrap_err();
            is(&error, class, "could not be read from the box");
        }
        assert!(destination.seen().is_empty(), "{version}");
        sender.deliver(&Sample::new("still works").parcel()).await.unwrap();
        assert_eq!(destination.seen().len(), 1);
        destination.forget();
    }
}

#[tokio::test]
async fn statuses_are_classed() {
    for status in [200, 201, 202, 204, 299] {
        answered(status, &[], "").await.unwrap();
    }
    for status in [408, 425, 429, 500, 502, 503, 504, 599] {
        let error = answered(status, &[], "busy").await.unwrap_err();
        is(&error, ErrorClass::Temporary, &format!("the answer is {status}"));
        assert!(error.to_string().ends_with("saying: busy"), "{error}");
    }
    for status in [400, 401, 403, 404, 409, 410, 413, 422, 300, 304] {
        is(
            &answered(status, &[], "").await.unwrap_err(),
            ErrorClass::Permanent,
            &format!("answer is {status}"),
        );
    }
}

#[tokio::test]
async fn retry_after_is_obeyed_in_both_forms() {
    for (text, span) in [
        ("120", Some(120)),
        ("0", Some(0)),
        ("Fri, 02 Jan 2026 03:05:05 GMT", Some(59)),
        ("Friday, 02-Jan-26 03:05:05 GMT", Some(59)),
        ("Thu, 01 Jan 2026 00:00:00 GMT", Some(0)),
        ("99999999999999999999999", Some(86_400)),
        ("Fri, 02 Jan 2099 03:05:05 GMT", Some(86_400)),
        ("soon", None),
        ("-5", None),
        ("", None),
    ] {
        let error = answered(503, &[("retry-after", text)], "").await.unwrap_err();
        assert_eq!(error.wait().map(|span| span.as_secs()), span, "{text}");
    }
    assert_eq!(answered(400, &[("retry-after", "5")], "").await.unwrap_err().wait(), None);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Destination::answering(200, &[], "").await;
    let location = format!("http://user:pass@{}/other?token=hidden", elsewhere.address);
    let error = answered(307, &[("location", &location)], "").await.unwrap_err();
    is(
        &error,
        ErrorClass::Permanent,
        &format!("to http://{}/other?[redacted]; redirects", elsewhere.address),
    );
    assert!(elsewhere.seen().is_empty());
    is(&answered(301, &[], "").await.unwrap_err(), ErrorClass::Permanent, "no Location");
}

#[tokio::test]
async fn a_conflict_is_the_first_attempt_at_work_where_the_destination_deduplicates() {
    let destination = Destination::answering(409, &[], "in progress").await;
    let settings =
        Settings::default().with("url", destination.url("http")).with("destination_deduplicates", true);
    let sender = open(&settings).unwrap();
    let error = sender.deliver(&Sample::new("hello").parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "in progress");
    assert_eq!(sender.describe().capabilities.double_safety, DoubleSafety::Keyed(None));
    let plain = self::sender(&destination.url("http"));
    assert_eq!(plain.describe().capabilities.double_safety, DoubleSafety::AtLeastOnce);
}

#[tokio::test]
async fn what_the_answer_says_is_shown_short_and_clean() {
    let error = answered(400, &[], "bad\r\n\x1b[2Jorder\u{202e}\t 17 \u{0}").await.unwrap_err();
    assert!(error.to_string().ends_with("saying: bad [2Jorder 17"), "{error}");
    let long: &'static str = Box::leak("ü".repeat(500_000).into_boxed_str());
    let error = answered(500, &[], long).await.unwrap_err();
    let shown = error.to_string();
    assert!(shown.len() < 2_300 && shown.len() > 2_000, "{}", shown.len());
}

#[tokio::test]
async fn secrets_are_sent_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, "Bearer s3cr3t-value\n").unwrap();
    let destination = Destination::start(None, |seen| {
        let said = format!("who is {}? {}", seen.header("authorization"), seen.header("x-api-key"));
        let echoed = format!("{said} {}", &seen.header("authorization")[7..]);
        std::future::ready(Response::builder().status(403).body(Full::from(echoed)).unwrap())
    })
    .await;
    let settings =
        Settings::default().with("url", format!("{}?sig=querys3cret", destination.url("http"))).with(
            "headers",
            json!({ "authorization": format!("file:{}", path.display()), "x-api-key": "plain-key-7" }),
        );
    let checked = HttpSettings::check(&settings).unwrap();
    let sender = open(&settings).unwrap();
    let error = sender.deliver(&Sample::new("hello").parcel()).await.unwrap_err();
    assert_eq!(destination.seen()[0].header("authorization"), "Bearer s3cr3t-value");
    is(&error, ErrorClass::Permanent, "who is [redacted]? [redacted] [redacted]");
    let shown = format!("{error} {error:?} {checked:?} {settings:?} {sender:?} {:?}", error.to_failure());
    for secret in ["s3cr3t", "querys3cret", "plain-key-7"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(format!("{checked:?}").contains("file:"), "a reference is shown");
}

#[tokio::test]
async fn secrets_that_are_missing_are_named() {
    let settings = |value: &str| {
        Settings::default()
            .with("url", "http://localhost/")
            .with("headers", json!({ "authorization": value }))
    };
    let error = open(&settings("env:PILLARBOX_NO_SUCH_VARIABLE")).unwrap_err();
    is(
        &error,
        ErrorClass::Temporary,
        "headers.authorization: the environment's variable \"PILLARBOX_NO_SUCH",
    );
    let error = open(&settings("file:/nonexistent/secret")).unwrap_err();
    is(&error, ErrorClass::Temporary, "headers.authorization: the file /nonexistent/secret cannot be read");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad"), "two\nlines").unwrap();
    let error = open(&settings(&format!("file:{}", folder.path().join("bad").display()))).unwrap_err();
    is(&error, ErrorClass::Temporary, "visible ASCII");
    assert!(!error.to_failure().chain.concat().contains("two"));
}

#[tokio::test]
async fn no_answer_is_temporary() {
    let refused = sender(&format!("http://{}/", nobody().await));
    let error = refused.deliver(&Sample::new("hello").parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "cannot connect");
    is(&error, ErrorClass::Temporary, "refused");

    let closed = raw(|stream| async move { stream.set_zero_linger() }).await;
    let error =
        sender(&format!("http://{closed}/")).deliver(&Sample::new("hello").parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "the connection broke before the answer");

    let reset = raw(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nConte").await?;
        stream.set_zero_linger()
    })
    .await;
    let error =
        sender(&format!("http://{reset}/")).deliver(&Sample::new("hello").parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "the connection broke before the answer");

    let nonsense = raw(|mut stream| async move { stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n").await }).await;
    let error =
        sender(&format!("http://{nonsense}/")).deliver(&Sample::new("hello").parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "the connection broke before the answer");
}

#[tokio::test]
async fn a_success_counts_once_its_status_is_there() {
    let reset = raw(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await?;
        stream.set_zero_linger()
    })
    .await;
    sender(&format!("http://{reset}/")).deliver(&Sample::new("hello").parcel()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_destination_is_given_up() {
    let silent = raw(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
        Ok(())
    })
    .await;
    let settings = Settings::default().with("url", format!("http://{silent}/")).with("timeout", "300ms");
    let error = open(&settings).unwrap().deliver(&Sample::new("hello").parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "no answer within 300ms (setting timeout)");
}

#[tokio::test]
async fn an_answer_that_never_ends_is_cut() {
    for status in ["200 OK", "503 Busy"] {
        let dripping = raw(move |mut stream| async move {
            stream
                .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 1000000\r\n\r\n").as_bytes())
                .await?;
            loop {
                stream.write_all(b"x").await?;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        let settings =
            Settings::default().with("url", format!("http://{dripping}/")).with("timeout", "300ms");
        let sent = open(&settings).unwrap().deliver(&Sample::new("hello").parcel()).await;
        match sent {
            Ok(()) => assert_eq!(status, "200 OK"),
            Err(error) => is(&error, ErrorClass::Temporary, "503 Service Unavailable, saying: xx"),
        }
    }
    let endless_head = raw(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
        loop {
            stream.write_all(b"x: y\r\n").await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let settings =
        Settings::default().with("url", format!("http://{endless_head}/")).with("timeout", "300ms");
    let error = open(&settings).unwrap().deliver(&Sample::new("hello").parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "no answer within");
}

#[tokio::test]
async fn connections_are_limited_and_used_again() {
    let destination = Destination::start(None, |_seen| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Response::new(Full::<Bytes>::default())
    })
    .await;
    let settings = Settings::default().with("url", destination.url("http")).with("connections_max", 3);
    let sender = Arc::new(open(&settings).unwrap());
    let sample = Sample::new(stored(bytes(FRAGMENT_BYTES + 1), None));
    let (parcel, sender) = (sample.parcel(), sender.as_ref());
    let sends = (0..60).map(|_| sender.deliver(&parcel));
    for sent in futures_util::future::join_all(sends).await {
        sent.unwrap();
    }
    assert_eq!(destination.seen().len(), 60);
    assert!((1..=3).contains(&destination.connections_most()), "{}", destination.connections_most());
}
