//! What a client may send that costs something and brings nothing.
//!
//! Each frame that carries neither a request nor a body takes from an allowance, which time and answers fill up again:
//! settings, pings, priorities, resets, window updates, empty frames. A connection without any left is closed. That bounds
//! what rapid resets (CVE-2023-44487), floods of settings, pings (CVE-2019-9512, -9515), empty frames (CVE-2019-9518) and
//! window updates cost. Continuations (CVE-2024-27316) are bounded by the library, the time for a head is not: the meter
//! says when one has begun and not ended.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::PREFACE;
use crate::limits::Limits;
use crate::stream::ClientStream;
use crate::watch::Watch;

/// How much a connection may have saved up.
const MAX_ALLOWANCE: u64 = 1000;

/// How much comes back in a second.
const PER_SECOND: u64 = 100;

/// How much comes back for each frame of an answer's body: a client that takes it tells so with two window updates.
const PER_ANSWER_FRAME: u64 = 3;

const FRAME_HEAD_BYTES: usize = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACKNOWLEDGEMENT: u8 = 1;

/// Follows the frames of one connection.
#[derive(Debug)]
pub(crate) struct Meter {
    allowance: Cell<u64>,
    filled_up: Cell<Instant>,
    place: RefCell<Place>,
    is_in_head: Cell<bool>,
}

/// Where in the stream of frames we are.
#[derive(Debug)]
struct Place {
    /// How many bytes there are before the next frame's head.
    skip: usize,
    head: [u8; FRAME_HEAD_BYTES],
    head_length: usize,
}

impl Meter {
    /// Starts before the preface.
    pub(crate) fn new(now: Instant) -> Self {
        let place = Place { skip: PREFACE.len(), head: [0; FRAME_HEAD_BYTES], head_length: 0 };
        Self {
            allowance: Cell::new(MAX_ALLOWANCE),
            filled_up: Cell::new(now),
            place: RefCell::new(place),
            is_in_head: Cell::new(false),
        }
    }

    /// Says whether the client has sent too much that brings nothing.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.allowance.get() == 0
    }

    /// Says whether the head of a request has begun and not ended.
    pub(crate) fn is_in_head(&self) -> bool {
        self.is_in_head.get()
    }

    /// Takes note of a frame of an answer's body.
    pub(crate) fn answered(&self) {
        if !self.is_exhausted() {
            self.allowance.set((self.allowance.get() + PER_ANSWER_FRAME).min(MAX_ALLOWANCE));
        }
    }

    /// Takes note of received bytes.
    fn received(&self, mut bytes: &[u8]) {
        let mut place = self.place.borrow_mut();
        while !bytes.is_empty() {
            let skipped = place.skip.min(bytes.len());
            place.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let length = (FRAME_HEAD_BYTES - place.head_length).min(bytes.len());
            let (part, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
            let from = place.head_length;
            if let Some(room) = place.head.get_mut(from..from + part.len()) {
                room.copy_from_slice(part);
            }
            place.head_length += part.len();
            bytes = rest;
            if place.head_length == FRAME_HEAD_BYTES {
                place.head_length = 0;
                place.skip = self.frame(place.head);
            }
        }
    }

    /// Takes note of a frame; returns its length.
    fn frame(&self, [high, middle, low, kind, flags, ..]: [u8; FRAME_HEAD_BYTES]) -> usize {
        let length = u32::from_be_bytes([0, high, middle, low]);
        let cost = match kind {
            0 if length == 0 && flags & END_STREAM == 0 => 2,
            0 => 0,
            1 | 9 => {
                self.is_in_head.set(flags & END_HEADERS == 0);
                u64::from(kind == 9)
            }
            // Cancelling is a client's right; to do it all the time is not.
            3 => 2,
            4 | 6 if flags & ACKNOWLEDGEMENT == ACKNOWLEDGEMENT => 1,
            4 => 5,
            _ => 1,
        };
        if cost > 0 {
            self.take(cost, Instant::now());
        }
        usize::try_from(length).unwrap_or(usize::MAX)
    }

    fn take(&self, cost: u64, now: Instant) {
        if self.is_exhausted() {
            return;
        }
        let elapsed = now.saturating_duration_since(self.filled_up.get()).as_millis();
        let back = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_mul(PER_SECOND) / 1000;
        if back > 0 {
            self.filled_up.set(now);
        }
        self.allowance.set((self.allowance.get() + back).min(MAX_ALLOWANCE).saturating_sub(cost));
    }
}

/// A client's connection whose frames are metered.
#[derive(Debug)]
pub(crate) struct Metered {
    /// What was received before it was known what it is.
    pub(crate) first: Vec<u8>,
    pub(crate) client: ClientStream,
    pub(crate) meter: Rc<Meter>,
    pub(crate) watch: Rc<Watch>,
    pub(crate) limits: Limits,
    pub(crate) closing: Closing,
}

/// How far the end of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    Open,
    /// Our side is being ended.
    Ending,
    /// What still comes is thrown away, so that no reset overtakes what was sent last.
    Lingering,
}

impl AsyncRead for Metered {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.meter.is_exhausted() {
            // Nothing more is wanted; the one who polls looks at the meter next.
            return Poll::Pending;
        }
        if !this.first.is_empty() {
            let length = this.first.len().min(buffer.remaining());
            let piece: Vec<u8> = this.first.drain(..length).collect();
            buffer.put_slice(&piece);
            this.meter.received(&piece);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.client).poll_read(context, buffer))?;
        this.meter.received(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().client).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().client).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing == Closing::Open {
            this.closing = Closing::Ending;
            this.watch.arm(this.limits.linger);
        }
        if this.closing == Closing::Ending {
            ready!(Pin::new(&mut this.client).poll_shutdown(context))?;
            this.closing = Closing::Lingering;
        }
        let mut scrap = [0; 2048];
        loop {
            let mut buffer = ReadBuf::new(&mut scrap);
            ready!(Pin::new(&mut this.client).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(bytes.len() + payload, b'x');
        bytes
    }

    fn meter() -> Meter {
        let meter = Meter::new(Instant::now() + Duration::from_secs(3600));
        meter.received(PREFACE);
        meter
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let frames =
            [frame(0, 0, 300), frame(1, 0, 20), frame(9, 0, 3), frame(6, 0, 8), frame(3, 0, 4)].concat();
        for size in [1, 2, 8, 9, 10, 50, 1000] {
            let meter = meter();
            frames.chunks(size).for_each(|piece| meter.received(piece));
            assert_eq!(meter.allowance.get(), MAX_ALLOWANCE - 4, "pieces of {size}");
            assert!(meter.is_in_head());
            meter.received(&frame(9, END_HEADERS, 0));
            assert!(!meter.is_in_head());
        }
    }

    #[test]
    fn an_allowance_is_used_up_and_comes_back() {
        let meter = meter();
        let pings = frame(6, 0, 8).repeat(999);
        meter.received(&pings);
        assert!(!meter.is_exhausted());
        meter.answered();
        meter.received(&frame(6, 0, 8).repeat(3));
        assert!(!meter.is_exhausted());
        meter.take(0, Instant::now() + Duration::from_secs(3601));
        assert!(meter.allowance.get() > 90);
        meter.received(&frame(4, 0, 0).repeat(400));
        assert!(meter.is_exhausted());
        meter.answered();
        assert!(meter.is_exhausted(), "what is over stays over");
    }

    #[test]
    fn bodies_cost_nothing_unless_they_are_empty() {
        let meter = meter();
        meter.received(&frame(0, 0, 1).repeat(5000));
        meter.received(&frame(0, END_STREAM, 0).repeat(5000));
        assert_eq!(meter.allowance.get(), MAX_ALLOWANCE);
        meter.received(&frame(0, 0, 0).repeat(500));
        assert!(meter.is_exhausted());
    }
}
