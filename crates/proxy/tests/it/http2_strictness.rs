//! What a client may not say over HTTP/2, what it may say in other ways, and what is told of it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::soon;
use crate::http2_floods::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PREFACE, RST_STREAM, Raw, SETTINGS,
    WINDOW_UPDATE, frame, head,
};
use crate::metrics::{scrape, wait_for};
use crate::rig::Rig;
use crate::target::Target;

type Fields<'f> = Vec<(&'f [u8], &'f [u8])>;

const PROTOCOL_ERROR: u32 = 1;

/// Fields one by one, each spelled out.
fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend_from_slice(text);
        }
    }
    block
}

fn get<'f>(path: &'f [u8], more: &[(&'f [u8], &'f [u8])]) -> Fields<'f> {
    let mut fields: Fields<'f> = vec![
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"shop.example.com"),
    ];
    fields.extend_from_slice(more);
    fields
}

fn post<'f>(more: &[(&'f [u8], &'f [u8])]) -> Fields<'f> {
    let mut fields = get(b"/n", more);
    fields[0].1 = b"POST";
    fields
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Answered { status: u16, body: String },
    Reset(u32),
    Away(u32),
}

/// Reads until a stream has ended, one way or the other. Heads are those of a connection's first answer.
async fn fate(raw: &mut Raw, stream: u32) -> Fate {
    let (mut status, mut body) = (0, Vec::new());
    loop {
        let Frame { kind, flags, stream: found, payload } = raw.next().await.expect("it is told");
        let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match kind {
            GOAWAY => return Fate::Away(code(4)),
            RST_STREAM if found == stream => return Fate::Reset(code(0)),
            HEADERS if found == stream => {
                status = match payload[0] {
                    0x88 => 200,
                    0x8c => 400,
                    0x8d => 404,
                    // A literal: an index, a length and three digits.
                    _ => String::from_utf8_lossy(&payload[2..5]).parse().unwrap(),
                };
            }
            DATA if found == stream => body.extend_from_slice(&payload),
            _ => {}
        }
        if found == stream && flags & END_STREAM != 0 && matches!(kind, HEADERS | DATA) {
            return Fate::Answered { status, body: String::from_utf8(body).unwrap() };
        }
    }
}

async fn scene() -> (Rig, Target) {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    (rig, target)
}

/// Asks on a connection of its own, with a body if there is one.
async fn ask(rig: &Rig, fields: &[(&[u8], &[u8])], body: Option<&[u8]>) -> Fate {
    let mut raw = Raw::open(rig).await;
    let ends = if body.is_none() { END_STREAM } else { 0 };
    let mut bytes = frame(HEADERS, END_HEADERS | ends, 1, &block(fields));
    if let Some(body) = body {
        bytes.extend(frame(DATA, END_STREAM, 1, body));
    }
    raw.stream.write_all(&bytes).await.unwrap();
    fate(&mut raw, 1).await
}

/// Ways to make one request out of two, or another one, of which nothing may reach a target.
#[tokio::test]
async fn nothing_that_could_be_read_otherwise_is_forwarded() {
    let (rig, target) = scene().await;
    let before = target.requests();
    let smuggled = b"x\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: shop.example.com\r\n\r\n";
    let headers: Vec<(&[u8], &[u8])> = vec![
        (b"x", smuggled),
        (b"x", b"a\nb: c"),
        (b"x", b"a\rb"),
        (b"x", b"a\0b"),
        (b"x", b"a\x7fb"),
        (b"x", b"a\x01b"),
        (b"x", b" a"),
        (b"x", b"a "),
        (b"x", b"\ta"),
        (b"x\r\ny", b"a"),
        (b"x\ny", b"a"),
        (b"x\0y", b"a"),
        (b"x: y", b"a"),
        (b"x:", b"a"),
        (b"x y", b"a"),
        (b" x", b"a"),
        (b"x\t", b"a"),
        (b"X-Upper", b"a"),
        (b"x(y", b"a"),
        (b"x\xffy", b"a"),
        (b"", b"a"),
        (b"connection", b"close"),
        (b"connection", b"transfer-encoding"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"keep-alive"),
        (b"upgrade", b"websocket"),
        (b"transfer-encoding", b"chunked"),
        (b"transfer-encoding", b"identity"),
        (b"transfer-encoding", b"\x0bchunked"),
        (b"te", b"gzip"),
        (b"te", b"trailers, chunked"),
        (b"content-length", b"1"),
        (b"content-length", b"-0"),
        (b"content-length", b"+0"),
        (b"content-length", b"0x0"),
        (b"content-length", b"0, 0"),
        (b"content-length", b""),
        (b"content-length", b"99999999999999999999"),
        (b":path", b"/other"),
        (b":authority", b"other.example.com"),
        (b":status", b"200"),
        (b":protocol", b"websocket"),
        (b":", b"x"),
    ];
    for header in headers {
        let told = ask(&rig, &get(b"/n", &[header]), None).await;
        let (name, value) = (String::from_utf8_lossy(header.0), String::from_utf8_lossy(header.1));
        assert_eq!(told, Fate::Reset(PROTOCOL_ERROR), "{name:?}: {value:?}");
    }
    assert_eq!(target.requests(), before, "nothing has reached the target");
}

/// The same by what stands in the first line.
#[tokio::test]
async fn no_first_line_that_could_be_read_otherwise_is_forwarded() {
    let (rig, target) = scene().await;
    let before = target.requests();
    let pseudo: Vec<(usize, &[u8])> = vec![
        (0, b""),
        (0, b"GET /x HTTP/1.1\r\nx: y\r\n\r\nGET"),
        (0, b"GET /x"),
        (0, b"G\0T"),
        (0, b"G:T"),
        (1, b""),
        (1, b"http://x"),
        (1, b"http\r\nx: y"),
        (1, b"9http"),
        (2, b""),
        (2, b"n"),
        (2, b"*"),
        (2, b"?x"),
        (2, b"http://other.example.com/"),
        (2, b"/n HTTP/1.1\r\nx: y"),
        (2, b"/n\tx"),
        (2, b"/n\0"),
        (2, b"/n\x7f"),
        (3, b"a b"),
        (3, b"a\r\nx: y"),
        (3, b"a\0b"),
    ];
    for (at, value) in pseudo {
        let mut fields = get(b"/n", &[]);
        fields[at].1 = value;
        let told = ask(&rig, &fields, None).await;
        let value = String::from_utf8_lossy(value);
        assert_eq!(told, Fate::Reset(PROTOCOL_ERROR), "{at}: {value:?}");
    }
    // Two hosts, which the reader of HTTP/1 refuses, and what it refuses in a path.
    for fields in [
        get(b"/n", &[(b"host", b"other.example.com")]),
        get(b"/n", &[(b"host", b"shop.example.com"), (b"host", b"other.example.com")]),
        get(b"/n#fragment", &[]),
        get(b"/n%2", &[]),
        get(b"/n%zz", &[]),
    ] {
        let told = ask(&rig, &fields, None).await;
        assert!(matches!(told, Fate::Answered { status: 400, .. }), "{told:?}");
    }
    assert_eq!(target.requests(), before, "nothing has reached the target");
}

#[tokio::test]
async fn a_body_is_as_long_as_was_said() {
    let (rig, target) = scene().await;
    let before = target.requests();
    for (said, body) in [("1", &b"test"[..]), ("5", b"test"), ("4", b""), ("0", b"test")] {
        let told = ask(&rig, &post(&[(b"content-length", said.as_bytes())]), Some(body)).await;
        assert_eq!(told, Fate::Reset(PROTOCOL_ERROR), "{said} for {}", body.len());
    }
    let twice = post(&[(b"content-length", b"4"), (b"content-length", b"4")]);
    assert_eq!(ask(&rig, &twice, Some(b"test")).await, Fate::Reset(PROTOCOL_ERROR));
    assert_eq!(target.requests(), before);
    let good = ask(&rig, &post(&[(b"content-length", b"4")]), Some(b"test")).await;
    assert_eq!(good, Fate::Answered { status: 200, body: "t  /n 4 448".to_owned() });
    // What looks like chunks is a body like any other.
    let chunks = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: shop.example.com\r\n\r\n";
    let told = ask(&rig, &post(&[]), Some(chunks)).await;
    let wanted = format!("t  /n {} ", chunks.len());
    assert!(matches!(told, Fate::Answered { status: 200, body } if body.starts_with(&wanted)));
}

#[tokio::test]
async fn paths_are_read_as_by_http1() {
    let (rig, _target) = scene().await;
    for path in [
        "/n",
        "/n?a=b&c",
        "/n?a?b",
        "/n<",
        "/n?<>\"'{}|^`",
        "//n",
        "//other.example.com/n",
        "/./n",
        "/../n",
        "/n/..",
        "/n/../../etc",
        "/n;x=1",
        "/n%20b",
        "/n%2fb",
        "/n\\b",
        "/n@b:c",
        "/~n",
        "/n?x=http://other.example.com/",
        "/n\u{e9}",
    ] {
        let by_http1 = rig.open().await.get(path).await;
        let wanted = Fate::Answered { status: by_http1.status, body: by_http1.text().to_owned() };
        assert_eq!(ask(&rig, &get(path.as_bytes(), &[]), None).await, wanted, "{path}");
    }
}

#[tokio::test]
async fn what_is_cut_anywhere_is_read_the_same() {
    let (rig, _target) = scene().await;
    let chunked = frame(HEADERS, END_HEADERS, 3, &block(&post(&[])));
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(&[(b"x-sum", b"5")]));
    let cut = block(&get(b"/n?cut", &[(b"x-number", b"7")]));
    let (first, rest) = cut.split_at(20);
    let bytes = [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[]),
        &frame(HEADERS, END_STREAM, 1, first),
        &frame(CONTINUATION, END_HEADERS, 1, rest),
        &chunked,
        &frame(DATA, 0, 3, b"te"),
        &frame(DATA, 8, 3, b"\x03st\0\0\0"),
        &trailers,
    ]
    .concat();
    for size in [1, 2, 5, 9, 10, 24, 25, 100, bytes.len()] {
        let mut raw = Raw { stream: TcpStream::connect(("127.0.0.1", rig.port())).await.unwrap() };
        raw.stream.set_nodelay(true).unwrap();
        for piece in bytes.chunks(size) {
            raw.stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut bodies = [Vec::new(), Vec::new()];
        let mut ended = 0;
        while ended < 2 {
            let frame = raw.next().await.unwrap();
            assert!(!matches!(frame.kind, GOAWAY | RST_STREAM), "pieces of {size}: {frame:?}");
            if frame.kind == DATA {
                bodies[frame.stream as usize / 2].extend_from_slice(&frame.payload);
                ended += usize::from(frame.flags & END_STREAM);
            }
        }
        let [first, second] = bodies.map(|body| String::from_utf8(body).unwrap());
        assert_eq!((&*first, &*second), ("t 7 /n?cut 0 0", "t  /n 4 448"), "pieces of {size}");
    }
}

// CVE-2025-8671: a client makes the server reset what it has just begun.
#[tokio::test]
async fn resets_that_a_client_makes_us_send_end_the_connection() {
    let (rig, target) = scene().await;
    let before = target.requests();
    let mut raw = Raw::open(&rig).await;
    for number in 0..2000 {
        let stream = number * 2 + 1;
        let open = frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("/n"));
        let both = [open, frame(WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes())].concat();
        if raw.stream.write_all(&both).await.is_err() {
            break;
        }
    }
    assert_eq!(raw.reason().await, 11);
    let reached = target.requests() - before;
    assert!(reached <= 150, "{reached} requests reached the target");
    assert_eq!(rig.open().await.get("/n").await.status, 200);
}

#[tokio::test]
async fn what_breaks_the_rules_is_logged_and_counted() {
    let (mut rig, target) = (Rig::counting(), Target::start("t").await);
    rig.deploy(&target).await;
    assert_eq!(ask(&rig, &get(b"/n", &[(b"te", b"gzip")]), None).await, Fate::Reset(PROTOCOL_ERROR));
    let mut raw = Raw::open(&rig).await;
    raw.stream.write_all(&frame(DATA, 0, 0, b"x")).await.unwrap();
    assert_eq!(raw.reason().await, PROTOCOL_ERROR);
    let mut raw = Raw::open(&rig).await;
    raw.flood(&frame(6, 0, 0, &[0; 8]), 3000).await;
    assert_eq!(raw.reason().await, 11);
    for reason in ["invalid_request", "protocol_error", "client_flood"] {
        let line = format!("freehold_http_dropped_total{{service=\"\",reason=\"{reason}\"}} 1");
        wait_for(&rig, &line).await;
    }
    assert!(!scrape(&rig).await.contains("freehold_target_errors_total{service=\"\""));
    rig.stop();
    let lines = rig.log.requests();
    assert!(lines.iter().all(|line| line["proto"] == "HTTP/2.0" && line["status"] == 400), "{lines:?}");
    // Each thread writes its own lines.
    let mut told: Vec<_> =
        lines.iter().map(|line| (line["reason"].as_str(), line["cause"].as_str())).collect();
    told.sort_unstable();
    let wanted = [
        (Some("client_flood"), Some("too much that brings nothing")),
        (Some("invalid_request"), Some("TE with more than trailers")),
        (Some("protocol_error"), Some("DATA on the connection")),
    ];
    assert_eq!(told, wanted);
}

#[tokio::test]
async fn streams_send_in_turn_and_a_slow_one_holds_up_nobody() {
    let (rig, _target) = scene().await;
    let mut raw = Raw::open(&rig).await;
    // A large window for the connection, so that only the streams' own hold them up.
    let window = frame(WINDOW_UPDATE, 0, 0, &0x4000_0000_u32.to_be_bytes());
    raw.stream.write_all(&window).await.unwrap();
    // Nothing is taken of the first one, as its window stays what it was.
    let slow = frame(HEADERS, END_STREAM | END_HEADERS, 1, &head("/large"));
    raw.stream.write_all(&slow).await.unwrap();
    let mut got = 0;
    while got < 65_535 {
        let frame = raw.next().await.unwrap();
        if frame.kind == DATA {
            assert_eq!(frame.stream, 1);
            got += frame.payload.len();
        }
    }
    let mut rest = Vec::new();
    for stream in [3, 5, 7] {
        raw.stream
            .write_all(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("/large")))
            .await
            .unwrap();
        let more = 0x10_0000_u32.to_be_bytes();
        raw.stream.write_all(&frame(WINDOW_UPDATE, 0, stream, &more)).await.unwrap();
        rest.push((stream, 200_000_usize));
    }
    while !rest.is_empty() {
        let frame = raw.next().await.unwrap();
        if frame.kind == DATA {
            let (_, left) =
                rest.iter_mut().find(|(stream, _)| *stream == frame.stream).expect("not the slow one");
            *left -= frame.payload.len();
            rest.retain(|(_, left)| *left > 0);
        }
    }
    // Once its window is opened, the slow one goes on, too.
    let more = 0x10_0000_u32.to_be_bytes();
    raw.stream.write_all(&frame(WINDOW_UPDATE, 0, 1, &more)).await.unwrap();
    while got < 200_000 {
        let frame = raw.next().await.unwrap();
        if frame.kind == DATA {
            got += frame.payload.len();
        }
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_not_read_from_for_ever() {
    let (rig, _target) = scene().await;
    let mut raw = Raw::open(&rig).await;
    // Answers that nobody reads, as many as the allowance lets through, and no more.
    let asked = frame(HEADERS, END_STREAM | END_HEADERS, 1, &head("/n"));
    raw.stream.write_all(&asked).await.unwrap();
    let (mut reader, mut writer) = raw.stream.into_split();
    let flood = async {
        let pings = frame(6, 0, 0, &[0; 8]).repeat(500);
        for _ in 0..200 {
            if writer.write_all(&pings).await.is_err() {
                return;
            }
        }
    };
    soon(flood).await;
    let mut rest = Vec::new();
    // A reset is an end as well.
    soon(reader.read_to_end(&mut rest)).await.ok();
    assert!(rest.len() < 200_000, "{}", rest.len());
    assert_eq!(rig.open().await.get("/n").await.status, 200);
}
