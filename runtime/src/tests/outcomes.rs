//! Submitting, starting, and what the runtime tells of itself.

use std::sync::Arc;

use pillarbox_store::{ErrorKind, Store};

use super::kit::{Bench, Scripted, name};
use crate::{Port, RetryPolicy, RouteConfig, Runtime, SubmitError};

fn port(text: &str) -> Port {
    Port::new(name(text), RouteConfig::new(Scripted::new().adapter()))
}

#[tokio::test(start_paused = true)]
async fn a_message_submitted_twice_is_there_once() {
    let bench = Bench::start([port("p")]).await;
    let message = bench.runtime.new_message("a");
    let first = bench.runtime.submit(&name("p"), message.clone()).await.unwrap();
    let second = bench.runtime.submit(&name("p"), message.clone()).await.unwrap();
    assert_eq!((first.duplicate, second.duplicate), (false, true));
    assert_eq!((first.message, first.delivery), (message.id, second.delivery));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_port_is_named() {
    let bench = Bench::start([port("p")]).await;
    let message = bench.runtime.new_message("a");
    let error = bench.runtime.submit(&name("q"), message).await.unwrap_err();
    assert_eq!(error.to_string(), "no port is named q");
}

#[tokio::test(start_paused = true)]
async fn a_full_box_is_told() {
    let bench = Bench::start([port("p")]).await;
    bench.store.inner().refuse_commits = vec![ErrorKind::Full];
    let message = bench.runtime.new_message("a");
    let error = bench.runtime.submit(&name("p"), message).await.unwrap_err();
    assert!(matches!(error, SubmitError::Store(error) if error.kind() == ErrorKind::Full));
}

#[tokio::test(start_paused = true)]
async fn start_defines_the_ports_and_retires_the_others() {
    let bench = Bench::start([port("a"), port("b")]).await;
    let backup = RouteConfig::new(Scripted::new().adapter());
    let next =
        Bench::run(&bench.store, &bench.clock, &bench.ids, [port("b").backup(backup), port("c")]).await;
    let known: Vec<_> = bench
        .store
        .ports()
        .into_iter()
        .map(|port| (port.name.to_string(), port.defined, port.backup))
        .collect();
    let told = |name: &str, defined, backup| (name.to_owned(), defined, backup);
    assert_eq!(known, [told("a", false, false), told("b", true, true), told("c", true, false)]);
    let status = next.ports();
    assert_eq!((status[0].name.as_str(), status[0].routes.len()), ("b", 2));
    assert_eq!((status[1].name.as_str(), status[1].routes[0].kind), ("c", "scripted"));
}

#[tokio::test(start_paused = true)]
async fn wrong_ports_start_nothing() {
    let bench = Bench::start([]).await;
    let store = || Arc::clone(&bench.store) as Arc<dyn Store>;
    let error =
        Runtime::builder(store()).port(port("p")).port(port("q")).port(port("p")).start().await.unwrap_err();
    assert!(error.to_string().contains("port=p reason=two ports have this name"), "{error}");
    let never = RouteConfig::new(Scripted::new().adapter())
        .retry(RetryPolicy { attempts: 0, ..RetryPolicy::default() });
    let error = Runtime::builder(store()).port(port("p").backup(never)).start().await.unwrap_err();
    assert!(error.to_string().contains("backup route: attempts is 0"), "{error}");
    let narrow = RouteConfig::new(Scripted::new().adapter()).in_flight(0);
    let error = Runtime::builder(store()).port(Port::new(name("p"), narrow)).start().await.unwrap_err();
    assert!(error.to_string().contains("primary route: in_flight is 0"), "{error}");
    assert!(bench.store.ports().is_empty());
}
