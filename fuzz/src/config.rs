//! The text of a configuration file.

use pillarbox_server::config;

/// Checks the text as the server does. Every problem has a place within the text.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check(text);
}

pub(crate) fn check(text: &str) {
    match config::check("pillarbox.toml", text, &pillarbox_adapters::registry()) {
        Ok(config) => {
            // What passed can be used without further checks.
            let _ = config.mailbox.to_box_config();
            for port in &config.ports {
                let _ = port.spec();
                for route in std::iter::once(&port.primary).chain(&port.backup) {
                    route.to_route().check().expect("a checked route is a good one");
                }
            }
        }
        Err(problems) => {
            assert!(!problems.list.is_empty(), "refused without a problem");
            let lines = text.matches('\n').count() + 1;
            for problem in &problems.list {
                let is_within = (1..=lines).contains(&problem.line) && problem.column >= 1;
                assert!(is_within && !problem.what.is_empty(), "{problem:?} of {lines} lines");
            }
            assert!(problems.to_string().lines().count() >= problems.list.len());
        }
    }
}
