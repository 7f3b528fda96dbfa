//! The failure ladder: retries, the backup, suspension, and what an operator does then.

use std::time::Duration;

use pillarbox_tests::bodies::hash;
use pillarbox_tests::client::Client;
use pillarbox_tests::destination::{Destination, Reply};
use pillarbox_tests::server::{Place, Server};
use pillarbox_tests::wait::until;
use serde_json::Value;

use crate::{BASE, orders, place, port};

/// Two attempts in quick succession.
const TWICE: &str = "retry = { attempts = 2, first = '10ms', max = '10ms' }";

/// The values of one field of every attempt.
fn each(view: &Value, field: &str) -> Vec<String> {
    let history = view["history"].as_array().expect("a list");
    history.iter().map(|attempt| attempt[field].as_str().expect("a text").to_owned()).collect()
}

fn backup_folder(url: &str) -> Place {
    let backup = format!("{TWICE}\n[port.backup]\nadapter = 'file'\nfolder = 'undelivered'\n");
    orders(url, &format!("{backup}name = '{{message_id}}.msg'\n{TWICE}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn exhausted_retries_hand_over_to_the_backup() {
    let destination = Destination::down();
    let place = backup_folder(&destination.url("/in"));
    let server = place.serve().await;
    let (message, number) = server.client.accepted("orders", "for the backup").await;
    let view = server.client.wait_state(number, "done").await;
    assert_eq!(view["route"], "backup", "{view}");
    assert_eq!(view["attempts"], 3, "{view}");
    assert_eq!(each(&view, "outcome"), ["resubmitted", "moved-to-backup", "delivered"]);
    assert_eq!(each(&view, "route"), ["primary", "primary", "backup"]);
    let file = place.path(&format!("undelivered/{message}.msg"));
    assert_eq!(std::fs::read(file).expect("the backup's file"), b"for the backup");
    server.end().await;
}

/// A port whose primary and backup both refuse, with one message that was suspended for it.
async fn both_refuse() -> (Place, Server, [Destination; 2], String, u64) {
    let (primary, backup) = (Destination::up(), Destination::up());
    primary.answer(|_| Reply::status(503).saying("the first is closed"));
    backup.answer(|_| Reply::status(500).saying("the second is broken"));
    let route = format!("{TWICE}\n[port.backup]\nadapter = 'http'\nurl = '{}'\n{TWICE}", backup.url("/b"));
    let place = orders(&primary.url("/a"), &route);
    let server = place.serve().await;
    let (message, number) = server.client.accepted("orders", "nobody takes this").await;
    let view = server.client.wait_state(number, "suspended").await;
    assert_eq!(view["attempts"], 4, "{view}");
    assert_eq!(each(&view, "outcome"), ["resubmitted", "moved-to-backup", "resubmitted", "suspended"]);
    assert_eq!(each(&view, "route"), ["primary", "primary", "backup", "backup"]);
    (place, server, [primary, backup], message, number)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_backup_suspends_with_both_error_chains() {
    let (place, server, [primary, backup], message, number) = both_refuse().await;
    for id in [number.to_string(), message] {
        let shown = place.run(&["show", &id, "--server", &server.base]).await;
        for words in ["the first is closed", "the second is broken", "503", "500", "suspended"] {
            assert!(shown.ok().contains(words), "`show {id}` tells {words:?}: {}", shown.stdout);
        }
    }
    assert_eq!((primary.count(), backup.count()), (2, 2));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resume_sends_what_was_suspended() {
    let (place, server, both, message, number) = both_refuse().await;
    both.iter().for_each(|destination| destination.answer(|_| Reply::status(204)));
    let resumed = place.run(&["resume", &message, "--server", &server.base]).await;
    assert!(resumed.ok().contains("resumed"), "{resumed:?}");
    let view = server.client.wait_state(number, "done").await;
    assert_eq!(view["attempts"], 5, "{view}");
    let received: Vec<_> = both.iter().flat_map(|destination| destination.received_of(&message)).collect();
    assert_eq!(received.len(), 5);
    assert!(received.iter().all(|one| one.hash == hash(b"nobody takes this")), "{received:?}");
    let again = place.run(&["resume", &number.to_string(), "--server", &server.base]).await;
    again.failed(1, &["done", "cannot be resumed"]);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terminate_removes_it_and_leaves_a_trace() {
    let (place, server, both, message, number) = both_refuse().await;
    let id = number.to_string();
    let args = ["terminate", &id, "--reason", "the customer left", "--server", &server.base];
    assert!(place.run(&args).await.ok().contains("terminated"));
    server.client.get(&format!("/v1/messages/{message}/body")).await.problem(410, "body-gone");
    let shown = place.run(&["show", &id, "--server", &server.base]).await;
    for words in ["terminated", "the customer left", "the first is closed", "the second is broken"] {
        assert!(shown.ok().contains(words), "`show` tells {words:?}: {}", shown.stdout);
    }
    server.end().await;
    // The trace is kept on disk, and nothing is left to be sent.
    let server = place.serve().await;
    assert_eq!(server.client.delivery(number).await["reason"], "the customer left");
    assert_eq!(server.client.count("orders", "terminated").await, 1);
    assert_eq!(both.map(|destination| destination.count()), [2, 2]);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_folder_vanishes_suspends_and_resume_finds_the_new_one() {
    let destination = Destination::down();
    let place = backup_folder(&destination.url("/in"));
    let server = place.serve().await;
    let (_, first) = server.client.accepted("orders", "opens the backup").await;
    server.client.wait_state(first, "done").await;
    std::fs::remove_dir_all(place.path("undelivered")).expect("the folder is ours");
    let (message, second) = server.client.accepted("orders", "finds no folder").await;
    let view = server.client.wait_state(second, "suspended").await;
    assert_eq!(each(&view, "route"), ["primary", "primary", "backup", "backup"]);
    assert!(view["reason"].as_str().is_some_and(|reason| reason.contains("undelivered")), "{view}");
    std::fs::create_dir(place.path("undelivered")).expect("the place is free");
    let args = ["resume", "--all", "--port", "orders", "--server", &server.base];
    assert!(place.run(&args).await.ok().contains("resumed"));
    server.client.wait_state(second, "done").await;
    let file = place.path(&format!("undelivered/{message}.msg"));
    assert_eq!(std::fs::read(file).expect("the backup's file"), b"finds no folder");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_cannot_be_opened_says_so_and_costs_no_attempt() {
    let destination = Destination::down();
    let place = backup_folder(&destination.url("/in"));
    place.write("undelivered", "a file where the folder should be");
    let server = place.serve().await;
    let (message, number) = server.client.accepted("orders", "waits for the backup").await;
    let trouble = until(async || {
        let list = server.client.get("/v1/ports").await.expect(200);
        list["ports"][0]["routes"][1]["trouble"].as_str().map(str::to_owned)
    });
    assert!(trouble.await.is_ok_and(|text| text.contains("undelivered")));
    let view = server.client.delivery(number).await;
    assert_eq!(each(&view, "route"), ["primary", "primary"], "no attempt of the backup is charged");
    let ports = place.run(&["ports", "--server", &server.base]).await;
    assert!(ports.ok().contains("! orders backup: "), "{ports:?}");
    std::fs::remove_file(place.path("undelivered")).expect("the file is ours");
    server.client.wait_state(number, "done").await;
    assert!(place.path(&format!("undelivered/{message}.msg")).is_file());
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permanent_refusal_suspends_at_once() {
    let destination = Destination::up();
    destination.answer(|_| Reply::status(422).saying("no such customer"));
    let place = backup_folder(&destination.url("/in"));
    let server = place.serve().await;
    let (_, number) = server.client.accepted("orders", "wrong for ever").await;
    let view = server.client.wait_state(number, "suspended").await;
    assert_eq!(view["attempts"], 1, "{view}");
    assert_eq!(view["history"][0]["failure"]["permanent"], true, "{view}");
    assert!(view["reason"].as_str().is_some_and(|reason| reason.contains("no such customer")), "{view}");
    server.end().await;
}

async fn submit_held_back(client: &Client, count: usize) -> Vec<u64> {
    client.post("/v1/ports/orders/pause", "").await.expect(200);
    let mut numbers = Vec::new();
    for number in 0..count {
        numbers.push(client.accepted("orders", format!("message {number}")).await.1);
    }
    client.post("/v1/ports/orders/unpause", "").await.expect(200);
    numbers
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_message_costs_the_others_nothing() {
    let destination = Destination::up();
    let bad = hash(b"message 77");
    destination.answer(move |received| Reply::status(if received.hash == bad { 503 } else { 204 }));
    let place = orders(&destination.url("/in"), "retry = { attempts = 3, first = '10ms', max = '10ms' }");
    let server = place.serve().await;
    // All at once, so that it is sent in one batch with others.
    let numbers = submit_held_back(&server.client, 200).await;
    server.client.wait_count("orders", "done", 199).await;
    server.client.wait_state(numbers[77], "suspended").await;
    for (place, number) in numbers.iter().enumerate() {
        let view = server.client.delivery(*number).await;
        let wanted = if place == 77 { ("suspended", 3) } else { ("done", 1) };
        assert_eq!(view["state"], wanted.0, "{view}");
        assert_eq!(view["attempts"], wanted.1, "{view}");
    }
    assert_eq!(destination.count(), 199 + 3);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honoured() {
    let destination = Destination::up();
    destination.answer(|received| match received.attempt {
        1 => Reply::status(429).retry_after(2),
        _ => Reply::status(204),
    });
    let place = orders(&destination.url("/in"), TWICE);
    let server = place.serve().await;
    let (message, number) = server.client.accepted("orders", "not so fast").await;
    let view = server.client.wait_state(number, "done").await;
    assert_eq!(view["attempts"], 2, "{view}");
    let [first, second] = &destination.received_of(&message)[..] else { panic!("two attempts: {view}") };
    let between = second.at - first.at;
    // The server's clock and ours need not run alike to the millisecond.
    assert!(between >= Duration::from_millis(1_950), "the second attempt came after {between:?}");
    assert_eq!(first.key, second.key);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_port_has_a_ladder_of_its_own() {
    let (good, bad) = (Destination::up(), Destination::up());
    bad.answer(|_| Reply::status(500));
    let ports = [port("good", &good.url("/g"), TWICE), port("bad", &bad.url("/b"), TWICE)].concat();
    let place = place(&format!("{BASE}{ports}"));
    let server = place.serve().await;
    for number in 0..20 {
        server.client.accepted("bad", format!("bad {number}")).await;
        server.client.accepted("good", format!("good {number}")).await;
    }
    server.client.wait_count("good", "done", 20).await;
    server.client.wait_count("bad", "suspended", 20).await;
    assert_eq!((good.count(), bad.count()), (20, 40));
    assert!(good.received().iter().all(|one| one.path == "/g" && one.attempt == 1));
    server.end().await;
}
