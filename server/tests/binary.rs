//! The program itself: what it prints, how it ends, and that nothing is lost on the way.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it should be")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with a configuration, in which the program is run.
struct Place {
    folder: TempDir,
}

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
drain = "2s"
[[port]]
name = "out"
[port.primary]
adapter = "file"
folder = "./out"
name = "{message_id}-{header:file-name}"
[[port]]
name = "down"
[port.primary]
adapter = "http"
url = "http://127.0.0.1:1/in"
retry = { attempts = 1 }
"#;

impl Place {
    fn new(config: &str) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("pillarbox.toml"), config).unwrap();
        std::fs::create_dir(folder.path().join("out")).unwrap();
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        for name in ["PILLARBOX_CONFIG", "PILLARBOX_LOG"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs what must fail: its exit code and standard error.
    fn fail(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        (output.status.code().unwrap(), stderr(&output))
    }

    /// Asks until so many of a port's deliveries are in a state.
    fn until(&self, server: &[&str], port: &str, state: &str, count: usize) {
        let mut last = Value::Null;
        for _ in 0..2_000 {
            last = self.json(&[&["ls", "--port", port, "--state", state, "--json"], server].concat());
            if last["deliveries"].as_array().map(Vec::len) == Some(count) {
                return;
            }
        }
        panic!("wanted {count} {state}: {last}");
    }

    fn serve(&self) -> Serving {
        let mut child =
            self.command(&["serve"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").expect("it is ready").to_owned();
        Serving { child, url, _out: out }
    }
}

/// A server; killed where a test ends early.
struct Serving {
    child: Child,
    url: String,
    _out: BufReader<ChildStdout>,
}

impl Serving {
    fn end(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _code = self.child.wait();
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_was_submitted_offline_and_to_a_killed_server_is_sent_by_the_next() {
    let place = Place::new(CONFIG);
    let files = place.path().join("files/below");
    std::fs::create_dir_all(&files).unwrap();
    let body: Vec<u8> = (0..=255).cycle().take(600_000).collect();
    for name in ["a", "b", ".hidden"] {
        std::fs::write(files.join(name), &body).unwrap();
    }
    // No server: the folder is opened.
    let taken = place.json(&["submit", "down", "files", "--json"]);
    assert_eq!(taken["submitted"].as_array().map(Vec::len), Some(3), "{taken}");
    assert_eq!(place.json(&["ports", "--json"])["ports"][0]["counts"]["ready"], 3);

    let first = place.serve();
    let url = ["--server", first.url.as_str()];
    let out = place.run(&[&["submit", "out", "files/below/a"], &url[..]].concat());
    assert!(out.status.success(), "{}", stderr(&out));
    let line = String::from_utf8(out.stdout).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!((words.len(), words[2]), (3, "files/below/a"));
    assert_eq!(first.end(Signal::KILL), None);

    let second = place.serve();
    let url = ["--server", second.url.as_str()];
    let output = place.run(&[&["show", words[0]], &url[..]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("port       out"), "{text}");
    place.until(&url, "out", "done", 1);
    place.until(&url, "down", "suspended", 3);
    assert_eq!(second.end(Signal::TERM), Some(0));
    assert_eq!(std::fs::read(place.path().join(format!("out/{}-a", words[0]))).unwrap(), body);
    let suspended = place.json(&["ls", "--port", "down", "--json"]);
    assert_eq!(suspended["deliveries"].as_array().map(Vec::len), Some(3));
}

#[test]
fn suspended_deliveries_are_settled_after_the_server_has_gone() {
    let place = Place::new(CONFIG);
    std::fs::write(place.path().join("a"), b"x").unwrap();
    let id = "0198a0c4-7d5e-7000-8000-000000000001";
    for duplicate in [false, true] {
        let taken = place.json(&["submit", "down", "a", "--message-id", id, "--json"]);
        assert_eq!(taken["submitted"][0]["duplicate"], duplicate);
    }
    let later = ["submit", "down", "a", "--not-before", "2999-01-01T00:00:00Z", "--json"];
    assert_eq!(place.json(&later)["submitted"][0]["delivery_id"], 2);
    assert_eq!(place.json(&["ls", "--state", "scheduled", "--json"])["deliveries"][0]["delivery_id"], 2);
    let (code, error) = place.fail(&["terminate", "--all", "--state", "scheduled"]);
    assert_eq!(code, 2);
    assert!(error.contains("1 delivery") && error.contains("--yes"), "{error}");
    let done = place.json(&["terminate", "2", "--reason", "too late", "--json"]);
    assert_eq!(done["terminated"][0]["reason"], "too late");
    let (code, error) = place.fail(&["resume", "2"]);
    assert_eq!(code, 1);
    assert!(
        error.contains("1 of 1 could not be resumed") && error.contains("2: the delivery 2 is terminated")
    );
    assert_eq!(place.json(&["pause", "down", "--json"])["paused"], true);
    assert_eq!(place.json(&["unpause", "down", "--json"])["paused"], false);
}

#[test]
fn wrong_configurations_are_told_with_their_place() {
    let config = format!("{CONFIG}colour = 'red'\n[box]\nengine = 'oracle'\n");
    let place = Place::new(&config);
    let (code, error) = place.fail(&["check-config"]);
    assert_eq!(code, 2);
    assert!(error.contains("2 problems"), "{error}");
    assert!(error.contains("pillarbox.toml:17:1: port[down].primary.colour: "), "{error}");
    assert!(error.contains("pillarbox.toml:19:10: box.engine: there is no engine 'oracle'"), "{error}");
    let output = place.run(&["check-config", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((value["ok"].as_bool(), value["problems"][1]["line"].as_u64()), (Some(false), Some(19)));
    // Everything else refuses it as well, and makes nothing.
    assert_eq!(place.fail(&["serve"]).0, 2);
    assert!(!place.path().join("pillarbox-data").exists());
    let truncated = Place::new("[server]\nlisten = \"127.0");
    assert!(truncated.fail(&["check-config"]).1.contains("pillarbox.toml:2:"));
    let open = Place::new("[server]\nlisten = '0.0.0.0:0'\n");
    assert!(open.fail(&["serve"]).1.contains("no token is asked for"));
    let missing = Place::new("").fail(&["check-config", "--config", "none.toml"]);
    assert!(missing.0 == 2 && missing.1.contains("none.toml: cannot be read"));
}

#[test]
fn a_good_configuration_is_told() {
    let place = Place::new(CONFIG);
    let checked = place.json(&["check-config", "--json"]);
    assert_eq!(
        (checked["ok"].as_bool(), checked["ports"][1]["primary"].as_str()),
        (Some(true), Some("http"))
    );
}

#[test]
fn a_second_server_is_told_who_holds_what() {
    let place = Place::new(CONFIG);
    let first = place.serve();
    let (code, error) = place.fail(&["serve"]);
    assert_eq!(code, 1);
    let holder = format!("process {}", first.child.id());
    assert!(error.contains("locked") && error.contains(&holder) && error.contains("next: "), "{error}");
    let address = first.url.strip_prefix("http://").unwrap();
    let (code, error) = place.fail(&["serve", "--listen", address, "--data", "./elsewhere"]);
    assert_eq!(code, 1);
    assert!(error.contains(&format!("{address} is taken by another program")), "{error}");
    assert!(!place.path().join("elsewhere").exists(), "nothing starts by half");
    assert_eq!(first.end(Signal::INT), Some(0));
}

#[test]
fn what_was_not_accepted_is_listed_and_fails_the_command() {
    let place = Place::new(&format!("[box]\nbody_bytes_max = 1000\n{CONFIG}"));
    std::fs::write(place.path().join("small"), b"x").unwrap();
    std::fs::write(place.path().join("large"), vec![0; 1001]).unwrap();
    let output = place.run(&["submit", "out", "small", "large"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    let error = stderr(&output);
    assert!(
        error.contains("1 of 2") && error.contains("large: the body is longer than the 1000 bytes"),
        "{error}"
    );
    let (code, error) = place.fail(&["submit", "nope", "small"]);
    assert!(code == 1 && error.contains("the known ports: out"), "{error}");
    let (code, error) = place.fail(&["submit", "out", "gone"]);
    assert!(code == 1 && error.contains("gone cannot be read"), "{error}");
    let (code, error) = place.fail(&["submit", "out", "small", "--header", "a b=c"]);
    assert!(code == 2 && error.contains("a header's name may have"), "{error}");
}

/// Every file below a folder with its bytes.
fn bytes_below(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(bytes_below(&path));
        } else {
            all.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}

#[test]
fn a_damaged_box_is_checked_salvaged_and_used_on() {
    let place = Place::new(CONFIG);
    for (name, text) in [("a", "first message"), ("b", "second message"), ("c", "third message")] {
        std::fs::write(place.path().join(name), text).unwrap();
    }
    let submitted = place.json(&["submit", "down", "a", "b", "c", "--json"]);
    let lost = submitted["submitted"][1]["message_id"].clone();
    let number = submitted["submitted"][1]["delivery_id"].as_u64();
    let data = place.path().join("pillarbox-data");
    assert_eq!(place.json(&["check", "--json"])["whole"], true);
    let (segment, mut bytes) = bytes_below(&data)
        .into_iter()
        .find(|(path, _)| path.extension().is_some_and(|end| end == "seg"))
        .unwrap();
    let at = bytes.windows(14).position(|window| window == b"second message").unwrap();
    bytes[at + 3] ^= 0x20;
    std::fs::write(&segment, bytes).unwrap();

    let before = bytes_below(&data);
    let checked = place.run(&["check", "--json"]);
    assert_eq!(checked.status.code(), Some(1), "{}", stderr(&checked));
    assert!(stderr(&checked).contains("pillarbox salvage --to"), "{}", stderr(&checked));
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let damage = report["damage"].as_array().unwrap();
    assert_eq!(damage.len(), 1, "{report}");
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert_eq!((&damage[0]["message_id"], &damage[0]["lost"]), (&lost, &"message".into()), "{report}");
    assert_eq!((&damage[0]["file"], damage[0]["deliveries"][0]["first"].as_u64()), (&name.into(), number));
    assert!(before == bytes_below(&data), "the check has changed something");

    let salvaged = place.run(&["salvage", "--to", "new"]);
    assert_eq!(salvaged.status.code(), Some(1), "{}", stderr(&salvaged));
    let list = std::fs::read_to_string(place.path().join("new/left-behind.txt")).unwrap();
    assert!(list.contains(lost.as_str().unwrap()) && list.contains(name), "{list}");
    assert!(before == bytes_below(&data), "the salvage has changed the old box");
    assert_eq!(place.json(&["check", "--data", "new", "--json"])["contents"]["messages"], 2);
    let page = place.json(&["ls", "--data", "new", "--json"]);
    assert_eq!(page["deliveries"].as_array().unwrap().len(), 2, "{page}");

    let (code, text) = place.fail(&["salvage", "--to", "new"]);
    assert!(code == 3 && text.contains("not empty"), "{code} {text}");
    let (code, text) = place.fail(&["check", "--data", "nowhere"]);
    assert!(code == 3 && text.contains("no such folder"), "{code} {text}");
    let serving = place.serve();
    let (code, text) = place.fail(&["check"]);
    assert!(code == 3 && text.contains("stop that process"), "{code} {text}");
    let (code, text) = place.fail(&["check", "--server", &serving.url]);
    assert!(code == 2 && text.contains("stop the server"), "{code} {text}");
    serving.end(Signal::TERM);
}
