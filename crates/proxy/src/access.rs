//! The line that the log gets for each request, with kamal-proxy's fields.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use freehold_wire::Reason;

use crate::clock::Clock;
use crate::generation::Target;
use crate::http1::header::Kind;
use crate::http1::request::Request;
use crate::http1::{Framing, Version};
use crate::log::field;
use crate::table::Service;

/// What is known of a request so far. What comes from its head is kept as text of the line to be, since the head itself
/// is gone by the time the line is written.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) peer: SocketAddr,
    started: Instant,
    /// The fields from the head, in three parts.
    text: Vec<u8>,
    first_part: usize,
    second_part: usize,
    pub(crate) status: u16,
    pub(crate) reason: Option<Reason>,
    /// Why a target that stood by got the request.
    pub(crate) stands_in: Option<Reason>,
    pub(crate) service: Option<Arc<Service>>,
    pub(crate) target: Option<Arc<Target>>,
    pub(crate) response_bytes: u64,
    pub(crate) response_type: Vec<u8>,
}

impl Record {
    /// Notes a sound request head.
    pub(crate) fn of(request: &Request<'_, '_>, request_id: &[u8], peer: SocketAddr, port: u16) -> Self {
        let view = &request.view;
        let mut text = Vec::with_capacity(768);
        field(&mut text, "host", view.host.as_bytes());
        text.extend_from_slice(format!(",\"port\":{port}").as_bytes());
        field(&mut text, "path", &decode(view.path));
        field(&mut text, "request_id", request_id);
        let first_part = text.len();
        field(&mut text, "method", view.method.as_bytes());
        let length = match request.framing {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let length = length.map_or_else(|| "-1".to_owned(), |length| length.to_string());
        text.extend_from_slice(format!(",\"req_content_length\":{length}").as_bytes());
        field(&mut text, "req_content_type", view.first(Kind::ContentType).unwrap_or_default());
        let second_part = text.len();
        let client = peer.ip().to_canonical().to_string();
        field(&mut text, "client_addr", client.as_bytes());
        field(&mut text, "client_port", peer.port().to_string().as_bytes());
        field(&mut text, "remote_addr", view.first(Kind::ForwardedFor).unwrap_or(client.as_bytes()));
        field(&mut text, "user_agent", view.first(Kind::UserAgent).unwrap_or_default());
        field(&mut text, "proto", request.version.as_str().as_bytes());
        field(&mut text, "scheme", b"http");
        field(&mut text, "query", view.query.unwrap_or_default().as_bytes());
        Self { text, first_part, second_part, ..Self::unread(peer) }
    }

    /// Notes a request whose head cannot be read.
    pub(crate) fn unread(peer: SocketAddr) -> Self {
        let mut text = Vec::new();
        field(&mut text, "client_addr", peer.ip().to_canonical().to_string().as_bytes());
        field(&mut text, "proto", Version::Http11.as_str().as_bytes());
        Self {
            peer,
            started: Instant::now(),
            text,
            first_part: 0,
            second_part: 0,
            status: 0,
            reason: None,
            stands_in: None,
            service: None,
            target: None,
            response_bytes: 0,
            response_type: Vec::new(),
        }
    }

    /// Appends the whole line.
    pub(crate) fn write(&self, clock: &Clock, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        clock.write_log_time(out);
        out.extend_from_slice(b"\",\"level\":\"INFO\",\"msg\":\"Request\"");
        out.extend_from_slice(self.text.get(..self.first_part).unwrap_or_default());
        out.extend_from_slice(format!(",\"status\":{}", self.status).as_bytes());
        field(out, "service", self.service.as_ref().map_or("", |service| service.name.as_str()).as_bytes());
        field(out, "target", self.target.as_ref().map_or("", |target| target.address.as_str()).as_bytes());
        out.extend_from_slice(format!(",\"duration\":{}", self.started.elapsed().as_nanos()).as_bytes());
        out.extend_from_slice(self.text.get(self.first_part..self.second_part).unwrap_or_default());
        out.extend_from_slice(format!(",\"resp_content_length\":{}", self.response_bytes).as_bytes());
        field(out, "resp_content_type", &self.response_type);
        out.extend_from_slice(self.text.get(self.second_part..).unwrap_or_default());
        for (name, reason) in [("reason", self.reason), ("standby", self.stands_in)] {
            if let Some(reason) = reason {
                field(out, name, reason.as_str().as_bytes());
            }
        }
        out.extend_from_slice(b"}\n");
    }
}

/// Undoes the escapes of a path; what is no escape stays.
fn decode(path: &str) -> std::borrow::Cow<'_, [u8]> {
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
