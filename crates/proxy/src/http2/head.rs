//! Heads from HTTP/2 to HTTP/1 and back.

use std::io;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, request, response};

use super::invalid;
use crate::digits::write_decimal;
use crate::http1::header::Kind;
use crate::http1::response::Response;
use crate::http1::{Framing, HeaderLines, MAX_HEADERS, request as http1_request};

/// A request that RFC 9113 calls malformed and that the library lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// How a message's body is told in HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// By its length, or there is none.
    Plain,
    /// In chunks.
    Chunked,
}

impl Told {
    fn of(headers: &HeaderMap, ends: bool) -> Self {
        if ends || headers.contains_key(CONTENT_LENGTH) { Self::Plain } else { Self::Chunked }
    }
}

/// Appends a client's head as HTTP/1.1 has it. What it means is judged by whoever reads that.
///
/// `:authority` and a `Host` that differs from it both appear, so that the reader refuses two hosts.
pub(crate) fn write_request(
    parts: &request::Parts,
    ends: bool,
    out: &mut Vec<u8>,
) -> Result<Told, Malformed> {
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let path = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    match (&parts.method, path) {
        (&Method::CONNECT, _) => out.extend_from_slice(authority.unwrap_or_default().as_bytes()),
        // A path in another form would name another authority.
        (_, path) if path.starts_with('/') => out.extend_from_slice(path.as_bytes()),
        (&Method::OPTIONS, "*") => out.push(b'*'),
        _ => return Err(Malformed),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = authority {
        write_line(HOST.as_str(), authority.as_bytes(), out);
    }
    for (name, value) in &parts.headers {
        let value = value.as_bytes();
        if value.trim_ascii().len() != value.len() {
            return Err(Malformed);
        }
        let is_same_host = name == HOST
            && authority.is_some_and(|authority| value.eq_ignore_ascii_case(authority.as_bytes()));
        if name != COOKIE && !is_same_host {
            write_line(name.as_str(), value, out);
        }
    }
    write_cookies(&parts.headers, out);
    Ok(finish(&parts.headers, ends, out))
}

/// Joins what HTTP/2 may have parted. <https://www.rfc-editor.org/rfc/rfc9113#section-8.2.3>
fn write_cookies(headers: &HeaderMap, out: &mut Vec<u8>) {
    let mut before: &[u8] = b"cookie: ";
    for value in headers.get_all(COOKIE) {
        out.extend_from_slice(before);
        out.extend_from_slice(value.as_bytes());
        before = b"; ";
    }
    if before == b"; " {
        out.extend_from_slice(b"\r\n");
    }
}

fn finish(headers: &HeaderMap, ends: bool, out: &mut Vec<u8>) -> Told {
    let told = Told::of(headers, ends);
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

/// Makes an answer's head of one in HTTP/1; `bytes` is the text that it was read from.
pub(crate) fn response_of(response: &Response<'_, '_>, bytes: &[u8]) -> io::Result<http::Response<()>> {
    let mut made = http::Response::new(());
    *made.status_mut() = StatusCode::from_u16(response.status).map_err(|_| invalid("status"))?;
    let head = Bytes::copy_from_slice(bytes.get(..response.head_len).unwrap_or_default());
    *made.headers_mut() = headers_of(&response.headers, bytes, &head)?;
    // An answer without a body whose status is in its only head: gRPC's clients take a length for a body of another kind.
    if response.framing == Framing::Length(0) && is_grpc(made.headers()) {
        made.headers_mut().remove(CONTENT_LENGTH);
    }
    Ok(made)
}

/// Makes a request's head of one in HTTP/1; `bytes` is the text that it was read from.
pub(crate) fn request_of(request: &http1_request::Request<'_, '_>, bytes: &[u8]) -> io::Result<Request<()>> {
    let view = &request.view;
    let mut path = view.path.to_owned();
    if let Some(query) = view.query {
        path.push('?');
        path.push_str(query);
    }
    let uri = http::Uri::builder().scheme("http").authority(view.authority).path_and_query(path).build();
    let mut made = Request::new(());
    *made.uri_mut() = uri.map_err(|_| invalid("authority or path"))?;
    *made.method_mut() = Method::from_bytes(view.method.as_bytes()).map_err(|_| invalid("method"))?;
    let head = Bytes::copy_from_slice(bytes.get(..request.head_len).unwrap_or_default());
    *made.headers_mut() = headers_of(&view.headers, bytes, &head)?;
    made.headers_mut().remove(HOST);
    Ok(made)
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

/// Says whether a message is one of gRPC.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
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
