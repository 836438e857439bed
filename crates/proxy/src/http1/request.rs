//! A client's request head: read strictly, judged through a [`RequestView`], written anew for the target.

use httparse::{Header, Status};

use super::header::Kind;
use super::{
    Framing, HeaderLines, MAX_FORWARDED_HEAD_BYTES, MAX_FORWARDED_HEADERS, MAX_HEAD_BYTES, MAX_HEADERS,
    Slots, Version, has_only_whole_line_ends, offset_in, parse_length, tokens,
};
use crate::client_auth::ShownCertificate;
use crate::digits::write_decimal;
use crate::view::RequestView;

/// Why a request is not taken: the status to answer and a word for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) cause: &'static str,
}

impl Refusal {
    const fn new(status: u16, cause: &'static str) -> Self {
        Self { status, cause }
    }
}

/// The form of the request's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `/path?query`
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `OPTIONS *`
    Asterisk,
    /// `CONNECT host:port`
    Authority,
}

/// A request head that was found to be sound.
#[derive(Debug)]
pub(crate) struct Request<'h, 'b> {
    pub(crate) view: RequestView<'h, 'b>,
    pub(crate) version: Version,
    pub(crate) form: Form,
    pub(crate) framing: Framing,
    /// Whether the client leaves the connection open after the answer.
    pub(crate) keep_alive: bool,
    /// Whether the client waits for a `100 Continue`.
    pub(crate) expects_continue: bool,
    /// The length of the head in the buffer.
    pub(crate) head_len: usize,
    buffer: &'b [u8],
    /// Whether `Connection` names anything but the usual words.
    names_headers: bool,
}

/// Reads the head at the front of a buffer; none where it is not complete yet.
pub(crate) fn parse<'h, 'b>(
    buffer: &'b [u8],
    slots: &'h mut Slots<'b>,
) -> Result<Option<Request<'h, 'b>>, Refusal> {
    parse_within(buffer, slots, (MAX_HEAD_BYTES, MAX_HEADERS))
}

/// Reads a head that we have written: one that we have taken, with what we add to it.
pub(crate) fn parse_forwarded<'h, 'b>(
    buffer: &'b [u8],
    slots: &'h mut Slots<'b>,
) -> Result<Option<Request<'h, 'b>>, Refusal> {
    parse_within(buffer, slots, (MAX_FORWARDED_HEAD_BYTES, MAX_FORWARDED_HEADERS))
}

fn parse_within<'h, 'b>(
    buffer: &'b [u8],
    slots: &'h mut Slots<'b>,
    (max_bytes, max_headers): (usize, usize),
) -> Result<Option<Request<'h, 'b>>, Refusal> {
    const MALFORMED: Refusal = Refusal::new(400, "malformed head");
    const TOO_LARGE: Refusal = Refusal::new(431, "head too large");
    if buffer.first().is_some_and(|first| !first.is_ascii_alphabetic()) {
        return Err(MALFORMED);
    }
    let mut request = httparse::Request::new(&mut []);
    let lines = slots.lines.get_mut(..max_headers).unwrap_or_default();
    let head_len = match request.parse_with_uninit_headers(buffer, lines) {
        Ok(Status::Complete(length)) if length <= max_bytes => length,
        Ok(Status::Partial) if buffer.len() <= max_bytes => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(TOO_LARGE),
        Err(httparse::Error::Version) if names_a_version(buffer) => {
            return Err(Refusal::new(505, "version not supported"));
        }
        Err(_) => return Err(MALFORMED),
    };
    if !buffer.get(..head_len).is_some_and(has_only_whole_line_ends) {
        return Err(Refusal::new(400, "bare line feed"));
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(MALFORMED);
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let headers = HeaderLines::of(request.headers, &mut slots.kinds);
    let lines = Lines::collect(headers, version)?;
    let (form, authority, path_and_query) = split_target(method, target)?;
    let authority = match (authority, lines.host) {
        (Some(authority), _) => authority,
        (None, Some(host)) => host,
        (None, None) if version == Version::Http10 => "",
        (None, None) => return Err(Refusal::new(400, "no host")),
    };
    let host = host_of(authority).ok_or(Refusal::new(400, "malformed host"))?;
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    if path_and_query.contains('#') || !has_whole_escapes(path) {
        return Err(Refusal::new(400, "malformed target"));
    }
    let upgrade = lines.upgrade.filter(|_| lines.connection_upgrade && version == Version::Http11);
    let upgrade = upgrade.filter(|_| lines.framing == Framing::None && form != Form::Authority);
    let view = RequestView {
        method,
        authority,
        host,
        path,
        query,
        headers,
        upgrades_to_websocket: upgrade.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
            && method == "GET",
        upgrade,
    };
    Ok(Some(Request {
        view,
        version,
        form,
        framing: lines.framing,
        keep_alive: lines.keep_alive,
        expects_continue: lines.expects_continue,
        head_len,
        buffer,
        names_headers: lines.names_headers,
    }))
}

/// Says whether a request line is sound but for the version.
fn names_a_version(buffer: &[u8]) -> bool {
    let line = buffer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    words.next().is_some_and(|word| word.starts_with(b"HTTP/")) && words.next().is_none()
}

/// What the header lines say together.
struct Lines<'b> {
    host: Option<&'b str>,
    framing: Framing,
    keep_alive: bool,
    expects_continue: bool,
    upgrade: Option<&'b [u8]>,
    connection_upgrade: bool,
    names_headers: bool,
}

impl<'b> Lines<'b> {
    fn collect(headers: HeaderLines<'_, 'b>, version: Version) -> Result<Self, Refusal> {
        let mut lines = Self {
            host: None,
            framing: Framing::None,
            keep_alive: version == Version::Http11,
            expects_continue: false,
            upgrade: None,
            connection_upgrade: false,
            names_headers: false,
        };
        let mut length = None;
        let mut chunked = false;
        for (kind, header) in headers.iter() {
            match kind {
                Kind::Host if lines.host.is_some() => return Err(Refusal::new(400, "two hosts")),
                Kind::Host => {
                    let text =
                        std::str::from_utf8(header.value).map_err(|_| Refusal::new(400, "malformed host"))?;
                    lines.host = Some(text);
                }
                Kind::ContentLength if length.is_some() => return Err(Refusal::new(400, "two lengths")),
                Kind::ContentLength => {
                    length = Some(parse_length(header.value).ok_or(Refusal::new(400, "malformed length"))?);
                }
                Kind::TransferEncoding if version == Version::Http10 => {
                    return Err(Refusal::new(400, "transfer coding in HTTP/1.0"));
                }
                Kind::TransferEncoding if chunked || !header.value.eq_ignore_ascii_case(b"chunked") => {
                    return Err(Refusal::new(501, "transfer coding not supported"));
                }
                Kind::TransferEncoding => chunked = true,
                Kind::Expect if header.value.eq_ignore_ascii_case(b"100-continue") => {
                    lines.expects_continue = version == Version::Http11;
                }
                Kind::Expect => return Err(Refusal::new(417, "expectation not supported")),
                Kind::Upgrade => lines.upgrade = Some(header.value),
                Kind::Connection => lines.connection(header.value, version),
                _ => {}
            }
        }
        lines.framing = match (length, chunked) {
            (Some(_), true) => return Err(Refusal::new(400, "length and transfer coding")),
            (None, true) => Framing::Chunked,
            (Some(length), false) => Framing::Length(length),
            (None, false) => Framing::None,
        };
        Ok(lines)
    }

    fn connection(&mut self, value: &[u8], version: Version) {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.keep_alive = false;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive |= version == Version::Http10;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.connection_upgrade = true;
            } else {
                self.names_headers = true;
            }
        }
    }
}

fn split_target<'b>(method: &str, target: &'b str) -> Result<(Form, Option<&'b str>, &'b str), Refusal> {
    const MALFORMED: Refusal = Refusal::new(400, "malformed target");
    if method == "CONNECT" {
        return Ok((Form::Authority, Some(target), "/"));
    }
    if target.starts_with('/') {
        return Ok((Form::Origin, None, target));
    }
    if target == "*" && method == "OPTIONS" {
        return Ok((Form::Asterisk, None, "*"));
    }
    let scheme = target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://")).ok_or(MALFORMED)?;
    let rest = target.get(scheme.len()..).unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).ok_or(MALFORMED)?;
    match path {
        _ if authority.is_empty() => Err(MALFORMED),
        "" => Ok((Form::Absolute, Some(authority), "/")),
        path if path.starts_with('/') => Ok((Form::Absolute, Some(authority), path)),
        _ => Err(MALFORMED),
    }
}

/// Cuts the port off an authority; none where it is malformed.
fn host_of(authority: &str) -> Option<&str> {
    if authority.is_empty() {
        return Some("");
    }
    let (host, port) = if authority.starts_with('[') {
        let end = authority.find(']')?;
        let inside = authority.get(1..end)?;
        if inside.is_empty() || !inside.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte))
        {
            return None;
        }
        (authority.get(..=end)?, authority.get(end + 1..)?)
    } else {
        let end = authority.find(':').unwrap_or(authority.len());
        let host = authority.get(..end)?;
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
        if host.is_empty() || !host.bytes().all(sound) {
            return None;
        }
        (host, authority.get(end..)?)
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    (digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() <= 5).then_some(host)
}

fn has_whole_escapes(path: &str) -> bool {
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let is_hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
            if !(is_hex(bytes.next()) && is_hex(bytes.next())) {
                return false;
            }
        }
    }
    true
}

/// What the proxy adds to a request on its way to the target.
#[derive(Debug)]
pub(crate) struct Forwarding<'a> {
    /// The client's address.
    pub(crate) peer: &'a str,
    /// Whether the client's own `X-Forwarded-*` lines are trusted.
    pub(crate) trusted: bool,
    /// What stands in place of the client's own `X-Forwarded-For`.
    pub(crate) client_ip: Option<&'a [u8]>,
    /// The scheme by which the client came.
    pub(crate) scheme: &'static str,
    /// How many bytes of the path are cut off.
    pub(crate) strip: usize,
    /// The target's address.
    pub(crate) target: &'a str,
    /// The id to give to a request that has none.
    pub(crate) request_id: &'a [u8],
    /// The Unix time in milliseconds at which the request came.
    pub(crate) started_unix_ms: u64,
    /// The certificate that the client showed to the service.
    pub(crate) client: Option<&'a ShownCertificate>,
    /// The protocol to which the connection may be upgraded.
    pub(crate) upgrade: Option<&'a str>,
}

impl Request<'_, '_> {
    /// Appends the head as the target gets it.
    pub(crate) fn write(&self, forwarding: &Forwarding<'_>, out: &mut Vec<u8>) {
        self.write_request_line(forwarding, out);
        let found = self.write_kept_lines(out);
        let mut line = |name: &[u8], value: &[u8]| {
            out.extend_from_slice(name);
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        };
        if self.form != Form::Origin || !found.host {
            let host = if self.view.authority.is_empty() { forwarding.target } else { self.view.authority };
            line(b"Host: ", host.as_bytes());
        }
        if forwarding.trusted {
            match forwarding.client_ip {
                None => line(b"X-Forwarded-For: ", &self.chain(Kind::ForwardedFor, forwarding.peer)),
                Some(ip) => line(b"X-Forwarded-For: ", &[ip, b", ", forwarding.peer.as_bytes()].concat()),
            }
            line(b"X-Kamal-Target: ", &self.chain(Kind::KamalTarget, forwarding.target));
        } else {
            line(b"X-Forwarded-For: ", forwarding.peer.as_bytes());
            line(b"X-Kamal-Target: ", forwarding.target.as_bytes());
        }
        let inbound = |kind: Kind| if forwarding.trusted { self.view.first(kind) } else { None };
        line(b"X-Forwarded-Proto: ", inbound(Kind::ForwardedProto).unwrap_or(forwarding.scheme.as_bytes()));
        line(b"X-Forwarded-Host: ", inbound(Kind::ForwardedHost).unwrap_or(self.view.authority.as_bytes()));
        if let Some(client) = forwarding.client {
            line(b"X-Client-Certificate-Subject: ", client.subject.as_bytes());
            line(b"X-Client-Certificate-Fingerprint: ", client.fingerprint.as_bytes());
        }
        if !found.request_id {
            line(b"X-Request-Id: ", forwarding.request_id);
        }
        if !found.request_start {
            out.extend_from_slice(b"X-Request-Start: t=");
            write_decimal(forwarding.started_unix_ms, out);
            out.extend_from_slice(b"\r\n");
        }
        if self.framing == Framing::Chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if let Some(upgrade) = forwarding.upgrade {
            // The name alone, and not a line of the client's: there may be several, and they may say different things.
            out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
            out.extend_from_slice(upgrade.as_bytes());
            out.extend_from_slice(b"\r\n");
        } else if self.view.values(Kind::Te).any(|value| tokens(value).any(|token| token == b"trailers")) {
            out.extend_from_slice(b"TE: trailers\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Joins what a client sent with what the proxy adds.
    fn chain(&self, kind: Kind, last: &str) -> Vec<u8> {
        let mut chain = Vec::with_capacity(128);
        for value in self.view.values(kind) {
            chain.extend_from_slice(value);
            chain.extend_from_slice(b", ");
        }
        chain.extend_from_slice(last.as_bytes());
        chain
    }

    fn write_request_line(&self, forwarding: &Forwarding<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(self.view.method.as_bytes());
        out.push(b' ');
        let path = self.view.path.as_bytes().get(forwarding.strip..).unwrap_or_default();
        if path.first() != Some(&b'/') {
            out.push(b'/');
        }
        out.extend_from_slice(path);
        if let Some(query) = self.view.query {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
    }

    /// Copies neighbouring lines that stay in one go.
    fn write_kept_lines(&self, out: &mut Vec<u8>) -> Found {
        let mut found = Found::default();
        let mut run_start = None;
        for (kind, header) in self.view.headers.iter() {
            let start = offset_in(self.buffer, header.name.as_bytes());
            if self.is_kept(kind, header, &mut found) {
                run_start.get_or_insert(start);
            } else if let Some(from) = run_start.take() {
                out.extend_from_slice(self.buffer.get(from..start).unwrap_or_default());
            }
        }
        if let Some(from) = run_start {
            let end = self.head_len.saturating_sub(2);
            out.extend_from_slice(self.buffer.get(from..end).unwrap_or_default());
        }
        found
    }

    fn is_kept(&self, kind: Kind, header: &Header<'_>, found: &mut Found) -> bool {
        match kind {
            Kind::Host if self.form == Form::Origin => {
                found.host = true;
                true
            }
            Kind::RequestId if !header.value.is_empty() => {
                found.request_id = true;
                true
            }
            Kind::RequestStart if !header.value.is_empty() => {
                found.request_start = true;
                true
            }
            Kind::ContentLength => true,
            Kind::Trailer => self.framing == Framing::Chunked,
            _ if kind.may_be_named_by_connection() => {
                !(self.names_headers && self.view.headers.connection_names(header.name.as_bytes()))
            }
            _ => false,
        }
    }
}

#[derive(Default)]
struct Found {
    host: bool,
    request_id: bool,
    request_start: bool,
}

#[cfg(test)]
mod tests;
