//! Answers that are compressed on their way to the client: which, by what, and what their heads say then.

pub(crate) mod encoder;

use freehold_wire::Compression;

use crate::http1::header::Kind;
use crate::http1::response::Response;
use crate::http1::{Framing, Version, tokens};
use crate::view::RequestView;

/// What is shorter is not worth it.
const MIN_BYTES: u64 = 1024;

/// What compression means for one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The service does not compress.
    #[default]
    Off,
    /// The client accepts nothing of what the service has.
    Plain,
    By(Compression),
}

impl Wish {
    /// Finds out what a client accepts most of what a service has. <https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3>
    pub(crate) fn of(view: &RequestView<'_, '_>, offered: &[Compression], version: Version) -> Self {
        if offered.is_empty() {
            return Self::Off;
        }
        // An end that is not the connection's cannot be told by HTTP/1.0.
        if version == Version::Http10 {
            return Self::Plain;
        }
        let lines = || {
            let lines =
                view.headers.iter().filter(|(_, line)| line.name.eq_ignore_ascii_case("accept-encoding"));
            lines.flat_map(|(_, line)| tokens(line.value))
        };
        let weight = |name: &str| lines().find_map(|token| weight_of(token, name));
        let anything = weight("*").unwrap_or(0);
        let plain = weight("identity").unwrap_or(0);
        let weighed = offered.iter().map(|coding| (*coding, weight(coding.as_str()).unwrap_or(anything)));
        let mut best: Option<(Compression, u16)> = None;
        for (coding, weight) in weighed {
            if weight > best.map_or(0, |(_, weight)| weight) {
                best = Some((coding, weight));
            }
        }
        best.filter(|(_, weight)| *weight >= plain).map_or(Self::Plain, |(coding, _)| Self::By(coding))
    }
}

/// Returns the weight, in thousandths, that an element of `Accept-Encoding` gives to a coding; none where it is about another
/// one. A weight that cannot be read counts as none.
fn weight_of(token: &[u8], name: &str) -> Option<u16> {
    let mut parts = token.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    if !parts.next()?.eq_ignore_ascii_case(name.as_bytes()) {
        return None;
    }
    let weight = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
    let Some(weight) = weight else { return Some(1000) };
    let text = std::str::from_utf8(weight).unwrap_or_default();
    let is_sound = text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let value: f32 = if is_sound { text.parse().unwrap_or(0.0) } else { 0.0 };
    // At most 1000 and never below 0, so that nothing is lost.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 to 1000")]
    let thousandths = (value.clamp(0.0, 1.0) * 1000.0).round() as u16;
    Some(thousandths)
}

/// Changes an answer's head that is written to `out`, if the answer may be compressed; returns how it is to be.
pub(crate) fn apply(wish: Wish, response: &Response<'_, '_>, out: &mut Vec<u8>) -> Option<Compression> {
    if wish == Wish::Off || !is_compressible(response) {
        return None;
    }
    // Also who gets it plain must not be given what a cache got for somebody else.
    let coding = if let Wish::By(coding) = wish { Some(coding) } else { None };
    rewrite(response, coding, out);
    coding
}

fn is_compressible(response: &Response<'_, '_>) -> bool {
    let is_long = match response.framing {
        Framing::None => false,
        Framing::Length(length) => length >= MIN_BYTES,
        Framing::Chunked | Framing::UntilClose => true,
    };
    if !is_long || matches!(response.status, 206 | 416) {
        return false;
    }
    let mut kind = None;
    for (what, line) in response.headers.iter() {
        let is = |name: &str| line.name.eq_ignore_ascii_case(name);
        let forbids = match what {
            Kind::ContentType => {
                kind = Some(line.value);
                false
            }
            Kind::Other if is("content-encoding") => !line.value.eq_ignore_ascii_case(b"identity"),
            Kind::Other if is("content-range") => true,
            Kind::Other if is("cache-control") => {
                tokens(line.value).any(|token| token.eq_ignore_ascii_case(b"no-transform"))
            }
            _ => false,
        };
        if forbids {
            return false;
        }
    }
    kind.is_some_and(is_compressible_kind)
}

/// Says whether a body of a type gets shorter: texts, and formats that are not compressed by themselves.
fn is_compressible_kind(kind: &[u8]) -> bool {
    const KINDS: [&str; 14] = [
        "application/json",
        "application/javascript",
        "application/x-javascript",
        "application/xml",
        "application/wasm",
        "application/manifest+json",
        "application/graphql",
        "application/rtf",
        "application/vnd.ms-fontobject",
        "font/ttf",
        "font/otf",
        "image/svg+xml",
        "image/bmp",
        "image/x-icon",
    ];
    let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let essence = essence.to_ascii_lowercase();
    let is_text = essence.starts_with(b"text/") || essence.ends_with(b"+json") || essence.ends_with(b"+xml");
    is_text || KINDS.iter().any(|known| known.as_bytes() == essence)
}

/// Writes the head anew: another coding, of another length, which is weaker than what it was made of.
fn rewrite(response: &Response<'_, '_>, coding: Option<Compression>, out: &mut Vec<u8>) {
    let before = std::mem::take(out);
    out.reserve(before.len() + 96);
    let head = before.strip_suffix(b"\r\n").unwrap_or(&before);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let name_end = line.iter().position(|byte| *byte == b':').unwrap_or(0);
        let name = line.get(..name_end).unwrap_or_default();
        let is = |wanted: &str| coding.is_some() && name.eq_ignore_ascii_case(wanted.as_bytes());
        if is("content-length") || is("transfer-encoding") || is("accept-ranges") || is("content-encoding") {
            continue;
        }
        let value = line.get(name_end + 1..).unwrap_or_default().trim_ascii();
        if is("etag") && value.starts_with(b"\"") {
            out.extend_from_slice(b"ETag: W/");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(line);
        }
    }
    if let Some(coding) = coding {
        out.extend_from_slice(b"Content-Encoding: ");
        out.extend_from_slice(coding.as_str().as_bytes());
        out.extend_from_slice(b"\r\nTransfer-Encoding: chunked\r\n");
    }
    if !varies(response) {
        out.extend_from_slice(b"Vary: Accept-Encoding\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Says whether a target's answer already says that it depends on what the client accepts.
fn varies(response: &Response<'_, '_>) -> bool {
    let lines = response.headers.iter().filter(|(_, line)| line.name.eq_ignore_ascii_case("vary"));
    lines
        .flat_map(|(_, line)| tokens(line.value))
        .any(|token| token == b"*" || token.eq_ignore_ascii_case(b"accept-encoding"))
}

#[cfg(test)]
mod tests;
