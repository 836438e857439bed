//! Requests that two programs could read differently, and clients that take their time.

use std::time::Duration;

use freehold_proxy::Limits;

use crate::rig::Rig;
use crate::target::Target;

/// Each is refused with its status, and the connection is closed with nothing of it forwarded.
const REFUSED: &[(u16, &str)] = &[
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3 4\r\n\r\nabc"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabc"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nabc"),
    (501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    (501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (
        501,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        501,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    (501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n"),
    (501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n"),
    (501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    (501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n"),
    (400, "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tfolded\r\n\r\n"),
    (400, "GET / HTTP/1.1\nHost: a\n\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: b\n\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: b\rContent-Length: 3\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX(): b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n"),
    (400, "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET / a HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    (400, "GET / http/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /\r\n\r\n"),
    (400, "GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /% HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "G@T / HTTP/1.1\r\nHost: a\r\n\r\n(),"),
    (400, "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03"),
    (505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    (505, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"),
    (417, "POST / HTTP/1.1\r\nHost: a\r\nExpect: something\r\nContent-Length: 1\r\n\r\na"),
];

#[tokio::test]
async fn ambiguous_requests_are_refused_and_end_the_connection() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let mut request = crate::rig::request_for(&target);
    request.settings.hosts = vec![];
    rig.client().await.deploy(&crate::rig::name("any"), &request, crate::client::LIMIT).await.unwrap();
    let before = target.requests();
    for (status, text) in REFUSED {
        let mut connection = rig.open().await;
        connection.send(text).await;
        // What follows must not be read as a request of its own.
        connection.send("GET /n HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let reply = connection.reply().await;
        assert_eq!((reply.status, reply.header("connection")), (*status, Some("close")), "{text:?}");
        assert!(connection.is_closed().await, "{text:?}");
    }
    assert_eq!(target.requests(), before);
}

#[tokio::test]
async fn heads_have_a_limit() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    let long = format!("GET /n HTTP/1.1\r\nHost: shop.example.com\r\nX: {}\r\n\r\n", "a".repeat(40_000));
    let many = format!("GET /n HTTP/1.1\r\nHost: shop.example.com\r\n{}\r\n", "X: a\r\n".repeat(200));
    let endless = format!("GET /{}", "a".repeat(50_000));
    for request in [long, many, endless] {
        let mut connection = rig.open().await;
        connection.send(request).await;
        assert_eq!(connection.reply().await.status, 431);
    }
    let mut connection = rig.open().await;
    connection
        .send(format!("GET /n HTTP/1.1\r\nHost: shop.example.com\r\nX: {}\r\n\r\n", "a".repeat(20_000)))
        .await;
    assert_eq!(connection.reply().await.status, 200);
}

#[tokio::test]
async fn a_client_that_ends_within_a_head_is_let_go() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    let mut connection = rig.open().await;
    connection.send("GET /n HTTP/1.1\r\nHost: sh").await;
    tokio::io::AsyncWriteExt::shutdown(connection.stream.get_mut()).await.unwrap();
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn clients_that_take_their_time_are_let_go() {
    let short = Duration::from_millis(200);
    let limits = Limits { idle: short, head: short, upload: short, ..Limits::default() };
    let (rig, target) = (Rig::with_limits(limits), Target::start("t").await);
    rig.deploy(&target).await;
    let mut idle = rig.open().await;
    assert_eq!(idle.get("/n").await.status, 200);
    assert!(idle.is_closed().await);
    let mut head = rig.open().await;
    head.send("GET /n HTTP/1.1\r\nHost: sh").await;
    assert_eq!(head.reply().await.status, 408);
    assert!(head.is_closed().await);
    let mut body = rig.open().await;
    body.send("POST /n HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 10\r\n\r\nabc").await;
    assert_eq!(body.reply().await.status, 408);
    assert!(body.is_closed().await);
    // An answer that takes longer than all of these is waited for.
    let mut slow = rig.open().await;
    slow.send("GET /gate HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    target.wait_for_waiting(1).await;
    rig.wait_for(|status| status.counters.since_switch_ms > 1500).await;
    target.open_gate();
    assert_eq!(slow.reply().await.text(), "t");
    assert!(rig.counters(3).await.target_errors.is_empty());
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_let_go() {
    let limits = Limits { stalled_client: Duration::from_millis(300), ..Limits::default() };
    let (mut rig, target) = (Rig::with_limits(limits), Target::start("t").await);
    rig.deploy(&target).await;
    let mut connection = rig.open().await;
    connection.send("GET /huge HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    rig.counters(1).await;
    rig.stop();
    assert_eq!(rig.log.requests().remove(0)["reason"], "client_gone");
}
