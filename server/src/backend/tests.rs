//! The two backends give the same answers, and the right one is found.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pillarbox_runtime::Tasks;
use pillarbox_store::{BoxConfig, DeliveryState, Headers, IdSource, MessageBox};
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::api::{listen, router};
use crate::cli::Global;
use crate::config::Config;
use crate::failure::Failure;
use crate::secret::{Secret, SecretRef};
use crate::service::Service;
use crate::service::tests::service;

/// A server for as long as it is held.
struct Server {
    address: SocketAddr,
    _stop: watch::Sender<bool>,
}

impl Server {
    async fn start(service: Service, token: Option<Secret>) -> Self {
        let listener = listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        Tasks::new().spawn(listen::serve(listener, router(service, token), stopping));
        Self { address, _stop: stop }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn remote(&self) -> Backend {
        Backend::Remote(Box::new(Remote::new(&self.url(), None).unwrap()))
    }
}

fn file(folder: &TempDir, name: &str, bytes: &[u8]) -> Input {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    Input::File(path)
}

fn to(port: &str) -> Submission {
    let mut headers = Headers::default();
    headers.set("file-name", "gr\u{fc}n.txt").unwrap();
    headers.set("content-type", "text/plain").unwrap();
    Submission {
        port: port.parse().unwrap(),
        message_id: Some(IdSource::system().message()),
        headers,
        not_before: None,
    }
}

async fn goes_in_and_is_seen(backend: &Backend) {
    let folder = TempDir::new().unwrap();
    let long: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).take(1_000_000).collect();
    let (empty, long) = (file(&folder, "empty", b""), file(&folder, "long", &long));
    let submission = to("orders");
    let first = backend.submit(submission.clone(), &long).await.unwrap();
    let again = backend.submit(submission, &long).await.unwrap();
    assert!(!first.duplicate && again.duplicate && first.delivery_id == again.delivery_id);
    backend.submit(to("other"), &empty).await.unwrap();

    let message = backend.message(first.message_id).await.unwrap();
    let headers = message.headers.unwrap();
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["content-type", "file-name"]);
    assert_eq!(headers["file-name"], crate::wire::Header::Text("gr\u{fc}n.txt".to_owned()));
    assert_eq!(message.body_bytes, 1_000_000);

    let filter = Filter { state: Some(DeliveryState::Ready), limit: 10, ..Filter::default() };
    assert_eq!(backend.deliveries(&filter).await.unwrap().deliveries.len(), 2);
    assert!(backend.pause(&"other".parse().unwrap(), true).await.unwrap().paused);
    let ports = backend.ports().await.unwrap().ports;
    assert_eq!(ports.iter().map(|port| port.counts.ready).collect::<Vec<_>>(), [1, 1]);
    let ended = backend.terminate(first.delivery_id, "no \"more\"").await.unwrap();
    assert_eq!(ended.reason.as_deref(), Some("no \"more\""));
    assert_eq!(backend.delivery(first.delivery_id).await.unwrap(), ended);
}

async fn refuses_alike(backend: &Backend) {
    let folder = TempDir::new().unwrap();
    let small = file(&folder, "small", b"x");
    let large = file(&folder, "large", &vec![0; 40 * 1024 * 1024]);
    let gone = Input::File(folder.path().join("gone"));
    let mut names = Vec::new();
    let medium = file(&folder, "medium", &vec![0; 3 * 1024 * 1024]);
    let inputs =
        [("nope", &small), ("orders", &large), ("orders", &medium), ("nope", &medium), ("orders", &gone)];
    for (port, input) in inputs {
        names.push(backend.submit(to(port), input).await.unwrap_err().name().to_owned());
    }
    assert_eq!(names, ["unknown-port", "too-large", "too-large", "unknown-port", "unreadable"]);
    let unknown = DeliveryId::new(77);
    assert_eq!(backend.resume(unknown).await.unwrap_err().name(), "no-such-delivery");
    assert_eq!(backend.delivery(unknown).await.unwrap_err().status, 404);
    let port = "nope".parse().unwrap();
    assert_eq!(backend.pause(&port, false).await.unwrap_err().name(), "unknown-port");
}

async fn local() -> Backend {
    let service = service().await;
    let mut config = Config::default();
    config.mailbox.body_bytes_max = 1024 * 1024;
    Backend::Local(Local::over(service.store().clone(), &config))
}

#[tokio::test]
async fn both_backends_take_and_tell() {
    goes_in_and_is_seen(&local().await).await;
    let server = Server::start(service().await, None).await;
    goes_in_and_is_seen(&server.remote()).await;
}

async fn doubts_are_told_and_settled(backend: &Backend, service: &Service) {
    let folder = TempDir::new().unwrap();
    let input = file(&folder, "a", b"x");
    let mut ids = Vec::new();
    for port in ["orders", "orders", "other"] {
        ids.push(backend.submit(to(port), &input).await.unwrap().delivery_id);
    }
    service.doubt_in_test("orders", true).await;
    let filter = Filter { in_doubt: true, ..Filter::default() };
    let listed = backend.deliveries(&filter).await.unwrap().deliveries;
    assert_eq!(listed.iter().map(|view| view.delivery_id).collect::<Vec<_>>(), ids[..2]);
    assert!(listed.iter().all(|view| view.doubt.is_some() && view.state == DeliveryState::InDoubt));
    let done = backend.settle_doubt(ids[0], DoubtVerdict::Landed).await.unwrap();
    assert_eq!((done.state, &done.doubt), (DeliveryState::Done, &None));
    let ready = backend.settle_doubt(ids[1], DoubtVerdict::Resend).await.unwrap();
    assert!(ready.state == DeliveryState::Ready && ready.doubt.unwrap().resend);
    let refused = backend.settle_doubt(ids[2], DoubtVerdict::Suspend).await.unwrap_err();
    assert_eq!((refused.status, refused.name()), (409, "not-in-doubt"));
}

#[tokio::test]
async fn both_backends_tell_and_settle_doubts() {
    let service = service().await;
    let backend = Backend::Local(Local::over(service.store().clone(), &Config::default()));
    doubts_are_told_and_settled(&backend, &service).await;
    let service = crate::service::tests::service().await;
    let server = Server::start(service.clone(), None).await;
    doubts_are_told_and_settled(&server.remote(), &service).await;
}

#[tokio::test]
async fn both_backends_refuse_alike() {
    refuses_alike(&local().await).await;
    let server = Server::start(service().await, None).await;
    refuses_alike(&server.remote()).await;
}

#[tokio::test]
async fn a_server_asks_for_its_token() {
    let server = Server::start(service().await, Some(Secret::new("s3cret"))).await;
    let refused = server.remote().ports().await.unwrap_err();
    assert_eq!(refused.name(), "unauthorized");
    let remote = Remote::new(&server.url(), Some(Secret::new("s3cret"))).unwrap();
    assert!(!format!("{remote:?}").contains("s3cret"));
    assert_eq!(Backend::Remote(Box::new(remote)).ports().await.unwrap().ports.len(), 2);
}

#[tokio::test]
async fn what_does_not_answer_is_named() {
    let address = {
        let listener = listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        listener.local_addr().unwrap()
    };
    let remote = Remote::new(&format!("http://{address}"), None).unwrap();
    let error = Backend::Remote(Box::new(remote)).ports().await.unwrap_err();
    assert_eq!(error.name(), "unreachable");
    assert!(error.detail.contains(&address.to_string()), "{error}");
    for wrong in ["localhost:80", "ftp://a", "http://", "http://a?b=c"] {
        assert!(Remote::new(wrong, None).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let error = listen::bind(address).await.unwrap_err();
    assert!(error.starts_with(&format!("{address} is taken by another program")), "{error}");
}

fn config(data: &Path, listen: SocketAddr) -> Config {
    let mut config = Config::default();
    config.mailbox.data = data.to_owned();
    config.server.listen = listen;
    config
}

async fn find_failed(global: &Global, config: &Config) -> Failure {
    find(global, config, Creation::Refused).await.unwrap_err()
}

#[tokio::test]
async fn a_running_server_is_found_and_another_box_s_is_not_mistaken_for_it() {
    let (ours, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let service = service().await.with_folder(folder_mark(ours.path()));
    let server = Server::start(service, None).await;
    let global = Global::default();
    let found = find(&global, &config(ours.path(), server.address), Creation::Refused).await.unwrap();
    assert!(matches!(found, Backend::Remote(_)));
    let error = find_failed(&global, &config(other.path(), server.address)).await;
    assert!(error.what.contains("serves another data folder"), "{error}");
    // Where there is no folder of our own, whoever answers is meant.
    let elsewhere = config(&ours.path().join("none"), server.address);
    assert!(matches!(find(&global, &elsewhere, Creation::Refused).await.unwrap(), Backend::Remote(_)));
}

#[tokio::test]
async fn without_a_server_the_folder_is_opened() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let config = config(&data, nobody);
    let error = find_failed(&Global::default(), &config).await;
    assert!(error.what.contains("there is no data folder at"), "{error}");
    assert!(!data.exists(), "looking makes nothing");
    let found = find(&Global::default(), &config, Creation::Allowed).await.unwrap();
    assert!(matches!(found, Backend::Local(_)));
    let locked = find_failed(&Global { data: Some(data.clone()), ..Global::default() }, &config).await;
    assert!(locked.what.contains("locked") && locked.what.contains("process "), "{locked}");
    assert!(locked.next.is_some());
    found.close().await.unwrap();
}

#[tokio::test]
async fn a_missing_token_is_wrong_use() {
    let global = Global {
        server: Some("http://127.0.0.1:1".to_owned()),
        token: Some(SecretRef::File(PathBuf::from("/nowhere/token"))),
        ..Global::default()
    };
    let error = find_failed(&global, &Config::default()).await;
    assert_eq!(error.code, 2);
    assert!(error.what.contains("/nowhere/token"), "{error}");
}

#[tokio::test]
async fn a_port_that_only_the_configuration_knows_is_made_known() {
    let text =
        "[[port]]\nname = 'new'\n[port.primary]\nadapter = 'file'\nfolder = '/tmp'\nname = '{message_id}'\n";
    let config = crate::config::check("p.toml", text, &pillarbox_adapters::registry()).unwrap();
    let store = MessageBox::open(BoxConfig::in_memory()).unwrap();
    let local = Backend::Local(Local::over(Arc::new(store), &config));
    let folder = TempDir::new().unwrap();
    let input = file(&folder, "a", b"x");
    assert_eq!(local.submit(to("newer"), &input).await.unwrap_err().name(), "unknown-port");
    local.submit(to("new"), &input).await.unwrap();
}
