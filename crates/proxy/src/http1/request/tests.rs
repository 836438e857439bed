use proptest::prelude::*;

use super::*;
use crate::http1::slots;

fn forward(text: &[u8], strip: usize) -> Option<Result<(String, usize), Refusal>> {
    let mut slots = slots();
    let request = match parse(text, &mut slots) {
        Ok(Some(request)) => request,
        Ok(None) => return None,
        Err(refusal) => return Some(Err(refusal)),
    };
    let forwarding = Forwarding {
        peer: "192.0.2.1",
        trusted: false,
        client_ip: None,
        scheme: "http",
        strip,
        target: "web:3000",
        request_id: b"id",
        started_unix_ms: 5,
        client: None,
        upgrade: request.view.upgrades_to_websocket.then_some("websocket"),
    };
    let mut out = Vec::new();
    request.write(&forwarding, &mut out);
    Some(Ok((String::from_utf8_lossy(&out).into_owned(), request.head_len)))
}

const ADDED: &str = "X-Forwarded-For: 192.0.2.1\r\nX-Kamal-Target: web:3000\r\nX-Forwarded-Proto: http\r\n\
    X-Forwarded-Host: a.com\r\nX-Request-Id: id\r\nX-Request-Start: t=5\r\n";

#[test]
fn kept_lines_are_copied_as_they_are() {
    let text = "GET /app/x?y HTTP/1.1\r\nHost: a.com\r\nAccept:  */* \r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\
        Cookie: a=b\r\ncookie: c\r\n\r\nrest";
    let (head, length) = forward(text.as_bytes(), 4).unwrap().unwrap();
    assert_eq!(
        head,
        format!(
            "GET /x?y HTTP/1.1\r\nHost: a.com\r\nAccept:  */* \r\nCookie: a=b\r\ncookie: c\r\n{ADDED}\r\n"
        )
    );
    assert_eq!(length, text.len() - 4);
}

#[test]
fn an_absolute_target_decides_the_host() {
    let text = "GET http://a.com HTTP/1.1\r\nHost: b.com\r\nX: y\r\n\r\n";
    let (head, _) = forward(text.as_bytes(), 0).unwrap().unwrap();
    assert_eq!(head, format!("GET / HTTP/1.1\r\nX: y\r\nHost: a.com\r\n{ADDED}\r\n"));
}

#[test]
fn framing_is_written_anew() {
    let text = "POST /app HTTP/1.1\r\nHost: a.com\r\nTransfer-Encoding: Chunked\r\nTrailer: X-Sum\r\n\r\n";
    let (head, _) = forward(text.as_bytes(), 4).unwrap().unwrap();
    assert_eq!(
        head,
        format!(
            "POST / HTTP/1.1\r\nHost: a.com\r\nTrailer: X-Sum\r\n{ADDED}Transfer-Encoding: chunked\r\n\r\n"
        )
    );
}

/// The parts of heads, sound and unsound, of which any sequence is a test.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("Host: a.com\r\n"),
        Just("Content-Length: 5\r\n"),
        Just("Content-Length: 5"),
        Just("Transfer-Encoding: chunked\r\n"),
        Just("Connection: close, X-Hop\r\n"),
        Just("X-Hop: 1\r\n"),
        Just("X-Forwarded-For: 1.2.3.4\r\n"),
        Just("Upgrade: websocket\r\n"),
        Just(" folded\r\n"),
        Just("X: y\n"),
        Just("\r\n"),
        Just("X:\r\n"),
        Just("\0"),
    ];
    let start =
        prop_oneof![Just("GET / HTTP/1.1\r\n"), Just("POST http://b.com/x HTTP/1.0\r\n"), Just("GET")];
    (start, proptest::collection::vec(line, 0..8))
        .prop_map(|(start, lines)| format!("{start}{}\r\n\r\nbody", lines.concat()).into_bytes())
}

proptest! {
    /// A head that comes in pieces is not complete, or refused as it would be, until it is what it is as a whole.
    #[test]
    fn any_prefix_is_incomplete_or_already_refused(text in lines()) {
        let whole = forward(&text, 0);
        let complete = match &whole {
            Some(Ok((_, length))) => *length,
            _ => text.len(),
        };
        for end in 0..complete {
            match forward(&text[..end], 0) {
                None => {}
                Some(Err(_)) => prop_assert!(matches!(whole, Some(Err(_)) | None), "refused early: {end}"),
                Some(Ok(_)) => prop_assert!(false, "complete at {}", end),
            }
        }
        for end in complete..=text.len() {
            prop_assert_eq!(forward(&text[..end], 0), whole.clone());
        }
    }

    #[test]
    fn nothing_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        forward(&text, 3);
    }

    /// What is forwarded reads the same in the strict reader itself: one host, one framing, no line of the client's that
    /// could be a second one.
    #[test]
    fn what_is_forwarded_is_sound(text in lines()) {
        if let Some(Ok((head, _))) = forward(&text, 0) {
            let again = forward(head.as_bytes(), 0);
            let Some(Ok((second, length))) = again else { panic!("{head:?} gives {again:?}") };
            prop_assert_eq!(length, head.len());
            let count = |name: &str| second.to_lowercase().matches(&format!("\r\n{name}:")).count();
            prop_assert_eq!(count("host"), 1);
            prop_assert!(count("content-length") + count("transfer-encoding") <= 1);
            prop_assert_eq!(count("x-forwarded-for"), 1);
            prop_assert_eq!(count("x-hop") * usize::from(head.contains("Connection: close")), 0);
        }
    }
}
