//! HTTP/1 without any input or output: heads in, rewritten heads and body framing out.
//!
//! The reader is strict. What two programs could read differently (a length given twice, a bare line feed, a folded
//! line) is refused and never repaired, because a proxy that repairs decides alone where a request ends.
//! <https://www.rfc-editor.org/rfc/rfc9112#section-11.2>

pub(crate) mod body;
pub(crate) mod header;
pub(crate) mod request;
pub(crate) mod response;

use std::io::BufRead;
use std::mem::MaybeUninit;

use header::Kind;

/// The longest head, in bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 32 * 1024;

/// The most header lines.
pub(crate) const MAX_HEADERS: usize = 128;

/// The most header lines of a head that we have written: those that we add come on top.
const MAX_FORWARDED_HEADERS: usize = MAX_HEADERS + 32;

/// The longest head that we have written, in bytes: some of a client's stands in it twice.
const MAX_FORWARDED_HEAD_BYTES: usize = 3 * MAX_HEAD_BYTES;

/// Room for the header lines of one head and what each of them is; lives on the stack of a function that never waits.
#[derive(Debug)]
pub(crate) struct Slots<'b> {
    lines: [MaybeUninit<httparse::Header<'b>>; MAX_FORWARDED_HEADERS],
    kinds: [Kind; MAX_FORWARDED_HEADERS],
}

/// Makes room for the header lines of one head.
pub(crate) fn slots<'b>() -> Slots<'b> {
    Slots {
        lines: [const { MaybeUninit::uninit() }; MAX_FORWARDED_HEADERS],
        kinds: [Kind::Other; MAX_FORWARDED_HEADERS],
    }
}

/// The header lines of a head, each with the part that it plays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderLines<'h, 'b> {
    lines: &'h [httparse::Header<'b>],
    kinds: &'h [Kind],
}

impl<'h, 'b> HeaderLines<'h, 'b> {
    fn of(lines: &'h [httparse::Header<'b>], kinds: &'h mut [Kind; MAX_FORWARDED_HEADERS]) -> Self {
        for (line, kind) in lines.iter().zip(kinds.iter_mut()) {
            *kind = header::kind(line.name.as_bytes());
        }
        Self { lines, kinds: kinds.get(..lines.len()).unwrap_or_default() }
    }

    /// Returns every line with its kind, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Kind, &'h httparse::Header<'b>)> + use<'h, 'b> {
        self.kinds.iter().copied().zip(self.lines)
    }

    /// Returns the value of the first line of a kind.
    pub(crate) fn first(&self, wanted: Kind) -> Option<&'b [u8]> {
        self.iter().find(|(kind, _)| *kind == wanted).map(|(_, line)| line.value)
    }

    /// Says whether a `Connection` line names a header.
    pub(crate) fn connection_names(&self, name: &[u8]) -> bool {
        self.iter()
            .filter(|(kind, _)| *kind == Kind::Connection)
            .any(|(_, line)| tokens(line.value).any(|token| token.eq_ignore_ascii_case(name)))
    }
}

/// The version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http10,
    Http11,
}

impl Version {
    /// Returns the version as the log names it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    None,
    /// It has so many bytes.
    Length(u64),
    /// It is in chunks.
    Chunked,
    /// It ends with the connection; answers only.
    UntilClose,
}

/// Says whether every line feed ends a `CR LF`.
pub(crate) fn has_only_whole_line_ends(head: &[u8]) -> bool {
    let mut rest = head;
    while !rest.is_empty() {
        let whole = rest;
        // Reading from memory does not fail, and finds a byte by wide instructions.
        let length = rest.skip_until(b'\n').unwrap_or(whole.len());
        let line = whole.get(..length).unwrap_or_default();
        if line.ends_with(b"\n") && !line.ends_with(b"\r\n") {
            return false;
        }
    }
    true
}

/// Reads a `Content-Length`: digits and nothing else.
pub(crate) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The tokens of a comma-separated list, without blanks around them.
pub(crate) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Where a piece of a buffer begins in it.
fn offset_in(buffer: &[u8], piece: &[u8]) -> usize {
    (piece.as_ptr() as usize).saturating_sub(buffer.as_ptr() as usize)
}
