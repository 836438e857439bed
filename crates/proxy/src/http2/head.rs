//! Heads of targets from HTTP/2 to HTTP/1 and back.

use std::io;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, response};

use super::invalid;
use super::request::Told;
use crate::digits::write_decimal;
use crate::http1::header::Kind;
use crate::http1::{Framing, HeaderLines, MAX_HEADERS, request as http1_request, slots};

/// Why a request cannot be told to a target that speaks HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsendable {
    /// It has something that HTTP/1 lets through and HTTP/2 does not.
    Malformed,
    /// Its head is too large with what we add to it.
    TooLarge,
}

fn told(headers: &HeaderMap, ends: bool) -> Told {
    if ends || headers.contains_key(CONTENT_LENGTH) { Told::Plain } else { Told::Chunked }
}

fn finish(headers: &HeaderMap, ends: bool, out: &mut Vec<u8>) -> Told {
    let told = told(headers, ends);
    if told == Told::Chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    told
}

fn write_line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a target's head as HTTP/1.1 has it.
pub(crate) fn write_response(
    parts: &response::Parts,
    (ends, is_head): (bool, bool),
    out: &mut Vec<u8>,
) -> Told {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(parts.status.as_u16().into(), out);
    out.extend_from_slice(b" \r\n");
    for (name, value) in &parts.headers {
        write_line(name.as_str(), value.as_bytes(), out);
    }
    if parts.status.is_informational() {
        out.extend_from_slice(b"\r\n");
        return Told::Plain;
    }
    let bodiless = is_head || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if ends && !bodiless && !parts.headers.contains_key(CONTENT_LENGTH) {
        out.extend_from_slice(b"content-length: 0\r\n");
    }
    finish(&parts.headers, ends || bodiless, out)
}

/// Makes a request's head of one in HTTP/1; `bytes` is the text that it was read from.
fn request_of(
    request: &http1_request::Request<'_, '_>,
    bytes: &[u8],
    scheme: &str,
) -> Result<Request<()>, Unsendable> {
    const MALFORMED: Unsendable = Unsendable::Malformed;
    let view = &request.view;
    let mut path = view.path.to_owned();
    if let Some(query) = view.query {
        path.push('?');
        path.push_str(query);
    }
    let uri = http::Uri::builder().scheme(scheme).authority(view.authority).path_and_query(path).build();
    let mut made = Request::new(());
    *made.uri_mut() = uri.map_err(|_| MALFORMED)?;
    *made.method_mut() = Method::from_bytes(view.method.as_bytes()).map_err(|_| MALFORMED)?;
    let head = Bytes::copy_from_slice(bytes.get(..request.head_len).unwrap_or_default());
    *made.headers_mut() = headers_of(&view.headers, bytes, &head).map_err(|_| MALFORMED)?;
    made.headers_mut().remove(HOST);
    Ok(made)
}

/// A request as a target gets it.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) request: Request<()>,
    pub(super) framing: Framing,
    pub(super) is_head: bool,
    /// The length of the head's text.
    pub(super) length: usize,
}

/// Makes a request of a head that we have written, which may be larger than a client's may be.
pub(super) fn prepare(bytes: &[u8], scheme: &str) -> Result<Prepared, Unsendable> {
    let mut slots = slots();
    let request = match http1_request::parse_forwarded(bytes, &mut slots) {
        Ok(Some(request)) => request,
        Err(refusal) if refusal.status == 431 => return Err(Unsendable::TooLarge),
        Ok(None) | Err(_) => return Err(Unsendable::Malformed),
    };
    Ok(Prepared {
        request: request_of(&request, bytes, scheme)?,
        framing: request.framing,
        is_head: request.view.method == "HEAD",
        length: request.head_len,
    })
}

/// Makes trailers of the lines that stand behind chunks.
pub(crate) fn trailers_of(lines: &[u8]) -> io::Result<HeaderMap> {
    let mut map = HeaderMap::new();
    let text = [lines, b"\r\n"].concat();
    let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let parsed = httparse::parse_headers(&text, &mut slots).map_err(|_| invalid("trailers"))?;
    if let httparse::Status::Complete((_, headers)) = parsed {
        for header in headers {
            let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| invalid("name"))?;
            map.append(name, HeaderValue::from_bytes(header.value).map_err(|_| invalid("value"))?);
        }
    }
    Ok(map)
}

/// Appends trailers as the end of a body in chunks.
pub(crate) fn write_trailers(trailers: Option<&HeaderMap>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        write_line(name.as_str(), value.as_bytes().trim_ascii(), out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Takes over the lines that are not about one connection of HTTP/1. Values stay where they stand in the head.
fn headers_of(lines: &HeaderLines<'_, '_>, bytes: &[u8], head: &Bytes) -> io::Result<HeaderMap> {
    let mut map = HeaderMap::with_capacity(16);
    for (kind, line) in lines.iter() {
        match kind {
            Kind::Connection | Kind::TransferEncoding | Kind::Upgrade | Kind::HopByHop => {}
            _ => {
                let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| invalid("name"))?;
                let from = (line.value.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize);
                let value = match from + line.value.len() <= head.len() && !line.value.is_empty() {
                    true => head.slice(from..from + line.value.len()),
                    false => Bytes::copy_from_slice(line.value),
                };
                let value = HeaderValue::from_maybe_shared(value).map_err(|_| invalid("value"))?;
                map.append(name, value);
            }
        }
    }
    Ok(map)
}
