//! What a client sends, frame by frame.

use super::super::frame::{Code, FrameHead, MAX_31_BITS, flag, kind, number, write_numbers};
use super::super::request::{Head, HeadWriter, Told, TrailerWriter, Unfit};
use super::super::{MAX_BLOCK_BYTES, MAX_STREAMS};
use super::{Block, Closed, Fault, LEAVING, ResetBy, Session};

/// The names of settings.
pub(super) mod setting {
    pub(super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(super) const ENABLE_PUSH: u16 = 2;
    pub(in super::super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(in super::super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(super) const MAX_FRAME_SIZE: u16 = 5;
    pub(in super::super) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// What a frame has brought.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http2) enum Arrived {
    /// Nothing that others need to know.
    Nothing,
    Request(Request),
    /// A stream was reset, by the client or because of what it has sent.
    Reset(Option<&'static str>),
}

/// A request that has begun.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http2) struct Request {
    pub(in crate::http2) stream: u32,
    /// None where it is too large.
    pub(in crate::http2) head: Option<Vec<u8>>,
    pub(in crate::http2) is_head: bool,
}

type Outcome = Result<Arrived, Fault>;

const NOTHING: Outcome = Ok(Arrived::Nothing);

impl Session {
    /// Takes a whole frame.
    ///
    /// # Errors
    /// The connection has to end.
    pub(in crate::http2) fn receive(&mut self, head: FrameHead, payload: &[u8]) -> Outcome {
        self.allowance.received(head);
        if let Some(block) = &self.block
            && (head.kind != kind::CONTINUATION || head.stream != block.stream)
        {
            return Err(Fault::protocol("a frame within a head"));
        }
        if !self.has_settings && (head.kind != kind::SETTINGS || head.has(flag::ACKNOWLEDGEMENT)) {
            return Err(Fault::protocol("no settings first"));
        }
        let arrived = match head.kind {
            kind::DATA => self.data(head, payload),
            kind::HEADERS => self.headers(head, payload),
            kind::PRIORITY => self.priority(head, payload),
            kind::RST_STREAM => self.reset_by_client(head),
            kind::SETTINGS => self.settings(head, payload),
            kind::PUSH_PROMISE => Err(Fault::protocol("a push by a client")),
            kind::PING => self.ping(head, payload),
            kind::GOAWAY if head.stream != 0 => Err(Fault::protocol("GOAWAY on a stream")),
            kind::GOAWAY if head.length < 8 => Err(Fault::size("GOAWAY of a wrong length")),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            // Whether the client goes away changes nothing for what it has asked; other kinds are extensions.
            _ => NOTHING,
        }?;
        if self.allowance.is_exhausted() {
            return Err(Fault { code: Code::EnhanceYourCalm, cause: "too much that brings nothing" });
        }
        Ok(arrived)
    }

    fn data(&mut self, head: FrameHead, payload: &[u8]) -> Outcome {
        if head.stream == 0 {
            return Err(Fault::protocol("DATA on the connection"));
        }
        let length = u32::try_from(head.length).unwrap_or(u32::MAX);
        self.receive_window -= i64::from(length);
        if self.receive_window < 0 {
            return Err(Fault { code: Code::FlowControl, cause: "more than the connection's window" });
        }
        let data = unpadded(head, payload)?;
        let id = head.stream;
        let is_idle = id > self.last;
        let Some(stream) = self.stream(id) else {
            return match self.closed(id) {
                _ if is_idle => Err(Fault::protocol("DATA on an idle stream")),
                Some(Closed::Reset) => {
                    self.give_back(length);
                    NOTHING
                }
                _ => Err(Fault { code: Code::StreamClosed, cause: "DATA on a closed stream" }),
            };
        };
        match stream.reset {
            Some(ResetBy::Us) => {
                self.give_back(length);
                return NOTHING;
            }
            Some(ResetBy::Client) => {
                return Err(Fault { code: Code::StreamClosed, cause: "DATA on a stream that was reset" });
            }
            None => {}
        }
        stream.receive_window -= i64::from(length);
        let fault = if stream.request_ended {
            Some((Code::StreamClosed, "DATA behind the end"))
        } else if stream.receive_window < 0 {
            Some((Code::FlowControl, "more than the stream's window"))
        } else {
            let ends = head.has(flag::END_STREAM);
            stream.take_data(data, ends).err().map(|cause| (Code::Protocol, cause))
        };
        if let Some((code, cause)) = fault {
            self.give_back(length);
            return Ok(self.violated(id, code, cause));
        }
        let padding = length - u32::try_from(data.len()).unwrap_or(length);
        stream.owed += length - padding;
        if padding > 0 {
            self.credit(id, padding);
            self.give_back(padding);
        }
        NOTHING
    }

    fn headers(&mut self, head: FrameHead, payload: &[u8]) -> Outcome {
        if head.stream == 0 {
            return Err(Fault::protocol("HEADERS on the connection"));
        }
        let mut payload = unpadded(head, payload)?;
        let mut depends_on_itself = false;
        if head.has(flag::PRIORITY) {
            let (priority, rest) =
                payload.split_at_checked(5).ok_or(Fault::size("HEADERS without a whole priority"))?;
            depends_on_itself = number(priority) & MAX_31_BITS == head.stream;
            payload = rest;
        }
        let (stream, ends) = (head.stream, head.has(flag::END_STREAM));
        let mut block = Block { stream, ends, depends_on_itself, bytes: Vec::new() };
        if head.has(flag::END_HEADERS) {
            return self.fields(&block, payload);
        }
        block.bytes.extend_from_slice(payload);
        self.block = Some(block);
        NOTHING
    }

    fn continuation(&mut self, head: FrameHead, payload: &[u8]) -> Outcome {
        let Some(mut block) = self.block.take() else {
            return Err(Fault::protocol("CONTINUATION without a head"));
        };
        if block.bytes.len() + payload.len() > MAX_BLOCK_BYTES {
            return Err(Fault { code: Code::EnhanceYourCalm, cause: "a head that does not end" });
        }
        block.bytes.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            let bytes = std::mem::take(&mut block.bytes);
            return self.fields(&block, &bytes);
        }
        self.block = Some(block);
        NOTHING
    }

    /// Takes a whole block of fields.
    fn fields(&mut self, block: &Block, bytes: &[u8]) -> Outcome {
        let id = block.stream;
        if id.is_multiple_of(2) {
            return Err(Fault::protocol("a stream with an even number"));
        }
        if id > self.last {
            return self.request(block, bytes);
        }
        let reset = match self.stream(id) {
            None => match self.closed(id) {
                None => return Err(Fault::protocol("a stream below one that was used")),
                Some(Closed::Ended) => Some(ResetBy::Client),
                Some(Closed::Reset) => Some(ResetBy::Us),
            },
            Some(stream) if stream.reset.is_none() && !stream.request_ended => {
                return self.trailers(block, bytes);
            }
            Some(stream) => stream.reset,
        };
        match reset {
            Some(ResetBy::Client) => {
                Err(Fault { code: Code::StreamClosed, cause: "HEADERS on a closed stream" })
            }
            Some(ResetBy::Us) => self.skip(bytes).map(|()| Arrived::Nothing),
            None => {
                self.skip(bytes)?;
                Ok(self.violated(id, Code::StreamClosed, "HEADERS behind the end"))
            }
        }
    }

    /// Reads fields only for what they change in the table.
    fn skip(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.decoder.decode(bytes, |_, _| {}).map_err(|_| COMPRESSION)
    }

    fn request(&mut self, block: &Block, bytes: &[u8]) -> Outcome {
        let stream = block.stream;
        self.last = stream;
        if self.is_leaving {
            // What follows on it is ignored as well. <https://www.rfc-editor.org/rfc/rfc9113#section-6.8-16>
            self.remember(stream, Closed::Reset);
            return self.skip(bytes).map(|()| Arrived::Nothing);
        }
        if self.streams.len() >= usize::try_from(MAX_STREAMS).unwrap_or(usize::MAX) {
            self.skip(bytes)?;
            self.reset(stream, Code::RefusedStream);
            self.allowance.take(2, std::time::Instant::now());
            return NOTHING;
        }
        let mut writer = HeadWriter::new();
        self.decoder.decode(bytes, |name, value| writer.field(name, value)).map_err(|_| COMPRESSION)?;
        if block.depends_on_itself {
            return Ok(self.violated(stream, Code::Protocol, "a stream that depends on itself"));
        }
        match writer.finish(block.ends) {
            Ok(Head { text, told, length, is_head }) => {
                self.insert(stream, told, (length, block.ends));
                Ok(Arrived::Request(Request { stream, head: Some(text), is_head }))
            }
            Err(Unfit::TooLarge) => {
                self.insert(stream, Told::Plain, (None, block.ends));
                Ok(Arrived::Request(Request { stream, head: None, is_head: false }))
            }
            Err(Unfit::Malformed(cause)) => Ok(self.violated(stream, Code::Protocol, cause)),
        }
    }

    fn trailers(&mut self, block: &Block, bytes: &[u8]) -> Outcome {
        let mut writer = TrailerWriter::default();
        self.decoder.decode(bytes, |name, value| writer.field(name, value)).map_err(|_| COMPRESSION)?;
        let lines = match writer.finish() {
            _ if !block.ends => Err("a second head that ends nothing"),
            lines => lines,
        };
        let taken = match (lines, self.stream(block.stream)) {
            (Ok(lines), Some(stream)) => stream.take_data(&[], true).map(|()| stream.trailers = lines),
            (Err(cause), _) => Err(cause),
            (_, None) => Ok(()),
        };
        match taken {
            Ok(()) => NOTHING,
            Err(cause) => Ok(self.violated(block.stream, Code::Protocol, cause)),
        }
    }

    fn priority(&mut self, head: FrameHead, payload: &[u8]) -> Outcome {
        if head.stream == 0 {
            return Err(Fault::protocol("PRIORITY on the connection"));
        }
        let fault = if head.length != 5 {
            Fault::size("PRIORITY of a wrong length")
        } else if number(payload) & MAX_31_BITS == head.stream {
            Fault::protocol("a stream that depends on itself")
        } else {
            return NOTHING;
        };
        // A stream that is not there cannot be reset.
        match self.stream(head.stream) {
            Some(_) => Ok(self.violated(head.stream, fault.code, fault.cause)),
            None => Err(fault),
        }
    }

    fn reset_by_client(&mut self, head: FrameHead) -> Outcome {
        if head.stream == 0 || head.stream > self.last {
            return Err(Fault::protocol("RST_STREAM on the connection or an idle stream"));
        }
        if head.length != 4 {
            return Err(Fault::size("RST_STREAM of a wrong length"));
        }
        match self.stream(head.stream) {
            Some(stream) if stream.reset.is_none() => {
                let unread = stream.give_up(ResetBy::Client);
                self.give_back(unread);
                Ok(Arrived::Reset(None))
            }
            _ => NOTHING,
        }
    }

    fn settings(&mut self, head: FrameHead, payload: &[u8]) -> Outcome {
        if head.stream != 0 {
            return Err(Fault::protocol("SETTINGS on a stream"));
        }
        if head.has(flag::ACKNOWLEDGEMENT) {
            let is_sound = head.length == 0;
            return if is_sound { NOTHING } else { Err(Fault::size("an acknowledgement with a payload")) };
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Fault::size("SETTINGS of a wrong length"));
        }
        let mut window = None;
        for [high, low, value @ ..] in settings {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*high, *low]) {
                setting::HEADER_TABLE_SIZE => {
                    self.encoder.set_limit(usize::try_from(value).unwrap_or(usize::MAX));
                }
                setting::ENABLE_PUSH if value > 1 => return Err(Fault::protocol("ENABLE_PUSH above 1")),
                setting::INITIAL_WINDOW_SIZE if value > MAX_31_BITS => {
                    return Err(Fault { code: Code::FlowControl, cause: "INITIAL_WINDOW_SIZE too large" });
                }
                // The last one counts; what they are in between is seen by nobody.
                setting::INITIAL_WINDOW_SIZE => window = Some(i64::from(value)),
                setting::MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => {
                    return Err(Fault::protocol("MAX_FRAME_SIZE out of range"));
                }
                _ => {}
            }
        }
        if let Some(window) = window {
            self.resize_windows(window)?;
        }
        self.has_settings = true;
        FrameHead::new(kind::SETTINGS, flag::ACKNOWLEDGEMENT, 0, 0).write(&mut self.out);
        NOTHING
    }

    fn resize_windows(&mut self, window: i64) -> Result<(), Fault> {
        let change = window - self.first_send_window;
        self.first_send_window = window;
        for (_, stream) in &mut self.streams {
            stream.send_window += change;
            if stream.send_window > MAX_31_BITS.into() {
                return Err(Fault { code: Code::FlowControl, cause: "a stream's window too large" });
            }
            if change > 0 {
                stream.wake_writer();
            }
        }
        Ok(())
    }

    fn ping(&mut self, head: FrameHead, payload: &[u8]) -> Outcome {
        if head.stream != 0 {
            return Err(Fault::protocol("PING on a stream"));
        }
        if head.length != 8 {
            return Err(Fault::size("PING of a wrong length"));
        }
        if !head.has(flag::ACKNOWLEDGEMENT) {
            FrameHead::new(kind::PING, flag::ACKNOWLEDGEMENT, 0, 8).write(&mut self.out);
            self.out.extend_from_slice(payload);
        } else if payload == LEAVING && self.said_to_leave && !self.is_leaving {
            self.is_leaving = true;
            self.last_served = Some(self.last);
            let last = [self.last, Code::NoError as u32];
            write_numbers(kind::GOAWAY, 0, &last, &mut self.out);
        }
        NOTHING
    }

    fn window_update(&mut self, head: FrameHead, payload: &[u8]) -> Outcome {
        if head.length != 4 {
            return Err(Fault::size("WINDOW_UPDATE of a wrong length"));
        }
        if head.stream > self.last {
            return Err(Fault::protocol("WINDOW_UPDATE on an idle stream"));
        }
        let more = i64::from(number(payload) & MAX_31_BITS);
        if head.stream == 0 {
            self.send_window += more;
            return match (more, self.send_window) {
                (0, _) => Err(Fault::protocol("WINDOW_UPDATE by 0")),
                (_, window) if window > MAX_31_BITS.into() => {
                    Err(Fault { code: Code::FlowControl, cause: "the connection's window too large" })
                }
                _ => {
                    self.make_room();
                    NOTHING
                }
            };
        }
        let Some(stream) = self.stream(head.stream).filter(|stream| stream.reset.is_none()) else {
            // It may have been on its way while the stream ended.
            return NOTHING;
        };
        stream.send_window += more;
        let fault = if more == 0 {
            (Code::Protocol, "WINDOW_UPDATE by 0")
        } else if stream.send_window > MAX_31_BITS.into() {
            (Code::FlowControl, "a stream's window too large")
        } else {
            stream.wake_writer();
            return NOTHING;
        };
        Ok(self.violated(head.stream, fault.0, fault.1))
    }
}

const COMPRESSION: Fault = Fault { code: Code::Compression, cause: "a head that cannot be decompressed" };

/// Cuts padding off.
fn unpadded(head: FrameHead, payload: &[u8]) -> Result<&[u8], Fault> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or(Fault::size("no length of the padding"))?;
    let length =
        rest.len().checked_sub(padding.into()).ok_or(Fault::protocol("more padding than payload"))?;
    Ok(rest.get(..length).unwrap_or_default())
}
