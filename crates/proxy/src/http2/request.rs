//! A client's fields, written out as a head of HTTP/1.1.

use std::ops::Range;

use crate::http1::{MAX_HEAD_BYTES, MAX_HEADERS, parse_length};

/// The room that a head usually takes.
const HEAD_BYTES: usize = 512;

/// How a message's body is told in HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// By its length, or there is none.
    Plain,
    /// In chunks.
    Chunked,
}

/// Why a request is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// RFC 9113 calls it malformed, for this reason.
    Malformed(&'static str),
    /// It has too many fields, or too long ones.
    TooLarge,
}

/// A request's head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) text: Vec<u8>,
    pub(super) told: Told,
    /// How long the client says that the body is.
    pub(super) length: Option<u64>,
    pub(super) is_head: bool,
}

/// Writes a head while its fields come. What it means is judged by whoever reads it.
///
/// `:authority` and a `Host` that differs from it both appear, so that the reader refuses two hosts.
#[derive(Debug)]
pub(super) struct HeadWriter {
    text: Vec<u8>,
    /// The values of the pseudo-headers, behind each other.
    pseudo: Vec<u8>,
    method: Option<Range<usize>>,
    scheme: Option<Range<usize>>,
    authority: Option<Range<usize>>,
    path: Option<Range<usize>>,
    /// What HTTP/2 may have parted. <https://www.rfc-editor.org/rfc/rfc9113#section-8.2.3>
    cookies: Vec<u8>,
    length: Option<u64>,
    count: usize,
    unfit: Option<Unfit>,
}

impl HeadWriter {
    /// Begins an empty one.
    pub(super) fn new() -> Self {
        Self {
            text: Vec::with_capacity(HEAD_BYTES),
            pseudo: Vec::with_capacity(128),
            method: None,
            scheme: None,
            authority: None,
            path: None,
            cookies: Vec::new(),
            length: None,
            count: 0,
            unfit: None,
        }
    }

    /// Takes the next field. Behind one that does not fit, the others are only looked through.
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        if self.unfit.is_some() {
            return;
        }
        let length = self.text.len() + self.pseudo.len() + self.cookies.len() + name.len() + value.len() + 4;
        self.count += 1;
        if length > MAX_HEAD_BYTES || self.count > MAX_HEADERS * 2 {
            self.unfit = Some(Unfit::TooLarge);
            return;
        }
        let taken =
            if name.first() == Some(&b':') { self.pseudo(name, value) } else { self.line(name, value) };
        self.unfit = taken.err().map(Unfit::Malformed);
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if !self.text.is_empty() {
            return Err("a pseudo-header behind a header");
        }
        let place = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            _ => return Err("an unknown pseudo-header"),
        };
        // What would end a word of a request's first line.
        if !value.iter().all(|byte| *byte > b' ' && *byte != 0x7f) {
            return Err("a character that may not stand in a pseudo-header");
        }
        let from = self.pseudo.len();
        self.pseudo.extend_from_slice(value);
        match place.replace(from..self.pseudo.len()) {
            None => Ok(()),
            Some(_) => Err("a pseudo-header twice"),
        }
    }

    fn told(&self, range: &Option<Range<usize>>) -> Option<&[u8]> {
        self.pseudo.get(range.clone()?)
    }

    /// Writes the first line, and the host, once all pseudo-headers are known.
    fn first_line(&mut self) -> Result<(), &'static str> {
        let mut text = std::mem::take(&mut self.text);
        let method = self.told(&self.method).ok_or("no method")?;
        if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
            return Err("a malformed method");
        }
        let (scheme, path) = (self.told(&self.scheme), self.told(&self.path));
        let authority = self.told(&self.authority);
        let target = if method == b"CONNECT" {
            if scheme.is_some() || path.is_some() {
                return Err("CONNECT with a scheme or a path");
            }
            authority.filter(|authority| !authority.is_empty()).ok_or("CONNECT without an authority")?
        } else {
            let scheme = scheme.ok_or("no scheme")?;
            let sound = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
            if !scheme.first().is_some_and(u8::is_ascii_alphabetic) || !scheme.iter().all(sound) {
                return Err("a malformed scheme");
            }
            let path = path.ok_or("no path")?;
            // A path in another form would name another authority.
            if path.first() != Some(&b'/') && !(path == b"*" && method == b"OPTIONS") {
                return Err("a path that does not begin with a slash");
            }
            path
        };
        text.extend_from_slice(method);
        text.push(b' ');
        text.extend_from_slice(target);
        text.extend_from_slice(b" HTTP/1.1\r\n");
        if let Some(authority) = authority {
            write_line(b"host", authority, &mut text);
        }
        self.text = text;
        Ok(())
    }

    fn line(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if self.text.is_empty() {
            self.first_line()?;
        }
        check(name, value)?;
        match name {
            b"cookie" => {
                if !self.cookies.is_empty() {
                    self.cookies.extend_from_slice(b"; ");
                }
                self.cookies.extend_from_slice(value);
                return Ok(());
            }
            b"host" => {
                let is_same = |authority: &[u8]| authority.eq_ignore_ascii_case(value);
                if self.told(&self.authority).is_some_and(is_same) {
                    return Ok(());
                }
            }
            b"te" if !value.eq_ignore_ascii_case(b"trailers") => return Err("TE with more than trailers"),
            b"content-length" => {
                let length = parse_length(value).ok_or("a malformed length")?;
                if self.length.replace(length).is_some() {
                    return Err("two lengths");
                }
            }
            _ => {}
        }
        write_line(name, value, &mut self.text);
        Ok(())
    }

    /// Ends the head; `ends` says that no body follows.
    pub(super) fn finish(mut self, ends: bool) -> Result<Head, Unfit> {
        if self.unfit.is_none() && self.text.is_empty() {
            self.unfit = self.first_line().err().map(Unfit::Malformed);
        }
        if let Some(unfit) = self.unfit {
            return Err(unfit);
        }
        if ends && self.length.is_some_and(|length| length > 0) {
            return Err(Unfit::Malformed("a length without a body"));
        }
        let is_head = self.told(&self.method) == Some(b"HEAD");
        let Self { mut text, cookies, length, .. } = self;
        if !cookies.is_empty() {
            write_line(b"cookie", &cookies, &mut text);
        }
        let told = if ends || length.is_some() { Told::Plain } else { Told::Chunked };
        if told == Told::Chunked {
            text.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        text.extend_from_slice(b"\r\n");
        Ok(Head { text, told, length, is_head })
    }
}

/// Writes the lines behind a body while their fields come.
#[derive(Debug, Default)]
pub(super) struct TrailerWriter {
    text: Vec<u8>,
    fault: Option<&'static str>,
}

impl TrailerWriter {
    /// Takes the next field.
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        if self.text.len() + name.len() + value.len() + 4 > MAX_HEAD_BYTES {
            self.fault = Some("trailers that are too long");
        } else if let Err(fault) = check(name, value) {
            self.fault = Some(fault);
        } else {
            write_line(name, value, &mut self.text);
        }
    }

    /// Returns the lines, each with its end.
    pub(super) fn finish(self) -> Result<Vec<u8>, &'static str> {
        self.fault.map_or(Ok(self.text), Err)
    }
}

/// Says what is wrong about a field, if anything is. <https://www.rfc-editor.org/rfc/rfc9113#section-8.2>
fn check(name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    if name.first() == Some(&b':') {
        return Err("a pseudo-header in trailers");
    }
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte) && !byte.is_ascii_uppercase()) {
        return Err("a malformed name");
    }
    let is_blank = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b' ' | b'\t'));
    let is_sound = |byte: &u8| (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t';
    if is_blank(value.first()) || is_blank(value.last()) || !value.iter().all(is_sound) {
        return Err("a malformed value");
    }
    match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            Err("a header about one connection of HTTP/1")
        }
        _ => Ok(()),
    }
}

/// Says whether a character may stand in a name or a method. <https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2>
fn is_token(byte: u8) -> bool {
    TOKENS.get(usize::from(byte)).copied().unwrap_or_default()
}

#[expect(
    clippy::indexing_slicing,
    reason = "computed by the compiler, which would refuse an index that is wrong"
)]
const TOKENS: [bool; 256] = {
    let mut tokens = [false; 256];
    let mut at = 0;
    while at < 128 {
        tokens[at] = (at as u8).is_ascii_alphanumeric();
        at += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    at = 0;
    while at < marks.len() {
        tokens[marks[at] as usize] = true;
        at += 1;
    }
    tokens
};

fn write_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "http"), (":path", "/a?b"), (":authority", "shop.example.com")];

    fn head(fields: &[(&str, &str)], ends: bool) -> Result<String, Unfit> {
        let mut writer = HeadWriter::new();
        for (name, value) in fields {
            writer.field(name.as_bytes(), value.as_bytes());
        }
        writer.finish(ends).map(|head| String::from_utf8(head.text).unwrap())
    }

    fn with(extra: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        [&GET, extra].concat()
    }

    #[test]
    fn heads_are_written_as_http1_has_them() {
        assert_eq!(head(&GET, true).unwrap(), "GET /a?b HTTP/1.1\r\nhost: shop.example.com\r\n\r\n");
        let cookies = with(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("host", "SHOP.example.com")]);
        assert_eq!(
            head(&cookies, false).unwrap(),
            "GET /a?b HTTP/1.1\r\nhost: shop.example.com\r\nx: y\r\ncookie: a=1; b=2\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        let sized = with(&[("content-length", "3")]);
        assert!(head(&sized, false).unwrap().ends_with("content-length: 3\r\n\r\n"));
        let connect = [(":method", "CONNECT"), (":authority", "a:1")];
        assert_eq!(head(&connect, true).unwrap(), "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n");
        let all = [(":method", "OPTIONS"), (":scheme", "https"), (":path", "*")];
        assert_eq!(head(&all, true).unwrap(), "OPTIONS * HTTP/1.1\r\n\r\n");
        // Two hosts are for the reader to refuse.
        assert_eq!(head(&with(&[("host", "b")]), true).unwrap().matches("host: ").count(), 2);
    }

    #[test]
    fn what_is_malformed_is_told() {
        for fields in [
            with(&[("connection", "close")]),
            with(&[("transfer-encoding", "chunked")]),
            with(&[("te", "gzip")]),
            with(&[("x", "a\r\nb: c")]),
            with(&[("x", "a\nb")]),
            with(&[("x", "a\0b")]),
            with(&[("x", " a")]),
            with(&[("x", "a\t")]),
            with(&[("X", "a")]),
            with(&[("x:y", "a")]),
            with(&[("x y", "a")]),
            with(&[("", "a")]),
            with(&[(":path", "/b")]),
            with(&[("x", "y"), (":foo", "/b")]),
            with(&[("content-length", "+1")]),
            with(&[("content-length", "0"), ("content-length", "0")]),
            with(&[("content-length", "1")]),
            GET[1..].to_vec(),
            vec![GET[0], GET[2], GET[3]],
            vec![GET[0], GET[1], GET[3]],
            vec![GET[0], GET[1], (":path", ""), GET[3]],
            vec![GET[0], GET[1], (":path", "a"), GET[3]],
            vec![GET[0], GET[1], (":path", "*"), GET[3]],
            vec![GET[0], GET[1], (":path", "/ HTTP/1.1"), GET[3]],
            vec![GET[0], (":scheme", "1"), GET[2], GET[3]],
            vec![(":method", "G T"), GET[1], GET[2], GET[3]],
            vec![(":method", ""), GET[1], GET[2], GET[3]],
            vec![(":method", "CONNECT"), GET[1], GET[2], GET[3]],
            vec![(":method", "CONNECT")],
            vec![(":method", "CONNECT"), (":authority", "a"), (":protocol", "websocket")],
        ] {
            let found = head(&fields, true);
            assert!(matches!(found, Err(Unfit::Malformed(_))), "{fields:?}: {found:?}");
        }
    }

    #[test]
    fn heads_are_bounded_while_they_come() {
        let mut writer = HeadWriter::new();
        GET.iter().for_each(|(name, value)| writer.field(name.as_bytes(), value.as_bytes()));
        for _ in 0..100_000 {
            writer.field(b"x-long", &[b'x'; 1000]);
        }
        assert!(writer.text.capacity() <= MAX_HEAD_BYTES * 2);
        assert_eq!(writer.finish(true), Err(Unfit::TooLarge));
        let crumbs = vec![("cookie", "a"); MAX_HEADERS * 2];
        assert_eq!(head(&with(&crumbs), true), Err(Unfit::TooLarge));
    }

    #[test]
    fn trailers_are_lines_without_what_frames() {
        let mut writer = TrailerWriter::default();
        writer.field(b"x-sum", b"5");
        assert_eq!(writer.finish(), Ok(b"x-sum: 5\r\n".to_vec()));
        for (name, value) in [(":path", "/"), ("X", "a"), ("te\0", "b"), ("connection", "close"), ("x", "\n")]
        {
            let mut writer = TrailerWriter::default();
            writer.field(name.as_bytes(), value.as_bytes());
            assert!(writer.finish().is_err(), "{name}");
        }
    }
}
