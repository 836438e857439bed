//! Bodies in both directions: framed in every way, large, cut, early.

use crate::client::soon;
use crate::rig::Rig;
use crate::target::Target;

const HEAD: &str = "Host: shop.example.com\r\n";

async fn rig() -> (Rig, Target) {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    (rig, target)
}

// proxy-compat case 72.
#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let (rig, target) = rig().await;
    let before = target.connections();
    let mut connection = rig.open().await;
    for number in 0..50 {
        connection.send(format!("GET /n HTTP/1.1\r\n{HEAD}X-Number: {number}\r\n\r\n")).await;
        assert_eq!(connection.reply().await.text(), format!("t {number} /n 0 0"));
    }
    assert_eq!(target.connections(), before + 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (rig, _target) = rig().await;
    let mut connection = rig.open().await;
    let requests: Vec<String> = (0..20)
        .map(|number| match number % 3 {
            0 => format!("POST /n HTTP/1.1\r\n{HEAD}X-Number: {number}\r\nContent-Length: 3\r\n\r\nabc"),
            1 => format!(
                "POST /n HTTP/1.1\r\n{HEAD}X-Number: {number}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
            ),
            _ => format!("GET /n HTTP/1.1\r\n{HEAD}X-Number: {number}\r\n\r\n"),
        })
        .collect();
    connection.send(requests.concat()).await;
    for number in 0..20 {
        let (length, sum) = [(3, 294), (1, 97), (0, 0)][number % 3];
        assert_eq!(connection.reply().await.text(), format!("t {number} /n {length} {sum}"));
    }
}

#[tokio::test]
async fn a_request_in_single_bytes_is_understood() {
    let (rig, _target) = rig().await;
    let mut connection = rig.open().await;
    let request =
        format!("POST /n HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    for byte in request.bytes() {
        connection.send([byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(connection.reply().await.text(), "t  /n 3 294");
}

#[tokio::test]
async fn large_uploads_arrive_whole() {
    let (rig, _target) = rig().await;
    let mut connection = rig.open().await;
    let body = vec![1; 3_000_000];
    connection.send(format!("POST /n HTTP/1.1\r\n{HEAD}Content-Length: {}\r\n\r\n", body.len())).await;
    connection.send(&body).await;
    assert_eq!(connection.reply().await.text(), "t  /n 3000000 3000000");
    connection.send(format!("POST /n HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n")).await;
    for _ in 0..30 {
        connection.send("186a0\r\n").await;
        connection.send(&body[..100_000]).await;
        connection.send("\r\n").await;
    }
    connection.send("0\r\n\r\n").await;
    assert_eq!(connection.reply().await.text(), "t  /n 3000000 3000000");
}

#[tokio::test]
async fn large_answers_arrive_whole() {
    let (rig, _target) = rig().await;
    let mut connection = rig.open().await;
    for _ in 0..3 {
        let reply = connection.get("/large").await;
        assert_eq!(reply.text(), "0123456789abcdef".repeat(12_500));
    }
}

// proxy-compat case 84.
#[tokio::test]
async fn chunks_and_trailers_come_through_and_extensions_do_not() {
    let (rig, _target) = rig().await;
    let mut connection = rig.open().await;
    let reply = connection.get("/chunked").await;
    assert_eq!((reply.text(), reply.trailers.as_str()), ("hello world", "X-Sum: 11\r\n"));
    connection
        .send(format!(
            "POST /n HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n2;x=\"y\"\r\nab\r\n0\r\nX-T: 1\r\n\r\n"
        ))
        .await;
    assert_eq!(connection.reply().await.text(), "t  /n 2 195");
}

#[tokio::test]
async fn a_body_that_ends_with_the_connection_is_chunked_for_the_client() {
    let (rig, _target) = rig().await;
    let mut connection = rig.open().await;
    let reply = connection.get("/until-close").await;
    assert_eq!((reply.text(), reply.header("transfer-encoding")), ("until the end", Some("chunked")));
    assert_eq!(connection.get("/n").await.status, 200);
}

#[tokio::test]
async fn clients_of_http_1_0_get_what_they_understand() {
    let (rig, _target) = rig().await;
    let mut connection = rig.open().await;
    connection.send(format!("GET /chunked HTTP/1.0\r\n{HEAD}\r\n")).await;
    let reply = connection.reply().await;
    assert_eq!((reply.text(), reply.header("transfer-encoding")), ("hello world", None));
    assert_eq!(reply.header("connection"), Some("close"));
    let mut connection = rig.open().await;
    for _ in 0..2 {
        connection.send(format!("GET /n HTTP/1.0\r\n{HEAD}Connection: keep-alive\r\n\r\n")).await;
        let reply = connection.reply().await;
        assert_eq!((reply.text(), reply.header("connection")), ("t  /n 0 0", Some("keep-alive")));
    }
    connection.send(format!("GET /n HTTP/1.0\r\n{HEAD}\r\n")).await;
    assert_eq!(connection.reply().await.header("connection"), Some("close"));
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn head_has_a_length_and_no_body() {
    let (rig, _target) = rig().await;
    let mut connection = rig.open().await;
    connection.send(format!("HEAD /n HTTP/1.1\r\n{HEAD}\r\n")).await;
    let reply = connection.head_reply().await;
    assert_eq!((reply.status, reply.header("content-length")), (200, Some("9")));
    assert_eq!(connection.get("/n").await.text(), "t  /n 0 0");
}

#[tokio::test]
async fn expect_continue_is_answered_at_once_and_only_once() {
    let (rig, _target) = rig().await;
    for path in ["/n", "/continue"] {
        let mut connection = rig.open().await;
        connection
            .send(format!("POST {path} HTTP/1.1\r\n{HEAD}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"))
            .await;
        assert_eq!(connection.reply().await.status, 100);
        connection.send("ab").await;
        let reply = connection.reply().await;
        assert_ne!(reply.status, 100);
    }
}

// proxy-compat case 85.
#[tokio::test]
async fn interim_answers_come_first_and_leave_nothing_behind() {
    let (rig, _target) = rig().await;
    let mut connection = rig.open().await;
    let hints = connection.get("/hints").await;
    assert_eq!((hints.status, hints.header("link")), (103, Some("</a.css>")));
    let reply = connection.reply().await;
    assert_eq!((reply.status, reply.text(), reply.header("link")), (200, "hinted", None));
}

#[tokio::test]
async fn a_slow_answer_is_passed_on_as_it_comes() {
    let (rig, target) = rig().await;
    let mut connection = rig.open().await;
    connection.send(format!("GET /half-gate HTTP/1.1\r\n{HEAD}\r\n")).await;
    let mut part = [0; 5];
    soon(async {
        connection.head().await.unwrap();
        tokio::io::AsyncReadExt::read_exact(&mut connection.stream, &mut part).await.unwrap();
    })
    .await;
    assert_eq!(&part, b"first");
    target.open_gate();
    soon(tokio::io::AsyncReadExt::read_exact(&mut connection.stream, &mut part)).await.unwrap();
    assert_eq!(&part, b"-last");
}

#[tokio::test]
async fn an_answer_before_the_upload_ended_reaches_the_client() {
    let (rig, _target) = rig().await;
    let mut connection = rig.open().await;
    connection.send(format!("POST /early HTTP/1.1\r\n{HEAD}Content-Length: 100000000\r\n\r\n")).await;
    let (mut reader, mut writer) = connection.stream.into_inner().into_split();
    // The client goes on sending, as browsers do, until it is refused.
    let sending = async {
        while tokio::io::AsyncWriteExt::write_all(&mut writer, &[7; 65536]).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let mut text = Vec::new();
    let reading = async {
        while !text.ends_with(b"too much") {
            assert_ne!(tokio::io::AsyncReadExt::read_buf(&mut reader, &mut text).await.unwrap(), 0);
        }
    };
    soon(async { tokio::join!(sending, reading) }).await;
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
}

// proxy-compat case 90.
#[tokio::test]
async fn answers_that_break_off_are_not_taken_for_whole_ones() {
    let (rig, _target) = rig().await;
    for path in ["/cut", "/cut-chunked"] {
        let mut connection = rig.open().await;
        connection.send(format!("GET {path} HTTP/1.1\r\n{HEAD}\r\n")).await;
        assert_eq!(soon(connection.try_reply("GET")).await, None);
    }
    let counters = rig.counters(2).await;
    assert_eq!(counters.target_errors.get(&freehold_wire::Reason::TargetCutBody), Some(&2), "{counters:?}");
}
