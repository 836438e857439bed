use std::io::{self, Write};
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The size of the pieces that blocking code hands over.
const PIECE: usize = 64 * 1024;

/// How many pieces may wait: it bounds the memory and holds the writer back when the network is slower.
const WAITING: usize = 8;

/// A stream of bytes on its way to an engine.
pub type ByteFlow = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Runs blocking code that writes, and returns what it writes as a stream.
///
/// Its error ends the stream. When the stream is dropped, the next write fails and the code ends.
pub(crate) fn written_by(write: impl FnOnce(&mut ByteWriter) -> io::Result<()> + Send + 'static) -> ByteFlow {
    struct Reading {
        pieces: mpsc::Receiver<Bytes>,
        writer: Option<JoinHandle<io::Result<()>>>,
    }
    let (sender, pieces) = mpsc::channel(WAITING);
    let writer = tokio::task::spawn_blocking(move || {
        let mut writer = ByteWriter { sender, buffer: BytesMut::with_capacity(PIECE) };
        write(&mut writer)?;
        writer.flush()
    });
    let reading = Reading { pieces, writer: Some(writer) };
    Box::pin(futures_util::stream::unfold(reading, |mut reading| async move {
        if let Some(piece) = reading.pieces.recv().await {
            return Some((Ok(piece), reading));
        }
        match reading.writer.take()?.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some((Err(error), reading)),
            Err(stopped) => Some((Err(io::Error::other(stopped)), reading)),
        }
    }))
}

/// Where the blocking code of [`written_by`] writes to.
pub(crate) struct ByteWriter {
    sender: mpsc::Sender<Bytes>,
    buffer: BytesMut,
}

impl Write for ByteWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(PIECE)).freeze();
        self.sender.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn everything_written_arrives_in_order() {
        let flow = written_by(|writer| {
            (0..100_000u32).try_for_each(|number| writer.write_all(&number.to_le_bytes()))
        });
        let pieces: Vec<Bytes> = flow.try_collect().await.unwrap();
        let whole = pieces.concat();
        assert!(whole.chunks(4).enumerate().all(|(at, chunk)| chunk == (at as u32).to_le_bytes()));
        assert_eq!(whole.len(), 400_000);
    }

    #[tokio::test]
    async fn the_writers_error_ends_the_stream() {
        let flow = written_by(|writer| {
            writer.write_all(b"x")?;
            Err(io::Error::other("the disk is gone"))
        });
        assert_eq!(flow.try_collect::<Vec<_>>().await.unwrap_err().to_string(), "the disk is gone");
    }
}
