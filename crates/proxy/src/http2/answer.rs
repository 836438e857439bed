//! The heads of answers, from the text that HTTP/1 has to fields.

use std::io::{self, BufRead};

use super::hpack::Encoder;
use super::invalid;
use crate::http1::header::{Kind, kind};
use crate::http1::{Framing, parse_length};

/// What was read of a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) framing: Framing,
    /// The length of the head's text.
    pub(super) length: usize,
}

/// Appends the head at the front of a text as a block of fields. Whoever writes an answer writes its head in one go, and has
/// checked what a target put into it, so the form is known.
pub(super) fn write(
    text: &[u8],
    is_head: bool,
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
) -> io::Result<Answer> {
    let mut rest = text;
    let status = status(next_line(&mut rest)?).ok_or_else(|| invalid("status"))?;
    encoder.status(status, out);
    let (mut length, mut is_chunked, mut is_grpc) = (None, false, false);
    loop {
        let line = next_line(&mut rest)?;
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(|| invalid("line"))?;
        let (name, value) = line.split_at_checked(colon).ok_or_else(|| invalid("line"))?;
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        match kind(name) {
            Kind::Connection | Kind::Upgrade | Kind::HopByHop => {}
            Kind::TransferEncoding => is_chunked = true,
            Kind::ContentLength => length = Some(value),
            found => {
                is_grpc |= found == Kind::ContentType && value.starts_with(b"application/grpc");
                encoder.field(name, value, out);
            }
        }
    }
    let known = length.map(|length| parse_length(length).ok_or_else(|| invalid("length"))).transpose()?;
    let framing = match known {
        _ if is_head || status < 200 || matches!(status, 204 | 304) => Framing::None,
        _ if is_chunked => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => return Err(invalid("a body without an end")),
    };
    // An answer without a body whose status is in its only head: gRPC's clients take a length for a body of another kind.
    if let Some(length) = length.filter(|_| !(is_grpc && framing == Framing::Length(0))) {
        encoder.field(b"content-length", length, out);
    }
    Ok(Answer { status, framing, length: text.len() - rest.len() })
}

/// Appends the lines behind a body as a block of fields.
pub(super) fn write_trailers(mut lines: &[u8], encoder: &mut Encoder, out: &mut Vec<u8>) -> io::Result<()> {
    while !lines.is_empty() {
        let line = next_line(&mut lines)?;
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(|| invalid("line"))?;
        let (name, value) = line.split_at_checked(colon).ok_or_else(|| invalid("line"))?;
        encoder.field(name, value.get(1..).unwrap_or_default().trim_ascii(), out);
    }
    Ok(())
}

/// Takes a line away from the front; returns it without its end.
fn next_line<'t>(text: &mut &'t [u8]) -> io::Result<&'t [u8]> {
    let whole = *text;
    let length = text.skip_until(b'\n')?;
    let line = whole.get(..length).unwrap_or_default();
    line.strip_suffix(b"\r\n").ok_or_else(|| invalid("part of a head"))
}

/// Reads the status out of `HTTP/1.1 200 OK`.
fn status(line: &[u8]) -> Option<u16> {
    let digits = line.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let status: u16 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (100..1000).contains(&status).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::super::hpack::Decoder;
    use super::*;

    fn written(text: &str, is_head: bool) -> io::Result<(Answer, Vec<String>)> {
        let mut out = Vec::new();
        let answer = write(text.as_bytes(), is_head, &mut Encoder::new(), &mut out)?;
        let mut lines = Vec::new();
        let line = |name: &[u8], value: &[u8]| String::from_utf8([name, b"=", value].concat()).unwrap();
        Decoder::new().decode(&out, |name, value| lines.push(line(name, value))).unwrap();
        Ok((answer, lines))
    }

    #[test]
    fn lines_become_fields_and_those_of_a_connection_do_not() {
        let head = "HTTP/1.1 201 Created\r\nDate: now\r\nConnection: close\r\nX-A:  b \r\nX-Empty: \r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        let (answer, lines) = written(&format!("{head}5\r\nhello"), false).unwrap();
        assert_eq!(answer, Answer { status: 201, framing: Framing::Chunked, length: head.len() });
        assert_eq!(lines, [":status=201", "date=now", "x-a=b", "x-empty="]);
    }

    #[test]
    fn the_end_of_the_body_is_found() {
        for (status, length, is_head, framing) in [
            (200, "7", false, Framing::Length(7)),
            (200, "7", true, Framing::None),
            (304, "7", false, Framing::None),
            (103, "7", false, Framing::None),
        ] {
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n");
            let (answer, lines) = written(&head, is_head).unwrap();
            assert_eq!(answer.framing, framing, "{head}");
            assert_eq!(lines, [format!(":status={status}"), "content-length=7".to_owned()]);
        }
        let grpc = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Type: application/grpc\r\n\r\n";
        let (answer, lines) = written(grpc, false).unwrap();
        assert_eq!(answer.framing, Framing::Length(0));
        assert_eq!(lines, [":status=200", "content-type=application/grpc"]);
    }

    #[test]
    fn what_is_no_whole_head_is_refused() {
        for bad in [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        ] {
            assert!(written(bad, false).is_err(), "{bad:?}");
        }
    }
}
