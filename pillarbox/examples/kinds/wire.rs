//! What the examples send over: standard output.

use pillarbox::prelude::*;

pub(crate) fn info(kind: &'static str, shape: Shape) -> TransportInfo {
    TransportInfo {
        kind,
        name: kind,
        version: "1.0",
        description: "prints each message",
        capabilities: Capabilities::default().shape(shape),
        uri_prefixes: &[],
    }
}

pub(crate) fn send(message: &Outgoing) -> Result<(), SendError> {
    let body = message
        .body()
        .to_bytes()
        .map_err(|error| SendError::temporary("cannot read the body").caused_by(error))?;
    println!("  {} -> {}", String::from_utf8_lossy(&body), message.port());
    Ok(())
}
