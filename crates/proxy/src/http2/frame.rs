//! The heads of frames. <https://www.rfc-editor.org/rfc/rfc9113#section-4.1>

/// How long one is.
pub(super) const HEAD_BYTES: usize = 9;

/// The longest payload of a frame that we take, and that we send.
pub(super) const MAX_PAYLOAD_BYTES: usize = 16_384;

/// The bits of a stream's identifier, and of a window.
pub(super) const MAX_31_BITS: u32 = 0x7fff_ffff;

/// The kinds of frames.
pub(super) mod kind {
    pub(in crate::http2) const DATA: u8 = 0;
    pub(in crate::http2) const HEADERS: u8 = 1;
    pub(in crate::http2) const PRIORITY: u8 = 2;
    pub(in crate::http2) const RST_STREAM: u8 = 3;
    pub(in crate::http2) const SETTINGS: u8 = 4;
    pub(in crate::http2) const PUSH_PROMISE: u8 = 5;
    pub(in crate::http2) const PING: u8 = 6;
    pub(in crate::http2) const GOAWAY: u8 = 7;
    pub(in crate::http2) const WINDOW_UPDATE: u8 = 8;
    pub(in crate::http2) const CONTINUATION: u8 = 9;
}

/// What frames are marked with.
pub(super) mod flag {
    pub(in crate::http2) const END_STREAM: u8 = 1;
    pub(in crate::http2) const ACKNOWLEDGEMENT: u8 = 1;
    pub(in crate::http2) const END_HEADERS: u8 = 4;
    pub(in crate::http2) const PADDED: u8 = 8;
    pub(in crate::http2) const PRIORITY: u8 = 32;
}

/// Why a stream or a connection ends. <https://www.rfc-editor.org/rfc/rfc9113#section-7>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Code {
    NoError = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    RefusedStream = 7,
    Cancel = 8,
    Compression = 9,
    EnhanceYourCalm = 11,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl FrameHead {
    /// Makes one.
    pub(super) fn new(kind: u8, flags: u8, stream: u32, length: usize) -> Self {
        Self { length, kind, flags, stream }
    }

    /// Reads the one at the front; none where it is not there as a whole.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [high, middle, low, kind, flags, stream @ ..] = *bytes.first_chunk::<HEAD_BYTES>()?;
        let length = usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok()?;
        Some(Self { length, kind, flags, stream: u32::from_be_bytes(stream) & MAX_31_BITS })
    }

    /// Says whether it has a mark.
    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns its bytes.
    pub(super) fn bytes(self) -> [u8; HEAD_BYTES] {
        let [_, high, middle, low] = u32::try_from(self.length).unwrap_or_default().to_be_bytes();
        let [a, b, c, d] = self.stream.to_be_bytes();
        [high, middle, low, self.kind, self.flags, a, b, c, d]
    }

    /// Appends it.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes());
    }
}

/// Appends a frame whose payload is a number, or two.
pub(super) fn write_numbers(kind: u8, stream: u32, numbers: &[u32], out: &mut Vec<u8>) {
    FrameHead::new(kind, 0, stream, numbers.len() * 4).write(out);
    for number in numbers {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// Reads the number at the front of a payload.
pub(super) fn number(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_are_written() {
        let head = FrameHead::new(kind::DATA, flag::END_STREAM, MAX_31_BITS, 0x01_02_03);
        let bytes = head.bytes();
        assert_eq!(bytes, [1, 2, 3, 0, 1, 0x7f, 0xff, 0xff, 0xff]);
        assert_eq!(FrameHead::parse(&bytes), Some(head));
        assert_eq!(FrameHead::parse(&bytes[..8]), None);
        // The reserved bit is not looked at.
        assert_eq!(FrameHead::parse(&[1, 2, 3, 0, 1, 0xff, 0xff, 0xff, 0xff]), Some(head));
    }
}
