//! Configurations and surroundings that a server cannot start with: it says what is wrong and what to do, leaves with
//! a code that is not 0, and touches nothing.

use pillarbox_tests::destination::Destination;
use pillarbox_tests::server::{Place, Ran};
use pillarbox_tests::small_disk::SmallDisk;

use crate::{BASE, orders, place, port};

/// Both `serve` and `check-config` refuse this configuration, with these words; no data folder is made.
async fn refused(config: &str, words: &[&str]) {
    let place = place(config);
    place.run(&["check-config"]).await.failed(2, words);
    place.run(&["ls"]).await.failed(2, words);
    let ran = place.try_serve(&[]).await.expect_err("it cannot start");
    ran.failed(2, words);
    ran.failed(2, &["next: ", "check-config"]);
    assert!(!place.path("data").exists(), "nothing was opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_is_told_with_its_place() {
    let config =
        format!("{BASE}segmnet_bytes = 1\n{}", port("orders", "http://127.0.0.1:9/in", "colour = 'red'"));
    refused(
        &config,
        &["2 problems", "pillarbox.toml:5:1: server.segmnet_bytes", "pillarbox.toml:11:1: ", "colour"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_config_tells_the_problems_as_json() {
    let place = place("[box]\nengin = 'journal'\n");
    let ran = place.run(&["check-config", "--json"]).await;
    ran.failed(2, &["pillarbox.toml:2:1: box.engin"]);
    let said = ran.any_json();
    assert_eq!(said["ok"], false, "{said}");
    let problem = &said["problems"][0];
    assert_eq!(
        (&problem["line"], &problem["column"], &problem["key"]),
        (&2.into(), &1.into(), &"box.engin".into())
    );
    place.configure(BASE);
    assert_eq!(place.run(&["check-config", "--json"]).await.json()["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_configuration_is_refused_wherever_it_ends() {
    let whole = format!("{BASE}{}", port("orders", "http://127.0.0.1:9/in", "timeout = '3s'"));
    // In a table's head, in a key, behind the sign, in a text: each is no TOML, in its last line.
    for (ends, line) in [("[[po", 5), ("[port.primary]\nadap", 8), ("url =", 9), ("url = 'http://127", 9)] {
        let at = whole.find(ends).expect("it is there") + ends.len();
        refused(&whole[..at], &[&format!("pillarbox.toml:{line}:"), "not valid TOML"]).await;
    }
    // Between two lines it is TOML, and incomplete.
    let at = whole.find("url = ").expect("it is there");
    refused(&whole[..at], &["pillarbox.toml:8:", "port[orders].primary.url"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_missing_or_no_text_is_told() {
    let place = place(BASE);
    let missing = place.run(&["check-config", "--config", "elsewhere.toml"]).await;
    missing.failed(2, &["elsewhere.toml", "cannot be read", "--config"]);
    place.write("pillarbox.toml", b"[box]\ndata = '\xff'\n");
    place.run(&["ports"]).await.failed(2, &["pillarbox.toml", "not UTF-8"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn listening_beyond_loopback_without_a_token_is_refused() {
    let open = "[box]\ndata = 'data'\n[server]\nlisten = '0.0.0.0:0'\n";
    refused(open, &["pillarbox.toml:4:10", "server.listen", "no token is asked for", "env:NAME"]).await;
    let place = place(BASE);
    let ran = place.try_serve(&["--listen", "0.0.0.0:0"]).await.expect_err("it cannot start");
    ran.failed(2, &["0.0.0.0:0", "no token is asked for"]);
    assert!(!place.path("data").exists(), "nothing was opened");
}

/// Sees a message accepted before through to its destination, by a server that starts.
async fn delivered_after_all(place: &Place, destination: &Destination) {
    let server = place.serve().await;
    server.client.wait_count("orders", "done", 1).await;
    assert_eq!(destination.count(), 1);
    server.end().await;
}

/// A folder whose box holds a message that was accepted and not sent, for its destination was down.
async fn with_a_message(destination: &Destination) -> Place {
    let retry = "retry = { attempts = 1000, first = '100ms', max = '1s' }";
    let place = orders(&destination.url("/in"), retry);
    place.write("letter", "accepted before");
    place.run(&["submit", "orders", "letter"]).await.ok();
    place
}

fn tells_of(ran: &Ran, words: &[&str]) {
    ran.failed(1, words);
    ran.failed(1, &["next: "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_told_and_nothing_is_lost() {
    let mut destination = Destination::down();
    let place = with_a_message(&destination).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free address");
    let address = taken.local_addr().expect("it is bound").to_string();
    let ran = place.try_serve(&["--listen", &address]).await.expect_err("it cannot start");
    ran.failed(1, &[&address, "is taken by another program", "server.listen"]);
    destination.start();
    delivered_after_all(&place, &destination).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_data_folder_names_its_holder_and_nothing_is_lost() {
    let mut destination = Destination::down();
    let place = with_a_message(&destination).await;
    let server = place.serve().await;
    let holder = format!("process {}", server.pid());
    tells_of(&place.try_serve(&[]).await.expect_err("it cannot start"), &[&holder, "data folder"]);
    for args in [&["submit", "orders", "letter"][..], &["ls"], &["terminate", "1"]] {
        // At a free address the commands do not find the server, and try the folder.
        tells_of(&place.run(args).await, &[&holder, "--server URL"]);
    }
    server.kill().await;
    destination.start();
    delivered_after_all(&place, &destination).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_engine_than_the_folders_is_told_and_nothing_is_lost() {
    let mut destination = Destination::down();
    let place = with_a_message(&destination).await;
    let right = std::fs::read_to_string(place.path("pillarbox.toml")).expect("it is there");
    place.configure(&right.replace("[box]", "[box]\nengine = 'sled'"));
    tells_of(&place.try_serve(&[]).await.expect_err("it cannot start"), &["another engine", "box.engine"]);
    place.configure(&right);
    destination.start();
    delivered_after_all(&place, &destination).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_place_of_the_data_folder_is_told() {
    let place = place(BASE);
    place.write("data", "precious");
    tells_of(
        &place.try_serve(&[]).await.expect_err("it cannot start"),
        &["data folder data cannot be opened"],
    );
    tells_of(&place.run(&["ports"]).await, &["data folder data cannot be opened", "box.data"]);
    assert_eq!(std::fs::read(place.path("data")).expect("it is there"), b"precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_cannot_be_written_is_told() {
    let place = place(&BASE.replace("'data'", "'disk/data'"));
    // Nobody writes to this one, root neither.
    let disk = SmallDisk::mount(&place.path("disk"), "size=1m,ro").expect("a disk that is read only");
    let ran = place.try_serve(&[]).await.expect_err("it cannot start");
    tells_of(&ran, &["disk/data cannot be opened", "Read-only file system"]);
    drop(disk);
    let server = place.serve().await;
    server.end().await;
}
