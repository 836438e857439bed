//! What was received and not yet used, without holding a large buffer while nothing comes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffer::{Buffer, BufferPool};

/// The receiving end of a stream.
#[derive(Debug)]
pub(crate) struct Inlet {
    pool: Rc<BufferPool>,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Nothing,
    /// A part of a head whose rest is awaited.
    Part(Vec<u8>),
    Buffer(Buffer),
}

impl Inlet {
    /// Makes an empty one.
    pub(crate) fn new(pool: &Rc<BufferPool>) -> Self {
        Self { pool: Rc::clone(pool), held: Held::Nothing }
    }

    /// Makes one of what was received elsewhere.
    pub(crate) fn holding(pool: &Rc<BufferPool>, bytes: Vec<u8>) -> Self {
        let held = if bytes.is_empty() { Held::Nothing } else { Held::Part(bytes) };
        Self { pool: Rc::clone(pool), held }
    }

    /// Returns what was received and not consumed.
    pub(crate) fn filled(&self) -> &[u8] {
        match &self.held {
            Held::Nothing => &[],
            Held::Part(part) => part,
            Held::Buffer(buffer) => buffer.filled(),
        }
    }

    /// Says whether everything received was consumed.
    pub(crate) fn is_empty(&self) -> bool {
        self.filled().is_empty()
    }

    /// Takes so many bytes away from the front; an empty buffer goes back to the pool.
    pub(crate) fn consume(&mut self, length: usize) {
        match &mut self.held {
            Held::Nothing => {}
            Held::Part(part) => drop(part.drain(..length.min(part.len()))),
            Held::Buffer(buffer) => buffer.consume(length),
        }
        if self.is_empty() {
            self.held = Held::Nothing;
        }
    }

    /// Receives more; 0 at the end of the stream, or where there is no room left.
    ///
    /// # Cancel safety
    /// Nothing received is lost.
    pub(crate) async fn fill<R: AsyncRead + Unpin>(&mut self, reader: &mut R) -> io::Result<usize> {
        poll_fn(|context| self.poll_fill(reader, context)).await
    }

    /// Receives what is there already; none where nothing is.
    pub(crate) async fn fill_now<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
    ) -> Option<io::Result<usize>> {
        poll_fn(|context| match self.poll_fill(reader, context) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// Receives more; 0 at the end of the stream, or where there is no room left.
    pub(crate) fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Buffer(buffer) => buffer,
            Held::Nothing => self.pool.take(),
            Held::Part(part) => {
                let mut buffer = self.pool.take();
                buffer.refill(&part);
                buffer
            }
        };
        let mut room = ReadBuf::new(buffer.room());
        let result = Pin::new(reader).poll_read(context, &mut room);
        let length = room.filled().len();
        buffer.add(length);
        self.held = match &result {
            _ if buffer.is_empty() => Held::Nothing,
            Poll::Pending => Held::Part(buffer.filled().to_vec()),
            Poll::Ready(_) => Held::Buffer(buffer),
        };
        ready!(result)?;
        Poll::Ready(Ok(length))
    }
}

/// Sends all bytes.
pub(crate) async fn send<W: AsyncWrite + Unpin>(writer: &mut W, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let length = poll_fn(|context| Pin::new(&mut *writer).poll_write(context, bytes)).await?;
        if length == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
    // An encrypted stream may hold some of it back.
    poll_fn(|context| Pin::new(&mut *writer).poll_flush(context)).await
}

/// Sends on everything that comes, until the end, and passes that on too; returns how many bytes it were.
pub(crate) async fn pump<R, W>(inlet: &mut Inlet, reader: &mut R, writer: &mut W) -> io::Result<u64>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut total = 0;
    loop {
        let length = inlet.filled().len();
        send(writer, inlet.filled()).await?;
        inlet.consume(length);
        total += length as u64;
        if inlet.fill(reader).await? == 0 {
            poll_fn(|context| Pin::new(&mut *writer).poll_shutdown(context)).await?;
            return Ok(total);
        }
    }
}
