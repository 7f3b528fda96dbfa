//! `resume`, `terminate` and `indoubt settle`.

use futures_util::{StreamExt as _, stream};
use pillarbox_store::{DeliveryId, DeliveryState, DoubtVerdict, Filter};
use serde_json::json;

use super::ls::{filter, gather};
use crate::backend::Backend;
use crate::cli::{Id, Settle, SettleDoubt, Terminate};
use crate::failure::Failure;
use crate::output::Output;
use crate::problem::Problem;
use crate::wire::DeliveryView;

/// Deliveries settled at once: enough for the box to share its flushes between them.
const AT_ONCE: usize = 32;

pub(super) async fn resume(settle: &Settle, backend: &Backend, output: Output) -> Result<(), Failure> {
    let ids = pick(settle, backend).await?;
    if settle.all {
        output.note(&format!("{} to resume", count(&ids)));
    }
    let results = each(&ids, |id| backend.resume(id)).await;
    tell("resumed", &results, output)
}

pub(super) async fn terminate(
    terminate: &Terminate,
    backend: &Backend,
    output: Output,
) -> Result<(), Failure> {
    let ids = pick(&terminate.settle, backend).await?;
    if terminate.settle.all {
        output.note(&format!("{} to terminate", count(&ids)));
        if !terminate.yes {
            let what = format!("{} would end without being sent; nothing was done", count(&ids));
            return Err(Failure::usage(what).next("the same with --yes"));
        }
    }
    let results = each(&ids, |id| backend.terminate(id, &terminate.reason)).await;
    tell("terminated", &results, output)
}

pub(super) async fn settle_doubt(
    settle: &SettleDoubt,
    backend: &Backend,
    output: Output,
) -> Result<(), Failure> {
    let ids = if settle.all {
        let filter = Filter { port: settle.port.clone(), in_doubt: true, ..Filter::default() };
        let page = gather(filter, usize::MAX, backend).await?;
        // Those that are being sent again are settled by that.
        let (sent, ids): (Vec<_>, Vec<_>) =
            page.deliveries.iter().partition(|view| view.state == DeliveryState::Leased);
        let ids: Vec<DeliveryId> = ids.iter().map(|view| view.delivery_id).collect();
        output.note(&format!("{} to settle as {}", count(&ids), settle.verdict.as_str()));
        if !sent.is_empty() {
            output.note(&format!("{} more being sent again right now, left alone", sent.len()));
        }
        // What has not landed after all would be lost by it.
        if settle.verdict == DoubtVerdict::Landed && !settle.yes && !ids.is_empty() {
            let what = format!("{} would end without being sent again; nothing was done", count(&ids));
            return Err(Failure::usage(what).next("the same with --yes"));
        }
        ids
    } else {
        let in_doubt = |view: &DeliveryView| view.doubt.is_some();
        resolve(&settle.ids, in_doubt, "nothing is in doubt about", backend).await?
    };
    let results = each(&ids, |id| backend.settle_doubt(id, settle.verdict)).await;
    tell("settled", &results, output)
}

fn count(ids: &[DeliveryId]) -> String {
    match ids.len() {
        1 => "1 delivery".to_owned(),
        many => format!("{many} deliveries"),
    }
}

/// The deliveries that are meant.
async fn pick(settle: &Settle, backend: &Backend) -> Result<Vec<DeliveryId>, Failure> {
    if settle.all {
        let mut filter = filter(&settle.which);
        filter.state = filter.state.or(Some(DeliveryState::Suspended));
        let page = gather(filter, usize::MAX, backend).await?;
        return Ok(page.deliveries.iter().map(|view| view.delivery_id).collect());
    }
    if settle.which.port.is_some() || settle.which.state.is_some() {
        return Err(Failure::usage("--port and --state go together with --all").next("the same with --all"));
    }
    let open = |view: &DeliveryView| !view.state.is_terminal();
    resolve(&settle.ids, open, "every delivery has ended of", backend).await
}

/// The deliveries that are named, a message standing for those of its deliveries that are `meant`. Where none is, `none`
/// says so of the message.
async fn resolve(
    named: &[Id],
    meant: impl Fn(&DeliveryView) -> bool,
    none: &str,
    backend: &Backend,
) -> Result<Vec<DeliveryId>, Failure> {
    let mut ids = Vec::new();
    for id in named {
        match id {
            Id::Delivery(id) => ids.push(*id),
            Id::Message(id) => {
                let message = backend.message(*id).await?;
                let before = ids.len();
                ids.extend(message.deliveries.iter().filter(|view| meant(view)).map(|view| view.delivery_id));
                if ids.len() == before {
                    let what = format!("{none} the message {id}");
                    return Err(Failure::new(what).next(format!("pillarbox show {id}")));
                }
            }
        }
    }
    Ok(ids)
}

type Results = Vec<(DeliveryId, Result<DeliveryView, Problem>)>;

async fn each<F>(ids: &[DeliveryId], act: impl Fn(DeliveryId) -> F) -> Results
where
    F: Future<Output = Result<DeliveryView, Problem>>,
{
    stream::iter(ids)
        .map(|id| {
            let done = act(*id);
            async move { (*id, done.await) }
        })
        .buffered(AT_ONCE)
        .collect()
        .await
}

fn tell(verb: &str, results: &Results, output: Output) -> Result<(), Failure> {
    let done: Vec<&DeliveryView> = results.iter().filter_map(|(_, result)| result.as_ref().ok()).collect();
    let failed: Vec<(DeliveryId, &Problem)> =
        results.iter().filter_map(|(id, result)| Some((*id, result.as_ref().err()?))).collect();
    if output.is_json() {
        let failures: Vec<_> =
            failed.iter().map(|(id, problem)| json!({"delivery_id": id, "problem": problem})).collect();
        output.result(&json!({verb: done, "failed": failures}), String::new)?;
    } else {
        for view in &done {
            output.line(&format!("{} {verb}, now {}", view.delivery_id, view.state.as_str()))?;
        }
    }
    let Some((_, first)) = failed.first() else { return Ok(()) };
    let mut what = format!("{} of {} could not be {verb}", failed.len(), results.len());
    for (id, problem) in failed.iter().take(10) {
        what.push_str(&format!("\n  {id}: {}", problem.detail));
    }
    let next = Failure::from((*first).clone()).next;
    Err(Failure { next, ..Failure::new(what) })
}
