//! `ports`, `pause`, `unpause`.

use pillarbox_store::PortName;

use crate::backend::Backend;
use crate::failure::Failure;
use crate::output::{Output, table};
use crate::wire::{PortList, PortView, RouteView, StrandedView};

pub(super) const HEADINGS: [&str; 11] = [
    "PORT",
    "STATUS",
    "READY",
    "SCHEDULED",
    "RETRY-WAIT",
    "LEASED",
    "SUSPENDED",
    "IN-DOUBT",
    "DONE",
    "TERMINATED",
    "ADAPTERS",
];

pub(super) async fn run(backend: &Backend, output: Output) -> Result<(), Failure> {
    let list = backend.ports().await?;
    output.result(&list, || shown(&list))
}

pub(super) fn shown(list: &PortList) -> String {
    let mut text = if list.ports.is_empty() {
        "there are no ports yet. Add a [[port]] to the configuration, then: pillarbox serve\n".to_owned()
    } else {
        table(&HEADINGS, &list.ports.iter().map(row).collect::<Vec<_>>())
    };
    for port in &list.ports {
        for route in port.routes.iter().flatten() {
            if let Some(trouble) = &route.trouble {
                text.push_str(&format!("! {} {}: {trouble}\n", port.name, route.route.as_str()));
            }
        }
    }
    for StrandedView { transaction, destination, decided } in &list.stranded {
        text.push_str(&format!(
            "! prepared at {}, {transaction}: its messages are recorded as sent since {decided}, and no open route \
             commits it. Serve a port that sends there with two_phase until this line is gone, or commit it there by \
             hand, then: pillarbox indoubt forget {transaction}\n",
            destination.escape_debug()
        ));
    }
    text
}

pub(super) fn row(port: &PortView) -> Vec<String> {
    let status = match (port.defined, port.paused) {
        (false, _) => "retired",
        (true, true) => "paused",
        (true, false) => "open",
    };
    let counts = &port.counts;
    let adapter = |route: &RouteView| {
        let state = match (&route.trouble, route.open) {
            (Some(_), _) => "trouble",
            (None, true) => "open",
            (None, false) => "idle",
        };
        format!("{} {state}", route.adapter)
    };
    let adapters = match &port.routes {
        Some(routes) => routes.iter().map(adapter).collect::<Vec<_>>().join(", "),
        None => "-".to_owned(),
    };
    let numbers = [
        counts.ready,
        counts.scheduled,
        counts.retry_wait,
        counts.leased,
        counts.suspended,
        counts.in_doubt,
        counts.done,
        counts.terminated,
    ];
    let mut row = vec![port.name.to_string(), status.to_owned()];
    row.extend(numbers.iter().map(u64::to_string));
    row.push(adapters);
    row
}

pub(super) async fn pause(
    port: &PortName,
    paused: bool,
    backend: &Backend,
    output: Output,
) -> Result<(), Failure> {
    let view = backend.pause(port, paused).await?;
    output.result(&view, || {
        let counts = &view.counts;
        if view.paused {
            format!(
                "{port} is paused; {} deliveries are held back",
                counts.ready + counts.retry_wait + counts.scheduled
            )
        } else {
            format!("{port} sends again; {} deliveries are ready", counts.ready)
        }
    })
}
