//! A port without a destination of its own: each message says where it goes.

use pillarbox_tests::destination::Destination;
use pillarbox_tests::server::Server;

use crate::{BASE, place};

const PORT: &str = "[adapter.http]\nheaders = { x-from = 'the handler' }\n\
[[port]]\nname = 'anywhere'\n[port.primary]\nadapter = 'dynamic'\nadapters = ['http', 'file']\n\
retry = { attempts = 1 }\n";

async fn send(server: &Server, address: Option<&str>, body: &'static str) -> u64 {
    let header = address.map(|address| ("x-pillarbox-h-pillarbox-address", address));
    let taken = server.client.submit("anywhere", header.as_slice(), body).await.expect(201);
    taken["delivery_id"].as_u64().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_goes_where_it_says() {
    let (one, other) = (Destination::up(), Destination::up());
    let place = place(&format!("{BASE}{PORT}"));
    let server = place.serve().await;
    let folder = format!("file://{}", place.path("out").display());
    for (address, body) in
        [(one.url("/a"), "for one"), (other.url("/b"), "for the other"), (folder, "to a file")]
    {
        let number = send(&server, Some(&address), body).await;
        server.client.wait_state(number, "done").await;
    }
    let received = one.received();
    assert_eq!((received.len(), &received[0].path[..]), (1, "/a"));
    assert_eq!(received[0].headers["x-from"], "the handler");
    assert_eq!(other.received()[0].path, "/b");
    let file =
        std::fs::read_dir(place.path("out")).expect("the folder").next().expect("a file").expect("a file");
    assert_eq!(std::fs::read(file.path()).expect("its content"), b"to a file");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_nowhere_is_suspended_with_the_reason() {
    let place = place(&format!("{BASE}{PORT}"));
    let server = place.serve().await;
    // Programs are not among the adapters that a message may choose here.
    for (address, why) in [
        (None, "pillarbox-address"),
        (Some("exec:///bin/true"), "no adapter serves the address"),
        (Some("gopher://example.com"), "no adapter serves the address"),
        (Some("http://"), "does not take the address"),
    ] {
        let number = send(&server, address, "lost?").await;
        let view = server.client.wait_state(number, "suspended").await;
        assert!(view.to_string().contains(why), "{address:?}: {view}");
    }
    server.end().await;
}

#[tokio::test]
async fn the_configuration_says_what_is_wrong_and_where() {
    for (wrong, said) in [
        ("adapter = 'dynamic'", "which adapters its messages may choose"),
        ("adapter = 'dynamic'\nadapters = []", "no adapter is named"),
        ("adapter = 'dynamic'\nadapters = 'http'", "a list of adapters"),
        ("adapter = 'dynamic'\nadapters = ['telex']", "there is no adapter 'telex'"),
        ("adapter = 'dynamic'\nadapters = ['exec']", "takes no address from a message"),
        ("adapter = 'dynamic'\nadapters = ['http']\nurl = 'http://a'", "primary.url: there is no such key"),
        ("adapter = 'dynamic'\nadapters = ['http']\naddresses_max = 0", "is not within 1 to"),
    ] {
        let place = place(&format!("{BASE}[[port]]\nname = 'anywhere'\n[port.primary]\n{wrong}\n"));
        place.run(&["check-config"]).await.failed(2, &[said]);
    }
    let handler = format!("{BASE}{}", PORT.replace("headers", "headres"));
    place(&handler).run(&["check-config"]).await.failed(2, &["adapter.http.headres"]);
}
