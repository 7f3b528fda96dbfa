//! An adapter of one's own: prints each message to standard output.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::time::Duration;

use pillarbox::prelude::*;

#[derive(Debug)]
struct Print;

impl Transport for Print {
    fn describe(&self) -> TransportInfo {
        TransportInfo {
            kind: "print",
            name: "Print",
            version: "1.0",
            description: "prints each message",
            capabilities: Capabilities::default(),
            uri_prefixes: &[],
        }
    }
}

#[async_trait::async_trait]
impl Sender for Print {
    async fn send(&self, message: &Outgoing) -> Result<(), SendError> {
        let body = message
            .body()
            .to_bytes()
            .map_err(|e| SendError::temporary("cannot read the body").caused_by(e))?;
        println!("{} -> {}: {}", message.send_key(), message.port(), String::from_utf8_lossy(&body));
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let store: Arc<dyn Store> = Arc::new(MessageBox::open(BoxConfig::new(folder.path()))?);
    let port = PortName::new("console")?;
    let route = RouteConfig::new(Adapter::sender(Print));
    let runtime = Runtime::builder(store).port(Port::new(port.clone(), route)).start().await?;
    for greeting in ["hello", "hello again"] {
        let receipt = runtime.submit(&port, runtime.new_message(greeting)).await?;
        runtime.outcome(receipt.delivery).await?;
    }
    runtime.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
