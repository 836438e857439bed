//! The line that the log gets for each request, with kamal-proxy's fields.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_wire::Reason;

use crate::admit::Arrival;
use crate::canary::contest::Side;
use crate::client_auth::ClientIdentity;
use crate::clock::Clock;
use crate::digits::write_decimal;
use crate::generation::Target;
use crate::http1::header::Kind;
use crate::http1::request::Request;
use crate::http1::{Framing, HeaderLines, Version};
use crate::log::{escape, field};
use crate::metrics::Method;
use crate::table::Service;
use crate::trace::Span;

/// A client, with its address as text.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) ip: String,
    port: u16,
    /// What is known of it by a certificate, where the connection was agreed on in a way that asks for one.
    pub(crate) identity: Option<Arc<ClientIdentity>>,
}

impl Peer {
    /// Notes a client's address.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { ip: address.ip().to_canonical().to_string(), port: address.port(), identity: None }
    }
}

/// Appends a comma, a name and a text.
macro_rules! text_field {
    ($line:expr, $name:literal, $value:expr) => {{
        $line.extend_from_slice(concat!(",\"", $name, "\":\"").as_bytes());
        escape($line, $value);
        $line.push(b'"');
    }};
}

/// Appends a comma, a name and a number.
macro_rules! number_field {
    ($line:expr, $name:literal, $value:expr) => {{
        $line.extend_from_slice(concat!(",\"", $name, "\":").as_bytes());
        write_decimal($value, $line);
    }};
}

/// What is known of a request so far. What comes from its head is kept as text of the line to be, since the head itself
/// is gone by the time the line is written.
#[derive(Debug)]
pub(crate) struct Record {
    started: Instant,
    /// None where there is no request that could be read.
    pub(crate) method: Option<Method>,
    /// The fields from the head, in three parts.
    pub(crate) text: Vec<u8>,
    first_part: usize,
    second_part: usize,
    /// Where the address stands in the text by which the client is known.
    remote_address: Range<usize>,
    /// Whether it is not counted.
    pub(crate) is_left_out: bool,
    pub(crate) status: u16,
    pub(crate) reason: Option<Reason>,
    /// Why a target that stood by got the request.
    pub(crate) stands_in: Option<Reason>,
    /// Its place in a trace, where it has one.
    pub(crate) span: Option<Box<Span>>,
    pub(crate) service: Option<Arc<Service>>,
    /// The side that it counts for where targets are tried and compared.
    pub(crate) side: Option<Side>,
    /// Whether the targets of its side could not be reached.
    pub(crate) has_missed: bool,
    pub(crate) target: Option<Arc<Target>>,
    /// How many bytes of the request's body were received.
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    /// The fields of further headers that are logged.
    pub(crate) further: Vec<u8>,
    /// The answer's `Content-Type`.
    pub(crate) response_type: Vec<u8>,
}

impl Record {
    /// Notes a sound request head; the text is room to write to.
    pub(crate) fn of(
        request: &Request<'_, '_>,
        request_id: &[u8],
        arrival: &Arrival<'_>,
        text: Vec<u8>,
    ) -> Self {
        let view = &request.view;
        let mut record = Self::empty(arrival.at, text);
        record.method = Some(Method::of(view.method));
        let text = &mut record.text;
        text_field!(text, "host", view.host.as_bytes());
        number_field!(text, "port", arrival.port.into());
        text_field!(text, "path", &decode(view.path));
        text_field!(text, "request_id", request_id);
        record.first_part = text.len();
        text_field!(text, "method", view.method.as_bytes());
        match request.framing {
            Framing::None => text.extend_from_slice(b",\"req_content_length\":0"),
            Framing::Length(length) => number_field!(text, "req_content_length", length),
            Framing::Chunked | Framing::UntilClose => text.extend_from_slice(b",\"req_content_length\":-1"),
        }
        text_field!(text, "req_content_type", view.first(Kind::ContentType).unwrap_or_default());
        record.second_part = text.len();
        let Peer { ip, port, .. } = arrival.peer;
        text_field!(text, "client_addr", ip.as_bytes());
        text.extend_from_slice(b",\"client_port\":\"");
        write_decimal(u64::from(*port), text);
        text.push(b'"');
        let from = text.len();
        text_field!(text, "remote_addr", view.first(Kind::ForwardedFor).unwrap_or(ip.as_bytes()));
        record.remote_address = from..text.len();
        text_field!(text, "user_agent", view.first(Kind::UserAgent).unwrap_or_default());
        text_field!(text, "proto", arrival.protocol.unwrap_or(request.version.as_str()).as_bytes());
        text_field!(text, "scheme", arrival.scheme.as_bytes());
        text_field!(text, "query", view.query.unwrap_or_default().as_bytes());
        record
    }

    /// Notes a request whose head cannot be read.
    pub(crate) fn unread(peer: &Peer, protocol: Option<&'static str>) -> Self {
        let mut record = Self::empty(Instant::now(), Vec::new());
        text_field!(&mut record.text, "client_addr", peer.ip.as_bytes());
        text_field!(&mut record.text, "proto", protocol.unwrap_or(Version::Http11.as_str()).as_bytes());
        record
    }

    fn empty(started: Instant, text: Vec<u8>) -> Self {
        Self {
            started,
            method: None,
            text,
            first_part: 0,
            second_part: 0,
            remote_address: 0..0,
            is_left_out: false,
            status: 0,
            reason: None,
            stands_in: None,
            span: None,
            service: None,
            side: None,
            has_missed: false,
            target: None,
            request_bytes: 0,
            response_bytes: 0,
            further: Vec::new(),
            response_type: Vec::new(),
        }
    }

    /// Returns how long it has taken so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Says for which side it counts and whether as an error; upgraded connections and what clients have done wrong do not
    /// count.
    pub(crate) fn compared(&self) -> Option<(&Service, Side, bool)> {
        let (side, service) = (self.side?, self.service.as_deref()?);
        let counts = self.status != 101 && self.reason.is_none_or(Reason::is_target_error);
        let is_error = self.has_missed || self.reason.is_some() || self.status >= 500;
        counts.then_some((service, side, is_error))
    }

    /// Notes the client's address as a proxy before this one tells it.
    pub(crate) fn note_client(&mut self, address: &[u8]) {
        let mut field = Vec::with_capacity(64);
        text_field!(&mut field, "remote_addr", address);
        let end = self.remote_address.start + field.len();
        self.text.splice(self.remote_address.clone(), field);
        self.remote_address.end = end;
    }

    /// Notes request headers that are to be logged.
    pub(crate) fn note_headers(&mut self, headers: &HeaderLines<'_, '_>, names: &[String]) {
        write_headers("req", headers, names, &mut self.further);
    }

    /// Appends the whole line.
    pub(crate) fn write(&self, clock: &Clock, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        clock.write_log_time(out);
        out.extend_from_slice(b"\",\"level\":\"INFO\",\"msg\":\"Request\"");
        out.extend_from_slice(self.text.get(..self.first_part).unwrap_or_default());
        number_field!(out, "status", self.status.into());
        text_field!(
            out,
            "service",
            self.service.as_ref().map_or("", |service| service.name.as_str()).as_bytes()
        );
        text_field!(
            out,
            "target",
            self.target.as_ref().map_or("", |target| target.address.as_str()).as_bytes()
        );
        number_field!(out, "duration", u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        out.extend_from_slice(self.text.get(self.first_part..self.second_part).unwrap_or_default());
        number_field!(out, "resp_content_length", self.response_bytes);
        text_field!(out, "resp_content_type", &self.response_type);
        out.extend_from_slice(self.text.get(self.second_part..).unwrap_or_default());
        out.extend_from_slice(&self.further);
        for (name, reason) in [("reason", self.reason), ("standby", self.stands_in)] {
            if let Some(reason) = reason {
                field(out, name, reason.as_str().as_bytes());
            }
        }
        out.extend_from_slice(b"}\n");
    }
}

/// Appends the values of headers as fields of a line; those that every line has are left out.
pub(crate) fn write_headers(side: &str, headers: &HeaderLines<'_, '_>, names: &[String], out: &mut Vec<u8>) {
    for name in names {
        let field_name = format!("{side}_{}", name.to_ascii_lowercase().replace('-', "_"));
        if matches!(
            field_name.as_str(),
            "req_content_type" | "req_content_length" | "resp_content_type" | "resp_content_length"
        ) {
            continue;
        }
        let mut values = Vec::new();
        for (_, line) in headers.iter().filter(|(_, line)| line.name.eq_ignore_ascii_case(name)) {
            if !values.is_empty() {
                values.push(b',');
            }
            values.extend_from_slice(line.value);
        }
        field(out, &field_name, &values);
    }
}

/// Undoes the escapes of a path; what is no escape stays.
pub(crate) fn decode(path: &str) -> std::borrow::Cow<'_, [u8]> {
    if !path.contains('%') {
        return path.as_bytes().into();
    }
    let bytes = path.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded.into()
}
