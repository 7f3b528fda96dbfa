//! What the client library sends and receives through: a connection that we made, and that we can cut.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::Tokio;
use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::sync::oneshot;

use crate::wire;

/// A connection as the library wants it, encrypted or not. It ends when its [`Cutter`] says so.
pub(super) struct Line {
    stream: Box<dyn wire::Stream>,
    cut: Option<oneshot::Receiver<()>>,
    is_cut: bool,
}

/// Cuts a [`Line`]: the library works in a thread of its own, which a server that hangs would hold for long.
#[derive(Debug)]
pub(super) struct Cutter(oneshot::Sender<()>);

impl Cutter {
    /// Ends the connection now, whatever is still to be sent.
    pub(super) fn cut(self) {
        let _ended_before = self.0.send(());
    }
}

impl Line {
    pub(super) fn new(stream: impl wire::Stream) -> (Self, Cutter) {
        let (cutter, cut) = oneshot::channel();
        (Self { stream: Box::new(stream), cut: Some(cut), is_cut: false }, Cutter(cutter))
    }

    /// Whether it was cut. If not yet, the reader is woken when it is.
    fn poll_cut(&mut self, context: &mut Context<'_>) -> bool {
        if let Some(cut) = &mut self.cut
            && let Poll::Ready(ended) = Pin::new(cut).poll(context)
        {
            self.is_cut = ended.is_ok();
            self.cut = None;
        }
        self.is_cut
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("is_cut", &self.is_cut).finish_non_exhaustive()
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.poll_cut(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Gives the library time and no connections: it is handed one.
#[derive(Debug, Clone)]
pub(super) struct Clockwork(Tokio);

/// Where the library's tasks run: beside us.
pub(super) fn runtime() -> async_rs::Runtime<RuntimeParts<Tokio, Clockwork>> {
    let tokio = Tokio::current();
    async_rs::Runtime::new(RuntimeParts::new(tokio.clone(), Clockwork(tokio)))
}

impl Reactor for Clockwork {
    type TcpStream = Line;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: io::Read + io::Write + Send + 'static>(
        &self,
        _socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Line, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, span: Duration) -> Self::Sleep {
        self.0.sleep(span)
    }

    fn interval(&self, span: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(span)
    }

    fn tcp_connect_addr(
        &self,
        _address: SocketAddr,
    ) -> impl Future<Output = io::Result<Line>> + Send + 'static {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
