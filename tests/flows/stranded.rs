//! What a destination was left with prepared when its port was taken away, or no longer sends in two phases: it is shown,
//! with what to do, until a route settles it.

use std::fs;

use pillarbox_store::{Batch, BoxConfig, IdSource, MessageBox, Store};
use pillarbox_tests::server::Place;
use serde_json::Value;

use crate::{BASE, place};

fn port(two_phase: bool) -> String {
    format!(
        "{BASE}[[port]]\nname = 'orders'\n[port.primary]\nadapter = 'file'\nfolder = 'out'\ntwo_phase = {two_phase}\n"
    )
}

/// Leaves what a crash leaves after a decision: a box that knows it, and a folder that holds the transaction prepared. Gives
/// the transaction's name.
async fn left_prepared(place: &Place) -> String {
    let mailbox = MessageBox::open(BoxConfig::new(place.path("data"))).expect("a new box");
    let number = IdSource::system().batch();
    fs::create_dir(place.path("out")).expect("a new folder");
    let out = fs::canonicalize(place.path("out")).expect("it is there");
    let batch = Batch::new(IdSource::system().batch()).decide(number, format!("file:{}", out.display()));
    mailbox.commit(&batch).await.expect("the box takes it");
    let held = out.join(format!(".pillarbox-{}_{number}.prepared", mailbox.id()));
    fs::create_dir(&held).expect("a new folder");
    fs::write(held.join("left.msg"), "left").expect("a new file");
    let name = format!("{}/{number}", mailbox.id());
    mailbox.close().await.expect("it closes");
    name
}

/// What `pillarbox ports --json` has about it.
async fn stranded(place: &Place, to: &[&str]) -> Vec<Value> {
    let list = place.run(&[&["ports", "--json"], to].concat()).await.json();
    list["stranded"].as_array().cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_route_settles_any_more_is_shown_until_one_does() {
    let place = place(BASE);
    let transaction = left_prepared(&place).await;
    // Where no server runs, no route is open.
    assert_eq!(stranded(&place, &[]).await.len(), 1);

    for (without, config) in [("the port", BASE.to_owned()), ("two_phase", port(false))] {
        place.configure(&config);
        let before = place.log().len();
        let server = place.serve().await;
        let to = ["--server", &server.base];
        let list = stranded(&place, &to).await;
        assert_eq!(list.len(), 1, "without {without}: {list:?}");
        assert_eq!(list[0]["transaction"], *transaction, "{list:?}");
        let shown = place.run(&[&["ports"], &to[..]].concat()).await;
        let line = shown.ok().lines().find(|line| line.contains(&transaction)).expect("a line about it");
        assert!(line.contains("/out, ") && line.contains("two_phase"), "{line}");
        let doubts = place.run(&[&["indoubt", "ls"], &to[..]].concat()).await;
        assert!(doubts.ok().len() < 200 && doubts.stderr.contains("1 left prepared"), "{doubts:?}");
        server.end().await;
        let log = place.log().split_off(before);
        let warned = log.lines().find(|line| line.contains(&transaction)).expect("a line about it");
        assert!(warned.contains("WARN") && warned.contains("no open route settles it"), "{warned}");
        assert!(!place.path("out/left.msg").exists(), "nobody was asked to commit it");
    }

    let forget = ["indoubt", "forget", &transaction];
    place.run(&forget).await.failed(2, &["nothing was done", "--yes"]);
    place.run(&[&forget[..], &["--yes"]].concat()).await.failed(1, &["only a running server knows"]);

    place.configure(&port(true));
    let before = place.log().len();
    let server = place.serve().await;
    let (_, number) = server.client.accepted("orders", "after it").await;
    server.client.wait_state(number, "done").await;
    assert_eq!(stranded(&place, &["--server", &server.base]).await, Vec::<Value>::new());
    server.end().await;
    assert_eq!(fs::read(place.path("out/left.msg")).expect("it was committed"), b"left");
    let log = place.log().split_off(before);
    assert!(!log.contains("no open route settles it"), "{log}");
    assert_eq!(stranded(&place, &[]).await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_committed_by_hand_is_forgotten() {
    let place = place(BASE);
    let transaction = left_prepared(&place).await;
    let server = place.serve().await;
    let to = ["--server", &server.base];
    place
        .run(&[&["indoubt", "forget", "another", "--yes"], &to[..]].concat())
        .await
        .failed(1, &["no transaction 'another'"]);
    let forgotten = place.run(&[&["indoubt", "forget", &transaction, "--yes"], &to[..]].concat()).await;
    assert_eq!(forgotten.ok().trim(), "0 left prepared");
    assert_eq!(stranded(&place, &to).await, Vec::<Value>::new());
    server.end().await;
    assert_eq!(stranded(&place, &[]).await, Vec::<Value>::new(), "it stays forgotten");
}
