//! A connection whose other side must go on reading: bounds how long a write may stand still, so that a client
//! that stops in the middle of a long answer does not keep its place for ever.
//!
//! At its end it reads on for a while and drops what comes: were the connection closed over bytes that nobody read,
//! the host would reset it, and a client that still sends its body would lose the answer that refuses it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long the other side may take to end a connection that we have ended.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes dropped at once.
const DROPPED_BYTES: usize = 16 * 1024;

/// A stream whose writes fail once none of them has moved for a while.
#[derive(Debug)]
pub(super) struct Patience<S> {
    stream: S,
    most: Duration,
    standing: Option<Pin<Box<Sleep>>>,
    /// Set once our side is shut: until when what still comes is dropped.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<S> Patience<S> {
    pub(super) fn new(stream: S, most: Duration) -> Self {
        Self { stream, most, standing: None, lingering: None }
    }

    /// Passes on what a write came to; a write that stands still for too long has failed.
    fn bound<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.standing = None;
            return done;
        }
        let most = self.most;
        let standing = self.standing.get_or_insert_with(|| Box::pin(sleep(most)));
        standing.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.bound(cx, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.bound(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(cx);
        self.bound(cx, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            let done = Pin::new(&mut self.stream).poll_shutdown(cx);
            std::task::ready!(self.bound(cx, done))?;
            self.lingering = Some(Box::pin(sleep(LINGER)));
        }
        let Self { stream, lingering: Some(end), .. } = &mut *self else { return Poll::Ready(Ok(())) };
        let mut dropped = [std::mem::MaybeUninit::uninit(); DROPPED_BYTES];
        while end.as_mut().poll(cx).is_pending() {
            let mut into = ReadBuf::uninit(&mut dropped);
            match std::task::ready!(Pin::new(&mut *stream).poll_read(cx, &mut into)) {
                Ok(()) if !into.filled().is_empty() => {}
                // The other side has ended, too.
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_is_given_up() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut ours = Patience::new(ours, Duration::from_secs(30));
        ours.write_all(b"1234").await.unwrap();
        let failed = ours.write_all(b"5").await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        // One that goes on reading is not.
        theirs.read_exact(&mut [0; 4]).await.unwrap();
        ours.write_all(b"6").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_after_the_answer_is_read_and_dropped() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut ours = Patience::new(ours, Duration::from_secs(30));
        let client = async {
            theirs.write_all(b"a long body that nobody wants").await.unwrap();
            theirs.shutdown().await.unwrap();
        };
        let ((), ended) = tokio::join!(client, ours.shutdown());
        ended.unwrap();
        // One that never ends is not waited for.
        let (ours, _theirs) = tokio::io::duplex(4);
        Patience::new(ours, Duration::from_secs(30)).shutdown().await.unwrap();
    }
}
