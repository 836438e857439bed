//! A body that comes in frames, read as HTTP/1 frames it.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::RecvStream;
use tokio::io::ReadBuf;

use super::broken;
use super::head::write_trailers;
use super::request::Told;

/// The room that the frame of a chunk takes at most.
const CHUNK_FRAME_BYTES: usize = 24;

/// The receiving side of a stream.
#[derive(Debug)]
pub(super) struct Receiver {
    stream: RecvStream,
    told: Told,
    /// What is to be read before anything else.
    staged: Vec<u8>,
    taken: usize,
    data: Bytes,
    ended: bool,
}

/// What a look for bytes came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    /// There were some, or there was no room for any.
    Bytes,
    /// The message is over.
    End,
}

impl Receiver {
    /// Makes the reader of a message whose head is already written out.
    pub(super) fn new(stream: RecvStream, told: Told, head: Vec<u8>) -> Self {
        let ended = stream.is_end_stream();
        Self { stream, told, staged: head, taken: 0, data: Bytes::new(), ended }
    }

    /// Reads some more. What was read makes room for the sender to send.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Received>> {
        loop {
            if self.take_staged(buffer) || buffer.remaining() == 0 {
                return Poll::Ready(Ok(Received::Bytes));
            }
            if !self.data.is_empty() {
                self.take_data(buffer).map_err(broken)?;
                if self.staged.is_empty() {
                    return Poll::Ready(Ok(Received::Bytes));
                }
            } else if self.ended {
                return Poll::Ready(Ok(Received::End));
            } else {
                ready!(self.poll_more(context)).map_err(broken)?;
            }
        }
    }

    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if let Some(data) = ready!(self.stream.poll_data(context)) {
            self.data = data?;
            return Poll::Ready(Ok(()));
        }
        let trailers = ready!(self.stream.poll_trailers(context))?;
        if self.told == Told::Chunked {
            write_trailers(trailers.as_ref(), &mut self.staged);
        }
        self.ended = true;
        Poll::Ready(Ok(()))
    }

    /// Hands over what is staged; says whether there was any.
    fn take_staged(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let rest = self.staged.get(self.taken..).unwrap_or_default();
        if rest.is_empty() {
            return false;
        }
        let length = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..length).unwrap_or_default());
        self.taken += length;
        if self.taken == self.staged.len() {
            self.taken = 0;
            self.staged = Vec::new();
        }
        true
    }

    fn take_data(&mut self, buffer: &mut ReadBuf<'_>) -> Result<(), h2::Error> {
        let room = match self.told {
            Told::Plain => buffer.remaining(),
            // Where there is hardly any room a small chunk is staged.
            Told::Chunked => buffer.remaining().saturating_sub(CHUNK_FRAME_BYTES),
        };
        let length = self.data.len().min(room.max(1));
        let piece = self.data.get(..length).unwrap_or_default();
        match self.told {
            Told::Plain => buffer.put_slice(piece),
            Told::Chunked if room == 0 => {
                self.staged.extend_from_slice(b"1\r\n");
                self.staged.extend_from_slice(piece);
                self.staged.extend_from_slice(b"\r\n");
            }
            Told::Chunked => {
                let mut size = [0; 18];
                buffer.put_slice(size_line(length, &mut size));
                buffer.put_slice(piece);
                buffer.put_slice(b"\r\n");
            }
        }
        self.data.advance(length);
        self.stream.flow_control().release_capacity(length)
    }
}

/// Writes the line before a chunk.
fn size_line(size: usize, room: &mut [u8; 18]) -> &[u8] {
    let mut at = room.len();
    let mut left = size;
    for byte in [b'\n', b'\r'] {
        at -= 1;
        if let Some(place) = room.get_mut(at) {
            *place = byte;
        }
    }
    loop {
        at -= 1;
        if let Some(place) = room.get_mut(at) {
            *place = crate::digits::hexadecimal((left & 0xf) as u64);
        }
        left >>= 4;
        if left == 0 {
            return room.get(at..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_in_hexadecimal() {
        for size in [0, 1, 15, 16, 255, 65_536, usize::MAX] {
            assert_eq!(size_line(size, &mut [0; 18]), format!("{size:x}\r\n").as_bytes());
        }
    }
}
