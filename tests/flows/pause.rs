//! Ports that an operator holds back.

use pillarbox_tests::client::Client;
use pillarbox_tests::destination::Destination;
use pillarbox_tests::server::Place;

use crate::{BASE, place, port};

/// The port `held`, and the port `free`, which shows that the server sends.
fn two_ports(held: &Destination, free: &Destination) -> Place {
    let ports = [port("held", &held.url("/in"), ""), port("free", &free.url("/in"), "")].concat();
    place(&format!("{BASE}{ports}"))
}

/// Sees a message through the other port, submitted after those that are held back.
async fn the_server_sends(client: &Client) {
    let (_, number) = client.accepted("free", "witness").await;
    client.wait_state(number, "done").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_holds_messages_and_unpause_sends_them() {
    let (held, free) = (Destination::up(), Destination::up());
    let place = two_ports(&held, &free);
    let server = place.serve().await;
    let paused = place.run(&["pause", "held", "--server", &server.base]).await;
    assert!(paused.ok().contains("held is paused"), "{paused:?}");
    for number in 0..5 {
        server.client.accepted("held", format!("{number}")).await;
    }
    the_server_sends(&server.client).await;
    assert_eq!((held.count(), server.client.count("held", "ready").await), (0, 5));
    let sends = place.run(&["unpause", "held", "--server", &server.base]).await;
    assert!(sends.ok().contains("held sends again"), "{sends:?}");
    server.client.wait_count("held", "done", 5).await;
    assert_eq!(held.count(), 5);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_survives_a_restart_and_a_kill() {
    let (held, free) = (Destination::up(), Destination::up());
    let place = two_ports(&held, &free);
    let server = place.serve().await;
    server.client.post("/v1/ports/held/pause", "").await.expect(200);
    server.client.accepted("held", "first").await;
    server.end().await;
    let server = place.serve().await;
    server.client.accepted("held", "second").await;
    the_server_sends(&server.client).await;
    assert_eq!((held.count(), server.client.count("held", "ready").await), (0, 2));
    server.kill().await;
    let server = place.serve().await;
    the_server_sends(&server.client).await;
    assert_eq!((held.count(), server.client.count("held", "ready").await), (0, 2));
    let list = server.client.get("/v1/ports").await.expect(200);
    assert_eq!(list["ports"][1]["paused"], true, "{list}");
    server.client.post("/v1/ports/held/unpause", "").await.expect(200);
    server.client.wait_count("held", "done", 2).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_paused_where_no_server_runs() {
    let (held, free) = (Destination::up(), Destination::up());
    let place = two_ports(&held, &free);
    place.serve().await.end().await;
    assert!(place.run(&["pause", "held"]).await.ok().contains("held is paused"));
    let server = place.serve().await;
    server.client.accepted("held", "waits").await;
    the_server_sends(&server.client).await;
    assert_eq!((held.count(), server.client.count("held", "ready").await), (0, 1));
    server.end().await;
    assert!(place.run(&["unpause", "held"]).await.ok().contains("held sends again"));
    let server = place.serve().await;
    server.client.wait_count("held", "done", 1).await;
    server.end().await;
}
