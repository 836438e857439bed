//! Connections that break or do something else at the wrong moment.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use freehold_docker::{ByteStream, Deadlines, Dial, Engine};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// What goes wrong.
#[derive(Clone)]
pub(crate) enum Fault {
    /// The connections break after that many bytes were read in all.
    BreakAfterReading(u64),
    /// The connections break after that many bytes were written in all.
    BreakAfterWriting(u64),
    /// This happens before a request that begins so is passed on, each time.
    Before(&'static str, Arc<dyn Fn() + Send + Sync>),
    /// The engine takes the connection and stays silent.
    Silence,
}

/// An engine at a socket, through such connections.
pub(crate) fn faulty(socket: PathBuf, fault: Fault, deadlines: Deadlines) -> Engine {
    Engine::over(dial(socket, fault), deadlines)
}

/// Such connections to a socket.
pub(crate) fn dial(socket: PathBuf, fault: Fault) -> Arc<dyn Dial> {
    Arc::new(FaultyDial { socket, fault, moved: Arc::default() })
}

struct FaultyDial {
    socket: PathBuf,
    fault: Fault,
    moved: Arc<AtomicU64>,
}

#[async_trait]
impl Dial for FaultyDial {
    async fn dial(&self) -> std::io::Result<Box<dyn ByteStream>> {
        let stream = UnixStream::connect(&self.socket).await?;
        Ok(Box::new(FaultyStream { stream, fault: self.fault.clone(), moved: Arc::clone(&self.moved) }))
    }
}

struct FaultyStream {
    stream: UnixStream,
    fault: Fault,
    moved: Arc<AtomicU64>,
}

impl FaultyStream {
    fn moved(&self, count: usize, limit: u64) -> Poll<std::io::Result<()>> {
        let before = self.moved.fetch_add(count as u64, Ordering::SeqCst);
        if before + count as u64 > limit {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for FaultyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if matches!(self.fault, Fault::Silence) {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => match self.fault {
                Fault::BreakAfterReading(limit) => self.moved(buffer.filled().len() - before, limit),
                _ => Poll::Ready(Ok(())),
            },
            other => other,
        }
    }
}

impl AsyncWrite for FaultyStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if let Fault::Before(start, action) = &self.fault
            && bytes.starts_with(start.as_bytes())
        {
            action();
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let (Fault::BreakAfterWriting(limit), Poll::Ready(Ok(count))) = (&self.fault, &written)
            && let Poll::Ready(Err(error)) = self.moved(*count, *limit)
        {
            return Poll::Ready(Err(error));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
