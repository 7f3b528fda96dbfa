//! The S3 adapter against moto's server.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use pillarbox_runtime::adapter::{
    AdapterKind as _, DoubleSafety, ErrorClass, Reconciled, SendError, Settings, Transport as _,
};
use pillarbox_store::{ErrorKind, FRAGMENT_BYTES, HeaderValue};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::S3Kind;
use super::send::{PART_BYTES, S3Sender};
use super::settings::S3Settings;
use crate::parcel::sample::{ID, KEY, Sample, bytes, context, stored};
use crate::peer::{certificates, run};
use crate::problems::Problems;
use crate::proxy::Proxy;
use crate::servers::Moto;
use crate::template::key_hash;
use crate::tls::Trust;
use crate::web::{self, Pool, Ways};

const PART: usize = 8 * 1024 * 1024;

/// A server with the bucket `orders`, which keeps every version of an object: a second one would be seen.
struct Server {
    moto: Moto,
}

impl Server {
    async fn start() -> Self {
        let server = Self::start_with(&[], &[]).await;
        server.create("orders").await;
        server
    }

    /// With these arguments and environment, and without a bucket.
    async fn start_with(arguments: &[String], environment: &[(&'static str, &'static str)]) -> Self {
        Self { moto: Moto::start(arguments, environment).await }
    }

    async fn create(&self, bucket: &str) {
        assert_eq!(self.ask(Method::PUT, &format!("/{bucket}"), "").await.0, StatusCode::OK);
        let versions = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
            <Status>Enabled</Status></VersioningConfiguration>";
        assert_eq!(self.ask(Method::PUT, &format!("/{bucket}?versioning"), versions).await.0, StatusCode::OK);
    }

    async fn ask(&self, method: Method, path: &str, body: &str) -> (StatusCode, HeaderMap, Bytes) {
        let trust = Trust::check(None, true, false, "https://", &mut Problems::default());
        let ways = Ways {
            trust: (self.moto.scheme == "https").then_some(&trust),
            http1: true,
            http2: false,
            connect_timeout: Duration::from_secs(10),
            connections_max: 1,
        };
        let pool: Pool<Full<Bytes>> = web::pool(ways).unwrap();
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
        *request.method_mut() = method;
        *request.uri_mut() =
            format!("{}://127.0.0.1:{}{path}", self.moto.scheme, self.moto.port).parse().unwrap();
        // Nobody in particular: where it asks for no right, it still tells such from nobody at all.
        let service = if path == "/" { "iam" } else { "s3" };
        let signed = format!(
            "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=x"
        );
        request.headers_mut().insert("authorization", signed.parse().unwrap());
        if path == "/" {
            let form = "application/x-www-form-urlencoded";
            request.headers_mut().insert("content-type", form.parse().unwrap());
        }
        let (head, body) = pool.request(request).await.unwrap().into_parts();
        (head.status, head.headers, body.collect().await.unwrap().to_bytes())
    }

    async fn object(&self, path: &str) -> (HeaderMap, Bytes) {
        let (status, headers, body) = self.ask(Method::GET, path, "").await;
        assert_eq!(status, StatusCode::OK, "{path}");
        (headers, body)
    }

    /// The names of all versions of all objects.
    async fn names(&self) -> Vec<String> {
        let (_, listed) = self.object("/orders?versions").await;
        elements(&listed, "Key")
    }

    /// What it holds: send key and body, in order of name.
    async fn held(&self) -> Vec<(String, Bytes)> {
        let mut held = Vec::new();
        for name in self.names().await {
            let (headers, body) = self.object(&format!("/orders/{name}")).await;
            held.push((headers["x-amz-meta-pillarbox-key"].to_str().unwrap().to_owned(), body));
        }
        held
    }

    /// How many uploads were begun and neither completed nor aborted.
    async fn unfinished(&self) -> usize {
        elements(&self.object("/orders?uploads").await.1, "UploadId").len()
    }

    fn settings(&self) -> Settings {
        self.moto.settings()
    }
}

fn elements(xml: &Bytes, name: &str) -> Vec<String> {
    let text = String::from_utf8(xml.to_vec()).unwrap();
    let open = format!("<{name}>");
    let parts = text.split(open.as_str()).skip(1);
    parts.map(|part| part.split("</").next().unwrap().to_owned()).collect()
}

fn settings(endpoint: &str) -> Settings {
    Settings::default()
        .with("url", "s3://orders")
        .with("endpoint", endpoint)
        .with("access_key", "outbox")
        .with("secret_key", "hunter2hunter2")
}

async fn open(settings: &Settings) -> Result<S3Sender, SendError> {
    S3Sender::open(S3Settings::check(settings).unwrap()).await
}

fn is(error: &SendError, class: ErrorClass, part: &str) {
    let chain = error.to_failure().chain.join(" <- ");
    assert_eq!(error.class(), class, "{chain}");
    assert!(chain.contains(part), "{chain}");
}

#[tokio::test]
async fn a_message_becomes_an_object_and_a_repeat_finds_it() {
    let server = Server::start().await;
    let settings =
        server.settings().with("url", "s3://orders/in/box/").with("name", "{date}/{port}/{message_id}.txt");
    let sender = open(&settings).await.unwrap();
    let sample = Sample::new("hello")
        .header("Order", " A-17  ü")
        .header("raw", HeaderValue::Bytes(vec![1, 255]))
        .header("content-type", "text/plain");
    sender.deliver(&sample.parcel()).await.unwrap();
    sender.deliver(&sample.clone().attempt(2).parcel()).await.unwrap();
    let name = format!("in/box/20260102/orders/{ID}.txt");
    assert_eq!(server.names().await.join(" "), name);
    let (headers, body) = server.object(&format!("/orders/{name}")).await;
    assert_eq!(body, "hello");
    for (name, value) in [
        ("content-type", "text/plain"),
        ("x-amz-meta-pillarbox-key", KEY),
        ("x-amz-meta-pillarbox-message-id", ID),
        ("x-amz-meta-pillarbox-h-order", "%20A-17 %20%C3%BC"),
        ("x-amz-meta-pillarbox-h-raw", "01ff"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert_eq!(sender.describe().capabilities.double_safety, DoubleSafety::Keyed(None));
    let sender =
        open(&server.settings().with("name", "{key}").with("forward_headers", json!(["raw"]))).await.unwrap();
    sender.deliver(&sample.parcel()).await.unwrap();
    let (headers, _) = server.object(&format!("/orders/{}", key_hash(KEY))).await;
    assert!(headers.contains_key("x-amz-meta-pillarbox-h-raw"));
    assert!(!headers.contains_key("x-amz-meta-pillarbox-h-order"));
}

#[tokio::test]
async fn names_are_kept_as_they_are() {
    let server = Server::start().await;
    let sender = open(&server.settings().with("name", "{header:h} ü/{message_id}")).await.unwrap();
    sender.deliver(&Sample::new("hello").header("h", "a/b c%+ü").parcel()).await.unwrap();
    let expected = format!("/orders/a%252Fb%2520c%2525+%25C3%25BC%20%C3%BC/{ID}");
    assert_eq!(server.object(&expected).await.1, "hello");
    let long = Sample::new("").header("h", "x".repeat(2000));
    let sender = open(&server.settings().with("name", ["{header:h}"; 5].join("/") + "/{key}")).await.unwrap();
    is(&sender.deliver(&long.parcel()).await.unwrap_err(), ErrorClass::Permanent, "at most 1024 fit");
    is(
        &sender.deliver(&Sample::new("").parcel()).await.unwrap_err(),
        ErrorClass::Permanent,
        "no header \"h\"",
    );
}

#[tokio::test]
async fn only_the_message_whose_name_is_taken_fails() {
    let server = Server::start().await;
    let sender = open(&server.settings()).await.unwrap();
    assert_eq!(server.ask(Method::PUT, &format!("/orders/{ID}"), "another's").await.0, StatusCode::OK);
    for body in [bytes(5), bytes(PART + 1)] {
        let error = sender.deliver(&Sample::new(body).parcel()).await.unwrap_err();
        is(&error, ErrorClass::Permanent, "is not this message's; move it away");
    }
    assert_eq!(server.object(&format!("/orders/{ID}")).await.1, "another's");
    assert_eq!((server.names().await.len(), server.unfinished().await), (1, 0));
    let keyed = open(&server.settings().with("name", "{key}")).await.unwrap();
    keyed.deliver(&Sample::new("hello").parcel()).await.unwrap();
    assert_eq!(server.names().await.len(), 2);
}

#[tokio::test]
async fn bodies_of_every_length_arrive() {
    let server = Server::start().await;
    let sender = open(&server.settings().with("name", "{key}")).await.unwrap();
    let lengths = [0, 1, FRAGMENT_BYTES, FRAGMENT_BYTES + 1, PART, PART + 1, 2 * PART + FRAGMENT_BYTES + 7];
    assert_eq!(PART_BYTES, PART as u64);
    for len in lengths {
        let key = format!("key/{len}");
        let sample = Sample::new(stored(bytes(len), None)).key(&key);
        sender.deliver(&sample.parcel()).await.unwrap();
        sender.deliver(&sample.parcel()).await.unwrap();
        let (headers, body) = server.object(&format!("/orders/{}", key_hash(&key))).await;
        assert!(body == bytes(len), "{len}");
        assert_eq!(headers["x-amz-meta-pillarbox-key"], key.as_str());
    }
    for (fragment, len) in [(1, FRAGMENT_BYTES + 1), (40, PART + 9 * FRAGMENT_BYTES)] {
        let broken = Sample::new(stored(bytes(len), Some((fragment, ErrorKind::Corrupt)))).key("broken");
        is(&sender.deliver(&broken.parcel()).await.unwrap_err(), ErrorClass::Permanent, "could not be read");
    }
    assert_eq!((server.names().await.len(), server.unfinished().await), (lengths.len(), 0));
}

#[tokio::test]
async fn of_two_at_once_only_one_makes_the_object() {
    let server = Server::start().await;
    let sender = open(&server.settings()).await.unwrap();
    let (short, long) = (Sample::new(bytes(PART + 1)), Sample::new(bytes(4 * PART)).key("another"));
    let (first, second) = (short.parcel(), long.parcel());
    let (first, second) = tokio::join!(sender.deliver(&first), sender.deliver(&second));
    assert_eq!(u8::from(first.is_ok()) + u8::from(second.is_ok()), 1);
    let error = first.and(second).unwrap_err();
    is(&error, ErrorClass::Permanent, "is not this message's");
    assert_eq!((server.names().await.len(), server.unfinished().await), (1, 0));
}

#[tokio::test]
async fn asked_it_knows_what_it_has() {
    let server = Server::start().await;
    let sender = open(&server.settings()).await.unwrap();
    let sample = Sample::new("hello");
    assert!(sender.describe().capabilities.reconciles);
    assert_eq!(sender.ask(&sample.parcel()).await.unwrap(), Reconciled::Unknown);
    sender.deliver(&sample.parcel()).await.unwrap();
    assert_eq!(sender.ask(&sample.parcel()).await.unwrap(), Reconciled::Landed);
    // Another message's has the name.
    for other in [Sample::new("hello").key("other"), Sample::new("hello, hello")] {
        assert_eq!(sender.ask(&other.parcel()).await.unwrap(), Reconciled::Unknown);
    }
    // A reader has taken it away.
    server.ask(Method::DELETE, &format!("/orders/{ID}"), "").await;
    assert_eq!(sender.ask(&sample.parcel()).await.unwrap(), Reconciled::Unknown);
    let keyed = open(&server.settings().with("name", "{header:h}/{key}")).await.unwrap();
    assert_eq!(keyed.ask(&sample.parcel()).await.unwrap(), Reconciled::Unknown);
}

#[tokio::test]
async fn a_lost_answer_leaves_one_object() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.moto.port).await;
    let sender =
        open(&settings(&format!("http://127.0.0.1:{}", proxy.port)).with("name", "{key}")).await.unwrap();
    let whole = Sample::new("hello");
    let parts = Sample::new(bytes(PART + 1)).key("parts");
    for (sample, request) in [(&whole, "PUT /orders/"), (&parts, "?uploadId=")] {
        proxy.lose(request.as_bytes(), b"200 OK");
        let error = sender.deliver(&sample.parcel()).await.unwrap_err();
        is(&error, ErrorClass::Temporary, "s3://orders at http://127.0.0.1");
        assert!(proxy.has_lost());
        let name = format!("/orders/{}", key_hash(&sample.send_key));
        assert_eq!(server.ask(Method::HEAD, &name, "").await.0, StatusCode::OK, "it was there already");
        sender.deliver(&sample.clone().attempt(2).parcel()).await.unwrap();
    }
    assert_eq!(server.names().await.len(), 2);
    let mut held = server.held().await;
    held.sort_by_key(|(_, body)| body.len());
    assert_eq!(held, [(KEY.to_owned(), "hello".into()), ("parts".to_owned(), bytes(PART + 1))]);
}

#[tokio::test]
async fn a_server_that_is_down_or_hangs_costs_an_attempt() {
    use ErrorClass::Temporary;
    let mut server = Server::start().await;
    let sender =
        open(&server.settings().with("timeout", "300ms").with("connect_timeout", "300ms")).await.unwrap();
    let sample = Sample::new("hello");
    server.moto.peer.pause();
    is(&sender.deliver(&sample.parcel()).await.unwrap_err(), Temporary, "300ms (setting ");
    // Given up in the middle: whoever comes next finds nothing, or all of it.
    let cancelled = tokio::time::timeout(Duration::from_millis(50), sender.deliver(&sample.parcel())).await;
    assert!(cancelled.is_err());
    server.moto.peer.go_on();
    let patient = open(&server.settings()).await.unwrap();
    patient.deliver(&sample.parcel()).await.unwrap();
    // Of requests that come in the same moment moto lets each make the object, so there may be more than one version.
    assert_eq!(server.object(&format!("/orders/{ID}")).await.1, "hello");
    server.moto.peer.kill();
    is(&patient.deliver(&sample.parcel()).await.unwrap_err(), Temporary, "cannot connect");
    is(&open(&server.settings()).await.unwrap_err(), Temporary, "cannot connect");
    server.moto.peer.start_again();
    server.moto.ready().await;
    // It keeps nothing on disk.
    is(&open(&server.settings()).await.unwrap_err(), Temporary, "NoSuchBucket");
    is(&patient.deliver(&sample.parcel()).await.unwrap_err(), Temporary, "NoSuchBucket");
    server.create("orders").await;
    patient.deliver(&sample.parcel()).await.unwrap();
    assert_eq!(server.held().await, [(KEY.to_owned(), "hello".into())]);
}

/// Answers each PUT with `answer`, lists nothing and has nothing.
async fn refusing(answer: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    run(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"hello") && (seen.starts_with(b"PUT") || !seen.ends_with(b"\r\n\r\n")) {
                if client.read_buf(&mut seen).await.unwrap() == 0 {
                    break;
                }
            }
            let list = "<ListBucketResult></ListBucketResult>".to_owned();
            let (status, body) = if seen.starts_with(b"PUT") {
                answer.split_once('|').map(|(status, body)| (status.to_owned(), body.to_owned())).unwrap()
            } else if seen.starts_with(b"GET") {
                ("200 OK".to_owned(), list)
            } else {
                ("404 None".to_owned(), String::new())
            };
            let text = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            client.write_all(text.as_bytes()).await.unwrap();
        }
    });
    port
}

#[tokio::test]
async fn refusals_are_classed_and_told_in_the_stores_words() {
    use ErrorClass::{Permanent, Temporary};
    let error =
        |code: &str, message: &str| format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    for (status, body, class, part) in [
        ("400 Bad", error("MetadataTooLarge", "Too much"), Permanent, "MetadataTooLarge: Too much"),
        ("400 Bad", error("EntityTooLarge", "Too long"), Permanent, "EntityTooLarge"),
        ("400 Bad", error("KeyTooLongError", "Too long"), Permanent, "KeyTooLongError"),
        (
            "400 Bad",
            error("ExpiredToken", "Token hunter2hunter2 is old"),
            Temporary,
            "Token [redacted] is old",
        ),
        (
            "400 Bad",
            error("RequestTimeout", "slow"),
            Temporary,
            "400 Bad Request, saying: RequestTimeout: slow",
        ),
        ("403 No", error("AccessDenied", "Access Denied"), Temporary, "AccessDenied"),
        ("403 No", error("SignatureDoesNotMatch", "hunter2hunter2"), Temporary, "SignatureDoesNotMatch"),
        ("301 Moved", error("PermanentRedirect", "elsewhere"), Temporary, "PermanentRedirect: elsewhere"),
        ("503 Busy", error("SlowDown", "slow down"), Temporary, "SlowDown"),
        ("500 Broken", "\u{1b}[31mboom".to_owned(), Temporary, "500 Internal Server Error, saying: [31mboom"),
        // The object that is in the way is nowhere to be seen.
        ("412 No", error("PreconditionFailed", "there"), Temporary, "came and went"),
        ("409 No", error("ConditionalRequestConflict", "at once"), Temporary, "another attempt is making it"),
    ] {
        let port = refusing(format!("{status}|{body}")).await;
        let sender = open(&settings(&format!("http://127.0.0.1:{port}"))).await.unwrap();
        let error = sender.deliver(&Sample::new("hello").parcel()).await.unwrap_err();
        is(&error, class, part);
        assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
    }
}

#[tokio::test]
async fn credentials_are_needed_and_never_shown() {
    // As many requests as it takes to make a user.
    let server = Server::start_with(&[], &[("INITIAL_NO_AUTH_ACTION_COUNT", "4")]).await;
    assert_eq!(server.ask(Method::PUT, "/orders", "").await.0, StatusCode::OK);
    let policy = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C\
        %22Action%22%3A%5B%22s3%3APutObject%22%2C%22s3%3AGetObject%22%5D%2C%22Resource%22%3A%22%2A%22%7D%5D%7D";
    let mut made = Bytes::new();
    for action in [
        "Action=CreateUser&UserName=outbox".to_owned(),
        format!("Action=PutUserPolicy&UserName=outbox&PolicyName=put&PolicyDocument={policy}"),
        "Action=CreateAccessKey&UserName=outbox".to_owned(),
    ] {
        let (status, _, body) = server.ask(Method::POST, "/", &format!("{action}&Version=2010-05-08")).await;
        assert_eq!(status, StatusCode::OK);
        made = body;
    }
    let key = elements(&made, "AccessKeyId").remove(0);
    let secret = elements(&made, "SecretAccessKey").remove(0).replace("&#x2F;", "/");
    let unknown = open(&server.settings()).await.unwrap_err();
    is(&unknown, ErrorClass::Temporary, "InvalidAccessKeyId");
    let wrong = server.settings().with("access_key", key.as_str());
    let error = open(&wrong).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "SignatureDoesNotMatch");
    assert!(!format!("{error:?} {:?}", error.to_failure()).contains("hunter"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("{secret}\n")).unwrap();
    let right = wrong.clone().with("secret_key", format!("file:{}", file.display()));
    // It may put and get, but not list.
    let sender = open(&right).await.unwrap();
    let sample = Sample::new("hello").header("Order", "A-17 ü");
    sender.deliver(&sample.parcel()).await.unwrap();
    sender.deliver(&sample.parcel()).await.unwrap();
    let long = Sample::new(bytes(PART + 1)).key("other");
    is(&sender.deliver(&long.parcel()).await.unwrap_err(), ErrorClass::Permanent, "is not this message's");
    open(&right.clone().with("name", "{key}")).await.unwrap().deliver(&long.parcel()).await.unwrap();
    let checked = S3Kind.check(&wrong).unwrap();
    assert!(!format!("{sender:?} {checked:?} {wrong:?}").contains("hunter"));
    assert!(!format!("{sender:?}").contains(&secret));
    assert_eq!(S3Kind.check(&right).unwrap().open(&context()).await.unwrap().describe().kind, "s3");
    for (value, part) in
        [("env:PILLARBOX_TEST_NOT_SET", "secret_key: the environment's variable"), ("a\nb", "visible ASCII")]
    {
        is(&open(&right.clone().with("secret_key", value)).await.unwrap_err(), ErrorClass::Temporary, part);
    }
}

#[tokio::test]
async fn only_whom_we_trust_gets_the_message() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let path = |name: &str| Path::join(folder.path(), name).display().to_string();
    let arguments = ["-c".to_owned(), path("server.crt"), "-k".to_owned(), path("server.key")];
    let server = Server::start_with(&arguments, &[]).await;
    server.create("orders").await;
    let encrypted = server.settings();
    is(&open(&encrypted).await.unwrap_err(), ErrorClass::Temporary, "invalid peer certificate");
    for settings in [
        encrypted.clone().with("ca_file", path("ca.crt")),
        encrypted.with("danger_accept_invalid_certs", true),
    ] {
        open(&settings).await.unwrap().deliver(&Sample::new("hello").parcel()).await.unwrap();
    }
    assert_eq!(server.held().await, [(KEY.to_owned(), "hello".into())]);
}

#[test]
fn settings_have_defaults() {
    let least =
        Settings::default().with("url", "S3://orders").with("access_key", "a").with("secret_key", "b");
    let checked = S3Settings::check(&least).unwrap();
    assert_eq!((checked.connect_timeout.as_secs(), checked.timeout.as_secs()), (10, 60));
    assert_eq!((checked.region.as_str(), checked.connections_max), ("us-east-1", 16));
    assert_eq!((checked.place.bucket.as_str(), checked.place.prefix.as_str()), ("orders", ""));
    assert_eq!(checked.endpoint.url, "https://s3.us-east-1.amazonaws.com");
    let other = S3Settings::check(&least.clone().with("region", "eu-central-1")).unwrap();
    assert_eq!(other.endpoint.url, "https://s3.eu-central-1.amazonaws.com");
    for (written, signed) in [
        ("https://minio.example.com:443", "https://minio.example.com"),
        ("http://[::1]:80/", "http://[::1]"),
        ("http://minio:9000", "http://minio:9000"),
        ("http://minio:443", "http://minio:443"),
    ] {
        assert_eq!(S3Settings::check(&least.clone().with("endpoint", written)).unwrap().endpoint.url, signed);
    }
    assert_eq!(S3Kind.describe().uri_prefixes, ["s3://"]);
    assert_eq!(S3Kind.address_key(), Some("url"));
}

#[test]
fn every_problem_is_told_at_once() {
    let wrong = Settings::default()
        .with("url", "orders")
        .with("endpoint", "https://u:hunter2@h")
        .with("region", "")
        .with("name", "{date}")
        .with("secret_key", "env:")
        .with("session_token", "file:")
        .with("content_type", "text")
        .with("forward_headers", json!(["a b"]))
        .with("connect_timeout", "0s")
        .with("timeout", "soon")
        .with("connections_max", 0)
        .with("ca_file", "");
    let error = S3Settings::check(&wrong).unwrap_err();
    let keys: Vec<&str> = error.0.iter().map(|problem| problem.key.as_str()).collect();
    let expected = [
        "url",
        "region",
        "endpoint",
        "name",
        "access_key",
        "secret_key",
        "session_token",
        "content_type",
        "forward_headers",
        "connect_timeout",
        "timeout",
        "connections_max",
        "ca_file",
    ];
    assert_eq!(keys, expected);
    assert!(!error.to_string().contains("hunter2"));
    for (key, value) in [
        ("url", json!("s3://Orders")),
        ("url", json!("s3://a")),
        ("url", json!("s3://orders/a//b")),
        ("url", json!("s3://orders/../b")),
        ("endpoint", json!("http://h/x")),
        ("name", json!("a//{key}")),
        ("name", json!("{key}/.x")),
        ("ca_file", json!("ca.pem")),
        ("danger_accept_invalid_certs", json!(true)),
        ("bucket", json!("x")),
    ] {
        let error = S3Settings::check(&settings("http://h").with(key, value)).unwrap_err();
        assert_eq!((error.0.len(), error.0[0].key.as_str()), (1, key), "{error}");
    }
}
