//! `indoubt`.

use pillarbox_store::Filter;

use super::ls::{self, Shape};
use super::settle;
use crate::backend::Backend;
use crate::cli::Indoubt;
use crate::failure::Failure;
use crate::output::Output;
use crate::wire::DeliveryView;

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
    }
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
