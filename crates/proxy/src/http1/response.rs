//! A target's answer head: read strictly, written anew for the client.

use httparse::Status;

use super::header::Kind;
use super::{
    Framing, HeaderLines, MAX_HEAD_BYTES, MAX_HEADERS, Slots, Version, has_only_whole_line_ends, offset_in,
    parse_length, tokens,
};
use crate::cookie::CookieRules;
use crate::digits::write_decimal;
use crate::duty;
use crate::view::WEBSOCKET;

/// What was asked decides how an answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// It was a `HEAD`, whose answer has no body.
    pub(crate) head: bool,
    /// It was a `GET`.
    pub(crate) get: bool,
    /// It asked for an upgrade that was passed on, so a 101 is acceptable.
    pub(crate) websocket: bool,
}

/// An answer that breaks the rules of HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not acceptable: {0}")]
pub(crate) struct InvalidResponse(pub(crate) &'static str);

/// An answer's head that was found to be sound.
#[derive(Debug)]
pub(crate) struct Response<'h, 'b> {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    /// Whether the target leaves the connection open after the answer.
    pub(crate) keep_alive: bool,
    /// The length of the head in the buffer.
    pub(crate) head_len: usize,
    pub(crate) headers: HeaderLines<'h, 'b>,
    buffer: &'b [u8],
    /// What a length is told to be where there is no body to measure: an answer to `HEAD`, or a 304.
    told_length: Option<u64>,
    names_headers: bool,
    upgrade: Option<&'b [u8]>,
}

/// Reads the head at the front of a buffer; none where it is not complete yet. Where an upgrade was asked for, it is one to a
/// WebSocket.
pub(crate) fn parse<'h, 'b>(
    buffer: &'b [u8],
    slots: &'h mut Slots<'b>,
    asked: Asked,
) -> Result<Option<Response<'h, 'b>>, InvalidResponse> {
    parse_upgraded(buffer, slots, asked, asked.websocket.then_some(WEBSOCKET))
}

/// Reads the head at the front of a buffer, of an answer to a request that asked for an upgrade or for none.
pub(crate) fn parse_upgraded<'h, 'b>(
    buffer: &'b [u8],
    slots: &'h mut Slots<'b>,
    asked: Asked,
    upgrade: Option<&str>,
) -> Result<Option<Response<'h, 'b>>, InvalidResponse> {
    if !b"HTTP/1.".starts_with(buffer.get(..7).unwrap_or(buffer)) {
        return Err(InvalidResponse("not HTTP/1"));
    }
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let lines = slots.lines.get_mut(..MAX_HEADERS).unwrap_or_default();
    let head_len = match config.parse_response_with_uninit_headers(&mut response, buffer, lines) {
        Ok(Status::Complete(length)) if length <= MAX_HEAD_BYTES => length,
        Ok(Status::Partial) if buffer.len() <= MAX_HEAD_BYTES => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(InvalidResponse("head too large")),
        Err(_) => return Err(InvalidResponse("malformed head")),
    };
    if !buffer.get(..head_len).is_some_and(has_only_whole_line_ends) {
        return Err(InvalidResponse("bare line feed"));
    }
    let (Some(status), Some(minor)) = (response.code, response.version) else {
        return Err(InvalidResponse("malformed head"));
    };
    if status < 100 {
        return Err(InvalidResponse("status"));
    }
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let headers = HeaderLines::of(response.headers, &mut slots.kinds);
    let lines = Lines::collect(headers, version)?;
    let has_body = !(asked.head || status < 200 || status == 204 || status == 304);
    let is_upgrade = |told: &[u8]| upgrade.is_some_and(|asked| told.eq_ignore_ascii_case(asked.as_bytes()));
    if status == 101 && !lines.upgrade.is_some_and(is_upgrade) {
        return Err(InvalidResponse("an upgrade that was not asked for"));
    }
    let framing = match (has_body, lines.chunked, lines.length) {
        (_, true, Some(_)) => return Err(InvalidResponse("length and transfer coding")),
        (false, _, _) => Framing::None,
        (true, true, None) => Framing::Chunked,
        (true, false, Some(length)) => Framing::Length(length),
        (true, false, None) => Framing::UntilClose,
    };
    let told_length = lines.length.filter(|_| asked.head || status == 304);
    let keep_alive = lines.keep_alive && framing != Framing::UntilClose && status != 101;
    Ok(Some(Response {
        status,
        framing,
        keep_alive,
        head_len,
        headers,
        buffer,
        told_length,
        names_headers: lines.names_headers,
        upgrade: lines.upgrade,
    }))
}

struct Lines<'b> {
    length: Option<u64>,
    chunked: bool,
    keep_alive: bool,
    upgrade: Option<&'b [u8]>,
    names_headers: bool,
}

impl<'b> Lines<'b> {
    fn collect(headers: HeaderLines<'_, 'b>, version: Version) -> Result<Self, InvalidResponse> {
        let mut lines = Self {
            length: None,
            chunked: false,
            keep_alive: version == Version::Http11,
            upgrade: None,
            names_headers: false,
        };
        for (kind, header) in headers.iter() {
            match kind {
                Kind::ContentLength => {
                    let length = parse_length(header.value).ok_or(InvalidResponse("malformed length"))?;
                    if lines.length.is_some_and(|before| before != length) {
                        return Err(InvalidResponse("two lengths"));
                    }
                    lines.length = Some(length);
                }
                Kind::TransferEncoding
                    if version == Version::Http10
                        || lines.chunked
                        || !header.value.eq_ignore_ascii_case(b"chunked") =>
                {
                    return Err(InvalidResponse("transfer coding not supported"));
                }
                Kind::TransferEncoding => lines.chunked = true,
                Kind::Upgrade => lines.upgrade = Some(header.value),
                Kind::Connection => {
                    for token in tokens(header.value) {
                        if token.eq_ignore_ascii_case(b"close") {
                            lines.keep_alive = false;
                        } else if token.eq_ignore_ascii_case(b"keep-alive") {
                            lines.keep_alive |= version == Version::Http10;
                        } else if !token.eq_ignore_ascii_case(b"upgrade") {
                            lines.names_headers = true;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(lines)
    }
}

/// How the client gets an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery<'a> {
    /// What the client speaks.
    pub(crate) version: Version,
    /// Whether its connection stays open.
    pub(crate) keep_alive: bool,
    /// The `Date` to give to an answer that has none.
    pub(crate) date: &'a [u8],
    /// What is done to the cookies.
    pub(crate) cookies: Option<&'a CookieRules>,
}

/// How a body is sent to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// The bytes as they are.
    Plain,
    /// In chunks.
    Chunked,
}

impl Response<'_, '_> {
    /// Says how the client can be told where the body ends, and whether its connection can stay open after it.
    pub(crate) fn coding(&self, version: Version) -> (Coding, bool) {
        match (self.framing, version) {
            (Framing::None | Framing::Length(_), _) => (Coding::Plain, true),
            (Framing::Chunked | Framing::UntilClose, Version::Http11) => (Coding::Chunked, true),
            (Framing::Chunked | Framing::UntilClose, Version::Http10) => (Coding::Plain, false),
        }
    }

    /// Appends a final answer's head as the client gets it.
    pub(crate) fn write(&self, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
        let (coding, _) = self.coding(delivery.version);
        write_status_line(self.status, out);
        let has_date = self.write_kept_lines(coding, delivery.cookies, out);
        if !has_date {
            out.extend_from_slice(b"Date: ");
            out.extend_from_slice(delivery.date);
            out.extend_from_slice(b"\r\n");
        }
        let length = if let Framing::Length(length) = self.framing { Some(length) } else { self.told_length };
        if let Some(length) = length {
            out.extend_from_slice(b"Content-Length: ");
            write_decimal(length, out);
            out.extend_from_slice(b"\r\n");
        } else if coding == Coding::Chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if !delivery.keep_alive {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if delivery.version == Version::Http10 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Appends an interim answer's head (1xx) as the client gets it; for a 101 with its upgrade.
    pub(crate) fn write_interim(&self, cookies: Option<&CookieRules>, out: &mut Vec<u8>) {
        write_status_line(self.status, out);
        self.write_kept_lines(Coding::Plain, cookies.filter(|_| self.status == 101), out);
        if let (101, Some(upgrade)) = (self.status, self.upgrade) {
            let is_websocket = upgrade.eq_ignore_ascii_case(WEBSOCKET.as_bytes());
            out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
            out.extend_from_slice(if is_websocket { WEBSOCKET.as_bytes() } else { upgrade });
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Returns the value of the first line of a kind.
    pub(crate) fn first(&self, wanted: Kind) -> Option<&[u8]> {
        self.headers.first(wanted)
    }

    /// Copies neighbouring lines that stay in one go, and those that are changed; says whether a `Date` was among them.
    fn write_kept_lines(&self, coding: Coding, cookies: Option<&CookieRules>, out: &mut Vec<u8>) -> bool {
        let scope = cookies.and_then(|rules| rules.scope.as_ref());
        let affinity = cookies.and_then(|rules| rules.affinity);
        let mut declines = false;
        let mut has_date = false;
        let mut run_start = None;
        for (kind, header) in self.headers.iter() {
            let named = self.names_headers && self.headers.connection_names(header.name.as_bytes());
            let kept = match kind {
                Kind::Connection | Kind::ContentLength | Kind::TransferEncoding | Kind::Upgrade => false,
                Kind::HopByHop | Kind::Te => false,
                Kind::Trailer => coding == Coding::Chunked,
                Kind::Date => {
                    has_date = true;
                    true
                }
                Kind::ContentType => true,
                Kind::SetCookie => scope.is_none(),
                Kind::Other
                    if affinity.is_some() && header.name.eq_ignore_ascii_case(duty::DECLINING_HEADER) =>
                {
                    declines |= header.value == b"false";
                    false
                }
                _ => !named,
            };
            let start = offset_in(self.buffer, header.name.as_bytes());
            if kept {
                run_start.get_or_insert(start);
            } else if let Some(from) = run_start.take() {
                out.extend_from_slice(self.buffer.get(from..start).unwrap_or_default());
            }
            if let (Kind::SetCookie, Some(scope)) = (kind, scope) {
                scope.write(header.value, out);
            }
        }
        if let Some(from) = run_start {
            let end = self.head_len.saturating_sub(2);
            out.extend_from_slice(self.buffer.get(from..end).unwrap_or_default());
        }
        if let Some(affinity) = affinity.filter(|_| !declines) {
            duty::write_cookie(affinity, out);
        }
        if let Some(visitor) = cookies.and_then(|rules| rules.visitor.as_ref()) {
            visitor.write(out);
        }
        has_date
    }
}

/// Appends a status line with the usual reason phrase.
pub(crate) fn write_status_line(status: u16, out: &mut Vec<u8>) {
    if status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    out.extend_from_slice(format!("HTTP/1.1 {status} {}\r\n", reason.unwrap_or("")).as_bytes());
}

#[cfg(test)]
mod tests;
