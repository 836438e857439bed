//! The state machine that finds the end of a body.

use std::ops::Range;

use super::Framing;
use super::header::may_be_trailer;

const MAX_TRAILER_BYTES: usize = 8 * 1024;
const MAX_EXTENSION_BYTES: usize = 1024;
const MAX_SIZE_DIGITS: u8 = 15;

/// A body that breaks the rules of its framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the chunked coding is malformed")]
    Malformed,
    #[error("a chunk's extensions or the trailers are too long")]
    TooLong,
}

/// What one step found at the front of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// So many bytes of the input are done with.
    pub(crate) consumed: usize,
    /// Where in the input payload stands; it ends where the consumed bytes end, or is empty.
    pub(crate) data: Range<usize>,
}

/// Follows a body from its first byte to its end.
#[derive(Debug)]
pub(crate) struct Body {
    state: State,
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    Length(u64),
    UntilClose,
    Size { value: u64, digits: u8 },
    Extension { value: u64, bytes: usize },
    SizeLineFeed { value: u64 },
    Data { left: u64 },
    DataReturn,
    DataLineFeed,
    Trailers,
}

impl Body {
    /// Starts before the first byte.
    pub(crate) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { value: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, trailers: Vec::new() }
    }

    /// Says whether the last byte was seen.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Says whether the end of the connection may stand here.
    pub(crate) fn may_end_with_connection(&self) -> bool {
        matches!(self.state, State::Done | State::UntilClose)
    }

    /// Returns the trailer lines that may be forwarded, each with its line end; empty before the end.
    pub(crate) fn trailers(&self) -> &[u8] {
        if self.is_done() { &self.trailers } else { &[] }
    }

    /// Takes as much of the input as belongs together. An input that is not empty is always consumed in part, unless
    /// the body is done.
    pub(crate) fn step(&mut self, input: &[u8]) -> Result<Step, BodyError> {
        let mut at = 0;
        loop {
            let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) else {
                return Ok(Step { consumed: at, data: at..at });
            };
            let left = match self.state {
                State::Done => return Ok(Step { consumed: at, data: at..at }),
                State::UntilClose => u64::MAX,
                State::Length(left) | State::Data { left } => left,
                _ => {
                    at += self.control(rest)?;
                    continue;
                }
            };
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let left = left.saturating_sub(length as u64);
            self.state = match self.state {
                State::Length(_) if left == 0 => State::Done,
                State::Length(_) => State::Length(left),
                State::Data { .. } if left == 0 => State::DataReturn,
                State::Data { .. } => State::Data { left },
                state => state,
            };
            return Ok(Step { consumed: at + length, data: at..at + length });
        }
    }

    /// Takes what stands before the next payload, or before the end; returns how many bytes it were.
    pub(crate) fn skip_control(&mut self, input: &[u8]) -> Result<usize, BodyError> {
        let mut at = 0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            if matches!(self.state, State::Done | State::UntilClose | State::Length(_) | State::Data { .. }) {
                break;
            }
            at += self.control(rest)?;
        }
        Ok(at)
    }

    /// Takes one byte of the chunked coding that is no payload.
    fn control(&mut self, rest: &[u8]) -> Result<usize, BodyError> {
        let Some(&byte) = rest.first() else { return Ok(0) };
        self.state = match (self.state, byte) {
            (State::Size { digits, .. }, _) if digits == MAX_SIZE_DIGITS && byte.is_ascii_hexdigit() => {
                return Err(BodyError::Malformed);
            }
            (State::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                State::Size { value: value * 16 + u64::from(digit), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(BodyError::Malformed),
            (State::Size { value, .. }, b'\r') => State::SizeLineFeed { value },
            (State::Size { value, .. }, b';') => State::Extension { value, bytes: 0 },
            (State::Extension { value, .. }, b'\r') => State::SizeLineFeed { value },
            (State::Extension { bytes: MAX_EXTENSION_BYTES, .. }, _) => return Err(BodyError::TooLong),
            (State::Extension { value, bytes }, _) if byte == b'\t' || (byte >= b' ' && byte != 0x7f) => {
                State::Extension { value, bytes: bytes + 1 }
            }
            (State::SizeLineFeed { value: 0 }, b'\n') => State::Trailers,
            (State::SizeLineFeed { value }, b'\n') => State::Data { left: value },
            (State::DataReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Size { value: 0, digits: 0 },
            (State::Trailers, _) => return self.trailer(byte).map(|()| 1),
            _ => return Err(BodyError::Malformed),
        };
        Ok(1)
    }

    fn trailer(&mut self, byte: u8) -> Result<(), BodyError> {
        let before = self.trailers.last().copied();
        if (byte == b'\n') != (before == Some(b'\r')) {
            return Err(BodyError::Malformed);
        }
        if self.trailers.len() == MAX_TRAILER_BYTES {
            return Err(BodyError::TooLong);
        }
        self.trailers.push(byte);
        if self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n") {
            self.trailers = forwardable(&self.trailers)?;
            self.state = State::Done;
        }
        Ok(())
    }
}

fn forwardable(section: &[u8]) -> Result<Vec<u8>, BodyError> {
    let mut kept = Vec::new();
    let mut headers = [httparse::EMPTY_HEADER; super::MAX_HEADERS];
    match httparse::parse_headers(section, &mut headers) {
        Ok(httparse::Status::Complete((length, headers))) if length == section.len() => {
            for header in headers.iter().filter(|header| may_be_trailer(header.name.as_bytes())) {
                kept.extend_from_slice(header.name.as_bytes());
                kept.extend_from_slice(b": ");
                kept.extend_from_slice(header.value);
                kept.extend_from_slice(b"\r\n");
            }
            Ok(kept)
        }
        Ok(_) | Err(_) => Err(BodyError::Malformed),
    }
}

/// Appends one chunk; nothing for no data, which would end the body.
pub(crate) fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk and the trailers.
pub(crate) fn write_last_chunk(trailers: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a whole body came to: payload, trailers, bytes left over.
    fn read(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>, bool, usize), BodyError> {
        let mut body = Body::new(framing);
        let mut payload = Vec::new();
        let mut extra = 0;
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() && !body.is_done() {
                let step = body.step(rest)?;
                assert!(step.consumed > 0);
                payload.extend_from_slice(&rest[step.data]);
                rest = &rest[step.consumed..];
            }
            extra += rest.len();
        }
        Ok((payload, body.trailers().to_vec(), body.is_done(), extra))
    }

    fn split<'a>(text: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts {
            pieces.push(&text[from..cut]);
            from = cut;
        }
        pieces.push(&text[from..]);
        pieces
    }

    #[test]
    fn chunks_are_read_and_extensions_and_trailers_checked() {
        let text =
            b"5;a=\"b\"\r\nhello\r\n00A\r\n0123456789\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\r\nGET";
        let (payload, trailers, done, extra) = read(Framing::Chunked, &[text]).unwrap();
        assert_eq!(payload, b"hello0123456789");
        assert_eq!(trailers, b"X-Sum: 7\r\n");
        assert!(done);
        assert_eq!(extra, 3);
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for bad in [
            &b"ZZ\r\n"[..],
            b"\r\n",
            b" 5\r\nhello",
            b"5 \r\nhello",
            b"5\nhello",
            b"5\r\nhelloX",
            b"5\r\nhello\n",
            b"+5\r\n",
            b"0x5\r\n",
            b"1000000000000000\r\n",
            b"5;a\nb\r\n",
            b"5;a\0\r\n",
            b"0\r\nX: 1\n\r\n",
            b"0\r\nno colon\r\n\r\n",
            b"0\r\n X: folded\r\n\r\n",
            b"0\r\n\rX",
        ] {
            assert_eq!(
                read(Framing::Chunked, &[bad]),
                Err(BodyError::Malformed),
                "{:?}",
                String::from_utf8_lossy(bad)
            );
        }
        let long = format!("5;{}\r\n", "a".repeat(2000));
        assert_eq!(read(Framing::Chunked, &[long.as_bytes()]), Err(BodyError::TooLong));
        let long = format!("0\r\nX: {}\r\n\r\n", "a".repeat(9000));
        assert_eq!(read(Framing::Chunked, &[long.as_bytes()]), Err(BodyError::TooLong));
    }

    proptest! {
        #[test]
        fn any_split_of_chunks_reads_the_same(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6),
            trailer in proptest::option::of("[a-z]{1,8}"),
            noise in proptest::option::of((0usize..200, any::<u8>())),
            cuts in proptest::collection::vec(0usize..400, 0..8),
        ) {
            let mut text = Vec::new();
            chunks.iter().for_each(|chunk| write_chunk(chunk, &mut text));
            let line = trailer.map_or_else(String::new, |value| format!("X-Trailer: {value}\r\n"));
            write_last_chunk(line.as_bytes(), &mut text);
            if let Some((at, byte)) = noise {
                let at = at % text.len();
                text[at] = byte;
            }
            let whole = read(Framing::Chunked, &[&text]);
            if noise.is_none() {
                let expected = (chunks.concat(), line.into_bytes(), true, 0);
                prop_assert_eq!(whole.as_ref(), Ok(&expected));
            }
            prop_assert_eq!(read(Framing::Chunked, &split(&text, &cuts)), whole);
        }

        #[test]
        fn any_split_of_a_length_reads_the_same(
            text in proptest::collection::vec(any::<u8>(), 0..100),
            length in 0u64..120,
            cuts in proptest::collection::vec(0usize..100, 0..8),
        ) {
            let whole = read(Framing::Length(length), &[&text]).unwrap();
            prop_assert_eq!(whole.0.len() as u64, length.min(text.len() as u64));
            prop_assert_eq!(whole.2, length <= text.len() as u64);
            prop_assert_eq!(read(Framing::Length(length), &split(&text, &cuts)).unwrap(), whole);
        }
    }
}
