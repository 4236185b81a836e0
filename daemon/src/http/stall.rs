//! A client's stream that ends when the client does not read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::connection_limit::Permit;

/// Time for which a client may leave its answer unread.
pub const WRITE_TIME: Duration = Duration::from_secs(30);

/// The stream. A write that waits longer than [`WRITE_TIME`] is an error.
#[derive(Debug)]
pub(super) struct StallLimited<S> {
    stream: S,
    permit: Permit,
    /// Timer of the write that waits.
    overdue: Option<Pin<Box<Sleep>>>,
}

impl<S> StallLimited<S> {
    pub(super) const fn new(stream: S, permit: Permit) -> Self {
        Self {
            stream,
            permit,
            overdue: None,
        }
    }

    fn limited<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.overdue.take().is_some() {
                self.permit.set_unstalled();
            }
            return written;
        }
        if self.overdue.is_none() {
            self.permit.set_stalled();
        }
        let overdue = self
            .overdue
            .get_or_insert_with(|| Box::pin(sleep(WRITE_TIME)));
        ready!(overdue.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallLimited<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallLimited<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.limited(context, written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        this.limited(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, timeout};

    use crate::http::connection_limit::ConnectionLimit;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_is_not_read_is_an_error_in_the_end() {
        let (near, mut far) = duplex(1_024);
        let permit = ConnectionLimit::new(1).take(None).await.unwrap();
        permit.set_active();
        let mut stream = StallLimited::new(near, permit.clone());
        stream.write_all(&[0; 1_024]).await.unwrap();
        assert!(permit.is_busy());
        let stalled = timeout(WRITE_TIME / 2, stream.write_all(&[0; 1_024])).await;
        assert!(
            stalled.is_err() && !permit.is_busy(),
            "it still may be read"
        );
        far.read_exact(&mut [0; 1_024]).await.unwrap();
        stream.write_all(&[0; 1_024]).await.unwrap();
        assert!(permit.is_busy());
        let began = Instant::now();
        let error = stream.write_all(&[0; 1_024]).await.unwrap_err();
        assert_eq!(
            (error.kind(), began.elapsed()),
            (io::ErrorKind::TimedOut, WRITE_TIME)
        );
    }
}
