//! The commands against a box in memory.

use std::sync::Arc;

use clap::Parser as _;
use pillarbox_store::{Batch, DeliveryId, DeliveryState, IdSource, MessageId, PortName};
use tempfile::TempDir;

use super::*;
use crate::backend::{Input, Local};
use crate::output::table;
use crate::service::tests::service;
use crate::service::{RouteSource, Service, Submission};
use crate::wire::{PortList, PortView, RouteView, Submitted};

/// A box in memory, to which commands are given as they are typed.
struct Bench {
    service: Service,
    backend: Backend,
    folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let service = service().await;
        let backend = Backend::Local(Local::over(service.store().clone(), &Config::default()));
        Self { service, backend, folder: TempDir::new().unwrap() }
    }

    async fn submit(&self, port: &str) -> Submitted {
        let path = self.folder.path().join("body");
        std::fs::write(&path, b"x").unwrap();
        let (port, headers) = (port.parse().unwrap(), pillarbox_store::Headers::default());
        let submission = Submission { port, message_id: None, headers, not_before: None };
        self.backend.submit(submission, &Input::File(path)).await.unwrap()
    }

    async fn run(&self, words: &str) -> Result<(), Failure> {
        let args = ["pillarbox"].into_iter().chain(words.split(' '));
        let cli = Cli::try_parse_from(args).unwrap();
        Box::pin(with_backend(&cli.command, &self.backend, Output::new(cli.global.json))).await
    }

    async fn state(&self, id: DeliveryId) -> DeliveryState {
        self.backend.delivery(id).await.unwrap().state
    }
}

#[tokio::test]
async fn doubts_are_settled_by_number_by_message_and_all_of_a_port() {
    let bench = Bench::new().await;
    let mut taken = Vec::new();
    for port in ["orders", "orders", "orders", "other"] {
        taken.push(bench.submit(port).await);
    }
    let ids: Vec<DeliveryId> = taken.iter().map(|taken| taken.delivery_id).collect();
    bench.service.doubt_in_test("orders", true).await;
    bench.service.doubt_in_test("other", true).await;
    bench.run("indoubt ls --port orders --after 1").await.unwrap();
    bench.run("indoubt ls --all --json").await.unwrap();
    bench.run(&format!("indoubt settle {} --as suspend", ids[0])).await.unwrap();
    bench.run(&format!("indoubt settle {} --as landed --json", taken[1].message_id)).await.unwrap();
    let unsure = bench.run("indoubt settle --all --as landed").await.unwrap_err();
    assert!(unsure.next.is_some_and(|next| next.contains("--yes")));
    bench.run("indoubt settle --all --port other --as landed --yes").await.unwrap();
    let states = [DeliveryState::Suspended, DeliveryState::Done, DeliveryState::InDoubt, DeliveryState::Done];
    for (id, state) in ids.iter().zip(states) {
        assert_eq!(bench.state(*id).await, state, "delivery {id}");
    }
    bench.run("indoubt settle --all --as resend").await.unwrap();
    assert_eq!(bench.state(ids[2]).await, DeliveryState::Ready);
    bench.run(&format!("show {}", ids[2])).await.unwrap();
}

#[tokio::test]
async fn what_is_refused_about_doubts_names_the_next_command() {
    let bench = Bench::new().await;
    let taken = bench.submit("orders").await;
    let (id, message): (DeliveryId, MessageId) = (taken.delivery_id, taken.message_id);
    let certain = bench.run(&format!("indoubt settle {id} --as landed")).await.unwrap_err();
    assert!(certain.what.contains("1 of 1 could not be settled"), "{certain}");
    assert_eq!(certain.next.as_deref(), Some("pillarbox indoubt ls"));
    let nothing = bench.run(&format!("indoubt settle {message} --as landed")).await.unwrap_err();
    assert!(nothing.what.contains(&format!("nothing is in doubt about the message {message}")), "{nothing}");
    assert_eq!(nothing.next, Some(format!("pillarbox show {message}")));
    bench.service.doubt_in_test("orders", true).await;
    for words in [format!("resume {id}"), "resume --all --state in-doubt".to_owned()] {
        let held = bench.run(&words).await.unwrap_err();
        assert!(held.what.contains("nobody knows whether it was sent"), "{held}");
        let next = format!("pillarbox indoubt settle {id} --as landed|resend|suspend");
        assert_eq!(held.next, Some(next));
    }
    assert_eq!(bench.state(id).await, DeliveryState::InDoubt);
}

#[tokio::test]
async fn lists_show_what_is_in_doubt() {
    let bench = Bench::new().await;
    bench.submit("orders").await;
    bench.service.doubt_in_test("orders", true).await;
    let page = bench.service.deliveries(&pillarbox_store::Filter::default()).await.unwrap();
    let view = page.deliveries.first().unwrap();
    let text = table(indoubt::SHAPE.headings, &[(indoubt::SHAPE.row)(view)]);
    let cells: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
    let (message, begun) = (view.message_id.to_string(), view.doubt.as_ref().unwrap().begun.as_str());
    assert_eq!(cells, ["1", &message, "orders", "in-doubt", "0", "0", begun]);
    let ports: Vec<PortView> = bench.backend.ports().await.unwrap().ports;
    let text = table(&ports::HEADINGS, &ports.iter().map(ports::row).collect::<Vec<_>>());
    let column = ports::HEADINGS.iter().position(|heading| *heading == "IN-DOUBT").unwrap();
    let cells: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((cells[0], cells[column]), ("orders", "1"));
}

/// Routes of which one settles what this destination holds prepared, and another may settle what that one does.
#[derive(Debug)]
struct Settling(&'static str, &'static str);

impl RouteSource for Settling {
    fn routes(&self) -> Vec<(PortName, Vec<RouteView>)> {
        Vec::new()
    }

    fn settles(&self, destination: &str) -> Option<bool> {
        (destination != self.1).then_some(destination == self.0)
    }
}

#[tokio::test]
async fn what_is_left_prepared_is_shown_until_a_route_settles_it() {
    let bench = Bench::new().await;
    let json = |list: &PortList| serde_json::to_value(list).unwrap();
    let list = bench.backend.ports().await.unwrap();
    assert!(json(&list).get("stranded").is_none() && !ports::shown(&list).contains("prepared"));

    let (store, ids) = (bench.service.store(), IdSource::system());
    let (here, there) = (ids.batch(), ids.batch());
    let batch = Batch::new(ids.batch()).decide(here, "file:/srv/out").decide(there, "else\nwhere");
    store.commit(&batch).await.unwrap();
    let list = bench.backend.ports().await.unwrap();
    let names = [here, there].map(|number| format!("{}/{number}", store.id()));
    let text = ports::shown(&list);
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("! prepared at ")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    for (place, name) in ["file:/srv/out", "else\\nwhere"].iter().zip(&names) {
        assert!(lines.iter().any(|line| line.contains(&format!("{place}, {name}: "))), "{text}");
    }
    bench.run("indoubt ls").await.unwrap();

    let served = bench.service.clone().with_routes(Arc::new(Settling("file:/srv/out", "away")));
    let left = json(&served.ports().await)["stranded"].clone();
    assert_eq!((left.as_array().unwrap().len(), &left[0]["transaction"]), (1, &names[1].as_str().into()));
}

#[tokio::test]
async fn only_what_no_route_settles_is_forgotten() {
    let bench = Bench::new().await;
    let (store, ids) = (bench.service.store(), IdSource::system());
    let (here, there, away) = (ids.batch(), ids.batch(), ids.batch());
    let batch = Batch::new(ids.batch()).decide(here, "file:/srv/out").decide(there, "elsewhere");
    store.commit(&batch.decide(away, "away")).await.unwrap();
    let names = [here, there, away].map(|number| format!("{}/{number}", store.id()));
    let kept = async || store.decisions().await.unwrap().known.len();

    let unsure = bench.run(&format!("indoubt forget {}", names[1])).await.unwrap_err();
    assert!(unsure.next.is_some_and(|next| next.contains("--yes")));
    let unserved = bench.run(&format!("indoubt forget {} --yes", names[1])).await.unwrap_err();
    assert!(unserved.what.contains("only a running server knows"), "{unserved}");

    let served = bench.service.clone().with_routes(Arc::new(Settling("file:/srv/out", "away")));
    for name in [names[0].as_str(), &names[2], "", "no/name", &names[1][..40]] {
        let refused = served.forget(name).await.unwrap_err();
        assert_eq!((refused.status, refused.name()), (409, "not-stranded"), "{name}");
    }
    assert_eq!(kept().await, 3, "what a route settles may be prepared there still");
    let left = served.forget(&names[1]).await.unwrap().stranded;
    assert_eq!(left.iter().map(|view| &view.transaction).collect::<Vec<_>>(), [&names[2]]);
    assert!(store.decisions().await.unwrap().has(here));
    assert_eq!((kept().await, served.forget(&names[1]).await.unwrap_err().status), (2, 409));
}
