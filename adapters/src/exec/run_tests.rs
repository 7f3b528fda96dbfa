//! Runs of real programs for several messages.

use std::fs;

use pillarbox_runtime::adapter::{AdapterKind as _, ErrorClass, SendError, Settings};
use pillarbox_store::{DeliveryId, ErrorKind, FRAGMENT_BYTES};
use serde_json::json;

use super::{gone, is, line_of, open, shell};
use crate::exec::ExecKind;
use crate::exec::settings::ExecSettings;
use crate::parcel::Parcel;
use crate::parcel::sample::{KEY, Sample, bytes, context, stored};

fn batch(script: &str) -> Settings {
    shell(script, &[]).with("per", "batch")
}

/// One run with these messages, whose deliveries are numbered from 7.
async fn run(settings: &Settings, samples: &[Sample]) -> Vec<Result<(), SendError>> {
    let parcel =
        |(sample, delivery)| Parcel { delivery: DeliveryId::new(delivery), ..Sample::parcel(sample) };
    let parcels: Vec<Parcel<'_>> = samples.iter().zip(7..).map(parcel).collect();
    open(settings).unwrap().deliver_batch(&parcels).await
}

fn three() -> [Sample; 3] {
    ["one", "two", "three"].map(Sample::new)
}

#[tokio::test]
async fn a_run_gets_every_message_and_tells_the_outcome_of_each() {
    let folder = tempfile::tempdir().unwrap();
    let script = "cat > input; env > environment; \
                  echo 9 temporary it is full; echo 7 delivered; echo 8 permanent no such customer";
    let settings = batch(script).with("folder", folder.path().to_str().unwrap());
    let long = Sample::new(stored(bytes(2 * FRAGMENT_BYTES + 9), None)).header("order", "A-17");
    let outcomes = run(&settings, &[Sample::new(""), long, Sample::new("x\ny")]).await;
    outcomes[0].as_ref().unwrap();
    let refused = outcomes[1].as_ref().unwrap_err();
    is(refused, ErrorClass::Permanent, "the program /bin/sh refused it: no such customer");
    is(outcomes[2].as_ref().unwrap_err(), ErrorClass::Temporary, "refused it: it is full");

    let input = fs::read(folder.path().join("input")).unwrap();
    let mut rest = &input[..];
    let mut got = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
        let head: serde_json::Value = serde_json::from_slice(&rest[..end]).unwrap();
        let len = usize::try_from(head["body_bytes"].as_u64().unwrap()).unwrap();
        let (body, after) = rest[end + 1..].split_at(len);
        rest = after.strip_prefix(b"\n").unwrap();
        got.push((head["delivery"].as_u64().unwrap(), head["headers"]["order"].clone(), body.to_vec()));
    }
    assert_eq!(got[0], (7, json!(null), Vec::new()));
    assert!(got[1] == (8, json!("A-17"), bytes(2 * FRAGMENT_BYTES + 9).to_vec()));
    assert_eq!(got[2], (9, json!(null), b"x\ny".to_vec()));
    let environment = fs::read_to_string(folder.path().join("environment")).unwrap();
    for line in ["PILLARBOX_MESSAGES=3", "PILLARBOX_PORT=orders"] {
        assert!(environment.lines().any(|have| have == line), "{line} is not in\n{environment}");
    }
    assert!(!environment.contains(KEY) && !environment.contains("PILLARBOX_DELIVERY"), "{environment}");
}

#[tokio::test]
async fn what_a_run_says_nothing_of_has_failed_and_what_it_said_stands() {
    for (end, part) in [
        ("exit 0", "ended without a word of this message"),
        ("exit 65", "ended with exit code 65"),
        ("kill -9 $$", "was ended by signal 9"),
        ("echo eight is fine", "a line of its output says nothing of any message: eight is fine"),
    ] {
        let outcomes = run(&batch(&format!("echo 7 delivered; {end}")), &three()).await;
        assert_eq!(outcomes.len(), 3);
        outcomes[0].as_ref().unwrap();
        for failed in &outcomes[1..] {
            is(failed.as_ref().unwrap_err(), ErrorClass::Temporary, part);
        }
    }
    // Where there is one message only, its exit code is about that.
    let alone = run(&batch("exit 65"), &[Sample::new("x")]).await;
    is(alone[0].as_ref().unwrap_err(), ErrorClass::Permanent, "ended with exit code 65");
}

#[tokio::test]
async fn a_run_that_does_not_end_is_killed_and_what_it_said_stands() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo 8 delivered; sleep 600 & echo $! > child; wait";
    let settings = batch(script).with("folder", folder.path().to_str().unwrap()).with("timeout", "1s");
    let outcomes = run(&settings, &three()).await;
    outcomes[1].as_ref().unwrap();
    for failed in [&outcomes[0], &outcomes[2]] {
        is(failed.as_ref().unwrap_err(), ErrorClass::Temporary, "no end within 1s (setting timeout)");
    }
    gone(&line_of(&folder.path().join("child")).await).await;
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_left_out_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let settings = batch("cat > input; echo 7 delivered; echo 9 delivered")
        .with("folder", folder.path().to_str().unwrap());
    let damaged = Sample::new(stored(bytes(9), Some((0, ErrorKind::Corrupt))));
    let outcomes = run(&settings, &[Sample::new("one"), damaged, Sample::new("three")]).await;
    outcomes[0].as_ref().unwrap();
    is(outcomes[1].as_ref().unwrap_err(), ErrorClass::Permanent, "could not be read from the box");
    outcomes[2].as_ref().unwrap();
    let input = fs::read_to_string(folder.path().join("input")).unwrap();
    assert!(!input.contains("\"delivery\":8") && input.contains("\"delivery\":9"), "{input}");
}

#[tokio::test]
async fn nobody_sees_the_end_of_half_a_message_of_several() {
    let folder = tempfile::tempdir().unwrap();
    let settings = batch("cat > input; echo whole > end").with("folder", folder.path().to_str().unwrap());
    let half = Sample::new(stored(bytes(4 * FRAGMENT_BYTES), Some((2, ErrorKind::Unavailable))));
    let outcomes = run(&settings, &[Sample::new("one"), half]).await;
    is(outcomes[0].as_ref().unwrap_err(), ErrorClass::Temporary, "a message beside it cannot be read");
    is(outcomes[1].as_ref().unwrap_err(), ErrorClass::Temporary, "could not be read from the box");
    assert!(!folder.path().join("end").exists());
}

#[tokio::test]
async fn reasons_are_shown_without_secrets() {
    let settings = batch("echo \"7 permanent the token $TOKEN is old\"; echo \"$TOKEN\"")
        .with("environment", json!({ "TOKEN": "hunter2hunter2" }));
    for failed in run(&settings, &three()).await {
        let text = failed.unwrap_err().to_failure().text();
        assert!(text.contains("[redacted]") && !text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn settings_of_a_run_for_several_are_checked() {
    let base = Settings::default().with("program", "sh");
    let most = |settings: &Settings| ExecSettings::check(settings).unwrap().batch_max;
    assert_eq!(most(&base), None);
    assert_eq!(most(&base.clone().with("per", "message")), None);
    assert_eq!(most(&base.clone().with("per", "batch")), Some(100));
    assert_eq!(most(&base.clone().with("per", "batch").with("batch_max", 7)), Some(7));
    for (settings, keys) in [
        (base.clone().with("per", "batches").with("batch_max", 0), &["per", "batch_max"][..]),
        (base.clone().with("per", "batch").with("batch_max", 10_001), &["batch_max"]),
        (base.clone().with("batch_max", 5), &["batch_max"]),
    ] {
        let problems = ExecSettings::check(&settings).unwrap_err().0;
        assert_eq!(problems.iter().map(|problem| &problem.key[..]).collect::<Vec<_>>(), keys);
    }
    let checked = ExecKind.check(&base.with("per", "batch")).unwrap();
    assert_eq!(checked.open(&context()).await.unwrap().describe().kind, "exec");
}
