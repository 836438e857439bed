use bytes::{Buf, Bytes, BytesMut};

/// Which of a container's outputs bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output; also everything of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes the engine's multiplexed output apart: eight bytes of head (stream, three zeros, length), then the bytes.
///
/// Pieces come out as they arrive; a frame is never collected whole, so its length does not matter.
pub(crate) struct Frames {
    multiplexed: bool,
    buffer: BytesMut,
    current: OutputStream,
    left: usize,
}

impl Frames {
    pub(crate) fn new(tty: bool) -> Self {
        Self { multiplexed: !tty, buffer: BytesMut::new(), current: OutputStream::Stdout, left: 0 }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next piece that is there, or nothing until more is pushed.
    pub(crate) fn next(&mut self) -> Option<(OutputStream, Bytes)> {
        if !self.multiplexed {
            return (!self.buffer.is_empty()).then(|| (OutputStream::Stdout, self.buffer.split().freeze()));
        }
        while self.left == 0 {
            let head: [u8; 8] = self.buffer.get(..8)?.try_into().ok()?;
            self.buffer.advance(8);
            let [stream, _, _, _, a, b, c, d] = head;
            self.current = if stream == 2 { OutputStream::Stderr } else { OutputStream::Stdout };
            self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        }
        if self.buffer.is_empty() {
            return None;
        }
        let piece = self.buffer.split_to(self.left.min(self.buffer.len())).freeze();
        self.left -= piece.len();
        Some((self.current, piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cutting() {
        let mut wire = vec![1, 0, 0, 0, 0, 0, 0, 5];
        wire.extend(b"hello");
        wire.extend([2, 0, 0, 0, 0, 0, 0, 0]);
        wire.extend([2, 0, 0, 0, 0, 0, 0, 3]);
        wire.extend(b"err");
        for size in 1..wire.len() {
            let mut frames = Frames::new(false);
            let (mut out, mut err) = (Vec::new(), Vec::new());
            for chunk in wire.chunks(size) {
                frames.push(chunk);
                while let Some((stream, piece)) = frames.next() {
                    match stream {
                        OutputStream::Stdout => out.extend_from_slice(&piece),
                        OutputStream::Stderr => err.extend_from_slice(&piece),
                    }
                }
            }
            assert_eq!((out.as_slice(), err.as_slice()), (b"hello".as_slice(), b"err".as_slice()), "{size}");
        }
    }

    #[test]
    fn a_terminal_is_not_multiplexed() {
        let mut frames = Frames::new(true);
        frames.push(&[1, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(frames.next().unwrap().1.as_ref(), [1, 0, 0, 0, 0, 0, 0, 5]);
        assert!(frames.next().is_none());
    }
}
