//! `ls`.

use pillarbox_store::Filter;

use crate::backend::Backend;
use crate::cli::{Ls, Which};
use crate::failure::Failure;
use crate::output::{Output, table};
use crate::problem::Problem;
use crate::service::PAGE_MAX;
use crate::wire::{DeliveryPage, DeliveryView};

const SHAPE: Shape = Shape {
    headings: &[
        "DELIVERY",
        "MESSAGE",
        "PORT",
        "STATE",
        "ROUTE",
        "ATTEMPTS",
        "BYTES",
        "SUBMITTED",
        "DUE",
        "REASON",
    ],
    row,
};

pub(super) async fn run(ls: &Ls, backend: &Backend, output: Output) -> Result<(), Failure> {
    list(ls, filter(&ls.which), SHAPE, backend, output).await
}

/// How deliveries are listed: each as a row below the headings.
pub(super) struct Shape {
    pub(super) headings: &'static [&'static str],
    pub(super) row: fn(&DeliveryView) -> Vec<String>,
}

/// Lists what `filter` and `ls` tell.
pub(super) async fn list(
    ls: &Ls,
    filter: Filter,
    shape: Shape,
    backend: &Backend,
    output: Output,
) -> Result<(), Failure> {
    let limit = if ls.all { usize::MAX } else { ls.limit };
    let page = gather(Filter { after: ls.after, ..filter }, limit, backend).await?;
    output.result(&page, || {
        let rows: Vec<Vec<String>> = page.deliveries.iter().map(shape.row).collect();
        table(shape.headings, &rows)
    })?;
    if let Some(next) = page.next
        && !output.is_json()
    {
        output.note(&format!("there may be more: add --after {next}, or --all"));
    }
    Ok(())
}

pub(super) fn filter(which: &Which) -> Filter {
    Filter { port: which.port.clone(), state: which.state, ..Filter::default() }
}

/// Up to `limit` deliveries, page by page.
pub(super) async fn gather(
    mut filter: Filter,
    limit: usize,
    backend: &Backend,
) -> Result<DeliveryPage, Problem> {
    let mut all = Vec::new();
    loop {
        filter.limit = PAGE_MAX.min(limit.saturating_sub(all.len()));
        if filter.limit == 0 {
            return Ok(DeliveryPage { next: filter.after, deliveries: all });
        }
        let page = backend.deliveries(&filter).await?;
        all.extend(page.deliveries);
        if page.next.is_none() {
            return Ok(DeliveryPage { deliveries: all, next: None });
        }
        filter.after = page.next;
    }
}

fn row(view: &DeliveryView) -> Vec<String> {
    vec![
        view.delivery_id.to_string(),
        view.message_id.to_string(),
        view.port.to_string(),
        view.state.as_str().to_owned(),
        view.route.as_str().to_owned(),
        view.attempts.to_string(),
        view.body_bytes.to_string(),
        view.submitted.clone(),
        view.due.clone().unwrap_or_else(|| "-".to_owned()),
        view.reason.as_deref().map(shorten).unwrap_or_default(),
    ]
}

/// The beginning of a reason, on one line.
fn shorten(reason: &str) -> String {
    let line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(61).collect();
    if line.chars().count() > 60 { format!("{}...", line.chars().take(57).collect::<String>()) } else { line }
}
