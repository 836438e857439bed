use proptest::prelude::*;

use super::*;
use crate::http1::slots;

const GET: Asked = Asked { head: false, get: true, websocket: false };
const HEAD: Asked = Asked { head: true, get: true, websocket: false };
const UPGRADE: Asked = Asked { head: false, get: true, websocket: true };

fn deliver(
    text: &[u8],
    asked: Asked,
    version: Version,
) -> Result<Option<(String, Framing, bool)>, InvalidResponse> {
    let mut slots = slots();
    let Some(response) = parse(text, &mut slots, asked)? else { return Ok(None) };
    let mut out = Vec::new();
    if response.status < 200 {
        response.write_interim(None, &mut out);
    } else {
        response.write(&Delivery { version, keep_alive: true, cookies: None, date: b"now" }, &mut out);
    }
    Ok(Some((String::from_utf8_lossy(&out).into_owned(), response.framing, response.keep_alive)))
}

fn sound(text: &str, asked: Asked) -> (String, Framing, bool) {
    deliver(text.as_bytes(), asked, Version::Http11).unwrap().unwrap()
}

// proxy-compat case 81.
#[test]
fn answers_are_read_and_written_anew() {
    let (head, framing, keep_alive) = sound(
        "HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\
         Keep-Alive: timeout=5\r\nContent-Length: 5\r\nContent-Length: 5\r\nX: y\r\n\r\nhello",
        GET,
    );
    assert_eq!(
        head,
        "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nX: y\r\nDate: now\r\nContent-Length: 5\r\n\r\n"
    );
    assert_eq!((framing, keep_alive), (Framing::Length(5), false));
}

#[test]
fn bodies_are_framed_by_what_was_asked_and_answered() {
    for (text, asked, framing, keep_alive) in [
        ("HTTP/1.1 200 OK\r\n\r\n", GET, Framing::UntilClose, false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", GET, Framing::Length(1), false),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n",
            GET,
            Framing::Length(1),
            true,
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", GET, Framing::Chunked, true),
        ("HTTP/1.1 204 No Content\r\n\r\n", GET, Framing::None, true),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", GET, Framing::None, true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", GET, Framing::None, true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", HEAD, Framing::None, true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HEAD, Framing::None, true),
        (
            "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            UPGRADE,
            Framing::None,
            false,
        ),
        ("HTTP/1.1 103 Hints\r\n\r\n", GET, Framing::None, true),
        ("HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", GET, Framing::Length(0), true),
    ] {
        let (_, found, kept) = sound(text, asked);
        assert_eq!((found, kept), (framing, keep_alive), "{text:?}");
    }
    assert!(sound("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", HEAD).0.contains("Content-Length: 9\r\n"));
}

#[test]
fn answers_that_could_be_read_differently_are_refused() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 204 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rY: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\nY: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n",
        "HTTP/1.1 200 OK\nX: a\n\n",
        "HTTP/1.1 2 OK\r\n\r\n",
        "HTTP/1.1 042 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        assert!(deliver(text.as_bytes(), GET, Version::Http11).is_err(), "{text:?}");
    }
    let other = "HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    assert!(deliver(other.as_bytes(), UPGRADE, Version::Http11).is_err());
}

proptest! {
    #[test]
    fn any_prefix_is_incomplete_or_already_refused(
        lines in proptest::collection::vec(
            prop_oneof![
                Just("Content-Length: 5\r\n"), Just("Transfer-Encoding: chunked\r\n"), Just("X: y\r\n"),
                Just("X: y\n"), Just(" z\r\n"), Just("Connection: close\r\n"), Just("Trailer: a\r\n"),
            ],
            0..6,
        ),
        status in 100u16..600,
    ) {
        let text = format!("HTTP/1.1 {status} Word\r\n{}\r\n", lines.concat());
        let whole = deliver(text.as_bytes(), GET, Version::Http11);
        for end in 0..text.len() {
            let part = deliver(&text.as_bytes()[..end], GET, Version::Http11);
            prop_assert!(part == Ok(None) || (part.is_err() && whole.is_err()), "{:?} at {}", part, end);
        }
        if let Ok(Some((head, ..))) = whole && status >= 200 {
            prop_assert!(deliver(head.as_bytes(), GET, Version::Http11).is_ok(), "{}", head);
        }
    }

    #[test]
    fn nothing_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        deliver(&text, GET, Version::Http11).ok();
        deliver(&[&b"HTTP/1.1 200 "[..], &text].concat(), UPGRADE, Version::Http10).ok();
    }
}
