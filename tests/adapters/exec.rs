//! A program that leaves a file for each message: run for each, and for several.

use std::fs;
use std::sync::Arc;

use async_trait::async_trait;
use pillarbox_adapter_kit::{Destination, Held, Subject};
use pillarbox_runtime::adapter::{AdapterKind, Settings};
use pillarbox_store::Body;
use serde_json::json;
use tempfile::TempDir;

const SECRET: &str = "hunter2hunter2";
const REFUSED: &str = "refuse me";

/// Takes the body, looks whether it is whole, and gives the file its name in one step. `$$` tells runs apart.
const SCRIPT: &str = r#"
cat > ".$$" && test "$(wc -c < ".$$")" -eq "$PILLARBOX_BODY_BYTES" || exit 1
case "$(head -c 9 ".$$" | tr -d '\0')" in "refuse me") rm ".$$"; exit 65;; esac
printf '%s\n%s\n' "$PILLARBOX_SEND_KEY" "$PILLARBOX_ATTEMPT${PILLARBOX_IN_DOUBT:+?}" > ".$$.said"
cat ".$$" >> ".$$.said" && rm ".$$" && mv ".$$.said" "$PILLARBOX_DELIVERY.$$"
"#;

pub(crate) fn subjects() -> Vec<Box<dyn Subject>> {
    vec![Box::new(Program { per_batch: false }), Box::new(Program { per_batch: true })]
}

/// The same for several messages, which it tells the outcomes of.
const BATCH_SCRIPT: &str = r#"
import json, os, sys
source = sys.stdin.buffer
while line := source.readline():
    head = json.loads(line)
    body = source.read(head["body_bytes"])
    if source.read(1) != b"\n":
        sys.exit(1)
    if body.startswith(b"refuse me"):
        print(head["delivery"], "permanent", "refused", flush=True)
        continue
    name = f"{head['delivery']}.{os.getpid()}"
    with open("." + name, "wb") as file:
        doubt = "?" if head["in_doubt"] else ""
        file.write(f"{head['send_key']}\n{head['attempt']}{doubt}\n".encode() + body)
    os.rename("." + name, name)
    print(head["delivery"], "delivered", flush=True)
"#;

#[derive(Debug)]
struct Program {
    per_batch: bool,
}

#[async_trait(?Send)]
impl Subject for Program {
    fn name(&self) -> &'static str {
        if self.per_batch { "exec, per batch" } else { "exec" }
    }

    fn kind(&self) -> Arc<dyn AdapterKind> {
        crate::kind("exec")
    }

    async fn start(&self) -> Box<dyn Destination> {
        Box::new(Folder { folder: tempfile::tempdir().unwrap(), per_batch: self.per_batch })
    }
}

#[derive(Debug)]
struct Folder {
    folder: TempDir,
    per_batch: bool,
}

#[async_trait(?Send)]
impl Destination for Folder {
    fn port(&self) -> Option<u16> {
        None
    }

    fn settings(&self, _port: u16) -> Settings {
        let settings = if self.per_batch {
            let args = json!(["-S", "-c", BATCH_SCRIPT]);
            Settings::default().with("program", "python3").with("args", args).with("per", "batch")
        } else {
            Settings::default().with("program", "/bin/sh").with("args", json!(["-c", SCRIPT]))
        };
        settings
            .with("folder", self.folder.path().to_str().unwrap())
            .with("environment", json!({ "TOKEN": SECRET }))
            .with("timeout", "5s")
    }

    async fn held(&self) -> Vec<Held> {
        let mut held = Vec::new();
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with('.') {
                continue;
            }
            let bytes = fs::read(path).unwrap();
            let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
            let mut word = || String::from_utf8(parts.next().unwrap().to_vec()).unwrap();
            let (key, said) = (word(), word());
            let number = said.trim_end_matches('?');
            let one = Held::new(parts.next().unwrap().to_vec()).key(key);
            held.push(one.attempt(number.parse().unwrap()).in_doubt(number != said));
        }
        held
    }

    fn refused(&self) -> Option<Body> {
        Some(Body::from(REFUSED))
    }

    fn secrets(&self) -> Vec<String> {
        vec![SECRET.to_owned()]
    }
}
