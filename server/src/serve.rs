//! `serve`: opens the box, starts to send, answers the API, and drains at the first signal.

use std::sync::Arc;

use pillarbox_runtime::{Port, Runtime, Tasks};
use pillarbox_store::{Filter, IdSource, PortName, Store};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::api::{self, listen};
use crate::backend::{folder_mark, open_box};
use crate::cli::{Global, Serve};
use crate::config::{Config, open_without_token};
use crate::failure::Failure;
use crate::output::Output;
use crate::problem::chain;
use crate::service::{RouteSource, Service};
use crate::wire::RouteView;

/// Serves until a signal asks it to stop, then drains.
///
/// # Errors
/// It could not start, and what to do; or the box could not be closed in order.
pub async fn run(serve: &Serve, global: &Global, mut config: Config, output: Output) -> Result<(), Failure> {
    crate::logs::start(global.log.as_deref().unwrap_or("info"))?;
    if global.server.is_some() {
        return Err(Failure::usage("--server names a server to talk to; this command is one")
            .next("pillarbox serve --listen IP:PORT"));
    }
    if let Some(address) = serve.listen {
        if !address.ip().is_loopback() && config.server.token.is_none() {
            return Err(Failure::usage(open_without_token(address)));
        }
        config.server.listen = address;
    }
    let token =
        config.server.token.as_ref().map(|token| token.fetch().map_err(Failure::usage)).transpose()?;
    let mut signals = Signals::new()?;
    // Before the box is opened, so that nothing starts by half where the address is taken.
    let listener = listen::bind(config.server.listen).await.map_err(Failure::new)?;
    let (running, store) = start(&config).await?;
    let source = Arc::clone(&running) as Arc<dyn RouteSource>;
    let service = Service::new(store, running.0.ids().clone(), config.server.body_bytes_max)
        .with_routes(source)
        .with_folder(folder_mark(&config.mailbox.data));
    let address = address(&listener)?;
    if config.ports.is_empty() {
        tracing::warn!("no ports are configured, so nothing can be submitted; add a [[port]] and restart");
    }
    let (stop, stopping) = watch::channel(false);
    let tasks = Tasks::new();
    let serving = tasks.spawn(listen::serve(listener, api::router(service.clone(), token), stopping));
    output.result(&json!({"listening": address}), || format!("listening on {address}"))?;
    let name = signals.next().await;
    service.drain();
    tracing::info!(signal = name, deadline = ?config.server.drain, "stopping: finishing what is being sent; another signal ends it at once");
    let drained = async {
        let _report = running.0.shutdown(config.server.drain).await;
        // Only now: until here those who submit are told why they cannot.
        let _nobody = stop.send(true);
        let _ended = serving.await;
        service.store().close().await
    };
    tokio::select! {
        closed = drained => closed.map_err(|error| {
            Failure::new(format!("the box could not be closed in order: {}", chain(&error)))
                .next("pillarbox serve; it recovers what was acknowledged")
        }),
        name = signals.next() => {
            output.note(&format!("{name}: stopping at once; what was being sent may be sent again"));
            // The box is made for this: what it acknowledged is on disk.
            std::process::exit(1);
        }
    }
}

/// Opens the box and starts to send.
async fn start(config: &Config) -> Result<(Arc<Running>, Arc<dyn Store>), Failure> {
    let mailbox = open_box(config)?;
    for damage in mailbox.damage() {
        tracing::error!(?damage, "stored bytes are damaged; everything else is whole");
    }
    let store: Arc<dyn Store> = Arc::new(mailbox);
    tracing::info!(
        box_id = %store.id(),
        engine = store.stats().engine,
        data = %config.mailbox.data.display(),
        "the box is open"
    );
    for port in store.ports() {
        let configured = config.ports.iter().any(|section| section.name == port.name);
        if !configured && port.counts.live() > 0 {
            let deliveries = port.counts.live();
            let which = Filter { port: Some(port.name.clone()), in_doubt: true, ..Filter::default() };
            if store.deliveries(&which).await.is_ok_and(|in_doubt| !in_doubt.is_empty()) {
                tracing::warn!(
                    port = %port.name,
                    "this port is not configured any more, and deliveries of it are in doubt: the destination may have \
                     them, or hold them prepared. See pillarbox indoubt ls; configure the port again, or settle them"
                );
            }
            tracing::warn!(port = %port.name, deliveries, "this port is not configured any more; its deliveries wait");
        }
    }
    let mut builder = Runtime::builder(Arc::clone(&store)).ids(IdSource::system());
    for section in &config.ports {
        let port = Port::new(section.name.clone(), section.primary.to_route());
        builder = builder.port(match &section.backup {
            Some(backup) => port.backup(backup.to_route()),
            None => port,
        });
    }
    let runtime = builder
        .start()
        .await
        .map_err(|error| Failure::new(format!("the ports cannot be started: {}", chain(&error))))?;
    Ok((Arc::new(Running(runtime)), store))
}

fn address(listener: &TcpListener) -> Result<String, Failure> {
    let address = listener.local_addr();
    let address =
        address.map_err(|error| Failure::new(format!("the listening address is not known: {error}")))?;
    Ok(format!("http://{address}"))
}

/// A runtime, as the API tells of its routes.
#[derive(Debug)]
struct Running(Runtime);

impl RouteSource for Running {
    fn routes(&self) -> Vec<(PortName, Vec<RouteView>)> {
        let view = |port: pillarbox_runtime::PortStatus| {
            let routes = port.routes.into_iter().map(|route| RouteView {
                route: route.route,
                adapter: route.kind.to_owned(),
                open: route.open,
                in_flight: route.in_flight as u64,
                trouble: route.trouble,
            });
            (port.name, routes.collect())
        };
        self.0.ports().into_iter().map(view).collect()
    }

    fn settles(&self, destination: &str) -> Option<bool> {
        self.0.settles(destination)
    }
}

/// The signals that ask a server to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let watch =
            |kind| signal(kind).map_err(|error| Failure::new(format!("signals cannot be watched: {error}")));
        Ok(Self { terminate: watch(SignalKind::terminate())?, interrupt: watch(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
