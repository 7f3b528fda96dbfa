//! The command line, with a server running and without.

use pillarbox_tests::bodies::{body, hash};
use pillarbox_tests::destination::{Destination, Reply};
use pillarbox_tests::server::{Place, Server};
use pillarbox_tests::wait::until;
use serde_json::Value;

use crate::{BASE, orders, place, port};

fn list<'v>(value: &'v Value, field: &str) -> &'v Vec<Value> {
    value[field].as_array().expect("a list")
}

/// A folder with three files, one of them in a folder below.
fn with_files(place: &Place) {
    std::fs::create_dir_all(place.path("letters/old")).expect("a new folder");
    for (name, text) in [("letters/a", "first"), ("letters/b", "second"), ("letters/old/c", "third")] {
        place.write(name, text);
    }
}

/// Every command with `--json`, told by `to` whom to talk to; with a running server deliveries end by themselves.
async fn every_command_as_json(place: &Place, to: &[&str]) {
    let run = async |args: &[&str]| place.run(&[args, to, &["--json"]].concat()).await.json();
    let taken = run(&["submit", "held", "letters", "--header", "from=me"]).await;
    let taken = list(&taken, "submitted");
    assert_eq!(taken.len(), 3);
    let message = taken[0]["message_id"].as_str().expect("an id");
    let number = taken[1]["delivery_id"].to_string();
    let page = run(&["ls", "--port", "held"]).await;
    assert_eq!(list(&page, "deliveries").len(), 3, "{page}");
    assert_eq!(list(&run(&["ls", "--limit", "2"]).await, "deliveries").len(), 2);
    let shown = run(&["show", message]).await;
    assert_eq!((&shown["headers"]["from"], &shown["headers"]["file-name"]), (&"me".into(), &"a".into()));
    assert_eq!(run(&["show", &number]).await["delivery_id"].to_string(), number);
    let ended = run(&["terminate", &number, "--reason", "enough"]).await;
    assert_eq!(list(&ended, "terminated")[0]["reason"], "enough", "{ended}");
    let all = run(&["terminate", "--all", "--port", "held", "--state", "ready", "--yes"]).await;
    assert_eq!(list(&all, "terminated").len(), 2, "{all}");
    let resumed = run(&["resume", "--all"]).await;
    assert_eq!(list(&resumed, "resumed").len(), 0, "{resumed}");
    let certain = run(&["indoubt", "ls", "--port", "held"]).await;
    assert_eq!(list(&certain, "deliveries").len(), 0, "{certain}");
    let settled = run(&["indoubt", "settle", "--all", "--as", "resend"]).await;
    assert_eq!(list(&settled, "settled").len(), 0, "{settled}");
    let ports = run(&["ports"]).await;
    assert_eq!(list(&ports, "ports")[0]["counts"]["terminated"], 3, "{ports}");
    assert_eq!(run(&["unpause", "held"]).await["paused"], false);
    assert_eq!(run(&["pause", "held"]).await["paused"], true);
    assert_eq!(run(&["check-config"]).await["ok"], true);
}

/// A folder with files and the port `held`, which is paused.
async fn held(destination: &Destination) -> Place {
    let place = place(&format!("{BASE}{}", port("held", &destination.url("/in"), "")));
    with_files(&place);
    place.serve().await.end().await;
    place.run(&["pause", "held"]).await.ok();
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_prints_json_where_no_server_runs() {
    let destination = Destination::up();
    let place = held(&destination).await;
    every_command_as_json(&place, &[]).await;
    assert_eq!(destination.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_prints_json_with_a_server_running() {
    let destination = Destination::up();
    let place = held(&destination).await;
    let server = place.try_serve(&["--json"]).await.expect("it starts");
    every_command_as_json(&place, &["--server", &server.base]).await;
    assert_eq!(destination.count(), 0);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_is_made_and_filled_before_its_first_server() {
    let destination = Destination::up();
    let place = orders(&destination.url("/in"), "");
    with_files(&place);
    let nothing = place.run(&["ls"]).await;
    nothing.failed(1, &["no data folder at data", "pillarbox serve"]);
    assert!(!place.path("data").exists(), "looking makes no folder");
    let taken = place.run(&["submit", "orders", "letters", "pillarbox.toml"]).await;
    assert_eq!(taken.ok().lines().count(), 4, "{taken:?}");
    for (line, name) in
        taken.stdout.lines().zip(["letters/a", "letters/b", "letters/old/c", "pillarbox.toml"])
    {
        assert!(line.ends_with(name), "{line}");
    }
    assert!(place.run(&["ls"]).await.ok().contains("ready"));
    assert!(place.run(&["ports"]).await.ok().contains("orders"));
    let id = taken.stdout.split(' ').next().expect("an id");
    let shown = place.run(&["show", id]).await;
    assert!(shown.ok().contains("file-name: a"), "{shown:?}");
    let server = place.serve().await;
    server.client.wait_count("orders", "done", 4).await;
    for text in ["first", "second", "third"] {
        let arrived = destination.received().iter().filter(|one| one.hash == hash(text.as_bytes())).count();
        assert_eq!(arrived, 1, "{text}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_is_submitted_with_and_without_a_server() {
    let destination = Destination::up();
    let place = orders(&destination.url("/in"), "");
    let long = body(3, 3 * 1024 * 1024);
    let offline = place.run_with_input(&["submit", "orders", "-", "--json"], &long).await.json();
    let server = place.serve().await;
    let args = ["submit", "orders", "-", "--json", "--header", "a=b", "--server", &server.base];
    let online = place.run_with_input(&args, b"from standard input").await.json();
    server.client.wait_count("orders", "done", 2).await;
    for (said, wanted) in [(&offline, hash(&long)), (&online, hash(b"from standard input"))] {
        let taken = &list(said, "submitted")[0];
        assert_eq!(taken["path"], "-");
        let received = destination.received_of(taken["message_id"].as_str().expect("an id"));
        assert_eq!(received.len(), 1, "{taken}");
        assert_eq!(received[0].hash, wanted, "{taken}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_is_told_before_anything_is_submitted() {
    let destination = Destination::up();
    let place = orders(&destination.url("/in"), "");
    with_files(&place);
    let server = place.serve().await;
    let args = ["submit", "orders", "letters/a", "letters/missing", "--server", &server.base];
    let ran = place.run(&args).await;
    ran.failed(1, &["letters/missing cannot be read", "nothing was submitted", "next: "]);
    let page = server.client.get("/v1/deliveries").await.expect(200);
    assert_eq!(list(&page, "deliveries").len(), 0, "{page}");
    server.end().await;
}

/// Submits a folder of which one file cannot be taken; told by `to` whom to talk to.
async fn one_of_three_is_refused(place: &Place, to: &[&str]) {
    let ran = place.run(&[&["submit", "orders", "letters", "--json"], to].concat()).await;
    ran.failed(1, &["1 of 3 were not accepted", "letters/b", "1024 bytes"]);
    let said = ran.any_json();
    let paths: Vec<_> = list(&said, "submitted").iter().map(|taken| &taken["path"]).collect();
    assert_eq!(paths, ["letters/a", "letters/old/c"]);
    assert_eq!(list(&said, "failed")[0]["path"], "letters/b", "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_refused_does_not_keep_the_others_out() {
    let destination = Destination::up();
    let config = format!("[box]\nbody_bytes_max = 1024\n{}", &BASE[6..]);
    let place = place(&format!("{config}{}", port("orders", &destination.url("/in"), "")));
    with_files(&place);
    place.write("letters/b", body(1, 1025));
    one_of_three_is_refused(&place, &[]).await;
    let server = place.serve().await;
    one_of_three_is_refused(&place, &["--server", &server.base]).await;
    server.client.wait_count("orders", "done", 4).await;
    assert_eq!(destination.count(), 4);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_id_of_ones_own_is_taken_once() {
    let destination = Destination::up();
    let place = orders(&destination.url("/in"), "");
    with_files(&place);
    let id = crate::own_id(7);
    let submit = ["submit", "orders", "letters/a", "--message-id", &id, "--json"];
    let first = place.run(&submit).await.json();
    assert_eq!(list(&first, "submitted")[0]["message_id"], id);
    assert_eq!(list(&place.run(&submit).await.json(), "submitted")[0]["duplicate"], true);
    let server = place.serve().await;
    let online = [&submit[..], &["--server", &server.base]].concat();
    assert_eq!(list(&place.run(&online).await.json(), "submitted")[0]["duplicate"], true);
    let many = ["submit", "orders", "letters", "--message-id", &id, "--server", &server.base];
    place.run(&many).await.failed(2, &["one message"]);
    server.client.wait_count("orders", "done", 1).await;
    assert_eq!(destination.count(), 1);
    server.end().await;
}

/// A server at an address that the configuration names, so that commands find it by themselves.
async fn at_a_fixed_address(place: &Place, config: &str) -> Server {
    let started = until(async || {
        // Somebody else may take the address before the server does: then the next one.
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        place.configure(&config.replace("127.0.0.1:0", &free.ok()?.to_string()));
        place.try_serve(&[]).await.ok()
    });
    started.await.expect("there are free addresses")
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_find_the_server_of_the_configuration() {
    let destination = Destination::up();
    destination.answer(|_| Reply::status(400).saying("not like this"));
    let place = place("");
    let config = format!("{BASE}{}", port("orders", &destination.url("/in"), ""));
    with_files(&place);
    let server = at_a_fixed_address(&place, &config).await;
    let taken = place.run(&["submit", "orders", "letters"]).await;
    assert_eq!(taken.ok().lines().count(), 3, "{taken:?}");
    server.client.wait_count("orders", "suspended", 3).await;
    let listed = place.run(&["ls", "--state", "suspended"]).await;
    assert_eq!(listed.ok().matches("no further attempt can help").count(), 3, "{listed:?}");
    destination.answer(|_| Reply::status(204));
    let held_back = place.run(&["terminate", "--all"]).await;
    held_back.failed(2, &["3 deliveries would end without being sent", "--yes"]);
    place.run(&["resume", "--all"]).await.ok();
    server.client.wait_count("orders", "done", 3).await;
    // With another data folder in the configuration it is another box's server.
    let other = place.path("other");
    std::fs::create_dir(&other).expect("a new folder");
    let right = std::fs::read_to_string(place.path("pillarbox.toml")).expect("it is there");
    place.configure(&right.replace("'data'", "'other'"));
    place.run(&["ls"]).await.failed(1, &["another data folder", "--server", "--data"]);
    place.configure(&right);
    server.end().await;
    // The same command, now from the folder.
    assert_eq!(place.run(&["ls", "--state", "done"]).await.ok().lines().count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_told() {
    let place = place(BASE);
    let nobody = Destination::down();
    place.write("letter", "nobody takes it");
    let ran = place.run(&["submit", "--server", &nobody.url(""), "orders", "letter"]).await;
    ran.failed(1, &["letter", "Connection refused", "message id"]);
    let stranger = Destination::up();
    stranger.answer(|_| Reply::status(200).saying("hello"));
    let ran = place.run(&["ports", "--server", &stranger.url("")]).await;
    ran.failed(1, &["not understood"]);
    place.run(&["ports", "--server", "nowhere"]).await.failed(2, &["not a server's address"]);
}
