//! `check-config`.

use pillarbox_adapters::Registry;
use serde_json::json;

use crate::cli::Global;
use crate::config::{self, Config, Problems, RouteSection};
use crate::failure::Failure;
use crate::output::{Output, table};

pub(super) fn run(global: &Global, kinds: &Registry, output: Output) -> Result<(), Failure> {
    match config::load(global.config.as_deref(), kinds) {
        Ok(config) => tell_ports(&config, output),
        Err(problems) => {
            if output.is_json() {
                output.result(&problems_json(&problems), String::new)?;
            }
            Err(problems.into())
        }
    }
}

fn tell_ports(config: &Config, output: Output) -> Result<(), Failure> {
    let adapter =
        |route: Option<&RouteSection>| route.map_or("-", |route| route.adapter.describe().kind).to_owned();
    let file = config.file.as_ref().map(|file| file.display().to_string());
    let ports: Vec<_> = config
        .ports
        .iter()
        .map(|port| {
            json!({
                "name": port.name,
                "primary": port.primary.adapter.describe().kind,
                "backup": port.backup.as_ref().map(|route| route.adapter.describe().kind),
            })
        })
        .collect();
    let value = json!({"ok": true, "file": file, "ports": ports});
    output.result(&value, || {
        let source = file.as_deref().unwrap_or("no configuration file: the defaults");
        if config.ports.is_empty() {
            return format!("OK: {source}; no ports. Add a [[port]] to send anything");
        }
        let row = |port: &config::PortSection| {
            vec![port.name.to_string(), adapter(Some(&port.primary)), adapter(port.backup.as_ref())]
        };
        let rows: Vec<Vec<String>> = config.ports.iter().map(row).collect();
        format!("OK: {source}\n{}", table(&["PORT", "PRIMARY", "BACKUP"], &rows))
    })
}

fn problems_json(problems: &Problems) -> serde_json::Value {
    let list: Vec<_> = problems
        .list
        .iter()
        .map(|problem| {
            json!({
                "line": problem.line,
                "column": problem.column,
                "key": problem.key,
                "what": problem.what,
            })
        })
        .collect();
    json!({"ok": false, "file": problems.file, "problems": list})
}
