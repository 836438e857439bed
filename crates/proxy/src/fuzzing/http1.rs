//! The readers of HTTP/1.

use crate::http1::body::{Body, BodyError};
use crate::http1::request::{self, Form, Forwarding};
use crate::http1::response::{self, Asked};
use crate::http1::{Framing, slots};

/// Reads bytes as the head of a request, and reads again what would be forwarded of it.
///
/// # Errors
/// What does not hold: a head that ends elsewhere when less of it has come, or that is forwarded as something that we
/// would refuse or read as another request.
pub fn request_head(bytes: &[u8]) -> Result<(), String> {
    let mut slots_of_it = slots();
    let Ok(Some(request)) = request::parse(bytes, &mut slots_of_it) else { return Ok(()) };
    if request.head_len > bytes.len() {
        return Err(format!("a head of {} bytes in {}", request.head_len, bytes.len()));
    }
    for length in 0..request.head_len {
        let mut slots_of_part = slots();
        if let Ok(Some(part)) = request::parse(bytes.get(..length).unwrap_or_default(), &mut slots_of_part) {
            return Err(format!("{length} of {} bytes are a head of {}", request.head_len, part.head_len));
        }
    }
    if !matches!(request.form, Form::Origin | Form::Absolute) {
        // What asks for no path is never forwarded.
        return Ok(());
    }
    let forwarding = Forwarding {
        peer: "192.0.2.1",
        trusted: bytes.len().is_multiple_of(2),
        client_ip: None,
        scheme: "http",
        strip: 0,
        target: "127.0.0.1:3000",
        request_id: b"00000000-0000-0000-0000-000000000000",
        started_unix_ms: 1,
        client: None,
        upgrade: request.view.upgrades_to_websocket.then_some("websocket"),
    };
    let mut out = Vec::new();
    request.write(&forwarding, &mut out);
    let mut slots_of_output = slots();
    let forwarded = match request::parse(&out, &mut slots_of_output) {
        Ok(Some(forwarded)) => forwarded,
        // What is added may make a head too long for ourselves; a target has limits of its own.
        Err(refusal) if refusal.status == 431 => return Ok(()),
        other => return Err(format!("forwarded as {:?}, which is {other:?}", String::from_utf8_lossy(&out))),
    };
    let is_same = forwarded.framing == request.framing
        && forwarded.view.method == request.view.method
        && forwarded.view.query == request.view.query
        && forwarded.view.upgrades_to_websocket == request.view.upgrades_to_websocket
        && forwarded.head_len == out.len();
    if is_same { Ok(()) } else { Err(format!("{request:?} is forwarded as {forwarded:?}")) }
}

/// Reads bytes as the head of an answer.
///
/// # Errors
/// A head that ends elsewhere when less of it has come.
pub fn response_head(bytes: &[u8]) -> Result<(), String> {
    let (flags, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    let asked = Asked { head: flags & 1 != 0, get: flags & 2 != 0, websocket: flags & 4 != 0 };
    let mut slots_of_it = slots();
    let Ok(Some(answer)) = response::parse(bytes, &mut slots_of_it, asked) else { return Ok(()) };
    if answer.head_len > bytes.len() {
        return Err(format!("a head of {} bytes in {}", answer.head_len, bytes.len()));
    }
    for length in 0..answer.head_len {
        let mut slots_of_part = slots();
        let part = bytes.get(..length).unwrap_or_default();
        if let Ok(Some(part)) = response::parse(part, &mut slots_of_part, asked) {
            return Err(format!("{length} of {} bytes are a head of {}", answer.head_len, part.head_len));
        }
    }
    Ok(())
}

/// Reads bytes as a body in chunks, at once and in pieces.
///
/// # Errors
/// Pieces that come to something else than the whole, or a step that takes nothing.
pub fn chunked_body(bytes: &[u8]) -> Result<(), String> {
    let (piece, bytes) = bytes.split_first().unwrap_or((&1, &[]));
    let whole = read(bytes, bytes.len().max(1))?;
    for size in [1, usize::from(*piece).max(1)] {
        let pieces = read(bytes, size)?;
        if pieces != whole {
            return Err(format!("in pieces of {size}: {pieces:?}, at once: {whole:?}"));
        }
    }
    Ok(())
}

/// The payload, the trailers, and how many bytes were taken.
type Whole = Result<(Vec<u8>, Vec<u8>, usize), BodyError>;

fn read(bytes: &[u8], size: usize) -> Result<Whole, String> {
    let mut body = Body::new(Framing::Chunked);
    let (mut payload, mut taken) = (Vec::new(), 0);
    for piece in bytes.chunks(size) {
        let mut rest = piece;
        while !rest.is_empty() && !body.is_done() {
            let step = match body.step(rest) {
                Ok(step) => step,
                Err(error) => return Ok(Err(error)),
            };
            if step.consumed == 0 {
                return Err(format!("nothing is taken of {rest:?}"));
            }
            payload.extend_from_slice(rest.get(step.data).unwrap_or_default());
            rest = rest.get(step.consumed..).unwrap_or_default();
            taken += step.consumed;
        }
    }
    Ok(Ok((payload, body.trailers().to_vec(), taken)))
}
