//! The six kinds of send adapter, each a file: who ends a delivery, and when.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an example shows what it does, and an adapter has tasks of its own"
)]

mod asynchronous;
mod asynchronous_batch;
mod solicit_response;
mod synchronous;
mod synchronous_batch;
mod transactional_batch;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use pillarbox::prelude::*;
use pillarbox::runtime::Directory;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kinds: [(&str, Adapter); 6] = [
        ("synchronous", Adapter::transmitter(synchronous::Synchronous)),
        ("asynchronous", Adapter::transmitter(asynchronous::Asynchronous::default())),
        ("synchronous-batch", Adapter::batch_transmitter(synchronous_batch::SynchronousBatch)),
        ("asynchronous-batch", Adapter::batch_transmitter(asynchronous_batch::AsynchronousBatch::default())),
        (
            "transactional-batch",
            Adapter::batch_transmitter(transactional_batch::TransactionalBatch::default()),
        ),
        ("solicit-response", Adapter::requester(solicit_response::SolicitResponse)),
    ];
    let folder = tempfile::tempdir()?;
    let store: Arc<dyn Store> = Arc::new(MessageBox::open(BoxConfig::new(folder.path().join("box")))?);
    let mut builder = Runtime::builder(store);
    for (name, adapter) in kinds.clone() {
        builder = builder.port(Port::new(PortName::new(name)?, RouteConfig::new(adapter)));
    }
    // A seventh port takes the address from the message: here a folder.
    let anywhere = PortName::new("anywhere")?;
    let directory: Directory = pillarbox::adapters::registry().directory(|_kind| Settings::default());
    let runtime = builder.port(Port::new(anywhere.clone(), RouteConfig::new(directory))).start().await?;

    for (name, _) in kinds {
        for body in ["first", "second"] {
            let receipt = runtime.submit(&PortName::new(name)?, runtime.new_message(body)).await?;
            let answered = runtime.answer(receipt.delivery).await?;
            let outcome = runtime.outcome(receipt.delivery).await?.ok_or("the box forgot it")?;
            if outcome.info.state != DeliveryState::Done {
                return Err(format!("{name}: {} is {}", body, outcome.info.state.as_str()).into());
            }
            let answer = answered.map(|one| String::from_utf8_lossy(one.answer.body()).into_owned());
            println!(
                "{name}: {body} is done{}",
                answer.map(|text| format!(", answered: {text}")).unwrap_or_default()
            );
        }
    }
    let address = format!("file://{}", folder.path().join("out").display());
    let message = runtime.new_message("to wherever it says").header(Directory::ADDRESS, address)?;
    let receipt = runtime.submit(&anywhere, message).await?;
    let outcome = runtime.outcome(receipt.delivery).await?.ok_or("the box forgot it")?;
    println!("anywhere: {} is {}", outcome.info.message, outcome.info.state.as_str());
    runtime.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
