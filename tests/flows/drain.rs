//! SIGTERM: no new work, what is being sent is finished, no attempt is burnt, exit code 0.

use std::collections::HashMap;

use pillarbox_tests::client::Client;
use pillarbox_tests::destination::Destination;
use pillarbox_tests::server::{Place, Server};
use pillarbox_tests::wait::until;
use serde_json::{Value, json};

use crate::{place, port};

const MESSAGES: usize = 20;
const AT_ONCE: usize = 4;

fn slow(url: &str, drain: &str) -> Place {
    let mailbox = format!("[box]\ndata = 'data'\n[server]\nlisten = '127.0.0.1:0'\ndrain = '{drain}'\n");
    place(&format!("{mailbox}{}", port("orders", url, &format!("in_flight = {AT_ONCE}"))))
}

/// A server with messages, of which some are being sent to a destination that does not answer.
async fn sending(place: &Place, destination: &Destination) -> Server {
    destination.hold();
    let server = place.serve().await;
    for number in 0..MESSAGES {
        server.client.accepted("orders", format!("message {number}")).await;
    }
    destination.wait_count(AT_ONCE).await;
    server
}

/// Asks the server to end and waits until it says that it does.
async fn begin_to_end(server: &Server) {
    server.ask_to_end();
    let draining = until(async || {
        let health = server.client.get("/healthz").await;
        (health.status == 503 && health.json()["status"] == "draining").then_some(())
    });
    assert_eq!(draining.await, Ok(()), "the server tells that it is stopping");
}

/// Every delivery, from the data folder, with its attempts by state.
async fn deliveries(place: &Place) -> HashMap<String, Vec<u64>> {
    let list = place.run(&["ls", "--all", "--json"]).await.json();
    let mut found: HashMap<String, Vec<u64>> = HashMap::new();
    for view in list["deliveries"].as_array().expect("a list") {
        let state = view["state"].as_str().expect("a state").to_owned();
        found.entry(state).or_default().push(view["attempts"].as_u64().expect("a number"));
    }
    found
}

/// Starts again and sees every message delivered at its first attempt.
async fn everything_is_delivered(place: &Place, destination: &Destination) {
    let server = place.serve().await;
    server.client.wait_count("orders", "done", MESSAGES as u64).await;
    let list = server.client.get("/v1/deliveries?port=orders").await.expect(200);
    for view in list["deliveries"].as_array().expect("a list") {
        assert_eq!(view["attempts"], 1, "no attempt was burnt: {view}");
    }
    server.end().await;
    let mut keys = HashMap::new();
    for received in destination.received() {
        assert_eq!(received.attempt, 1, "{received:?}");
        let key = keys.entry(received.message).or_insert_with(|| received.key.clone());
        assert_eq!(*key, received.key, "a repeat has the key of the first");
    }
    assert_eq!(keys.len(), MESSAGES);
}

async fn refused_while_draining(client: &Client) {
    let refused = client.submit("orders", &[], "too late").await;
    refused.problem(503, "draining");
    assert_eq!(refused.headers.get("retry-after").and_then(|value| value.to_str().ok()), Some("5"));
    let batch = json!({"messages": [{"port": "orders", "body_text": "too late"}]});
    client.post("/v1/batches", batch.to_string()).await.problem(503, "draining");
    // What is there can still be looked at.
    let list: Value = client.get("/v1/deliveries?limit=1").await.expect(200);
    assert_eq!(list["deliveries"].as_array().map(Vec::len), Some(1), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_is_being_sent_and_begins_nothing() {
    let destination = Destination::up();
    let place = slow(&destination.url("/in"), "100s");
    let server = sending(&place, &destination).await;
    begin_to_end(&server).await;
    refused_while_draining(&server.client).await;
    destination.release();
    let status = server.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(destination.count(), AT_ONCE, "nothing was begun");
    let found = deliveries(&place).await;
    assert_eq!(found.get("done"), Some(&vec![1; AT_ONCE]), "{found:?}");
    assert_eq!(found.get("ready"), Some(&vec![0; MESSAGES - AT_ONCE]), "{found:?}");
    everything_is_delivered(&place, &destination).await;
    assert_eq!(destination.count(), MESSAGES, "nothing was sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_at_its_deadline_and_burns_no_attempt() {
    let destination = Destination::up();
    let place = slow(&destination.url("/in"), "2s");
    let server = sending(&place, &destination).await;
    begin_to_end(&server).await;
    let status = server.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
    let found = deliveries(&place).await;
    assert_eq!(found, HashMap::from([("ready".to_owned(), vec![0; MESSAGES])]), "no attempt is charged");
    destination.release();
    everything_is_delivered(&place, &destination).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once_and_loses_nothing() {
    let destination = Destination::up();
    let place = slow(&destination.url("/in"), "100s");
    let server = sending(&place, &destination).await;
    begin_to_end(&server).await;
    server.ask_to_end();
    let status = server.ended().await;
    assert_eq!(status.code(), Some(1), "{status}");
    destination.release();
    everything_is_delivered(&place, &destination).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_ends_at_once() {
    let destination = Destination::up();
    let place = slow(&destination.url("/in"), "100s");
    let server = place.serve().await;
    let (_, number) = server.client.accepted("orders", "before").await;
    server.client.wait_state(number, "done").await;
    server.end().await;
    let found = deliveries(&place).await;
    assert_eq!(found, HashMap::from([("done".to_owned(), vec![1])]));
}
