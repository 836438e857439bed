use super::*;
use crate::http1::request;
use crate::http1::response::{Asked, parse};
use crate::http1::slots;

fn wish(accepted: &str, offered: &[Compression]) -> Wish {
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{accepted}\r\n");
    let mut slots = slots();
    let request = request::parse(text.as_bytes(), &mut slots).unwrap().unwrap();
    Wish::of(&request.view, offered, request.version)
}

#[test]
fn the_client_decides_and_the_service_where_it_does_not_care() {
    use Compression::{Br, Gzip, Zstd};
    let all = Compression::ALL;
    for (accepted, wanted) in [
        ("", Wish::Plain),
        ("gzip", Wish::By(Gzip)),
        ("gzip, deflate, br, zstd", Wish::By(Zstd)),
        ("GZIP;q=0.5, br;q=0.9", Wish::By(Br)),
        ("gzip;q=1.0, zstd;q=0.1", Wish::By(Gzip)),
        ("*", Wish::By(Zstd)),
        ("*;q=0.5, zstd;q=0, br;q=0", Wish::By(Gzip)),
        ("gzip;q=0", Wish::Plain),
        ("gzip; q=0.000", Wish::Plain),
        ("identity, gzip;q=0.5", Wish::Plain),
        ("identity;q=0.5, gzip;q=0.5", Wish::By(Gzip)),
        ("deflate, compress", Wish::Plain),
        ("gzip;q=nan", Wish::Plain),
        ("gzip;q=-1", Wish::Plain),
        ("gzip;q=1e9, br;q=0.1", Wish::By(Br)),
    ] {
        let line =
            if accepted.is_empty() { String::new() } else { format!("Accept-Encoding: {accepted}\r\n") };
        assert_eq!(wish(&line, &all), wanted, "{accepted}");
    }
    assert_eq!(wish("Accept-Encoding: gzip\r\nAccept-Encoding: br\r\n", &[Br, Gzip]), Wish::By(Br));
    assert_eq!(wish("Accept-Encoding: zstd\r\n", &[Gzip]), Wish::Plain);
    assert_eq!(wish("Accept-Encoding: gzip\r\n", &[]), Wish::Off);
}

/// What becomes of a head: the coding, and the lines.
fn applied(head: &str, wish: Wish) -> (Option<Compression>, String) {
    let text = format!("HTTP/1.1 {head}\r\n\r\n");
    let mut slots = slots();
    let asked = Asked { head: false, get: true, websocket: false };
    let response = parse(text.as_bytes(), &mut slots, asked).unwrap().unwrap();
    let mut out = text.clone().into_bytes();
    let coding = apply(wish, &response, &mut out);
    (coding, String::from_utf8(out).unwrap())
}

const GZIP: Wish = Wish::By(Compression::Gzip);

#[test]
fn heads_say_what_was_done() {
    let head = "200 OK\r\nContent-Type: text/html; charset=utf-8\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\n\
                Content-Length: 5000\r\nX: y";
    let (coding, out) = applied(head, GZIP);
    assert_eq!(coding, Some(Compression::Gzip));
    assert_eq!(
        out,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nETag: W/\"a\"\r\nX: y\r\n\
         Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\nVary: Accept-Encoding\r\n\r\n"
    );
    let (coding, out) = applied(head, Wish::Plain);
    assert_eq!(coding, None);
    assert_eq!(out, format!("HTTP/1.1 {head}\r\nVary: Accept-Encoding\r\n\r\n"));
    assert_eq!(applied(head, Wish::Off), (None, format!("HTTP/1.1 {head}\r\n\r\n")));
    let weak = "200 OK\r\nContent-Type: text/css\r\nETag: W/\"a\"\r\nVary: Cookie, accept-encoding\r\nContent-Length: 5000";
    let (_, out) = applied(weak, GZIP);
    assert!(out.contains("\r\nETag: W/\"a\"\r\n") && out.matches("Vary").count() == 1, "{out}");
}

#[test]
fn what_must_stay_as_it_is_does() {
    let kept = |head: &str| {
        let (coding, out) = applied(head, GZIP);
        assert_eq!((coding, out), (None, format!("HTTP/1.1 {head}\r\n\r\n")), "{head}");
    };
    let long = "Content-Type: text/plain\r\nContent-Length: 5000";
    kept("200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1023");
    kept("200 OK\r\nContent-Length: 5000");
    kept("204 No Content\r\nContent-Type: text/plain");
    kept("304 Not Modified\r\nContent-Type: text/plain\r\nContent-Length: 5000");
    kept(&format!("206 Partial Content\r\nContent-Range: bytes 0-4999/9000\r\n{long}"));
    kept(&format!("200 OK\r\nContent-Range: bytes 0-4999/9000\r\n{long}"));
    kept(&format!("200 OK\r\nContent-Encoding: br\r\n{long}"));
    kept(&format!("200 OK\r\nCache-Control: private, No-Transform\r\n{long}"));
    for kind in [
        "image/png",
        "video/mp4",
        "application/octet-stream",
        "application/zip",
        "font/woff2",
        "application/grpc",
    ] {
        kept(&format!("200 OK\r\nContent-Type: {kind}\r\nContent-Length: 5000"));
    }
    for kind in ["text/event-stream", "Application/JSON", "image/svg+xml", "application/ld+json;a=b"] {
        let head = format!("200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked");
        assert_eq!(applied(&head, GZIP).0, Some(Compression::Gzip), "{kind}");
    }
}
