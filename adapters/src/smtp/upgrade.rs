//! The connection under the mail library, and its upgrade by STARTTLS.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use lettre::transport::smtp::client::AsyncTokioStream;
use pillarbox_runtime::adapter::SendError;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::address::Address;
use crate::said;

/// The longest answer that is read before there is TLS.
const REPLY_BYTES_MAX: usize = 16 * 1024;
/// How much of an answer is shown.
const SHOWN_BYTES_MAX: usize = 512;

/// A connection, as the library wants it.
pub(super) struct Line {
    wire: Wire,
    /// What the library reads first: the greeting, where it was read before TLS began.
    greeting: &'static [u8],
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Line {
    pub(super) const fn plain(stream: TcpStream) -> Self {
        Self { wire: Wire::Plain(stream), greeting: b"" }
    }

    pub(super) fn encrypted(stream: TlsStream<TcpStream>) -> Self {
        Self { wire: Wire::Tls(Box::new(stream)), greeting: b"" }
    }

    /// After STARTTLS a server does not greet again.
    pub(super) fn upgraded(stream: TlsStream<TcpStream>) -> Self {
        Self { greeting: b"220 encrypted\r\n", ..Self::encrypted(stream) }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.greeting.is_empty() {
            let (now, later) = self.greeting.split_at(buffer.remaining().min(self.greeting.len()));
            buffer.put_slice(now);
            self.greeting = later;
            return Poll::Ready(Ok(()));
        }
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(context),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl AsyncTokioStream for Line {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.wire {
            Wire::Plain(stream) => stream.peer_addr(),
            Wire::Tls(stream) => stream.get_ref().0.peer_addr(),
        }
    }
}

/// Has the server begin TLS, which it has to offer.
///
/// # Errors
/// Temporary: it does not offer it, or says something else.
pub(super) async fn start_tls(
    address: &Address,
    stream: &mut TcpStream,
    hello: &str,
) -> Result<(), SendError> {
    let failed = |what: &str| SendError::temporary(format!("{address}: {what}"));
    let refused = |reply: &str| {
        let said = said::line(reply.as_bytes(), SHOWN_BYTES_MAX, &[]);
        failed(&format!("the server does not begin TLS, saying: {said}"))
    };
    let broken = |error: io::Error| failed("the connection broke before TLS began").caused_by(error);
    let greeting = reply(stream).await.map_err(broken)?;
    if !greeting.starts_with("220") {
        return Err(refused(&greeting));
    }
    stream.write_all(format!("EHLO {hello}\r\n").as_bytes()).await.map_err(broken)?;
    let offers = reply(stream).await.map_err(broken)?;
    let word = |line: &str| line.get(4..).unwrap_or_default().trim().to_ascii_uppercase();
    if !offers.lines().any(|line| word(line) == "STARTTLS") {
        return Err(failed("the server does not offer STARTTLS; use smtps:// where it speaks TLS at once"));
    }
    stream.write_all(b"STARTTLS\r\n").await.map_err(broken)?;
    let ready = reply(stream).await.map_err(broken)?;
    if ready.starts_with("220") { Ok(()) } else { Err(refused(&ready)) }
}

/// Reads one answer. What comes behind it before anything was asked would be taken for a part of what is encrypted.
async fn reply(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).await?;
        bytes.extend_from_slice(&buffer[..read]);
        if read == 0 || bytes.len() > REPLY_BYTES_MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.split_inclusive("\r\n");
        let is_last = |line: &&str| line.ends_with("\r\n") && line.as_bytes().get(3) != Some(&b'-');
        if lines.by_ref().any(|line| is_last(&line)) {
            return if lines.next().is_none() {
                Ok(text.into_owned())
            } else {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the server says more than was asked"))
            };
        }
    }
}
