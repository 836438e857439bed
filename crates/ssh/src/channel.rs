use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use russh::client::Msg;
use russh::{ChannelId, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::connection::Connection;

/// How a remote process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code; 0 is success.
    Code(u32),
    /// A signal of this name, without `SIG`, ended it.
    Signal(String),
}

impl ExitStatus {
    /// Says whether it exited with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exit code {code}"),
            Self::Signal(name) => write!(formatter, "signal {name}"),
        }
    }
}

/// The two streams of bytes that a host may send on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The data of the channel; of a process its standard output.
    Output,
    /// The standard error of a process.
    Error,
}

/// Why a channel gave up before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChannelFailure {
    #[error("the stream was closed because it was read too slowly for a shared connection")]
    Overflow,
    #[error("the connection to the host ended: {0}")]
    Disconnected(String),
}

/// What the host has sent on a channel and nobody has read yet, and what became of the channel.
///
/// The connection's task fills it and must never wait for a reader, or all other channels would wait as well.
#[derive(Debug, Default)]
pub(crate) struct ChannelState {
    inner: Mutex<Inner>,
    /// Told about every change that is not data.
    changed: Notify,
    /// Told when a reader has made room.
    room: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    output: Queue,
    error: Queue,
    eof: bool,
    closed: bool,
    failure: Option<ChannelFailure>,
    exit: Option<ExitStatus>,
    replies: VecDeque<bool>,
    writer: Option<Waker>,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Bytes>,
    waker: Option<Waker>,
    discarded: bool,
}

impl Inner {
    fn queue(&mut self, source: Source) -> &mut Queue {
        match source {
            Source::Output => &mut self.output,
            Source::Error => &mut self.error,
        }
    }

    fn queued_bytes(&self) -> usize {
        self.output.chunks.iter().chain(&self.error.chunks).map(Bytes::len).sum()
    }

    fn wake(&mut self) {
        let wakers = [self.output.waker.take(), self.error.waker.take(), self.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl ChannelState {
    /// Queues data for the reader; false if that many bytes are waiting already.
    pub(crate) fn push(&self, source: Source, data: &[u8], limit_bytes: usize) -> bool {
        let mut inner = self.inner.lock();
        if inner.closed || inner.queue(source).discarded {
            return true;
        }
        if inner.queued_bytes() >= limit_bytes {
            return false;
        }
        let queue = inner.queue(source);
        queue.chunks.push_back(Bytes::copy_from_slice(data));
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
        true
    }

    /// Waits until a reader has taken something.
    pub(crate) async fn room(&self) {
        self.room.notified().await;
    }

    pub(crate) fn end_of_data(&self) {
        self.change(|inner| inner.eof = true);
    }

    pub(crate) fn close(&self) {
        self.change(|inner| inner.closed = true);
    }

    pub(crate) fn fail(&self, failure: ChannelFailure) {
        self.change(|inner| {
            if !inner.closed {
                inner.failure.get_or_insert(failure);
                inner.closed = true;
            }
        });
    }

    pub(crate) fn exited(&self, status: ExitStatus) {
        self.change(|inner| inner.exit = Some(status));
    }

    pub(crate) fn replied(&self, success: bool) {
        self.change(|inner| inner.replies.push_back(success));
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner.lock();
        change(&mut inner);
        inner.wake();
        drop(inner);
        self.changed.notify_waiters();
        self.room.notify_one();
    }

    /// Waits for something that the host tells; an error if the channel ends before.
    async fn until<T>(&self, look: impl Fn(&mut Inner) -> Option<T>) -> Result<T, Option<ChannelFailure>> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut inner = self.inner.lock();
                if let Some(found) = look(&mut inner) {
                    return Ok(found);
                }
                if inner.closed {
                    return Err(inner.failure.clone());
                }
            }
            changed.await;
        }
    }

    /// Waits for the answer to a request.
    pub(crate) async fn reply(&self) -> Result<bool, Option<ChannelFailure>> {
        self.until(|inner| inner.replies.pop_front()).await
    }

    /// Waits for the end of the channel and returns how the process ended, if the host told.
    pub(crate) async fn exit(&self) -> Result<Option<ExitStatus>, ChannelFailure> {
        let end = self.until(|inner| if inner.closed { inner.exit.clone() } else { None }).await;
        match end {
            Ok(status) => Ok(Some(status)),
            Err(None) => Ok(None),
            Err(Some(failure)) => Err(failure),
        }
    }

    /// Throws away what comes from a source from now on.
    pub(crate) fn discard(&self, source: Source) {
        let mut inner = self.inner.lock();
        let queue = inner.queue(source);
        queue.discarded = true;
        queue.chunks.clear();
        drop(inner);
        self.room.notify_one();
    }

    fn poll_read(
        &self,
        source: Source,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.inner.lock();
        let queue = inner.queue(source);
        let mut taken = false;
        while buffer.remaining() > 0 {
            let Some(chunk) = queue.chunks.front_mut() else { break };
            let part = chunk.split_to(chunk.len().min(buffer.remaining()));
            buffer.put_slice(&part);
            taken = true;
            if !chunk.has_remaining() {
                queue.chunks.pop_front();
            }
        }
        if taken || buffer.remaining() == 0 {
            drop(inner);
            self.room.notify_one();
            return Poll::Ready(Ok(()));
        }
        if let Some(failure) = inner.failure.clone() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, failure)));
        }
        if inner.eof || inner.closed {
            return Poll::Ready(Ok(()));
        }
        inner.queue(source).waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Returns the error that a writer gets, or none and registers its waker.
    fn poll_broken(&self, context: &mut Context<'_>) -> Option<io::Error> {
        let mut inner = self.inner.lock();
        if inner.closed {
            let error = match inner.failure.clone() {
                Some(failure) => io::Error::new(io::ErrorKind::ConnectionReset, failure),
                None => io::Error::new(io::ErrorKind::BrokenPipe, "the host closed the stream"),
            };
            return Some(error);
        }
        inner.writer = Some(context.waker().clone());
        None
    }
}

/// Closes a channel when its last user is gone, and keeps its connection until then.
pub(crate) struct ChannelGuard {
    id: ChannelId,
    half: Arc<ChannelWriteHalf<Msg>>,
    connection: Arc<Connection>,
    pub(crate) state: Arc<ChannelState>,
    permit: Option<OwnedSemaphorePermit>,
}

impl ChannelGuard {
    pub(crate) fn new(
        half: ChannelWriteHalf<Msg>,
        connection: Arc<Connection>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Arc<Self> {
        let id = half.id();
        let state = connection.shared().register(id);
        Arc::new(Self { id, half: Arc::new(half), connection, state, permit })
    }

    pub(crate) fn half(&self) -> &ChannelWriteHalf<Msg> {
        &self.half
    }

    pub(crate) fn writer(self: &Arc<Self>) -> ChannelWriter {
        ChannelWriter { inner: Box::pin(self.half.make_writer()), guard: Arc::clone(self) }
    }

    pub(crate) fn reader(self: &Arc<Self>, source: Source) -> ChannelReader {
        ChannelReader { source, guard: Arc::clone(self) }
    }
}

impl Drop for ChannelGuard {
    fn drop(&mut self) {
        self.connection.shared().forget(self.id);
        let half = Arc::clone(&self.half);
        let permit = self.permit.take();
        self.connection.in_background(async move {
            if let Err(error) = half.close().await {
                tracing::trace!(%error, "channel closed with its connection");
            }
            drop(permit);
        });
    }
}

/// Reads one of the streams of a channel. Dropped, it throws the rest of that stream away.
pub struct ChannelReader {
    source: Source,
    guard: Arc<ChannelGuard>,
}

impl AsyncRead for ChannelReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.guard.state.poll_read(self.source, context, buffer)
    }
}

impl Drop for ChannelReader {
    fn drop(&mut self) {
        self.guard.state.discard(self.source);
    }
}

impl std::fmt::Debug for ChannelReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ChannelReader").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Writes to a channel. Shutting it down tells the host that no more will come.
pub struct ChannelWriter {
    inner: Pin<Box<dyn AsyncWrite + Send + Sync>>,
    guard: Arc<ChannelGuard>,
}

impl AsyncWrite for ChannelWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        // russh does not wake a writer that waits for room on a channel that the host has closed meanwhile.
        if let Some(error) = self.guard.state.poll_broken(context) {
            return Poll::Ready(Err(error));
        }
        self.inner.as_mut().poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.guard.state.poll_broken(context).is_some() {
            return Poll::Ready(Ok(()));
        }
        self.inner.as_mut().poll_shutdown(context)
    }
}

impl std::fmt::Debug for ChannelWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ChannelWriter").finish_non_exhaustive()
    }
}

/// A stream of bytes to a socket that the host reaches. Dropped, it is closed.
///
/// On a shared connection it must be read steadily: when too much of it waits, it fails rather than hold up the other
/// streams. On a connection from [`Session::reconnect`](crate::Session::reconnect) the host waits instead.
#[derive(Debug)]
pub struct ByteStream {
    reader: ChannelReader,
    writer: ChannelWriter,
}

impl ByteStream {
    pub(crate) fn new(guard: &Arc<ChannelGuard>) -> Self {
        guard.state.discard(Source::Error);
        Self { reader: guard.reader(Source::Output), writer: guard.writer() }
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(context, buffer)
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(context)
    }
}
