//! Configuration: what is taken, and what is said of the rest.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use pillarbox_runtime::adapter::{
    Adapter, AdapterKind, Capabilities, CheckedSettings, OpenContext, SendError, SettingProblem, Settings,
    SettingsError, TransportInfo,
};
use pillarbox_runtime::{DoubtPolicy, IntentRecord, WhenUnknown};
use pillarbox_store::EngineKind;

use super::*;

/// An adapter kind that knows `url` (required), `verb` and the table `limits`.
#[derive(Debug)]
struct Probe;

#[derive(Debug)]
struct Checked;

#[async_trait]
impl CheckedSettings for Checked {
    async fn open(&self, _context: &OpenContext) -> Result<Adapter, SendError> {
        unreachable!("a check opens nothing")
    }
}

impl AdapterKind for Probe {
    fn describe(&self) -> TransportInfo {
        TransportInfo {
            kind: "probe",
            name: "Probe",
            version: "1",
            description: "A probe.",
            capabilities: Capabilities::default(),
            uri_prefixes: &[],
        }
    }

    fn check(&self, settings: &Settings) -> Result<Box<dyn CheckedSettings>, SettingsError> {
        #[derive(serde::Deserialize)]
        struct Limits {
            #[serde(rename = "rate")]
            _rate: u32,
        }
        #[derive(serde::Deserialize)]
        struct Probed {
            url: String,
            #[serde(rename = "verb")]
            _verb: Option<String>,
            #[serde(rename = "limits")]
            _limits: Option<Limits>,
        }
        let probed: Probed = settings.parse()?;
        if !probed.url.starts_with("http") {
            let reason = "this is not a web address".to_owned();
            return Err(SettingsError(vec![SettingProblem { key: "url".to_owned(), reason }]));
        }
        Ok(Box::new(Checked))
    }
}

fn kinds() -> Registry {
    Registry::empty().with(Probe)
}

fn problems(text: &str) -> Vec<String> {
    let error = check("p.toml", text, &kinds()).expect_err("there is something wrong");
    error.to_string().lines().map(str::to_owned).collect()
}

#[track_caller]
fn assert_problem(text: &str, expected: &str) {
    let found = problems(text);
    assert!(found.iter().any(|line| line.starts_with(expected)), "wanted {expected:?} in {found:#?}");
}

const WHOLE: &str = r#"
[box]
data = "/var/lib/pillarbox"
engine = "sled"
body_bytes_max = "64MiB"
segment_bytes = 1048576
keep_finished = { count = 10, age = "2 days" }
keep_answers = { count = 20, bytes = "3MiB", age = "4h" }
[server]
listen = "0.0.0.0:80"
token = "env:TOKEN"
body_bytes_max = "1MiB"
drain = "5s"
[adapter.probe]
verb = "PUT"
[[port]]
name = "orders"
[port.primary]
adapter = "probe"
url = "http://127.0.0.1:9000/in"
retry = { attempts = 3, first = "200ms", factor = 2.0, max = "30s", jitter = 0.2 }
in_doubt = { record = "flushed", unknown = "hold", park_after = 2 }
timeout = "10s"
in_flight = 4
batch = { count = 8, bytes = "1MiB" }
[port.backup]
adapter = "probe"
url = "http://127.0.0.1:9001/in"
"#;

#[test]
fn a_whole_configuration_is_taken() {
    let config = check("p.toml", WHOLE, &kinds()).expect("nothing is wrong");
    assert_eq!(config.mailbox.data, Path::new("/var/lib/pillarbox"));
    assert_eq!(config.mailbox.engine, EngineKind::Sled);
    assert_eq!(config.mailbox.body_bytes_max, 64 * 1024 * 1024);
    assert_eq!(config.mailbox.keep_finished.age, Duration::from_secs(2 * 86_400));
    let answers = config.mailbox.to_box_config().retention.answers;
    let expected = (20, 3 * 1024 * 1024, Duration::from_secs(4 * 3600));
    assert_eq!((answers.count, answers.bytes, answers.age), expected);
    assert_eq!(config.server.token, Some(SecretRef::Env("TOKEN".to_owned())));
    assert_eq!(config.server.drain, Duration::from_secs(5));
    let port = config.ports.first().expect("a port");
    assert_eq!(port.name.as_str(), "orders");
    assert!(port.backup.is_some() && port.spec().backup);
    let retry = &port.primary.retry;
    assert_eq!((retry.attempts, retry.first), (3, Duration::from_millis(200)));
    assert_eq!((retry.jitter, retry.factor), (0.2, 2.0));
    assert_eq!((port.primary.in_flight, port.primary.batch_bytes), (4, 1024 * 1024));
    let wanted = DoubtPolicy { record: IntentRecord::Flushed, unknown: WhenUnknown::Hold, park_after: 2 };
    assert_eq!(port.primary.to_route().doubt, wanted);
    let backup = port.backup.as_ref().expect("a backup");
    assert_eq!(backup.to_route().doubt, DoubtPolicy::default());
}

/// A route with this `in_doubt`, on line 6 from column 12 on.
fn in_doubt(table: &str) -> String {
    format!("[[port]]\nname='a'\n[port.primary]\nadapter='probe'\nurl='http://a'\nin_doubt = {{ {table} }}\n")
}

#[test]
fn every_way_with_doubts_is_taken_by_its_name() {
    let read = |table: &str| {
        let config = check("p.toml", &in_doubt(table), &kinds()).expect("nothing is wrong");
        config.ports.first().expect("a port").primary.doubt
    };
    for (name, record) in IntentRecord::ALL {
        assert_eq!(read(&format!("record = '{name}'")).record, record);
    }
    for (name, unknown) in WhenUnknown::ALL {
        assert_eq!(read(&format!("unknown = '{name}'")).unknown, unknown);
    }
    assert_eq!(read("park_after = 0").park_after, 0);
    assert_eq!(read("record = 'none', unknown = 'resend', park_after = 0").record, IntentRecord::None);
}

#[test]
fn every_problem_with_doubts_has_its_place() {
    let found = problems(&in_doubt("record = 'sometimes', unknown = 'guess', park_after = -1, ask = 3"));
    assert_eq!(found.len(), 4, "{found:#?}");
    let path = "port[a].primary.in_doubt";
    let wanted = [
        format!(
            "p.toml:6:23: {path}.record: there is no 'sometimes' here; take one of none, written, flushed"
        ),
        format!("p.toml:6:46: {path}.unknown: there is no 'guess' here; take one of resend, hold, suspend"),
        format!("p.toml:6:68: {path}.park_after: -1 is not a whole number"),
        format!(
            "p.toml:6:72: {path}.ask: there is no such key; correct or remove it. Known here: park_after"
        ),
    ];
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(found.starts_with(&wanted), "wanted {wanted:?}, found {found:?}");
    }
    assert_problem(
        &in_doubt("park_after = 1001"),
        "p.toml:6:27: port[a].primary.in_doubt.park_after: 1001 is not",
    );
    assert_problem(
        &in_doubt("unknown = 3"),
        "p.toml:6:24: port[a].primary.in_doubt.unknown: this takes a text",
    );
}

#[test]
fn what_needs_a_record_is_refused_without_one() {
    for relies in ["unknown = 'hold'", "unknown = 'suspend'", "park_after = 3"] {
        let text = in_doubt(&format!("record = 'none', {relies}"));
        assert_problem(&text, "p.toml:6:12: port[a].primary.in_doubt: without a record nothing is known");
    }
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = check("p.toml", "", &kinds()).expect("nothing is wrong");
    assert_eq!(config.mailbox.data, Path::new("./pillarbox-data"));
    assert_eq!(config.mailbox.engine, EngineKind::Journal);
    assert_eq!(config.server.listen, LISTEN_DEFAULT);
    assert_eq!(config.server.body_bytes_max, 1024 * 1024 * 1024);
    assert!(config.ports.is_empty());
}

#[test]
fn unknown_keys_have_their_place_at_every_level() {
    assert_problem("datta = 1\n", "p.toml:1:1: datta: there is no such key");
    assert_problem("[box]\nengin = 'journal'\n", "p.toml:2:1: box.engin: there is no such key");
    assert_problem("[box]\nkeep_finished = { counts = 1 }\n", "p.toml:2:19: box.keep_finished.counts: ");
    let port = "[[port]]\nname = 'a'\ncolour = 'red'\n[port.primary]\nadapter = 'probe'\nurl = 'http://a'\n";
    assert_problem(port, "p.toml:3:1: port[a].colour: there is no such key");
    let retry =
        "[[port]]\nname='a'\n[port.primary]\nadapter='probe'\nurl='http://a'\nretry = { tries = 3 }\n";
    assert_problem(retry, "p.toml:6:11: port[a].primary.retry.tries: there is no such key");
}

#[test]
fn adapters_problems_have_their_place() {
    let start = "[[port]]\nname = 'a'\n[port.primary]\nadapter = 'probe'\n";
    assert_problem(
        &format!("{start}url = 'ftp://x'\n"),
        "p.toml:5:1: port[a].primary.url: this is not a web",
    );
    assert_problem(&format!("{start}url = 'http://x'\nurll = 1\n"), "p.toml:6:1: port[a].primary.urll: ");
    let nested = format!("{start}url = 'http://x'\nlimits = {{ rate = 'fast' }}\n");
    assert_problem(&nested, "p.toml:6:12: port[a].primary.limits.rate: ");
    // Missing: at the route's adapter.
    assert_problem(start, "p.toml:4:1: port[a].primary");
    // Written in the handler's table.
    let handler = format!("[adapter.probe]\nurl = 'ftp://x'\n{start}");
    assert_problem(&handler, "p.toml:2:1: adapter.probe.url: this is not a web");
}

#[test]
fn a_kind_with_a_timeout_of_its_own_is_given_the_route_s() {
    let registry = pillarbox_adapters::registry();
    let start = "[[port]]\nname = 'a'\n[port.primary]\ntimeout = '2m'\n";
    let http = check("p.toml", &format!("{start}adapter = 'http'\nurl = 'http://a/'\n"), &registry).unwrap();
    let route = &http.ports[0].primary;
    assert_eq!(route.timeout, Duration::from_secs(120));
    assert!(format!("{:?}", route.adapter).contains("120s"), "{:?}", route.adapter);
    // One without is not bothered with it.
    check("p.toml", &format!("{start}adapter = 'file'\nfolder = 'a'\n"), &registry).unwrap();
}

#[test]
fn handler_settings_lie_beneath_the_routes() {
    let text =
        "[adapter.probe]\nurl = 'http://all'\n[[port]]\nname = 'a'\n[port.primary]\nadapter = 'probe'\n";
    assert!(check("p.toml", text, &kinds()).is_ok());
    assert_problem(
        "[adapter.prob]\nurl = 1\n",
        "p.toml:1:10: adapter.prob: there is no adapter 'prob'; take one of probe",
    );
}

#[test]
fn every_problem_is_told_at_once() {
    let text = "[box]\nengine = 'oracle'\nbody_bytes_max = '1 cow'\n[server]\ndrain = 'soon'\n[[port]]\nname = 'ä'\n";
    let found = problems(text);
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(
        found[0].starts_with(
            "p.toml:2:10: box.engine: there is no engine 'oracle'; take journal, sled or memory"
        )
    );
    assert!(found[1].starts_with("p.toml:3:18: box.body_bytes_max: '1 cow' is not a size"));
    assert!(found[2].starts_with("p.toml:5:9: server.drain: 'soon' is not a duration"));
    assert!(found[3].starts_with("p.toml:6:1: port[ä]: the port has no primary route"));
    assert!(found[4].starts_with("p.toml:7:8: port[ä].name: a port's name has"));
}

#[test]
fn a_truncated_file_has_its_place() {
    assert_problem("[server]\nlisten = \"127.0.0.1:74", "p.toml:2:23: this is not valid TOML: ");
    assert_problem("[[port]]\nname = \"a\"\n[port.prim", "p.toml:3:11: this is not valid TOML: ");
}

#[test]
fn an_open_address_asks_for_a_token() {
    assert_problem(
        "[server]\nlisten = '0.0.0.0:7420'\n",
        "p.toml:2:10: server.listen: 0.0.0.0:7420 can be reached",
    );
    assert!(check("p.toml", "[server]\nlisten = '[::1]:0'\n", &kinds()).is_ok());
    assert!(check("p.toml", "[server]\nlisten = 'localhost:1'\n", &kinds()).is_ok());
    assert_problem("[server]\nlisten = 'here'\n", "p.toml:2:10: server.listen: 'here' is not an address");
}

#[test]
fn a_token_in_the_open_is_refused_and_not_repeated() {
    let found = problems("[server]\ntoken = 'hunter2'\n");
    assert!(found[0].starts_with("p.toml:2:9: server.token: a secret is given by reference"), "{found:?}");
    assert!(!found.concat().contains("hunter2"));
}

#[test]
fn wrong_types_and_ranges() {
    assert_problem("box = 3\n", "p.toml:1:7: box: this takes a table, not integer");
    assert_problem("[server]\ndrain = 30\n", "p.toml:2:9: server.drain: this takes a duration in quotes");
    assert_problem(
        "[box]\nsegment_bytes = 12\n",
        "p.toml:2:17: box.segment_bytes: a segment of 12 bytes is too small",
    );
    assert_problem(
        "[box]\nbody_bytes_max = -1\n",
        "p.toml:2:18: box.body_bytes_max: -1 is not a whole number",
    );
    let start = "[[port]]\nname='a'\n[port.primary]\nadapter='probe'\nurl='http://a'\n";
    assert_problem(
        &format!("{start}retry = {{ jitter = 2 }}\n"),
        "p.toml:6:20: port[a].primary.retry.jitter: 2 is not within 0 to 1",
    );
    assert_problem(
        &format!("{start}in_flight = 0\n"),
        "p.toml:6:13: port[a].primary.in_flight: 0 is not within 1",
    );
    assert_problem("[port]\nname='a'\n", "p.toml:1:1: port: ports are written as [[port]]");
    let twice = format!("{start}{start}");
    assert_problem(&twice, "p.toml:7:6: port[a].name: there are two ports named 'a'");
    assert_problem(
        "[server]\nbody_bytes_max = '2GiB'\n",
        "p.toml:2:18: server.body_bytes_max: 2147483648 is more than",
    );
}

#[test]
fn a_missing_file_is_named() {
    let error = load(Some(Path::new("/nowhere/p.toml")), &kinds()).expect_err("there is no such file");
    assert!(error.to_string().starts_with("/nowhere/p.toml: cannot be read: "), "{error}");
}

#[test]
fn durations_sizes_and_times() {
    assert_eq!(values::duration("200ms"), Ok(Duration::from_millis(200)));
    assert_eq!(values::duration("1h 30m"), Ok(Duration::from_secs(5_400)));
    assert!(values::duration("-1s").is_err());
    assert!(values::duration("1 month").is_err());
    assert!(values::duration("10").is_err());
    assert_eq!(values::bytes("256KiB"), Ok(256 * 1024));
    assert_eq!(values::bytes("1 GiB"), Ok(1 << 30));
    assert!(values::bytes("-3").is_err());
    let time = values::time("2026-11-23T12:00:00.25+02:00").expect("a time");
    assert_eq!(values::show_time(time), "2026-11-23T10:00:00.25Z");
    assert!(values::time("tomorrow").is_err());
}
