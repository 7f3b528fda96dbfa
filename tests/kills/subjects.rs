//! The destinations: those of `cargo xtask kit`, with what is judged of each. A new one is a row of [`ALL`].

use std::fmt::Write as _;
use std::sync::Arc;

use pillarbox_adapter_kit::Subject;
use pillarbox_adapters::registry;
use pillarbox_runtime::adapter::{AdapterKind, Settings};
use serde_json::{Map, Value};

use crate::judge::Manner;
use crate::load::PORT;
use crate::{amqp, file, http_peer, nats, postgres, redis_peer, s3, sftp};

/// A destination, and what its adapter promises of it.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its name here.
    pub(crate) name: &'static str,
    /// Its name among the subjects of the kit.
    of_kit: &'static str,
    /// How the adapter promises it, for the table.
    pub(crate) class: &'static str,
    pub(crate) manner: Manner,
    /// How much is submitted a second while the server runs: about as much as the destination takes.
    pub(crate) rate: u32,
    /// It is killed as well, where the kit knows how. One that takes half a minute to come back is not.
    pub(crate) is_killed: bool,
    /// Somebody takes away what comes to its folder, as soon as it is there: a second one is seen though it has the name
    /// of the first.
    pub(crate) is_emptied: bool,
    /// Settings beside those of the kit.
    more: &'static [(&'static str, &'static str)],
}

/// Where a name is the key, it is the message's id here, so that each file and object tells whose it is.
const BY_ID: &[(&str, &str)] = &[("name", "{message_id}")];

/// All of them.
pub(crate) const ALL: &[Row] = &[
    Row {
        name: "postgres",
        of_kit: "postgres",
        class: "ledger",
        manner: Manner::Once,
        rate: 250,
        is_killed: true,
        is_emptied: false,
        more: &[],
    },
    Row {
        name: "postgres-two-phase",
        of_kit: "postgres, two_phase",
        class: "two-phase",
        manner: Manner::Once,
        rate: 120,
        is_killed: true,
        is_emptied: false,
        more: &[],
    },
    Row {
        name: "file-two-phase",
        of_kit: "file, two_phase",
        class: "two-phase",
        manner: Manner::Once,
        rate: 600,
        is_killed: true,
        is_emptied: true,
        more: BY_ID,
    },
    Row {
        name: "file",
        of_kit: "file",
        class: "keyed",
        manner: Manner::Once,
        rate: 600,
        is_killed: true,
        is_emptied: false,
        more: BY_ID,
    },
    Row {
        name: "s3",
        of_kit: "s3",
        class: "keyed",
        manner: Manner::Once,
        rate: 60,
        is_killed: true,
        is_emptied: false,
        more: BY_ID,
    },
    Row {
        name: "sftp",
        of_kit: "sftp",
        class: "keyed",
        manner: Manner::Once,
        rate: 150,
        is_killed: true,
        is_emptied: false,
        more: BY_ID,
    },
    Row {
        name: "nats",
        of_kit: "nats",
        class: "keyed",
        manner: Manner::Once,
        rate: 250,
        is_killed: true,
        is_emptied: false,
        more: &[],
    },
    Row {
        name: "redis",
        of_kit: "redis",
        class: "keyed",
        manner: Manner::Once,
        rate: 250,
        is_killed: true,
        is_emptied: false,
        more: &[],
    },
    Row {
        name: "http",
        of_kit: "http",
        class: "at-least-once",
        manner: Manner::Labelled,
        rate: 250,
        is_killed: true,
        is_emptied: false,
        more: &[],
    },
    Row {
        name: "amqp",
        of_kit: "amqp",
        class: "at-least-once",
        manner: Manner::Labelled,
        rate: 250,
        is_killed: false,
        is_emptied: false,
        more: &[],
    },
];

impl Row {
    /// The subject of the kit.
    pub(crate) fn subject(&self) -> Result<Box<dyn Subject>, String> {
        let all = [
            amqp::subjects(),
            file::subjects(),
            http_peer::subjects(),
            nats::subjects(),
            postgres::subjects(),
            redis_peer::subjects(),
            s3::subjects(),
            sftp::subjects(),
        ];
        let found = all.into_iter().flatten().find(|subject| subject.name() == self.of_kit);
        found.ok_or_else(|| format!("the kit has no subject {:?}", self.of_kit))
    }

    /// The server's configuration, with one port that sends by these settings.
    pub(crate) fn config(&self, engine: &str, kind: &str, settings: &Settings) -> Result<String, String> {
        let mut settings: Map<String, Value> = settings.parse().map_err(|error| error.to_string())?;
        for (key, value) in self.more {
            settings.insert((*key).to_owned(), (*value).into());
        }
        settings.entry("timeout").or_insert("2s".into());
        let mut own = String::new();
        for (key, value) in &settings {
            let _ = writeln!(own, "{key} = {}", toml(value));
        }
        Ok(format!(
            "[box]\ndata = 'data'\nengine = '{engine}'\nsegment_bytes = '1MiB'\n\
             keep_finished = {{ count = 10000000, age = '30 days' }}\n\
             [server]\nlisten = '127.0.0.1:0'\n\
             [[port]]\nname = '{PORT}'\n[port.primary]\nadapter = '{kind}'\nin_flight = 16\n\
             retry = {{ attempts = 1000, first = '20ms', factor = 2.0, max = '400ms', jitter = 0.2 }}\n{own}"
        ))
    }
}

/// The kind of this name, as the subjects of the kit ask for it.
pub(crate) fn kind(name: &str) -> Arc<dyn AdapterKind> {
    Arc::clone(registry().get(name).expect("the adapter is built in"))
}

/// A value as it stands in the configuration.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(all) => format!("[{}]", all.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(all) => {
            let one =
                |(key, value): (&String, &Value)| format!("{} = {}", Value::from(key.as_str()), toml(value));
            format!("{{ {} }}", all.iter().map(one).collect::<Vec<_>>().join(", "))
        }
        // JSON's texts, numbers and truths are TOML's as well.
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_row_has_its_subject() {
        for row in ALL {
            assert_eq!(row.subject().unwrap().name(), row.of_kit);
        }
    }

    #[test]
    fn settings_are_written_as_they_are_read() {
        let settings = Settings::default()
            .with("headers", json!({ "authorization": "a \"b\"" }))
            .with("parameters", json!(["send_key", "body"]))
            .with("tls", false)
            .with("body_bytes_max", 4_194_304);
        let config = ALL[0].config("journal", "postgres", &settings).unwrap();
        let read: toml::Table = config.parse().unwrap();
        let primary = &read["port"][0]["primary"];
        assert_eq!(primary["headers"]["authorization"].as_str(), Some("a \"b\""));
        assert_eq!(primary["parameters"][1].as_str(), Some("body"));
        assert_eq!(primary["tls"].as_bool(), Some(false));
        assert_eq!(primary["body_bytes_max"].as_integer(), Some(4_194_304));
        assert_eq!(primary["timeout"].as_str(), Some("2s"));
    }
}
