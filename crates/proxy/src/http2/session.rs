//! One connection's state: its streams, windows and tables, and what is to be sent.
//!
//! Nothing here waits or touches a socket. [`receive`] takes frame by frame, [`streams`] is what the streams read and write,
//! and whoever drives the connection sends what has gathered, for all streams at once. All of it runs in one task.

mod receive;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

use super::allowance::{Allowance, VIOLATION};
use super::frame::{Code, FrameHead, MAX_31_BITS, flag, kind, write_numbers};
use super::hpack::{Decoder, Encoder};
use super::request::Told;
use super::{CONNECTION_WINDOW, MAX_STREAMS, STREAM_WINDOW};
use crate::http1::MAX_HEAD_BYTES;

pub(super) use receive::{Arrived, Request};

/// How much may wait to be sent before bodies wait, too.
const MAX_OUT_BYTES: usize = 64 * 1024;

/// How much may wait to be sent before nothing more is read.
const MAX_CLOG_BYTES: usize = 4 * MAX_OUT_BYTES;

/// The room that is made at once for what is to be sent.
const OUT_BYTES: usize = 8 * 1024;

/// The window that everyone starts with. <https://www.rfc-editor.org/rfc/rfc9113#section-6.9.2>
const FIRST_WINDOW: u32 = 65_535;

/// How many streams that have ended are remembered.
const MAX_CLOSED: usize = 256;

/// Tells that the client knows that we take no more.
const LEAVING: [u8; 8] = *b"leaving!";

/// An error of the connection, which ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: Code,
    pub(super) cause: &'static str,
}

impl Fault {
    fn protocol(cause: &'static str) -> Self {
        Self { code: Code::Protocol, cause }
    }

    fn size(cause: &'static str) -> Self {
        Self { code: Code::FrameSize, cause }
    }
}

/// Who has reset a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResetBy {
    Client,
    Us,
}

/// What is known of a stream that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closed {
    /// We have reset it, so what was on its way is ignored.
    Reset,
    /// The client has said itself that nothing more comes.
    Ended,
}

/// A request and its answer.
#[derive(Debug)]
struct Stream {
    told: Told,
    /// How much of the body is missing, where the client has said how long it is.
    missing: Option<u64>,
    /// What was received of the body, and how much of it was taken.
    received: Vec<u8>,
    taken: usize,
    /// The lines behind the body.
    trailers: Vec<u8>,
    /// What is to be read before anything else: what frames chunks.
    staged: VecDeque<u8>,
    /// How much of the chunk that was told is to be read.
    chunk: usize,
    has_told_end: bool,
    /// How much was received and not taken.
    owed: u32,
    /// How much was taken that the client has not been given back of the stream's window.
    given: u32,
    receive_window: i64,
    send_window: i64,
    request_ended: bool,
    answer_ended: bool,
    reset: Option<ResetBy>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Stream {
    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    fn wake(&mut self) {
        self.wake_reader();
        self.wake_writer();
    }

    /// Takes note that it was reset, which lets nobody read on; returns how much of the connection's window that frees.
    fn give_up(&mut self, by: ResetBy) -> u32 {
        self.reset = Some(by);
        self.received = Vec::new();
        self.taken = 0;
        self.wake();
        std::mem::take(&mut self.owed)
    }
}

/// The block of a head that has begun and not ended.
#[derive(Debug)]
struct Block {
    stream: u32,
    ends: bool,
    depends_on_itself: bool,
    bytes: Vec<u8>,
}

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Session {
    out: Vec<u8>,
    /// How much of it was sent.
    sent: usize,
    /// In the order of their identifiers.
    streams: Vec<(u32, Box<Stream>)>,
    /// The highest identifier that the client has used.
    last: u32,
    closed: VecDeque<(u32, Closed)>,
    decoder: Decoder,
    encoder: Encoder,
    block: Option<Block>,
    allowance: Allowance,
    receive_window: i64,
    /// How much the client has not been given back of the connection's window.
    owed: u32,
    send_window: i64,
    first_send_window: i64,
    /// Streams that wait for room to send, in turn.
    waiting: VecDeque<u32>,
    /// Whether heads wait for room.
    heads_wait: bool,
    has_settings: bool,
    /// The client was told to begin nothing more.
    said_to_leave: bool,
    /// The client knows the last stream that is served; what it begins after that is ignored.
    is_leaving: bool,
    /// That stream.
    last_served: Option<u32>,
    /// Nothing more is said to streams, and nothing by them.
    is_over: bool,
    /// A head could not be written, so that the tables of both sides may differ.
    is_broken: bool,
}

impl Session {
    /// Starts with what we have to say first.
    pub(super) fn new(now: Instant) -> Self {
        let mut session = Self {
            out: Vec::with_capacity(OUT_BYTES),
            sent: 0,
            streams: Vec::new(),
            last: 0,
            closed: VecDeque::new(),
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            block: None,
            allowance: Allowance::new(now),
            receive_window: CONNECTION_WINDOW.into(),
            owed: 0,
            send_window: FIRST_WINDOW.into(),
            first_send_window: FIRST_WINDOW.into(),
            waiting: VecDeque::new(),
            heads_wait: false,
            has_settings: false,
            said_to_leave: false,
            is_leaving: false,
            last_served: None,
            is_over: false,
            is_broken: false,
        };
        session.write_settings();
        session
    }

    fn write_settings(&mut self) {
        let settings = [
            (receive::setting::MAX_CONCURRENT_STREAMS, MAX_STREAMS),
            (receive::setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (receive::setting::MAX_HEADER_LIST_SIZE, u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX)),
        ];
        FrameHead::new(kind::SETTINGS, 0, 0, settings.len() * 6).write(&mut self.out);
        for (name, value) in settings {
            self.out.extend_from_slice(&name.to_be_bytes());
            self.out.extend_from_slice(&value.to_be_bytes());
        }
        let more = CONNECTION_WINDOW - FIRST_WINDOW;
        write_numbers(kind::WINDOW_UPDATE, 0, &[more], &mut self.out);
    }

    /// Returns what is to be sent.
    pub(super) fn unsent(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    /// Takes note of what was sent.
    pub(super) fn sent(&mut self, length: usize) {
        self.sent += length;
        if self.sent >= self.out.len() {
            self.sent = 0;
            if self.streams.is_empty() || self.out.capacity() > MAX_CLOG_BYTES {
                self.out = Vec::new();
            } else {
                self.out.clear();
            }
        } else if self.sent >= MAX_OUT_BYTES {
            // A client that is slower than we are never empties it.
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        self.make_room();
    }

    /// Lets those go on that wait for room, if there is some.
    fn make_room(&mut self) {
        if self.unsent().len() >= MAX_OUT_BYTES {
            return;
        }
        if std::mem::take(&mut self.heads_wait) {
            self.streams.iter_mut().for_each(|(_, stream)| stream.wake_writer());
        }
        if self.send_window > 0
            && let Some(next) = self.waiting.front().copied()
            && let Some(stream) = self.stream(next)
        {
            stream.wake_writer();
        }
    }

    /// Says whether somebody waits for what is to be sent.
    pub(super) fn has_waiting(&self) -> bool {
        self.heads_wait || !self.waiting.is_empty()
    }

    /// Says whether so much is to be sent that nothing more should be read.
    pub(super) fn is_clogged(&self) -> bool {
        self.unsent().len() >= MAX_CLOG_BYTES
    }

    /// Says whether the head of a request has begun and not ended.
    pub(super) fn is_in_head(&self) -> bool {
        self.block.is_some()
    }

    /// Returns the highest identifier that the client has used.
    pub(super) fn last(&self) -> u32 {
        self.last
    }

    /// Says whether something went wrong on our side that ends the connection.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Says whether the client knows that we take no more.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Tells the client to begin nothing more. What it begins before it has heard that is still served, so the last stream
    /// is told when it answers. <https://www.rfc-editor.org/rfc/rfc9113#section-6.8>
    pub(super) fn leave(&mut self) {
        self.said_to_leave = true;
        write_numbers(kind::GOAWAY, 0, &[MAX_31_BITS, Code::NoError as u32], &mut self.out);
        FrameHead::new(kind::PING, 0, 0, LEAVING.len()).write(&mut self.out);
        self.out.extend_from_slice(&LEAVING);
    }

    /// Ends the connection for all streams, and says why; what waits to be sent still is.
    pub(super) fn shut(&mut self, code: Code) {
        let has_said_so = self.is_over || (self.is_leaving && code == Code::NoError);
        if !has_said_so {
            // What was told may not grow. <https://www.rfc-editor.org/rfc/rfc9113#section-6.8-17>
            let last = self.last_served.unwrap_or(self.last);
            write_numbers(kind::GOAWAY, 0, &[last, code as u32], &mut self.out);
        }
        self.end();
    }

    /// Ends the connection for all streams.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        for (_, stream) in &mut self.streams {
            stream.reset.get_or_insert(ResetBy::Client);
            stream.wake();
        }
    }

    fn position(&self, id: u32) -> Option<usize> {
        self.streams.binary_search_by_key(&id, |(id, _)| *id).ok()
    }

    fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        let at = self.position(id)?;
        self.streams.get_mut(at).map(|(_, stream)| stream.as_mut())
    }

    fn insert(&mut self, id: u32, told: Told, (missing, request_ended): (Option<u64>, bool)) {
        let stream = Stream {
            told,
            missing,
            received: Vec::new(),
            taken: 0,
            trailers: Vec::new(),
            staged: VecDeque::new(),
            chunk: 0,
            has_told_end: false,
            owed: 0,
            given: 0,
            receive_window: STREAM_WINDOW.into(),
            send_window: self.first_send_window,
            request_ended,
            answer_ended: false,
            reset: None,
            reader: None,
            writer: None,
        };
        // Identifiers only grow.
        self.streams.push((id, Box::new(stream)));
    }

    fn remember(&mut self, id: u32, closed: Closed) {
        if self.closed.len() == MAX_CLOSED {
            self.closed.pop_front();
        }
        self.closed.push_back((id, closed));
    }

    /// Says what is known of a stream that is not there any more.
    fn closed(&self, id: u32) -> Option<Closed> {
        self.closed.iter().rev().find(|(closed, _)| *closed == id).map(|(_, closed)| *closed)
    }

    /// Resets a stream.
    fn reset(&mut self, id: u32, code: Code) {
        if self.is_over {
            return;
        }
        match self.stream(id) {
            Some(stream) if stream.reset.is_some() => return,
            Some(stream) => {
                let unread = stream.give_up(ResetBy::Us);
                self.give_back(unread);
            }
            None => self.remember(id, Closed::Reset),
        }
        write_numbers(kind::RST_STREAM, id, &[code as u32], &mut self.out);
    }

    /// Resets a stream for what the client has sent on it.
    fn violated(&mut self, id: u32, code: Code, cause: &'static str) -> Arrived {
        self.reset(id, code);
        self.allowance.take(VIOLATION, Instant::now());
        Arrived::Reset(Some(cause))
    }

    /// Gives back what was taken of the connection's window, a good deal at a time.
    fn give_back(&mut self, length: u32) {
        self.owed += length;
        if self.owed >= CONNECTION_WINDOW / 2 && !self.is_over {
            write_numbers(kind::WINDOW_UPDATE, 0, &[self.owed], &mut self.out);
            self.receive_window += i64::from(std::mem::take(&mut self.owed));
        }
    }

    /// Appends the head of a frame, or of several, to a block that was written behind an empty head.
    fn frame_block(&mut self, at: usize, id: u32, ends: bool) {
        let block = at + super::frame::HEAD_BYTES;
        let length = self.out.len().saturating_sub(block);
        let flags = if ends { flag::END_STREAM } else { 0 };
        if length <= super::frame::MAX_PAYLOAD_BYTES {
            let head = FrameHead::new(kind::HEADERS, flags | flag::END_HEADERS, id, length);
            if let Some(place) = self.out.get_mut(at..block) {
                place.copy_from_slice(&head.bytes());
            }
            return;
        }
        let bytes = self.out.split_off(block);
        self.out.truncate(at);
        let count = bytes.len().div_ceil(super::frame::MAX_PAYLOAD_BYTES);
        for (number, part) in bytes.chunks(super::frame::MAX_PAYLOAD_BYTES).enumerate() {
            let (found, mut flags) =
                if number == 0 { (kind::HEADERS, flags) } else { (kind::CONTINUATION, 0) };
            if number + 1 == count {
                flags |= flag::END_HEADERS;
            }
            FrameHead::new(found, flags, id, part.len()).write(&mut self.out);
            self.out.extend_from_slice(part);
        }
    }
}
