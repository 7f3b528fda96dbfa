//! The SMTP adapter against a real server.

use std::time::Duration;

use pillarbox_runtime::adapter::{
    AdapterKind as _, DoubleSafety, ErrorClass, SendError, Sender as _, Settings, Transport as _,
};
use pillarbox_store::{ErrorKind, FRAGMENT_BYTES, HeaderValue};
use proptest::prelude::*;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::SmtpKind;
use super::mail::Mail;
use super::send::SmtpSender;
use super::settings::SmtpSettings;
use crate::parcel::sample::{ID, KEY, Sample, bytes, context, stored};
use crate::peer::free_port;
use crate::proxy::Proxy;
use crate::servers::MailServer;
use crate::template::key_hash;

async fn open(settings: &Settings) -> Result<SmtpSender, SendError> {
    SmtpSender::open(SmtpSettings::check(settings).unwrap()).await
}

fn is(error: &SendError, class: ErrorClass, part: &str) {
    let chain = error.to_failure().chain.join(" <- ");
    assert_eq!(error.class(), class, "{chain}");
    assert!(chain.contains(part), "{chain}");
}

#[tokio::test]
async fn a_message_becomes_a_mail_and_a_repeat_has_the_same_id() {
    let server = MailServer::start("plain").await;
    let settings = server
        .settings()
        .with("to", vec!["{header:email}", "Archive of {port} <archive@example.com>"])
        .with("cc", vec!["cc@example.com"])
        .with("bcc", vec!["bcc@example.com", "cc@example.com"])
        .with("reply_to", "{header:who}@example.com")
        .with("subject", "Order {header:order} für {port}");
    let sender = open(&settings).await.unwrap();
    let sample = Sample::new("Hello, Jörg\n.\r\nand more\r")
        .header("email", "\"Smith, Jane\" <jane@example.com>, joe@example.com")
        .header("who", "sales")
        .header("order", "A-17");
    sender.deliver(&sample.parcel()).await.unwrap();
    sender.deliver(&sample.clone().attempt(2).parcel()).await.unwrap();
    sender.deliver(&sample.in_doubt().parcel()).await.unwrap();
    sender.close().await;
    let mails = server.mails();
    let doubts: Vec<_> = mails.iter().map(|mail| mail.header("X-Pillarbox-In-Doubt")).collect();
    assert_eq!(doubts, [None, None, Some("true".to_owned())]);
    let id = format!("<{}@example.com>", key_hash(KEY));
    for (mail, attempt) in mails.iter().zip(["1", "2"]) {
        assert_eq!(mail.of("from"), "outbox@example.com");
        let to = ["jane", "joe", "archive", "cc", "bcc"].map(|name| format!("{name}@example.com"));
        assert_eq!(mail.of("to"), serde_json::to_string(&to).unwrap().replace(' ', ""));
        for (name, value) in [
            ("Message-ID", id.as_str()),
            ("From", "Outbox <outbox@example.com>"),
            (
                "To",
                "=?utf-8?b?U21pdGgsIEphbmU=?= <jane@example.com>, joe@example.com, \"Archive of orders\" <archive@example.com>",
            ),
            ("Cc", "cc@example.com"),
            ("Reply-To", "sales@example.com"),
            ("Date", "Fri, 02 Jan 2026 03:04:05 +0000"),
            ("Subject", "Order A-17 =?utf-8?b?ZsO8cg==?= orders"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("MIME-Version", "1.0"),
            ("X-Pillarbox-Message-Id", ID),
            ("X-Pillarbox-Attempt", attempt),
        ] {
            assert_eq!(mail.header(name).as_deref(), Some(value), "{name} of {}", mail.text());
        }
        assert!(!mail.text().contains("bcc@"));
        assert_eq!(String::from_utf8(mail.body()).unwrap().trim_end(), "Hello, Jörg\r\n.\r\nand more");
    }
    assert_eq!(sender.describe().capabilities.double_safety, DoubleSafety::AtLeastOnce);
}

#[tokio::test]
async fn bodies_of_every_length_arrive_up_to_the_limit() {
    let server = MailServer::start("plain").await;
    let sender = open(&server.settings().with("body_bytes_max", 3 * FRAGMENT_BYTES)).await.unwrap();
    let lengths = [0, 1, FRAGMENT_BYTES, FRAGMENT_BYTES + 1];
    for len in lengths {
        let sample = Sample::new(stored(bytes(len), None)).header("content-type", "application/octet-stream");
        sender.deliver(&sample.parcel()).await.unwrap();
    }
    for (mail, len) in server.mails().iter().zip(lengths) {
        assert!(mail.body() == bytes(len), "{len}");
        assert_eq!(mail.header("Content-Type").as_deref(), Some("application/octet-stream"));
    }
    for (len, part) in [(3 * FRAGMENT_BYTES + 1, "(setting body_bytes_max)"), (3 * FRAGMENT_BYTES, "552")] {
        let long = Sample::new(stored(bytes(len), None));
        is(&sender.deliver(&long.parcel()).await.unwrap_err(), ErrorClass::Permanent, part);
    }
    let broken = Sample::new(stored(bytes(FRAGMENT_BYTES + 1), Some((1, ErrorKind::Corrupt))));
    is(&sender.deliver(&broken.parcel()).await.unwrap_err(), ErrorClass::Permanent, "could not be read");
    assert_eq!(server.mails().len(), lengths.len());
}

#[tokio::test]
async fn only_the_message_that_is_refused_pays() {
    use ErrorClass::{Permanent, Temporary};
    let server = MailServer::start("plain").await;
    let settings = server.settings().with("to", vec!["{header:to}"]).with("from", "{header:from}");
    let sender = open(&settings.with("subject", "{header:subject}")).await.unwrap();
    let mail = |body: &'static str, to: &str| {
        Sample::new(body).header("to", to).header("from", "outbox@example.com").header("subject", "fine")
    };
    for (sample, class, part) in [
        (mail("refuse-me", "a@example.com"), Permanent, "does not take the mail: 554 5.7.1 this is spam"),
        (mail("later-me", "a@example.com"), Temporary, "does not take the mail: 452 4.3.1 the disk is full"),
        (
            mail("", "a@example.com").header("from", "banned@example.com"),
            Permanent,
            "550 5.7.1 we take nothing",
        ),
        (mail("", "later-a@example.com"), Temporary, "later-a@example.com: 451 4.2.0 come back later"),
        (
            mail("", "a@example.com, later-b@example.com, no-c@example.com"),
            Permanent,
            "2 of 3 who are to get the mail are refused, so nobody gets it: later-b@example.com: 451 4.2.0 come back \
             later; no-c@example.com: 550 5.1.1 nobody has that name",
        ),
        (mail("", "a@example.com; b@example.com"), Permanent, "the setting `to` gives no address"),
        (mail("", "a@example.com Bcc: b@example.com"), Permanent, "the setting `to` gives no address"),
        (
            mail("", "a@example.com").header("subject", "x".repeat(901)),
            Permanent,
            "the subject has 901 bytes",
        ),
        (mail("", "a@example.com").header("content-type", "text"), Permanent, "\"text\" is no media type"),
        (mail("", "a@example.com").header("content-type", "text/plain é"), Permanent, "is no media type"),
        (
            mail("", "a@example.com").header("content-type", "multipart/mixed"),
            Permanent,
            "mails inside a mail",
        ),
        (
            Sample::new(""),
            Permanent,
            "the message has no header \"from\", which the setting `from` is made of",
        ),
    ] {
        is(&sender.deliver(&sample.parcel()).await.unwrap_err(), class, part);
    }
    assert_eq!(server.mails().len(), 0);
    let raw = mail("fine", "a@example.com").header("subject", HeaderValue::Bytes(vec![1, 255]));
    sender.deliver(&raw.parcel()).await.unwrap();
    sender.deliver(&raw.header("subject", "a\tb").parcel()).await.unwrap();
    let subjects: Vec<_> = server.mails().iter().map(|mail| mail.header("Subject").unwrap()).collect();
    assert_eq!(subjects, ["01ff", "a b"]);
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back_is_waited_for() {
    let mut server = MailServer::start("plain").await;
    let sender = open(&server.settings()).await.unwrap();
    let sample = Sample::new("hello");
    sender.deliver(&sample.parcel()).await.unwrap();
    server.peer.kill();
    is(&sender.deliver(&sample.parcel()).await.unwrap_err(), ErrorClass::Temporary, "cannot connect");
    server.peer.start_again();
    server.ready().await;
    sender.deliver(&sample.parcel()).await.unwrap();
    assert_eq!(server.mails().len(), 2);

    let proxy = Proxy::start(server.port).await;
    let behind = open(&MailServer::settings_at(proxy.port)).await.unwrap();
    proxy.lose(b"\r\n.\r\n", b"taken as a mail");
    let error = behind.deliver(&sample.parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "the server does not take the mail");
    assert!(proxy.has_lost());
    behind.deliver(&sample.clone().attempt(2).parcel()).await.unwrap();
    let mails = server.mails();
    assert_eq!(mails.len(), 4);
    assert_eq!(mails[2].header("Message-ID"), mails[3].header("Message-ID"));

    let hasty =
        open(&server.settings().with("timeout", "200ms").with("connect_timeout", "300ms")).await.unwrap();
    hasty.deliver(&sample.parcel()).await.unwrap();
    server.peer.pause();
    is(&hasty.deliver(&sample.parcel()).await.unwrap_err(), ErrorClass::Temporary, "within 300ms");
    // Whoever stops waiting leaves nothing behind that another would take for its own.
    let parcel = sample.parcel();
    let waited = tokio::time::timeout(Duration::from_millis(50), sender.deliver(&parcel)).await;
    assert!(waited.is_err());
    server.peer.go_on();
    sender.deliver(&Sample::new("last").parcel()).await.unwrap();
    assert_eq!(server.mails().last().unwrap().body(), b"last\r\n");
}

#[tokio::test]
async fn who_is_not_known_gets_nowhere_and_no_secret_is_shown() {
    use ErrorClass::Temporary;
    let server = MailServer::start("login").await;
    let base = server.settings();
    let nobody = open(&base).await.unwrap();
    is(
        &nobody.deliver(&Sample::new("").parcel()).await.unwrap_err(),
        Temporary,
        "530 5.7.0 Authentication required",
    );
    let wrong = base.clone().with("user", "outbox").with("password", "hunter3hunter3");
    let error = open(&wrong).await.unwrap_err();
    is(&error, Temporary, "the server does not know us: 535");
    assert!(!format!("{error:?} {:?}", error.to_failure()).contains("hunter"));
    let right = base.clone().with("user", "outbox").with("password", "hunter2hunter2");
    let sender = open(&right).await.unwrap();
    sender.deliver(&Sample::new("hello").parcel()).await.unwrap();
    assert_eq!(server.mails()[0].of("user"), "outbox");
    let checked = SmtpKind.check(&right).unwrap();
    assert!(!format!("{sender:?} {checked:?} {right:?}").contains("hunter"));
    assert_eq!(checked.open(&context()).await.unwrap().describe().kind, "smtp");
    let unset = right.with("password", "env:PILLARBOX_TEST_NOT_SET");
    is(&open(&unset).await.unwrap_err(), Temporary, "password: the environment's variable");
    is(&open(&MailServer::settings_at(free_port())).await.unwrap_err(), Temporary, "cannot connect");
}

#[tokio::test]
async fn only_whom_we_trust_gets_the_mail() {
    use ErrorClass::Temporary;
    for (mode, scheme) in [("starttls", "smtp"), ("smtps", "smtps")] {
        let server = MailServer::start(mode).await;
        let base = server.settings().with("plain", false);
        let encrypted = base.with("url", format!("{scheme}://127.0.0.1:{}", server.port));
        is(&open(&encrypted).await.unwrap_err(), Temporary, "invalid peer certificate");
        let trusting =
            encrypted.clone().with("ca_file", server.folder.path().join("ca.crt").to_str().unwrap());
        let sample = Sample::new("hello");
        open(&trusting).await.unwrap().deliver(&sample.parcel()).await.unwrap();
        let careless = encrypted.with("danger_accept_invalid_certs", true);
        open(&careless).await.unwrap().deliver(&sample.parcel()).await.unwrap();
        let mails = server.mails();
        assert!(mails.len() == 2 && mails.iter().all(|mail| mail.of("encrypted") == "true"));
    }
    // One that offers no encryption gets nothing.
    let server = MailServer::start("plain").await;
    let error = open(&server.settings().with("plain", false)).await.unwrap_err();
    is(&error, Temporary, "the server does not offer STARTTLS");
}

#[test]
fn settings_have_defaults() {
    let checked = SmtpSettings::check(&MailServer::settings_at(7)).unwrap();
    assert_eq!((checked.connect_timeout.as_secs(), checked.timeout.as_secs()), (30, 60));
    assert_eq!(checked.content_type, "text/plain; charset=utf-8");
    assert_eq!(SmtpKind.describe().capabilities.body_bytes_max, Some(10 * 1024 * 1024));
    assert_eq!(SmtpKind.describe().uri_prefixes, ["smtp://", "smtps://"]);
}

#[test]
fn every_problem_is_told_at_once() {
    let wrong = Settings::default()
        .with("url", "smtp://u:hunter2@h")
        .with("plain", true)
        .with("hello", "a b")
        .with("user", "u")
        .with("cc", vec!["nobody"])
        .with("bcc", vec!["{hedaer:x}"])
        .with("reply_to", "a@b.example, c@d.example")
        .with("content_type", "text")
        .with("body_bytes_max", 0)
        .with("connect_timeout", "0s")
        .with("timeout", "soon")
        .with("ca_file", "");
    let error = SmtpSettings::check(&wrong).unwrap_err();
    let keys: Vec<&str> = error.0.iter().map(|problem| problem.key.as_str()).collect();
    let mut expected = vec!["url", "hello", "user", "from", "cc", "bcc", "bcc", "reply_to", "to", "subject"];
    expected.extend(["content_type", "body_bytes_max", "connect_timeout", "timeout", "ca_file", "ca_file"]);
    assert_eq!(keys, expected);
    assert!(!error.to_string().contains("hunter2"));
    for (key, value) in [
        ("url", json!("smtp://localhost/x")),
        ("plain", json!(1)),
        ("from", json!("{header:a} {header:b}")),
        ("from", json!("a@bücher.example")),
        ("to", json!([])),
        ("to", json!(["a@b.example", "Bcc: c@d.example\r\n"])),
        ("subject", json!("")),
        ("subject", json!("a\nb")),
        ("content_type", json!("multipart/mixed")),
        ("ca_file", json!("ca.pem")),
        ("danger_accept_invalid_certs", json!(true)),
        ("recipient", json!("x")),
    ] {
        let error = SmtpSettings::check(&MailServer::settings_at(7).with(key, value)).unwrap_err();
        assert_eq!((error.0.len(), error.0[0].key.as_str()), (1, key), "{error}");
    }
    for url in ["smtp://example.com", "smtps://127.0.0.1", "smtp://127.0.0.1.example.com"] {
        let error = SmtpSettings::check(&MailServer::settings_at(7).with("url", url)).unwrap_err();
        assert_eq!(error.0[0].key, "plain", "{url}");
    }
}

proptest! {
    /// Whatever a message has in it, a mail has the headers that it is to have, in lines of ASCII.
    #[test]
    fn nothing_of_a_message_becomes_a_header(
        body in any::<Vec<u8>>(),
        text in "[ -~\\r\\n.üé]{0,200}",
        subject in "\\PC{0,80}",
        name in "(\\PC|<|>|,|\"){0,40}",
    ) {
        let settings = MailServer::settings_at(7)
            .with("subject", "Order {header:subject}")
            .with("to", vec!["{header:name} <a@example.com>"]);
        let settings = SmtpSettings::check(&settings).unwrap();
        for body in [body, text.into_bytes()] {
            let sample = Sample::new(body).header("subject", subject.as_str()).header("name", name.as_str());
            let Ok(mail) = Mail::new(&settings, &sample.parcel()) else { continue };
            let text = String::from_utf8(mail.text).unwrap();
            prop_assert!(text.is_ascii());
            prop_assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
            prop_assert!(text.lines().all(|line| line.len() <= 998));
            prop_assert_eq!(mail.recipients.len(), 1);
            let head = text.split("\r\n\r\n").next().unwrap();
            let names: Vec<_> = head
                .lines()
                .filter(|line| !line.starts_with(' '))
                .map(|line| line.split(':').next().unwrap())
                .collect();
            let expected = "From, Subject, Date, Message-ID, X-Pillarbox-Message-Id, X-Pillarbox-Attempt, To, \
                            MIME-Version, Content-Type, Content-Transfer-Encoding";
            prop_assert_eq!(names.join(", "), expected);
        }
    }
}

/// What a server that repeats one of its answers leaves: every later answer seems to be that to the next command.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a server of the test's own")]
async fn an_answer_that_comes_twice_is_not_taken_for_the_mails_own() {
    // Behind the greeting: the answers to EHLO, NOOP, MAIL, RCPT and DATA.
    for repeated in 1..6 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answers = ["220 x", "250 x", "250 x", "250 x", "250 x", "354 x"];
            for (at, answer) in answers.iter().enumerate() {
                let times = if at == repeated { 2 } else { 1 };
                let lines = format!("{answer}\r\n").repeat(times);
                if stream.write_all(lines.as_bytes()).await.is_err() {
                    return;
                }
                if stream.read(&mut [0; 4096]).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            // The mail's text is here, and its answer never comes.
            let _closed = stream.read(&mut [0; 4096]).await;
        });
        let sender = open(&MailServer::settings_at(port)).await.unwrap();
        let error = sender.deliver(&Sample::new("hello").parcel()).await.unwrap_err();
        is(&error, ErrorClass::Temporary, "out of step");
        drop(sender);
        server.await.unwrap();
    }
}
