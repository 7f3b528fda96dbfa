//! A server that is killed while a destination has a message and has not answered: what the route's policy makes of
//! that, and what an operator can do.

use pillarbox_tests::destination::Destination;
use pillarbox_tests::server::{Place, Server};
use serde_json::Value;

use crate::{BASE, orders, place, port};

/// Sends a message to a destination that takes it and does not answer, and kills the server. The message's id and its
/// delivery's number.
async fn killed_while_sending(place: &Place, destination: &Destination) -> (String, u64) {
    let server = place.serve().await;
    destination.hold();
    let (message, number) = server.client.accepted("orders", "charge the card").await;
    destination.wait_count(1).await;
    server.kill().await;
    destination.release();
    (message, number)
}

/// Sees another message of the same port through.
async fn the_port_sends(server: &Server) {
    let (_, number) = server.client.accepted("orders", "witness").await;
    server.client.wait_state(number, "done").await;
}

async fn listed(place: &Place, to: &[&str]) -> Vec<Value> {
    let page = place.run(&[&["indoubt", "ls", "--json"], to].concat()).await.json();
    page["deliveries"].as_array().expect("a list").clone()
}

/// The message arrived so often, each time the same under the same key.
fn assert_arrived(destination: &Destination, message: &str, times: usize) {
    let received = destination.received_of(message);
    assert_eq!(received.len(), times, "{received:?}");
    for one in &received {
        assert_eq!((&one.key, &one.hash), (&received[0].key, &received[0].hash));
        assert!(one.key.ends_with(message), "{one:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_in_doubt_waits_for_a_verdict() {
    let destination = Destination::up();
    let place = orders(&destination.url("/in"), "in_doubt = { unknown = 'hold' }");
    let (message, number) = killed_while_sending(&place, &destination).await;

    let server = place.serve().await;
    let to = ["--server", &server.base];
    let held = server.client.wait_state(number, "in-doubt").await;
    assert_eq!(held["doubt"]["crashes"], 1, "{held}");
    assert_eq!(server.client.count("orders", "in-doubt").await, 1);
    let list = listed(&place, &to).await;
    assert_eq!((list.len(), &list[0]["delivery_id"]), (1, &number.into()), "{list:?}");
    let text = place.run(&[&["indoubt", "ls"], &to[..]].concat()).await;
    assert!(text.ok().contains(&message) && text.ok().contains("in-doubt"), "{text:?}");
    let resumed = place.run(&[&["resume", &number.to_string()], &to[..]].concat()).await;
    resumed.failed(1, &["nobody knows whether it was sent", &format!("pillarbox indoubt settle {number}")]);
    the_port_sends(&server).await;
    assert_arrived(&destination, &message, 1);
    server.end().await;

    // Neither a restart nor looking sends it.
    assert_eq!(listed(&place, &[]).await.len(), 1);
    let server = place.serve().await;
    the_port_sends(&server).await;
    assert_eq!(server.client.delivery(number).await["state"], "in-doubt");
    assert_arrived(&destination, &message, 1);

    let settle = ["indoubt", "settle", &number.to_string(), "--as", "resend", "--server", &server.base];
    assert!(place.run(&settle).await.ok().contains(&format!("{number} settled")));
    let done = server.client.wait_state(number, "done").await;
    assert!(done.get("doubt").is_none(), "{done}");
    assert_arrived(&destination, &message, 2);
    assert_eq!(listed(&place, &["--server", &server.base]).await.len(), 0);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_landed_is_settled_where_no_server_runs() {
    let destination = Destination::up();
    let place = orders(&destination.url("/in"), "in_doubt = { unknown = 'hold' }");
    let (message, number) = killed_while_sending(&place, &destination).await;
    let list = listed(&place, &["--port", "orders"]).await;
    assert_eq!((&list[0]["state"], &list[0]["doubt"]["crashes"]), (&"ready".into(), &1.into()), "{list:?}");
    place
        .run(&["indoubt", "settle", "--all", "--as", "landed"])
        .await
        .failed(2, &["1 delivery would end without being sent again; nothing was done", "--yes"]);
    let settled = place.run(&["indoubt", "settle", "--all", "--as", "landed", "--yes"]).await;
    assert_eq!(settled.ok().trim(), format!("{number} settled, now done"));
    let server = place.serve().await;
    the_port_sends(&server).await;
    assert_eq!(server.client.delivery(number).await["state"], "done");
    assert_arrived(&destination, &message, 1);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_doubt_is_sent_again_under_its_key_by_default() {
    let destination = Destination::up();
    let place = orders(&destination.url("/in"), "");
    let (message, number) = killed_while_sending(&place, &destination).await;
    let list = listed(&place, &[]).await;
    assert_eq!((list.len(), &list[0]["delivery_id"]), (1, &number.into()), "{list:?}");
    let server = place.serve().await;
    server.client.wait_state(number, "done").await;
    assert_arrived(&destination, &message, 2);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_out_with_something_in_doubt_is_warned_about_and_keeps_it() {
    let destination = Destination::up();
    let config = format!("{BASE}{}", port("orders", &destination.url("/in"), ""));
    let place = place(&config);
    let (message, number) = killed_while_sending(&place, &destination).await;

    place.configure(BASE);
    let before = place.log().len();
    let server = place.serve().await;
    let list = listed(&place, &["--server", &server.base]).await;
    assert_eq!((list.len(), &list[0]["delivery_id"]), (1, &number.into()), "{list:?}");
    server.end().await;
    let log = place.log().split_off(before);
    let warned = log.lines().find(|line| line.contains("are in doubt")).expect("a line about it");
    assert!(
        warned.contains("WARN") && warned.contains("orders") && warned.contains("pillarbox indoubt ls"),
        "{warned}"
    );
    assert_arrived(&destination, &message, 1);

    place.configure(&config);
    let before = place.log().len();
    let server = place.serve().await;
    server.client.wait_state(number, "done").await;
    assert_arrived(&destination, &message, 2);
    server.end().await;
    let log = place.log().split_off(before);
    assert!(!log.contains("not configured"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_the_process_is_parked_with_the_reason() {
    let destination = Destination::up();
    let place = orders(&destination.url("/in"), "in_doubt = { park_after = 1 }");
    let (message, number) = killed_while_sending(&place, &destination).await;
    let server = place.serve().await;
    let parked = server.client.wait_state(number, "suspended").await;
    let reason = parked["reason"].as_str().expect("a reason");
    assert!(reason.contains("the process ended once while it was being sent"), "{reason}");
    the_port_sends(&server).await;
    assert_arrived(&destination, &message, 1);
    assert_eq!(parked["doubt"]["crashes"], 1, "{parked}");
    // Who resumes it has decided.
    place.run(&["resume", &number.to_string(), "--server", &server.base]).await.ok();
    server.client.wait_state(number, "done").await;
    assert_arrived(&destination, &message, 2);
    server.end().await;
}
