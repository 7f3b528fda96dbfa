//! SIGKILL while messages come in and while they are sent: nothing is lost, nothing is invented.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Method;
use pillarbox_tests::bodies::{Hash, Sizes, body, hash};
use pillarbox_tests::client::Client;
use pillarbox_tests::destination::Destination;
use pillarbox_tests::server::{Place, Server};
use pillarbox_tests::wait::{DEADLINE, LOOK, until};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::{own_id, place, port};

/// Every so many bodies one is large.
const LARGE_EVERY: u32 = 20;
const SEED: u64 = 20_261_123;
/// Clients that submit at once over the API.
const CLIENTS: usize = 32;

/// What the ones who submitted know.
#[derive(Debug, Default)]
struct Told {
    /// Every message id that was ever given to the server, with its body's hash.
    submitted: HashMap<String, Hash>,
    /// The ids that the server acknowledged.
    acknowledged: HashSet<String>,
}

fn config(engine: &str, url: &str) -> String {
    let retry = "retry = { attempts = 1000, first = '5s', max = '5s', jitter = 0.2 }\nin_flight = 64";
    let mailbox = format!("[box]\ndata = 'data'\nengine = '{engine}'\n[server]\nlisten = '127.0.0.1:0'\n");
    format!("{mailbox}{}", port("orders", url, retry))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_server_is_killed() {
    let mut destination = Destination::down();
    let place = place(&config("journal", &destination.url("/in")));
    let (server, told) = submit_folder(&place, 10_000).await;
    kill_and_deliver(&place, server, &mut destination, told, 10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_server_is_killed_on_sled() {
    let mut destination = Destination::down();
    let place = place(&config("sled", &destination.url("/in")));
    let (server, told) = submit_over_api(&place, 3_000).await;
    kill_and_deliver(&place, server, &mut destination, told, 3_000).await;
}

/// Submits a folder of files with `pillarbox submit`, kills the server in the middle, and submits those again that
/// were not acknowledged.
async fn submit_folder(place: &Place, count: usize) -> (Server, Told) {
    std::fs::create_dir(place.path("files")).expect("a new folder");
    let mut hashes = HashMap::new();
    for (number, len) in Sizes::new(SEED, LARGE_EVERY).take(count).enumerate() {
        let (name, body) = (format!("files/{number:05}"), body(SEED + number as u64, len));
        hashes.insert(name.clone(), hash(&body));
        place.write(&name, &body);
    }
    let server = place.serve().await;
    let base = server.base.clone();
    let client = server.client.clone();
    let kill = async {
        // Those count that wait, in whatever state.
        let enough = until(async || (waiting(&client).await > count as u64 / 3).then_some(())).await;
        assert_eq!(enough, Ok(()), "a third of the files is in the box");
        server.kill().await;
    };
    let args = ["submit", "--json", "--server", &base, "orders", "files"];
    let (ran, ()) = tokio::join!(place.run(&args), kill);
    let mut told = Told::default();
    let again = note(&mut told, &hashes, &ran.any_json());
    assert_eq!(ran.code == Some(0), again.is_empty(), "the exit code tells of what was not accepted");

    let server = place.serve().await;
    let mut args = vec!["submit", "--json", "--server", &server.base, "orders"];
    args.extend(again.iter().map(String::as_str));
    if !again.is_empty() {
        let left = note(&mut told, &hashes, &place.run(&args).await.json());
        assert_eq!(left, Vec::<String>::new(), "all others are accepted at the second time");
    }
    assert_eq!(told.acknowledged.len(), count);
    (server, told)
}

/// Notes what `submit --json` said; the files that were not accepted.
fn note(told: &mut Told, hashes: &HashMap<String, Hash>, said: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    for taken in said["submitted"].as_array().expect("a list") {
        let id = text(&taken["message_id"]);
        told.submitted.insert(id.clone(), hashes[&text(&taken["path"])]);
        assert!(told.acknowledged.insert(id), "every file has a message id of its own: {taken}");
    }
    let failed = said["failed"].as_array().expect("a list").iter();
    let again = failed.map(|failed| {
        let path = text(&failed["path"]);
        // It may have been taken, its answer lost.
        told.submitted.insert(text(&failed["problem"]["message_id"]), hashes[&path]);
        path
    });
    again.collect()
}

/// Submits over the API, with ids of our own, until each is acknowledged; kills the server in the middle.
async fn submit_over_api(place: &Place, count: usize) -> (Server, Told) {
    let first = place.serve().await;
    let (to, at) = watch::channel(first.client.clone());
    let sizes: Vec<usize> = Sizes::new(SEED, LARGE_EVERY).take(count).collect();
    let (sizes, next) = (Arc::new(sizes), Arc::new(AtomicUsize::new(0)));
    let told = Arc::new(Mutex::new(Told::default()));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (at, sizes, next, told) = (at.clone(), sizes.clone(), next.clone(), told.clone());
        clients.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(len) = sizes.get(number) else { return };
                let (id, body) = (own_id(number), body(SEED + number as u64, *len));
                told.lock().expect("no panic").submitted.insert(id.clone(), hash(&body));
                submit_until_taken(&at, &id, &body).await;
                told.lock().expect("no panic").acknowledged.insert(id);
            }
        });
    }
    let taken = || told.lock().expect("no panic").acknowledged.len();
    assert_eq!(until(async || (taken() > count / 3).then_some(())).await, Ok(()), "a third is accepted");
    first.kill().await;
    let second = place.serve().await;
    to.send_replace(second.client.clone());
    while let Some(ended) = clients.join_next().await {
        ended.expect("the client does not fail");
    }
    let told = std::mem::take(&mut *told.lock().expect("no panic"));
    assert_eq!(told.acknowledged.len(), count);
    (second, told)
}

async fn submit_until_taken(at: &watch::Receiver<Client>, id: &str, body: &Bytes) {
    let headers = [("x-pillarbox-message-id", id)];
    let submit = async {
        loop {
            let client = at.borrow().clone();
            let path = "/v1/ports/orders/messages";
            // Accepted: new, or as a repeat. Else cut off by the kill, or there is no server yet.
            match client.send(Method::POST, path, &headers, body.clone()).await {
                Ok(answer) => return assert!([200, 201].contains(&answer.status), "refused: {answer:?}"),
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, submit).await.expect("the server comes back");
}

/// Deliveries of `orders` that have no outcome.
async fn waiting(client: &Client) -> u64 {
    let list = client.get("/v1/ports").await.expect(200);
    let counts = &list["ports"][0]["counts"];
    ["ready", "scheduled", "retry_wait", "leased", "suspended"]
        .map(|state| counts[state].as_u64().unwrap_or(0))
        .iter()
        .sum()
}

/// Kills the server once everything is submitted, and once more while the destination is up and half of it is
/// delivered; then compares what was submitted with what arrived.
async fn kill_and_deliver(
    place: &Place,
    server: Server,
    destination: &mut Destination,
    told: Told,
    count: usize,
) {
    server.kill().await;
    let server = place.serve().await;
    let total = waiting(&server.client).await;
    assert!(total >= count as u64, "{total} of {count} acknowledged messages are there after the kill");
    assert!(total <= told.submitted.len() as u64, "{total} messages, {} submitted", told.submitted.len());

    destination.start();
    destination.wait_count(count / 2).await;
    server.kill().await;
    let server = place.serve().await;
    // Those that wait for their next attempt need not wait on.
    let args = ["resume", "--server", &server.base, "--all", "--state", "retry-wait"];
    let _resumed_or_already_sent = place.run(&args).await;
    server.client.wait_count("orders", "done", total).await;
    assert_eq!(waiting(&server.client).await, 0);
    server.end().await;
    compare(&told, destination);
}

fn compare(told: &Told, destination: &Destination) {
    let (mut keys, mut arrived) = (HashMap::new(), HashSet::new());
    for received in destination.received() {
        let message = &received.message;
        let submitted = told.submitted.get(message);
        assert_eq!(submitted, Some(&received.hash), "{message} arrived as it was submitted: {received:?}");
        let key = keys.entry(message.clone()).or_insert_with(|| received.key.clone());
        assert_eq!(*key, received.key, "a repeat of {message} has the key of the first");
        arrived.insert(received.message);
    }
    let distinct: HashSet<_> = keys.values().collect();
    assert_eq!(distinct.len(), keys.len(), "no two messages have the same key");
    let lost: Vec<_> = told.acknowledged.difference(&arrived).take(5).collect();
    assert!(lost.is_empty(), "acknowledged and never delivered, among others: {lost:?}");
}
