//! The exec adapter against real programs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use pillarbox_runtime::adapter::{
    AdapterKind as _, DoubleSafety, ErrorClass, SendError, Settings, Transport as _,
};
use pillarbox_store::{ErrorKind, FRAGMENT_BYTES, HeaderValue};
use rustix::process::{Pid, test_kill_process};
use serde_json::json;

use super::ExecKind;
use super::send::ExecSender;
use super::settings::{ExecSettings, Inherit};
use crate::parcel::sample::{ID, KEY, Sample, bytes, context, stored};

/// A shell that runs this script; `$1` and so on are `args`.
fn shell(script: &str, args: &[&str]) -> Settings {
    let all: Vec<&str> = ["-c", script, "script"].into_iter().chain(args.iter().copied()).collect();
    Settings::default().with("program", "/bin/sh").with("args", json!(all))
}

fn open(settings: &Settings) -> Result<ExecSender, SendError> {
    ExecSender::open(ExecSettings::check(settings).unwrap())
}

async fn deliver(settings: &Settings, sample: &Sample) -> Result<(), SendError> {
    open(settings).unwrap().deliver(&sample.parcel()).await
}

fn is(error: &SendError, class: ErrorClass, part: &str) {
    assert_eq!(error.class(), class, "{error}");
    let chain = error.to_failure().chain.join(" <- ");
    assert!(chain.contains(part), "{chain}");
}

/// Waits until the file has a whole line, and gives it.
async fn line_of(path: &Path) -> String {
    loop {
        match fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text.trim_end().to_owned(),
            _ => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// Waits until the process is gone. One that nobody has reaped yet is gone, too.
async fn gone(process: &str) {
    let process: i32 = process.parse().unwrap();
    let pid = Pid::from_raw(process).unwrap();
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").map(|(_, rest)| rest.starts_with('Z'))
    };
    while test_kill_process(pid).is_ok() && state() != Some(true) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_program_gets_the_body_and_the_headers() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        shell("cat > body; env | sort > environment; pwd > folder; echo \"$1\" > argument", &["a b"])
            .with("folder", folder.path().to_str().unwrap())
            .with("environment", json!({ "REGION": "north" }));
    let sample = Sample::new("hello")
        .header("Order-Id", "A-17 ü")
        .header("count", 3)
        .header("raw", HeaderValue::Bytes(vec![1, 255]))
        .attempt(4);
    deliver(&settings, &sample).await.unwrap();
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!((read("body").as_str(), read("argument").as_str()), ("hello", "a b\n"));
    assert_eq!(Path::new(read("folder").trim_end()), folder.path().canonicalize().unwrap());
    let environment = read("environment");
    for line in [
        "PILLARBOX_H_ORDER_ID=A-17 ü",
        "PILLARBOX_H_COUNT=3",
        "PILLARBOX_H_RAW=01ff",
        &format!("PILLARBOX_MESSAGE_ID={ID}"),
        &format!("PILLARBOX_SEND_KEY={KEY}"),
        "PILLARBOX_ATTEMPT=4",
        "PILLARBOX_PORT=orders",
        "PILLARBOX_DELIVERY=7",
        "PILLARBOX_BODY_BYTES=5",
        "PILLARBOX_SUBMITTED=1767323045678901",
        "REGION=north",
    ] {
        assert!(environment.lines().any(|have| have == line), "{line} is not in\n{environment}");
    }
    assert!(environment.contains("\nPATH="), "{environment}");
    assert!(!environment.contains("CARGO"), "only what was asked for is inherited: {environment}");
    assert!(!environment.contains("PILLARBOX_IN_DOUBT"), "{environment}");
    deliver(&settings, &sample.in_doubt()).await.unwrap();
    let environment = read("environment");
    assert!(environment.lines().any(|have| have == "PILLARBOX_IN_DOUBT=true"), "{environment}");
}

#[tokio::test]
async fn bodies_of_every_length_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let settings = shell("cat > body", &[]).with("folder", folder.path().to_str().unwrap());
    for len in [0, 1, FRAGMENT_BYTES, FRAGMENT_BYTES + 1, 5 * FRAGMENT_BYTES + 7] {
        deliver(&settings, &Sample::new(stored(bytes(len), None))).await.unwrap();
        assert!(fs::read(folder.path().join("body")).unwrap() == bytes(len), "{len}");
    }
}

#[tokio::test]
async fn exit_codes_have_classes() {
    use ErrorClass::{Permanent, Temporary};
    for (code, class) in [(1, Temporary), (64, Temporary), (65, Permanent), (75, Temporary), (255, Temporary)]
    {
        let settings = shell("cat > /dev/null; echo \"no good\" >&2; exit $1", &[&code.to_string()]);
        let error = deliver(&settings, &Sample::new("hello")).await.unwrap_err();
        is(&error, class, &format!("the program /bin/sh ended with exit code {code}, saying: no good"));
        let other = settings.with("permanent_exit_codes", json!([1, 255]));
        let error = deliver(&other, &Sample::new("hello")).await.unwrap_err();
        assert_eq!(error.class() == Permanent, [1, 255].contains(&code), "{error}");
    }
    let error = deliver(&shell("kill -9 $$", &[]), &Sample::new("hello")).await.unwrap_err();
    is(&error, Temporary, "was ended by signal 9");
}

#[tokio::test]
async fn a_program_may_leave_the_body_unread() {
    let long = Sample::new(stored(bytes(3 * FRAGMENT_BYTES), None));
    deliver(&shell("exec <&-; exit 0", &[]), &long).await.unwrap();
    let error = deliver(&shell("exit 65", &[]), &long).await.unwrap_err();
    is(&error, ErrorClass::Permanent, "exit code 65");
}

#[tokio::test]
async fn the_end_of_what_it_says_is_shown_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "hunter2hunter2\n").unwrap();
    let script = "i=0; while [ $i -lt 2000 ]; do echo \"line $i\" >&2; i=$((i+1)); done; \
                  printf 'my \\033[31mtoken is %s' \"$TOKEN\" >&2; exit 1";
    let settings =
        shell(script, &[]).with("environment", json!({ "TOKEN": format!("file:{}", token.display()) }));
    let sender = open(&settings).unwrap();
    let error = sender.deliver(&Sample::new("").parcel()).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "line 1999 my [31mtoken is [redacted]");
    assert!(!error.to_string().contains("line 0 ") && error.to_string().len() < 3000, "{error}");
    assert!(!format!("{sender:?} {error:?} {settings:?}").contains("hunter2"));
    let plain = shell("true", &[]).with("environment", json!({ "TOKEN": "hunter2hunter2" }));
    assert!(!format!("{:?}", ExecKind.check(&plain).unwrap()).contains("hunter2"));
}

#[tokio::test]
async fn a_program_that_does_not_end_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo waiting >&2; sleep 600 & echo $! > child; echo $$ > self; wait";
    let settings =
        shell(script, &[]).with("folder", folder.path().to_str().unwrap()).with("timeout", "500ms");
    let error = deliver(&settings, &Sample::new("hello")).await.unwrap_err();
    is(&error, ErrorClass::Temporary, "no end within 500ms (setting timeout), saying: waiting");
    gone(&line_of(&folder.path().join("child")).await).await;
    gone(&line_of(&folder.path().join("self")).await).await;
}

#[tokio::test]
async fn a_send_that_is_given_up_kills_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let script = "sleep 600 & echo $! > child; wait";
    let settings = shell(script, &[]).with("folder", folder.path().to_str().unwrap());
    let (sender, sample) = (open(&settings).unwrap(), Sample::new("hello"));
    let parcel = sample.parcel();
    let started = folder.path().join("child");
    let child = tokio::select! {
        sent = sender.deliver(&parcel) => panic!("it never ends: {sent:?}"),
        child = line_of(&started) => child,
    };
    gone(&child).await;
}

#[tokio::test]
async fn what_a_program_leaves_running_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let settings = shell("sleep 600 & echo $! > child", &[]).with("folder", folder.path().to_str().unwrap());
    deliver(&settings, &Sample::new("hello")).await.unwrap();
    let left = line_of(&folder.path().join("child")).await;
    let pid = Pid::from_raw(left.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    gone(&left).await;
}

#[tokio::test]
async fn nobody_sees_the_end_of_half_a_message() {
    for (kind, class) in
        [(ErrorKind::Corrupt, ErrorClass::Permanent), (ErrorKind::Unavailable, ErrorClass::Temporary)]
    {
        let folder = tempfile::tempdir().unwrap();
        let settings =
            shell("cat > body; echo whole > end", &[]).with("folder", folder.path().to_str().unwrap());
        let half = Sample::new(stored(bytes(4 * FRAGMENT_BYTES), Some((2, kind))));
        let error = deliver(&settings, &half).await.unwrap_err();
        is(&error, class, "the message's body could not be read from the box");
        assert!(!folder.path().join("end").exists());
    }
}

#[tokio::test]
async fn programs_that_cannot_be_had_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plain");
    fs::write(&file, "").unwrap();
    for program in
        [file.to_str().unwrap(), "/nowhere/at/all", folder.path().to_str().unwrap(), "pillarbox-none"]
    {
        let error = open(&Settings::default().with("program", program)).unwrap_err();
        is(&error, ErrorClass::Temporary, program);
    }
    let found = ExecKind.check(&Settings::default().with("program", "sh")).unwrap();
    assert_eq!(found.open(&context()).await.unwrap().describe().kind, "exec");
    let gone = shell("true", &[]).with("folder", "/nowhere/at/all");
    is(&deliver(&gone, &Sample::new("")).await.unwrap_err(), ErrorClass::Temporary, "cannot be started");
    let secret = shell("true", &[]).with("environment", json!({ "A": "env:PILLARBOX_TEST_NOT_SET" }));
    is(&open(&secret).unwrap_err(), ErrorClass::Temporary, "environment.A: the environment's variable");
}

#[tokio::test]
async fn headers_that_no_environment_takes_are_permanent() {
    let settings = shell("true", &[]);
    let clash = Sample::new("").header("a-b", "1").header("a.b", "2");
    let error = deliver(&settings, &clash).await.unwrap_err();
    is(&error, ErrorClass::Permanent, "\"a-b\" and \"a.b\" would both be the variable PILLARBOX_H_A_B");
}

#[tokio::test]
async fn programs_at_once_are_limited() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mkdir lock || exit 65; cat > /dev/null; rmdir lock";
    let settings = shell(script, &[]).with("folder", folder.path().to_str().unwrap()).with("programs_max", 1);
    let (sender, sample) = (open(&settings).unwrap(), Sample::new("hello"));
    let (sender, parcel) = (&sender, sample.parcel());
    for sent in futures_util::future::join_all((0..10).map(|_| sender.deliver(&parcel))).await {
        sent.unwrap();
    }
}

#[test]
fn settings_have_defaults() {
    let checked = ExecSettings::check(&Settings::default().with("program", "/bin/true")).unwrap();
    assert_eq!(checked.header_prefix, "PILLARBOX_H_");
    assert_eq!((checked.timeout.as_secs(), checked.programs_max), (30, 4));
    assert!(checked.args.is_empty() && checked.folder.is_none() && checked.environment.is_empty());
    assert_eq!(checked.permanent, [65].into());
    assert_eq!(
        checked.inherit,
        Inherit::Named(["HOME", "LANG", "PATH", "TMPDIR", "TZ"].map(str::to_owned).to_vec())
    );
    assert_eq!(ExecKind.describe().capabilities.double_safety, DoubleSafety::AtLeastOnce);
    let keyed = Settings::default().with("program", "/bin/sh").with("program_deduplicates", true);
    let described = open(&keyed).unwrap().describe();
    assert_eq!(described.capabilities.double_safety, DoubleSafety::Keyed(None));
}

#[test]
fn every_problem_is_told_at_once() {
    let settings = Settings::default()
        .with("program", "bin/take")
        .with("args", json!(["a\0b"]))
        .with("folder", "here")
        .with("environment", json!({ "A B": "x", "PILLARBOX_H_X": "y", "PILLARBOX_PORT": "z", "C": "env:" }))
        .with("inherit_environment", json!(["A=B"]))
        .with("permanent_exit_codes", json!([0]))
        .with("timeout", "10")
        .with("programs_max", 0);
    let keys: Vec<String> =
        ExecSettings::check(&settings).unwrap_err().0.into_iter().map(|problem| problem.key).collect();
    assert_eq!(
        keys,
        [
            "program",
            "args",
            "folder",
            "environment.A B",
            "environment.C",
            "environment.PILLARBOX_H_X",
            "environment.PILLARBOX_PORT",
            "inherit_environment",
            "permanent_exit_codes",
            "timeout",
            "programs_max",
        ]
    );
    let base = Settings::default().with("program", "sh");
    for (key, value, part) in [
        ("header_prefix", json!(""), "beginning of a variable's name"),
        ("header_prefix", json!("LD_"), "tell the loader"),
        ("header_prefix", json!("PA"), "end it with a '_'"),
        ("header_prefix", json!("PILLARBOX_"), "could then pass for PILLARBOX_ATTEMPT"),
        ("permanent_exit_codes", json!([75]), "another attempt"),
        ("permanent_exit_codes", json!([256]), "256"),
        ("programm", json!("x"), "no such setting"),
    ] {
        let error = ExecSettings::check(&base.clone().with(key, value)).unwrap_err();
        assert!(error.0.len() == 1 && error.0[0].key.starts_with(key), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[path = "run_tests.rs"]
mod run;
