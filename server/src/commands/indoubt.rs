//! `indoubt`.

use pillarbox_store::Filter;

use super::ls::{self, Shape};
use super::settle;
use crate::backend::Backend;
use crate::cli::{ForgetPrepared, Indoubt};
use crate::failure::Failure;
use crate::output::Output;
use crate::wire::{DeliveryView, StrandedList};

pub(super) const SHAPE: Shape =
    Shape { headings: &["DELIVERY", "MESSAGE", "PORT", "STATE", "ATTEMPTS", "CRASHES", "BEGUN"], row };

pub(super) async fn run(indoubt: &Indoubt, backend: &Backend, output: Output) -> Result<(), Failure> {
    match indoubt {
        Indoubt::Ls(args) => {
            let filter = Filter { in_doubt: true, ..ls::filter(&args.which) };
            ls::list(args, filter, SHAPE, backend, output).await?;
            let stranded = backend.ports().await?.stranded.len();
            if stranded > 0 {
                output.note(&format!(
                    "{stranded} left prepared at destinations to which no open route goes: pillarbox ports"
                ));
            }
            Ok(())
        }
        Indoubt::Settle(args) => settle::settle_doubt(args, backend, output).await,
        Indoubt::Forget(args) => forget(args, backend, output).await,
    }
}

async fn forget(args: &ForgetPrepared, backend: &Backend, output: Output) -> Result<(), Failure> {
    if !args.yes {
        let what = "what a destination still holds prepared would never be committed; nothing was done";
        return Err(Failure::usage(what).next("commit it there by hand, then the same with --yes"));
    }
    let mut left = Vec::new();
    for transaction in &args.transactions {
        left = backend.forget(transaction).await?.stranded;
        output.note(&format!("{transaction} forgotten"));
    }
    let left = StrandedList { stranded: left };
    output.result(&left, || format!("{} left prepared", left.stranded.len()))
}

fn row(view: &DeliveryView) -> Vec<String> {
    let (crashes, begun) = view.doubt.as_ref().map_or_else(
        || ("-".to_owned(), "-".to_owned()),
        |doubt| (doubt.crashes.to_string(), doubt.begun.clone()),
    );
    vec![
        view.delivery_id.to_string(),
        view.message_id.to_string(),
        view.port.to_string(),
        view.state.as_str().to_owned(),
        view.attempts.to_string(),
        crashes,
        begun,
    ]
}
