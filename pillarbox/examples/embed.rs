//! A box inside a service: submit a message, have it written to a file, see how it ended.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{sync::Arc, time::Duration};

use pillarbox::adapters::registry;
use pillarbox::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let store: Arc<dyn Store> = Arc::new(MessageBox::open(BoxConfig::new(folder.path().join("box")))?);
    let letters = PortName::new("letters")?;
    let settings = Settings::default().with("folder", folder.path().join("out").display().to_string());
    let route = registry().route("file", &settings.with("name", "{message_id}.txt"))?;
    let runtime = Runtime::builder(store.clone()).port(Port::new(letters.clone(), route)).start().await?;

    let message = runtime.new_message("Dear reader,").header("language", "en")?;
    let receipt = runtime.submit(&letters, message).await?; // on disk now, whatever happens
    let outcome = runtime.outcome(receipt.delivery).await?.ok_or("the box forgot it")?;
    println!("message {} is {}", receipt.message, outcome.info.state.as_str());

    runtime.shutdown(Duration::from_secs(5)).await;
    Ok(store.close().await?)
}
