//! Socket of a client, watched only for the awaited events.
//!
//! tokio's own stream is also woken by room to write: on a Unix socket that is each time the other
//! side reads. A client that alternates requests and reads would wake the daemon twice per answer.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use crate::readiness::{watch, watch_beside};

/// Socket of the client.
#[derive(Debug)]
pub(super) struct Stream {
    reading: AsyncFd<OwnedFd>,
    /// Watches for room to write, from when there is none until everything was written.
    writing: Option<AsyncFd<OwnedFd>>,
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reading.get_ref().as_fd()
    }
}

impl Stream {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        let reading = watch(stream.into_std()?.into(), Interest::READABLE)?;
        Ok(Self {
            reading,
            writing: None,
        })
    }

    /// Reads into the room that `bytes` has, which must be some; gives how much, and 0 once the other side writes no more.
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        bytes: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        let room = bytes.capacity() - bytes.len();
        loop {
            let mut ready = ready!(self.reading.poll_read_ready(cx))?;
            let read = rustix::io::read(self, spare_capacity(bytes));
            // A read that does not fill its room has taken all there was, which saves asking the kernel again.
            if read == Err(Errno::AGAIN) || read.is_ok_and(|read| (1..room).contains(&read)) {
                ready.clear_ready();
            }
            if !matches!(read, Err(Errno::AGAIN | Errno::INTR)) {
                return Poll::Ready(read.map_err(io::Error::from));
            }
        }
    }

    /// Writes as many bytes as the socket takes now; `WouldBlock` if none, after which
    /// [`poll_writable`](Self::poll_writable) waits for room.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let send = |socket: &OwnedFd| Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?);
        if let Some(writing) = &self.writing {
            return writing.try_io(Interest::WRITABLE, send);
        }
        let outcome = send(self.reading.get_ref());
        if outcome
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        {
            self.writing = Some(watch_beside(self, Interest::WRITABLE)?);
        }
        outcome
    }

    /// Everything was written: room is nothing to wait for any more.
    pub(super) fn all_written(&mut self) {
        self.writing = None;
    }

    /// Completes once the socket takes more, or is closed.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.writing {
            Some(writing) => writing.poll_write_ready(cx).map(drop),
            None => Poll::Ready(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::future::poll_fn;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream as StdStream;
    use std::task::Waker;

    fn pair() -> (Stream, StdStream) {
        let (ours, theirs) = StdStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (
            Stream::new(UnixStream::from_std(ours).unwrap()).unwrap(),
            theirs,
        )
    }

    /// Writes until the socket takes no more; how many bytes it took.
    fn fill(stream: &mut Stream) -> usize {
        let mut written = 0;
        loop {
            match stream.try_write(&[b'x'; 16 * 1024]) {
                Ok(some) => written += some,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    return written;
                }
            }
        }
    }

    async fn read(stream: &Stream, bytes: &mut Vec<u8>) -> io::Result<usize> {
        poll_fn(|cx| stream.poll_read(cx, bytes)).await
    }

    fn now<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
        match poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ready) => Some(ready),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn a_line_is_read_whole_however_it_is_divided() {
        let (stream, mut theirs) = pair();
        let mut bytes = Vec::with_capacity(4);
        for text in ["a", "bcd"] {
            theirs.write_all(text.as_bytes()).unwrap();
            assert_eq!(read(&stream, &mut bytes).await.unwrap(), text.len());
        }
        assert_eq!(bytes, b"abcd");
        theirs.write_all(b"efghij").unwrap();
        drop(theirs);
        let mut bytes = Vec::with_capacity(4);
        assert_eq!(read(&stream, &mut bytes).await.unwrap(), 4);
        bytes.clear();
        assert_eq!(
            (read(&stream, &mut bytes).await.unwrap(), bytes.as_slice()),
            (2, b"ij".as_slice())
        );
        assert_eq!(
            read(&stream, &mut bytes).await.unwrap(),
            0,
            "the other side is gone"
        );
    }

    #[tokio::test]
    async fn a_socket_that_is_full_says_when_it_takes_more() {
        let (mut stream, mut theirs) = pair();
        let written = fill(&mut stream);
        assert!(now(|cx| stream.poll_writable(cx)).is_none());
        let mut taken = 0;
        while taken < written {
            taken += theirs.read(&mut [0; 16 * 1024]).unwrap();
        }
        poll_fn(|cx| stream.poll_writable(cx)).await;
        assert_eq!(stream.try_write(b"y").unwrap(), 1);
        stream.all_written();
        drop(theirs);
        assert_eq!(
            stream.try_write(b"z").unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }

    /// Returns the events that epoll watches on this file: `EPOLLIN` is 1, `EPOLLOUT` is 4.
    fn watched_for(file: &impl AsFd) -> u32 {
        let number = file.as_fd().as_raw_fd().to_string();
        let files = std::fs::read_dir("/proc/self/fdinfo")
            .unwrap()
            .map_while(Result::ok);
        let told = files
            .filter_map(|file| std::fs::read_to_string(file.path()).ok())
            .find_map(|text| {
                let mut watched = text
                    .lines()
                    .filter_map(|line| line.strip_prefix("tfd:"))
                    .map(str::split_whitespace);
                watched.find_map(|mut words| {
                    (words.next()? == number).then(|| words.nth(1).map(str::to_owned))?
                })
            });
        u32::from_str_radix(&told.unwrap(), 16).unwrap()
    }

    #[tokio::test]
    async fn room_to_write_wakes_no_task_that_does_not_wait_for_it() {
        let (mut stream, _theirs) = pair();
        assert_eq!(watched_for(&stream) & 5, 1);
        fill(&mut stream);
        assert_eq!(
            (
                watched_for(&stream) & 5,
                watched_for(stream.writing.as_ref().unwrap().get_ref()) & 5
            ),
            (1, 4)
        );
        stream.all_written();
        assert!(stream.writing.is_none());
    }
}
