//! What streams read and write: bodies as HTTP/1 frames them.

use std::io::{self, Write};
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::super::STREAM_WINDOW;
use super::super::answer::{self, Answer};
use super::super::frame::{Code, FrameHead, HEAD_BYTES, MAX_PAYLOAD_BYTES, flag, kind, write_numbers};
use super::super::request::Told;
use super::{Closed, MAX_OUT_BYTES, OUT_BYTES, ResetBy, Session, Stream};
use crate::http1::Framing;
use crate::http1::body::write_last_chunk;

/// How much of a body is taken in one turn.
const MAX_PIECE_BYTES: usize = 32 * 1024;

/// How much room for a body is kept while nothing is in it.
const MAX_KEPT_BYTES: usize = 16 * 1024;

impl Stream {
    /// Takes what has come of the body; says what is wrong about it.
    pub(super) fn take_data(&mut self, data: &[u8], ends: bool) -> Result<(), &'static str> {
        if let Some(missing) = &mut self.missing {
            let left = missing.checked_sub(data.len() as u64).ok_or("a body that is longer than was said")?;
            *missing = left;
            if ends && left > 0 {
                return Err("a body that is shorter than was said");
            }
        }
        if self.taken > self.received.len() / 2 {
            self.received.drain(..self.taken);
            self.taken = 0;
        }
        self.received.extend_from_slice(data);
        self.request_ended |= ends;
        self.wake_reader();
        Ok(())
    }

    fn unread(&self) -> &[u8] {
        self.received.get(self.taken..).unwrap_or_default()
    }

    /// Copies to a buffer what is there of the body; returns how much payload that was.
    fn read(&mut self, buffer: &mut ReadBuf<'_>) -> usize {
        let mut payload = 0;
        loop {
            self.read_staged(buffer);
            if buffer.remaining() == 0 {
                return payload;
            }
            let unread = self.unread().len();
            if self.told == Told::Chunked && self.chunk == 0 && unread > 0 {
                // Writing into memory does not fail.
                write!(self.staged, "{unread:x}\r\n").ok();
                self.chunk = unread;
                continue;
            }
            let wanted = if self.told == Told::Chunked { self.chunk } else { unread };
            let length = wanted.min(buffer.remaining());
            if length > 0 {
                buffer.put_slice(self.unread().get(..length).unwrap_or_default());
                payload += length;
                self.taken += length;
                if self.told == Told::Chunked {
                    self.chunk -= length;
                    if self.chunk == 0 {
                        self.staged.extend(b"\r\n");
                    }
                }
                continue;
            }
            self.give_up_room();
            if !self.request_ended || self.has_told_end || self.told == Told::Plain {
                return payload;
            }
            self.has_told_end = true;
            let mut end = Vec::new();
            write_last_chunk(&self.trailers, &mut end);
            self.staged.extend(end);
        }
    }

    fn read_staged(&mut self, buffer: &mut ReadBuf<'_>) {
        while buffer.remaining() > 0
            && let Some(byte) = self.staged.pop_front()
        {
            buffer.put_slice(&[byte]);
        }
    }

    fn give_up_room(&mut self) {
        self.taken = 0;
        if self.received.capacity() > MAX_KEPT_BYTES {
            self.received = Vec::new();
        } else {
            self.received.clear();
        }
    }
}

impl Session {
    /// Reads some of a request's body; behind its end, waits for the client to give up.
    pub(in crate::http2) fn poll_read(
        &mut self,
        id: u32,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(stream) = self.stream(id).filter(|stream| stream.reset.is_none()) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let before = buffer.filled().len();
        let payload = u32::try_from(stream.read(buffer)).unwrap_or(u32::MAX);
        if buffer.filled().len() == before && buffer.remaining() > 0 {
            register(&mut stream.reader, context);
            return Poll::Pending;
        }
        stream.owed = stream.owed.saturating_sub(payload);
        self.credit(id, payload);
        self.give_back(payload);
        Poll::Ready(Ok(()))
    }

    /// Waits for the client to give up.
    pub(in crate::http2) fn poll_gone(&mut self, id: u32, context: &mut Context<'_>) -> Poll<()> {
        let Some(stream) = self.stream(id).filter(|stream| stream.reset.is_none()) else {
            return Poll::Ready(());
        };
        register(&mut stream.reader, context);
        Poll::Pending
    }

    /// Says whether a stream can carry nothing more.
    pub(in crate::http2) fn is_gone(&mut self, id: u32) -> bool {
        self.stream(id).is_none_or(|stream| stream.reset.is_some())
    }

    /// Gives back what was taken of a stream's window, a good deal at a time.
    pub(super) fn credit(&mut self, id: u32, length: u32) {
        let Some(stream) = self.stream(id) else { return };
        stream.given += length;
        if stream.given >= STREAM_WINDOW / 2 && !stream.request_ended {
            let given = std::mem::take(&mut stream.given);
            stream.receive_window += i64::from(given);
            write_numbers(kind::WINDOW_UPDATE, id, &[given], &mut self.out);
        }
    }

    /// Waits until there is room for a head.
    pub(in crate::http2) fn poll_room_for_head(
        &mut self,
        id: u32,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let is_full = self.unsent().len() >= MAX_OUT_BYTES;
        let Some(stream) = self.stream(id).filter(|stream| stream.reset.is_none()) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if is_full {
            register(&mut stream.writer, context);
            self.heads_wait = true;
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends the head at the front of a text.
    pub(in crate::http2) fn send_head(&mut self, id: u32, is_head: bool, text: &[u8]) -> io::Result<Answer> {
        let at = self.begin_block();
        let written = answer::write(text, is_head, &mut self.encoder, &mut self.out);
        let answer = self.keep(at, written)?;
        let ends = answer.status >= 200 && matches!(answer.framing, Framing::None | Framing::Length(0));
        self.frame_block(at, id, ends);
        self.end_answer(id, ends);
        Ok(answer)
    }

    /// Ends an answer by the lines behind its body, each with its end; there may be none.
    pub(in crate::http2) fn send_end(&mut self, id: u32, trailers: &[u8]) -> io::Result<()> {
        if self.is_gone(id) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if trailers.is_empty() {
            FrameHead::new(kind::DATA, flag::END_STREAM, id, 0).write(&mut self.out);
        } else {
            let at = self.begin_block();
            let written = answer::write_trailers(trailers, &mut self.encoder, &mut self.out);
            self.keep(at, written)?;
            self.frame_block(at, id, true);
        }
        self.end_answer(id, true);
        Ok(())
    }

    fn begin_block(&mut self) -> usize {
        if self.out.capacity() == 0 {
            self.out.reserve(OUT_BYTES);
        }
        let at = self.out.len();
        self.out.extend_from_slice(&[0; HEAD_BYTES]);
        self.encoder.begin(&mut self.out);
        at
    }

    /// Takes a block back that could not be written; the tables of both sides differ then, so the connection has to end.
    fn keep<T>(&mut self, at: usize, written: io::Result<T>) -> io::Result<T> {
        if written.is_err() {
            self.out.truncate(at);
            self.is_broken = true;
        }
        written
    }

    fn end_answer(&mut self, id: u32, ends: bool) {
        if let Some(stream) = self.stream(id).filter(|_| ends) {
            stream.answer_ended = true;
            // One without a body brings something, too.
            self.allowance.answered();
        }
    }

    /// Waits until a stream may send some of a body; returns how much. Streams that wait for the same come in turn.
    pub(in crate::http2) fn poll_room(
        &mut self,
        id: u32,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let is_turn = self.waiting.front().is_none_or(|next| *next == id);
        let is_open = self.unsent().len() < MAX_OUT_BYTES && self.send_window > 0;
        let connection_window = self.send_window;
        let Some(stream) = self.stream(id).filter(|stream| stream.reset.is_none()) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let window = stream.send_window;
        if window > 0 && is_turn && is_open {
            self.leave_queue(id);
            let room = usize::try_from(window.min(connection_window)).unwrap_or_default();
            return Poll::Ready(Ok(room.min(MAX_PIECE_BYTES)));
        }
        register(&mut stream.writer, context);
        if window <= 0 {
            // Its own window is what it waits for.
            self.leave_queue(id);
            self.make_room();
        } else if !self.waiting.contains(&id) {
            self.waiting.push_back(id);
        }
        Poll::Pending
    }

    fn leave_queue(&mut self, id: u32) {
        self.waiting.retain(|waiting| *waiting != id);
    }

    /// Sends some of a body, no more than there is room for.
    pub(in crate::http2) fn send_data(&mut self, id: u32, data: &[u8], ends: bool) {
        if self.out.capacity() == 0 {
            self.out.reserve(OUT_BYTES);
        }
        let mut parts = data.chunks(MAX_PAYLOAD_BYTES).peekable();
        while let Some(part) = parts.next() {
            let flags = if ends && parts.peek().is_none() { flag::END_STREAM } else { 0 };
            FrameHead::new(kind::DATA, flags, id, part.len()).write(&mut self.out);
            self.out.extend_from_slice(part);
            self.allowance.answered();
        }
        let length = i64::try_from(data.len()).unwrap_or(i64::MAX);
        self.send_window -= length;
        if let Some(stream) = self.stream(id) {
            stream.send_window -= length;
        }
        self.end_answer(id, ends);
        self.make_room();
    }

    /// Lets the client know that what it has got is not the whole answer.
    pub(in crate::http2) fn abort(&mut self, id: u32) {
        if self.stream(id).is_some_and(|stream| !stream.answer_ended) {
            self.reset(id, Code::Internal);
        }
    }

    /// Takes note that nobody here cares about a stream any more.
    pub(in crate::http2) fn forget(&mut self, id: u32) {
        let Some(at) = self.position(id) else { return };
        let (_, stream) = self.streams.remove(at);
        let owed = stream.owed;
        match stream.reset {
            Some(ResetBy::Us) => self.remember(id, Closed::Reset),
            Some(ResetBy::Client) => self.remember(id, Closed::Ended),
            None if !stream.answer_ended => self.reset(id, Code::Cancel),
            // The client need not send the rest. <https://www.rfc-editor.org/rfc/rfc9113#section-8.1-12>
            None if !stream.request_ended => self.reset(id, Code::NoError),
            None => self.remember(id, Closed::Ended),
        }
        self.give_back(owed);
        if self.waiting.contains(&id) {
            self.leave_queue(id);
            self.make_room();
        }
    }
}

/// Leaves a waker, unless it is there already.
fn register(place: &mut Option<std::task::Waker>, context: &Context<'_>) {
    if !place.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
        *place = Some(context.waker().clone());
    }
}
