//! Traces: what a request took, told to a collector of OpenTelemetry, and the header by which targets go on with them.
//!
//! The header is W3C's `traceparent` (<https://www.w3.org/TR/trace-context/>). A trace that a client began is gone on with,
//! and one that it does not want to be recorded is not; of the others a share is recorded.

mod export;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Uri;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::access::Record;
use crate::clock::Clock;
use crate::digits::hexadecimal;
use crate::view::RequestView;

pub(crate) use export::Exporter;

/// How many spans may wait for the collector: more are dropped, and counted.
const QUEUE_SPANS: usize = 4096;

const HEADER: &str = "traceparent";

/// The header's length in the only version there is: `00-TRACE-SPAN-FLAGS`.
const HEADER_BYTES: usize = 55;

/// Where traces go, and how many.
#[derive(Debug, Clone)]
pub struct TraceConfig {
    /// The collector's address as OpenTelemetry has it, without `/v1/traces`.
    pub endpoint: Uri,
    /// Headers of every message to it, such as a key.
    pub headers: Vec<(String, secrecy::SecretString)>,
    /// How many of a million requests are recorded that no client has begun a trace of.
    pub per_million: u32,
}

/// Decides which requests are recorded, and takes what was recorded.
#[derive(Debug)]
pub(crate) struct Tracer {
    per_million: u32,
    spans: Sender<Finished>,
    counts: Arc<TraceCounts>,
}

/// What became of spans.
#[derive(Debug, Default)]
pub(crate) struct TraceCounts {
    pub(crate) sent: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

/// A request's place in a trace.
#[derive(Debug)]
pub(crate) struct Span {
    /// The whole header as the target gets it.
    header: [u8; HEADER_BYTES],
    parent: Option<[u8; 16]>,
    is_recorded: bool,
    method: String,
    host: String,
    path: String,
    scheme: &'static str,
}

/// A span as the collector gets it.
#[derive(Debug)]
pub(crate) struct Finished {
    span: Box<Span>,
    end_unix_nanos: u64,
    duration: Duration,
    status: u16,
    service: String,
    target: String,
    reason: Option<&'static str>,
}

/// Two random numbers and one more.
pub(crate) type Dice = [u64; 4];

impl Tracer {
    /// Makes one, and the end where the spans come out.
    pub(crate) fn new(per_million: u32) -> (Self, Receiver<Finished>) {
        let (spans, queue) = channel(QUEUE_SPANS);
        (Self { per_million, spans, counts: Arc::default() }, queue)
    }

    /// Returns what became of spans.
    pub(crate) fn counts(&self) -> Arc<TraceCounts> {
        Arc::clone(&self.counts)
    }

    /// Begins a request's span. None where the client does not want it: then its header goes through as it is.
    pub(crate) fn begin(
        &self,
        view: &RequestView<'_, '_>,
        scheme: &'static str,
        dice: Dice,
    ) -> Option<Box<Span>> {
        let mut header = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let parent = match view.named(HEADER).and_then(parse) {
            Some(parent) if !parent.is_sampled => return None,
            Some(parent) => {
                put(&mut header, 3, &parent.trace);
                Some(parent.span)
            }
            None => {
                put(&mut header, 3, &digits(dice[0]));
                put(&mut header, 19, &digits(dice[1]));
                None
            }
        };
        // An id of zeros is none.
        put(&mut header, 36, &digits(dice[2].max(1)));
        let is_recorded = parent.is_some() || dice[3] % 1_000_000 < u64::from(self.per_million);
        if is_recorded {
            put(&mut header, 53, b"01");
        }
        let text = |text: &str| if is_recorded { text.to_owned() } else { String::new() };
        let (method, host, path) = (text(view.method), text(view.host), text(view.path));
        Some(Box::new(Span { header, parent, is_recorded, method, host, path, scheme }))
    }

    /// Takes the span of a request that has ended.
    pub(crate) fn end(&self, span: Box<Span>, record: &Record) {
        if !span.is_recorded {
            return;
        }
        let finished = Finished {
            span,
            end_unix_nanos: u64::try_from(Clock::unix().as_nanos()).unwrap_or(u64::MAX),
            duration: record.elapsed(),
            status: record.status,
            service: record.service.as_ref().map_or_else(String::new, |service| service.name.to_string()),
            target: record.target.as_ref().map_or_else(String::new, |target| target.address.to_string()),
            reason: record.reason.map(freehold_wire::Reason::as_str),
        };
        if self.spans.try_send(finished).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Span {
    /// Puts its header into a head for a target, in the place of what the client sent.
    pub(crate) fn mark(&self, head: &mut Vec<u8>) {
        let mut marked = Vec::with_capacity(head.len() + HEADER_BYTES + HEADER.len() + 4);
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            if line == b"\r\n" {
                marked.extend_from_slice(HEADER.as_bytes());
                marked.extend_from_slice(b": ");
                marked.extend_from_slice(&self.header);
                marked.extend_from_slice(b"\r\n\r\n");
            } else if !name.eq_ignore_ascii_case(HEADER.as_bytes()) {
                marked.extend_from_slice(line);
            }
        }
        *head = marked;
    }
}

fn put(header: &mut [u8; HEADER_BYTES], at: usize, digits: &[u8]) {
    for (place, digit) in header.iter_mut().skip(at).zip(digits) {
        *place = *digit;
    }
}

fn digits(number: u64) -> [u8; 16] {
    let (mut number, mut text) = (number, [b'0'; 16]);
    for place in text.iter_mut().rev() {
        *place = hexadecimal(number & 0xf);
        number >>= 4;
    }
    text
}

/// What a client's header says.
struct Parent {
    trace: [u8; 32],
    span: [u8; 16],
    is_sampled: bool,
}

/// Reads the header; none where it is not one, by the rules of W3C's section 3.2. Of a later version the beginning counts.
fn parse(value: &[u8]) -> Option<Parent> {
    let mut parts = value.splitn(5, |byte| *byte == b'-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &[u8]| text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_none = |text: &[u8]| text.iter().all(|byte| *byte == b'0');
    let has_more = parts.next().is_some();
    if version.len() != 2 || version == b"ff" || flags.len() != 2 || (version == b"00" && has_more) {
        return None;
    }
    if ![version, trace, span, flags].into_iter().all(is_hex) || is_none(trace) || is_none(span) {
        return None;
    }
    let flags = u8::from_str_radix(std::str::from_utf8(flags).ok()?, 16).ok()?;
    Some(Parent { trace: trace.try_into().ok()?, span: span.try_into().ok()?, is_sampled: flags & 1 == 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn headers_that_are_none_begin_a_new_trace() {
        for value in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47361-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        ] {
            assert!(parse(value.as_bytes()).is_none(), "{value}");
        }
        for (value, is_sampled) in [
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02", false),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-what-comes", true),
        ] {
            let parent = parse(value.as_bytes()).unwrap();
            assert_eq!((std::str::from_utf8(&parent.trace).unwrap(), parent.is_sampled), (TRACE, is_sampled));
        }
    }

    #[test]
    fn a_head_has_one_header_however_many_the_client_sent() {
        let mut header = [b'x'; HEADER_BYTES];
        put(&mut header, 0, b"00-");
        put(&mut header, 36, &digits(0x1f));
        let span = Span {
            header,
            parent: None,
            is_recorded: true,
            method: String::new(),
            host: String::new(),
            path: String::new(),
            scheme: "http",
        };
        let mut head = b"GET / HTTP/1.1\r\nTraceParent: a\r\nHost: b\r\ntraceparent:c\r\n\r\n".to_vec();
        span.mark(&mut head);
        let text = String::from_utf8(head).unwrap();
        assert!(text.starts_with("GET / HTTP/1.1\r\nHost: b\r\ntraceparent: 00-"), "{text}");
        assert!(text.contains("000000000000001fxxx\r\n\r\n") && text.matches("arent").count() == 1, "{text}");
    }
}
