//! A program that leaves a file for each message.

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
    vec![Box::new(Program)]
}

#[derive(Debug)]
struct Program;

#[async_trait(?Send)]
impl Subject for Program {
    fn name(&self) -> &'static str {
        "exec"
    }

    fn kind(&self) -> Arc<dyn AdapterKind> {
        crate::kind("exec")
    }

    async fn start(&self) -> Box<dyn Destination> {
        Box::new(Folder(tempfile::tempdir().unwrap()))
    }
}

#[derive(Debug)]
struct Folder(TempDir);

#[async_trait(?Send)]
impl Destination for Folder {
    fn port(&self) -> Option<u16> {
        None
    }

    fn settings(&self, _port: u16) -> Settings {
        Settings::default()
            .with("program", "/bin/sh")
            .with("args", json!(["-c", SCRIPT]))
            .with("folder", self.0.path().to_str().unwrap())
            .with("environment", json!({ "TOKEN": SECRET }))
            .with("timeout", "5s")
    }

    async fn held(&self) -> Vec<Held> {
        let mut held = Vec::new();
        for entry in fs::read_dir(self.0.path()).unwrap() {
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
