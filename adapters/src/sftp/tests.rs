//! The SFTP adapter against OpenSSH's server.

use std::fs;
use std::future::poll_fn;
use std::os::unix::fs::PermissionsExt as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pillarbox_runtime::adapter::{
    AdapterKind as _, DoubleSafety, ErrorClass, Reconciled, SendError, Settings, Transport as _,
};
use pillarbox_store::{ErrorKind, FRAGMENT_BYTES, HeaderValue, IdSource};
use russh::keys::decode_secret_key;
use russh::server::{self, Auth};
use serde_json::json;
use tokio::net::TcpListener;

use super::SftpKind;
use super::send::SftpSender;
use super::settings::SftpSettings;
use crate::parcel::sample::{ID, Sample, bytes, context, stored};
use crate::peer::run;
use crate::proxy::Proxy;
use crate::servers::{Sshd, keygen};
use crate::template::key_hash;

async fn open(settings: &Settings) -> Result<SftpSender, SendError> {
    SftpSender::open(SftpSettings::check(settings).unwrap(), IdSource::system()).await
}

fn is(error: &SendError, class: ErrorClass, part: &str) {
    let chain = error.to_failure().chain.join(" <- ");
    assert_eq!(error.class(), class, "{chain}");
    assert!(chain.contains(part), "{chain}");
}

#[tokio::test]
async fn a_message_becomes_a_file_and_a_repeat_replaces_it() {
    let server = Sshd::start().await;
    let sender = open(&server.settings().with("name", "{date}-{header:h}-{message_id}.txt")).await.unwrap();
    let sample = Sample::new("hello").header("h", "a/b ü").header("raw", HeaderValue::Bytes(vec![1]));
    sender.deliver(&sample.parcel()).await.unwrap();
    sender.deliver(&sample.clone().attempt(2).parcel()).await.unwrap();
    let name = format!("20260102-a%2Fb%20%C3%BC-{ID}.txt");
    assert_eq!(server.held(), [(name, b"hello".to_vec())]);
    assert_eq!(server.files(), 1);
    assert_eq!(sender.describe().capabilities.double_safety, DoubleSafety::Keyed(None));
    is(
        &sender.deliver(&Sample::new("").parcel()).await.unwrap_err(),
        ErrorClass::Permanent,
        "no header \"h\"",
    );
}

#[tokio::test]
async fn bodies_of_every_length_arrive_whole_or_not_at_all() {
    let server = Sshd::start().await;
    let sender = open(&server.settings().with("name", "{key}")).await.unwrap();
    let lengths =
        [0, 1, 32 * 1024, 32 * 1024 + 1, FRAGMENT_BYTES, FRAGMENT_BYTES + 1, 9 * FRAGMENT_BYTES + 7];
    for len in lengths {
        let key = format!("key/{len}");
        sender.deliver(&Sample::new(stored(bytes(len), None)).key(&key).parcel()).await.unwrap();
        assert!(fs::read(server.path("out").join(key_hash(&key))).unwrap() == bytes(len), "{len}");
    }
    let broken = Sample::new(stored(bytes(FRAGMENT_BYTES + 1), Some((1, ErrorKind::Corrupt)))).key("broken");
    is(&sender.deliver(&broken.parcel()).await.unwrap_err(), ErrorClass::Permanent, "could not be read");
    assert_eq!(server.files(), lengths.len());
}

#[tokio::test]
async fn asked_it_knows_what_it_has() {
    let server = Sshd::start().await;
    let sender = open(&server.settings()).await.unwrap();
    let sample = Sample::new("hello");
    assert!(sender.describe().capabilities.reconciles);
    assert_eq!(sender.ask(&sample.parcel()).await.unwrap(), Reconciled::Unknown);
    sender.deliver(&sample.parcel()).await.unwrap();
    assert_eq!(sender.ask(&sample.parcel()).await.unwrap(), Reconciled::Landed);
    assert_eq!(sender.ask(&Sample::new("hello, hello").parcel()).await.unwrap(), Reconciled::Unknown);
    fs::remove_file(server.path("out").join(ID)).unwrap();
    assert_eq!(sender.ask(&sample.parcel()).await.unwrap(), Reconciled::Unknown);
    fs::create_dir(server.path("out").join(ID)).unwrap();
    assert_eq!(sender.ask(&sample.parcel()).await.unwrap(), Reconciled::Unknown);
}

#[tokio::test]
async fn many_at_once_share_the_connection() {
    let server = Sshd::start().await;
    let sender = open(&server.settings().with("name", "{key}")).await.unwrap();
    let samples: Vec<_> = (0..30).map(|n| Sample::new(bytes(n * 10_000)).key(&format!("key/{n}"))).collect();
    let parcels: Vec<_> = samples.iter().map(Sample::parcel).collect();
    futures_util::future::try_join_all(parcels.iter().map(|parcel| sender.deliver(parcel))).await.unwrap();
    for sample in &samples {
        let there = fs::read(server.path("out").join(key_hash(&sample.send_key))).unwrap();
        assert!(there == sample.body.to_bytes().unwrap());
    }
    assert_eq!(server.files(), 30);
}

#[tokio::test]
async fn a_server_that_cannot_replace_is_not_made_to() {
    let server = Sshd::start_with("Subsystem sftp internal-sftp -P posix-rename,fsync").await;
    let sender = open(&server.settings()).await.unwrap();
    let sample = Sample::new("hello");
    sender.deliver(&sample.parcel()).await.unwrap();
    sender.deliver(&sample.parcel()).await.unwrap();
    assert_eq!((server.held(), server.files()), (vec![(ID.to_owned(), b"hello".to_vec())], 1));
    let longer = Sample::new("hello, hello");
    is(&sender.deliver(&longer.parcel()).await.unwrap_err(), ErrorClass::Temporary, "cannot rename to");
    assert_eq!((server.held(), server.files()), (vec![(ID.to_owned(), b"hello".to_vec())], 1));
}

#[tokio::test]
async fn folders_are_found_or_made() {
    use ErrorClass::Temporary;
    let server = Sshd::start().await;
    let at =
        |folder: &str| server.settings().with("url", format!("sftp://127.0.0.1:{}{folder}", server.port));
    let new = server.path("new/and/newer").display().to_string();
    is(&open(&at(&new)).await.unwrap_err(), Temporary, "is not there; make it, or set `create_folder`");
    let sender = open(&at(&new).with("create_folder", true)).await.unwrap();
    sender.deliver(&Sample::new("hello").parcel()).await.unwrap();
    assert_eq!(fs::read(server.path("new/and/newer").join(ID)).unwrap(), b"hello");
    open(&at(&format!("{new}/"))).await.unwrap();
    let file = server.path("conf").display().to_string();
    is(&open(&at(&file)).await.unwrap_err(), Temporary, "is no folder");
    is(&open(&at(&format!("{file}/x")).with("create_folder", true)).await.unwrap_err(), Temporary, "");
    open(&at("/~")).await.unwrap();
    is(
        &open(&at("/~/pillarbox-none/none")).await.unwrap_err(),
        Temporary,
        "the folder pillarbox-none/none is not there",
    );
    // It goes while the adapter is open, and comes back.
    let sample = Sample::new("again").key("again");
    fs::remove_dir_all(server.path("new/and")).unwrap();
    is(&sender.deliver(&sample.parcel()).await.unwrap_err(), Temporary, "No such file");
    open(&at(&new).with("create_folder", true)).await.unwrap();
    sender.deliver(&sample.parcel()).await.unwrap();
}

#[tokio::test]
async fn only_the_message_that_is_refused_pays() {
    let server = Sshd::start().await;
    let sender = open(&server.settings()).await.unwrap();
    fs::create_dir(server.path("out").join(ID)).unwrap();
    let sample = Sample::new("hello");
    let error = sender.deliver(&sample.parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "cannot rename to");
    is(&error, ErrorClass::Temporary, "the server says: Failure");
    assert_eq!(server.files(), 1);
    fs::remove_dir(server.path("out").join(ID)).unwrap();
    fs::set_permissions(server.path("out"), fs::Permissions::from_mode(0o555)).unwrap();
    is(&sender.deliver(&sample.parcel()).await.unwrap_err(), ErrorClass::Temporary, "Permission denied");
    fs::set_permissions(server.path("out"), fs::Permissions::from_mode(0o755)).unwrap();
    sender.deliver(&sample.parcel()).await.unwrap();
    assert_eq!((server.held().len(), server.files()), (1, 1));
}

#[tokio::test]
async fn only_the_server_that_is_known_is_spoken_to() {
    use ErrorClass::Temporary;
    let server = Sshd::start().await;
    let base = server.settings();
    let stranger = base.clone().with("host_keys", json!([server.public("stranger.pub")]));
    let error = open(&stranger).await.unwrap_err();
    is(
        &error,
        Temporary,
        "the server's key is not the one that is known (setting host_keys): it shows ssh-ed25519 SHA256:",
    );
    let shown = error.to_string();
    let fingerprint =
        shown.split_whitespace().find(|word| word.starts_with("SHA256:")).unwrap().trim_end_matches('.');
    let sample = Sample::new("hello");
    for pins in [
        json!([fingerprint]),
        json!([server.public("stranger.pub"), server.public("host.pub")]),
        // The server has that one, too, and has to show it.
        json!([server.public("host_ecdsa.pub")]),
    ] {
        open(&base.clone().with("host_keys", pins)).await.unwrap().deliver(&sample.parcel()).await.unwrap();
    }
    let base =
        SettingsWithout(base).host_keys().with("known_hosts", server.path("known").display().to_string());
    is(&open(&base).await.unwrap_err(), Temporary, "cannot be read");
    let at = format!("[127.0.0.1]:{}", server.port);
    for (line, part) in [
        (format!("127.0.0.1 {}", server.public("host.pub")), "has no key of this server"),
        (format!("{at} {}", server.public("stranger.pub")), "is not the one that is known (known_hosts"),
        (format!("@revoked {at} {}", server.public("host.pub")), "has no key of this server"),
        (format!("{at} {0}@revoked * {0}", server.public("host.pub")), "that are revoked"),
    ] {
        fs::write(server.path("known"), line).unwrap();
        is(&open(&base).await.unwrap_err(), Temporary, part);
    }
    for key in ["host.pub", "host_ecdsa.pub"] {
        fs::write(server.path("known"), format!("# ours\nother,{at} {}", server.public(key))).unwrap();
        open(&base).await.unwrap().deliver(&sample.parcel()).await.unwrap();
    }
}

/// Settings from which some are taken away.
struct SettingsWithout(Settings);

impl SettingsWithout {
    fn host_keys(self) -> Settings {
        self.0.with("host_keys", json!(null))
    }

    fn private_key(self) -> Settings {
        self.0.with("private_key", json!(null))
    }
}

#[tokio::test]
async fn credentials_are_needed_and_never_shown() {
    use ErrorClass::Temporary;
    let server = Sshd::start().await;
    let base = server.settings();
    let with_key =
        |key: &str| base.clone().with("private_key", format!("file:{}", server.path(key).display()));
    is(
        &open(&with_key("stranger")).await.unwrap_err(),
        Temporary,
        "refuses the user or its private key; it takes: publickey",
    );
    is(&open(&with_key("conf")).await.unwrap_err(), Temporary, "private_key: it is no key");
    is(&open(&with_key("none")).await.unwrap_err(), Temporary, "private_key: the file");
    is(&open(&with_key("locked")).await.unwrap_err(), Temporary, "`passphrase` is not its own");
    let wrong = with_key("locked").with("passphrase", "hunter3hunter3");
    let error = open(&wrong).await.unwrap_err();
    is(&error, Temporary, "`passphrase` is not its own");
    assert!(!format!("{error:?} {:?}", error.to_failure()).contains("hunter"));
    let right = with_key("locked").with("passphrase", "hunter2hunter2");
    let sender = open(&right).await.unwrap();
    sender.deliver(&Sample::new("hello").parcel()).await.unwrap();
    let checked = SftpKind.check(&right).unwrap();
    assert!(!format!("{sender:?} {checked:?} {right:?}").contains("hunter"));
    assert_eq!(checked.open(&context()).await.unwrap().describe().kind, "sftp");
    let password = SettingsWithout(base).private_key().with("password", "hunter2hunter2");
    let error = open(&password).await.unwrap_err();
    is(&error, Temporary, "refuses the user or its password; it takes: publickey");
    assert!(!format!("{error:?} {:?}", error.to_failure()).contains("hunter"));
}

/// A server that knows a password and speaks no SFTP: OpenSSH's takes only those of the machine's own users.
struct Doorkeeper;

impl server::Handler for Doorkeeper {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(if (user, password) == ("outbox", "hunter2hunter2") { Auth::Accept } else { Auth::reject() })
    }
}

#[tokio::test]
async fn a_password_opens_the_door() {
    let folder = tempfile::tempdir().unwrap();
    keygen(&folder.path().join("host"), "ed25519", "");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let config = Arc::new(server::Config {
        keys: vec![decode_secret_key(&read("host"), None).unwrap()],
        auth_rejection_time: Duration::ZERO,
        ..server::Config::default()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    run(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let config = Arc::clone(&config);
            run(async move { server::run_stream(config, client, Doorkeeper).await.unwrap().await });
        }
    });
    let base = Settings::default()
        .with("url", format!("sftp://127.0.0.1:{port}/out"))
        .with("user", "outbox")
        .with("host_keys", json!([read("host.pub")]));
    for (password, part) in [
        ("hunter3hunter3", "refuses the user or its password"),
        ("hunter2hunter2", "the server opens no channel"),
    ] {
        let error = open(&base.clone().with("password", password)).await.unwrap_err();
        is(&error, ErrorClass::Temporary, part);
        assert!(!format!("{error:?} {:?}", error.to_failure()).contains("hunter"));
    }
}

#[tokio::test]
async fn a_server_that_is_down_or_hangs_costs_an_attempt() {
    use ErrorClass::Temporary;
    let mut server = Sshd::start().await;
    let hasty = server.settings().with("timeout", "300ms").with("connect_timeout", "300ms");
    let sender = open(&server.settings().with("timeout", "300ms")).await.unwrap();
    let sample = Sample::new("hello");
    server.peer.pause();
    is(
        &sender.deliver(&sample.parcel()).await.unwrap_err(),
        Temporary,
        "no answer within 300ms (setting timeout)",
    );
    is(&open(&hasty).await.unwrap_err(), Temporary, "no connection within 300ms (setting connect_timeout)");
    server.peer.go_on();
    sender.deliver(&sample.parcel()).await.unwrap();
    server.peer.kill();
    is(&sender.deliver(&sample.parcel()).await.unwrap_err(), Temporary, "sftp://127.0.0.1");
    is(&sender.deliver(&sample.parcel()).await.unwrap_err(), Temporary, "cannot connect");
    server.peer.start_again();
    server.ready().await;
    sender.deliver(&sample.parcel()).await.unwrap();
    assert_eq!(server.held(), [(ID.to_owned(), b"hello".to_vec())]);
}

#[tokio::test]
async fn an_attempt_that_is_given_up_anywhere_leaves_all_or_nothing() {
    let server = Sshd::start().await;
    let sender = open(&server.settings()).await.unwrap();
    let body = bytes(FRAGMENT_BYTES + 1);
    let sample = Sample::new(stored(body.clone(), None));
    for polls in 1.. {
        let parcel = sample.parcel();
        let mut left = polls;
        let mut sending = pin!(sender.deliver(&parcel));
        let ended = poll_fn(|context| {
            left -= 1;
            match sending.as_mut().poll(context) {
                Poll::Ready(sent) => Poll::Ready(Some(sent)),
                Poll::Pending if left == 0 => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        if let Some(sent) = ended.await {
            sent.unwrap();
            break;
        }
        for (name, there) in server.held() {
            assert!(name == ID && there == body, "half a message after {polls}");
        }
    }
    // What was given up may have come to its end: over the same name.
    sender.deliver(&sample.parcel()).await.unwrap();
    assert!(server.held() == [(ID.to_owned(), body.to_vec())]);
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again() {
    let server = Sshd::start().await;
    let proxy = Proxy::start(server.port).await;
    let sender = open(&server.settings_at(proxy.port)).await.unwrap();
    sender.deliver(&Sample::new("hello").parcel()).await.unwrap();
    drop(sender);
    // The connection is cut in front of the server's first words.
    proxy.lose(b"SSH-2.0", b"SSH-2.0");
    is(&open(&server.settings_at(proxy.port)).await.unwrap_err(), ErrorClass::Temporary, "cannot agree");
    assert!(proxy.has_lost());
    open(&server.settings_at(proxy.port))
        .await
        .unwrap()
        .deliver(&Sample::new("hello").parcel())
        .await
        .unwrap();
    assert_eq!(server.held(), [(ID.to_owned(), b"hello".to_vec())]);
}

fn least() -> Settings {
    Settings::default()
        .with("url", "sftp://example.com/out")
        .with("user", "outbox")
        .with("password", "env:SFTP")
        .with("host_keys", json!(["SHA256:xKRid6JWcQV1Olu0aIZht3Q55KpCE3OravbT1ZJ458A"]))
}

#[test]
fn settings_have_defaults() {
    let checked = SftpSettings::check(&least()).unwrap();
    assert_eq!((checked.connect_timeout.as_secs(), checked.timeout.as_secs()), (10, 30));
    assert_eq!((checked.address.port, checked.folder.as_str(), checked.create_folder), (22, "/out", false));
    for (url, folder) in [
        ("sftp://h/", "/"),
        ("sftp://h/a/b/", "/a/b"),
        ("sftp://h/~", "."),
        ("sftp://h/~/", "."),
        ("sftp://h/~/a", "a"),
        ("sftp://h/~a", "/~a"),
    ] {
        let checked = SftpSettings::check(&least().with("url", url));
        match checked {
            Ok(checked) => assert_eq!(checked.folder, folder, "{url}"),
            Err(error) => assert!(url == "sftp://h/", "{error}"),
        }
    }
    assert_eq!(SftpKind.describe().uri_prefixes, ["sftp://"]);
    assert_eq!(SftpKind.address_key(), Some("url"));
}

#[test]
fn every_problem_is_told_at_once() {
    let wrong = Settings::default()
        .with("url", "sftp://u:hunter2@h/x")
        .with("name", "{date}")
        .with("passphrase", "env:")
        .with("connect_timeout", "0s")
        .with("timeout", "soon");
    let error = SftpSettings::check(&wrong).unwrap_err();
    let keys: Vec<&str> = error.0.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(
        keys,
        ["url", "name", "passphrase", "user", "password", "host_keys", "connect_timeout", "timeout"]
    );
    assert!(!error.to_string().contains("hunter2"));
    for (key, value) in [
        ("url", json!("sftp://h")),
        ("name", json!("a/{key}")),
        ("passphrase", json!("x")),
        ("host_keys", json!([])),
        ("host_keys", json!(["SHA256:short"])),
        ("host_keys", json!(["ssh-ed25519 AAAA"])),
        ("folder", json!("x")),
    ] {
        let error = SftpSettings::check(&least().with(key, value)).unwrap_err();
        assert_eq!((error.0.len(), error.0[0].key.as_str()), (1, key), "{error}");
    }
    for (more, key) in [(("private_key", "env:K"), "password"), (("known_hosts", "k"), "known_hosts")] {
        let error = SftpSettings::check(&least().with(more.0, more.1)).unwrap_err();
        assert_eq!((error.0.len(), error.0[0].key.as_str()), (1, key), "{error}");
    }
}
