//! Connections of our own to servers, with or without TLS.

use std::sync::Arc;

use pillarbox_runtime::adapter::SendError;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::address::Address;

/// A connection, encrypted or not.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// Connects to the address.
///
/// # Errors
/// Temporary: nobody answers.
pub(crate) async fn tcp(address: &Address) -> Result<TcpStream, SendError> {
    let failed = |error| SendError::temporary(format!("{address}: cannot connect")).caused_by(error);
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

/// Speaks TLS over a connection.
///
/// # Errors
/// Temporary: it is not spoken there, or whoever answers is not trusted.
pub(crate) async fn tls<S: Stream>(
    address: &Address,
    stream: S,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<S>, SendError> {
    let unnamed = |error| {
        SendError::permanent(format!("{address}: the host is no name of a certificate")).caused_by(error)
    };
    let name = ServerName::try_from(address.host.clone()).map_err(unnamed)?;
    let connected = TlsConnector::from(config).connect(name, stream).await;
    connected.map_err(|error| {
        SendError::temporary(format!("{address}: cannot set up TLS with the server")).caused_by(error)
    })
}
