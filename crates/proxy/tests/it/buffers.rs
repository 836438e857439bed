//! Bodies that are held back.

use freehold_wire::{Buffering, Gate};

use crate::client::{Connection, LIMIT, Reply};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

async fn scene(buffering: Buffering) -> (Rig, Target) {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let mut request = request_for(&target);
    request.settings.buffering = buffering;
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    (rig, target)
}

fn both(memory: u64, limit: u64) -> Buffering {
    Buffering {
        requests: true,
        responses: true,
        memory_bytes: memory,
        max_request_bytes: limit,
        max_response_bytes: limit,
    }
}

/// Posts a body, of which the target makes its answer.
async fn post(client: &mut Connection, path: &str, body: &str) -> Reply {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: {length}\r\n\r\n");
    client.send(head + body).await;
    client.reply().await
}

fn answer(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

// proxy-compat case 94.
#[tokio::test]
async fn limits_without_buffering_limit_nothing() {
    let buffering = Buffering { requests: false, responses: false, ..both(10, 10) };
    let (rig, target) = scene(buffering).await;
    assert_eq!(post(&mut rig.open().await, "/raw", &answer(&"x".repeat(100))).await.body.len(), 100);
    drop(target);
}

// proxy-compat cases 95-97, 102, 105.
#[tokio::test]
async fn bodies_over_the_limit_are_refused() {
    let limit = answer("12345678").len() as u64;
    for memory in [0, 5, 10, 1000] {
        let (rig, target) = scene(both(memory, limit)).await;
        let mut client = rig.open().await;
        assert_eq!(post(&mut client, "/n", "12345").await.status, 200);
        assert_eq!(post(&mut rig.open().await, "/raw", &answer("12345678")).await.text(), "12345678");
        let reply = post(&mut client, "/n", &"x".repeat(usize::try_from(limit).unwrap() + 1)).await;
        assert_eq!(reply.status, 413, "{memory}");
        let mut client = rig.open().await;
        client.send("POST /n HTTP/1.1\r\nHost: shop.example.com\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        client
            .send(format!(
                "{:x}\r\n{}\r\n0\r\n\r\n",
                limit + 1,
                "x".repeat(usize::try_from(limit).unwrap() + 1)
            ))
            .await;
        assert_eq!(client.reply().await.status, 413);
        assert_eq!(rig.open().await.get("/large").await.status, 500);
        assert_eq!(fs_err::read_dir(rig.spill_folder()).unwrap().count(), 0, "{memory}");
        drop(target);
    }
    let requests = Buffering { responses: false, ..both(10, 10) };
    let (rig, target) = scene(requests).await;
    assert_eq!(rig.open().await.get("/large").await.status, 200);
    assert_eq!(post(&mut rig.open().await, "/n", "12345678901").await.status, 413);
    drop(target);
    let responses = Buffering { requests: false, ..both(10, 10) };
    let (rig, target) = scene(responses).await;
    assert_eq!(post(&mut rig.open().await, "/n", "12345678901").await.status, 500, "the answer is longer");
    drop(target);
}

// proxy-compat cases 98-100, 104: what does not fit into memory comes back whole, and leaves nothing.
#[tokio::test]
async fn bodies_go_through_files() {
    for memory in [0, 1000, 1_000_000] {
        let (rig, target) = scene(both(memory, 0)).await;
        let mut client = rig.open().await;
        let body = "0123456789abcdef".repeat(40_000);
        let sum: u64 = body.bytes().map(u64::from).sum();
        let wanted = format!("t  /n {} {sum}", body.len());
        assert_eq!(post(&mut client, "/n", &body).await.text(), wanted);
        client.send("POST /n HTTP/1.1\r\nHost: shop.example.com\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for piece in body.as_bytes().chunks(100_000) {
            client.send(format!("{:x}\r\n", piece.len())).await;
            client.send(piece).await;
            client.send("\r\n").await;
        }
        client.send("0\r\n\r\n").await;
        assert_eq!(client.reply().await.text(), wanted);
        let large = client.get("/large").await;
        assert_eq!((large.body.len(), &large.body[199_984..]), (200_000, &b"0123456789abcdef"[..]));
        assert_eq!(post(&mut client, "/n", "").await.text(), "t  /n 0 0");
        assert_eq!(fs_err::read_dir(rig.spill_folder()).unwrap().count(), 0);
        drop(target);
    }
}

#[tokio::test]
async fn a_target_is_asked_when_the_whole_request_is_there() {
    let (rig, target) = scene(both(1000, 0)).await;
    let before = target.requests();
    let mut client = rig.open().await;
    client.send("POST /n HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 6\r\n\r\nabc").await;
    rig.wait_for(|status| status.in_flight.requests == 1).await;
    assert_eq!(rig.open().await.get("/n").await.status, 200);
    assert_eq!((target.requests(), target.connections()), (before + 1, before + 1));
    client.send("def").await;
    assert_eq!(client.reply().await.text(), "t  /n 6 597");
}

#[tokio::test]
async fn who_expects_to_be_told_to_go_on_is_told() {
    let (rig, target) = scene(both(1000, 0)).await;
    let mut client = rig.open().await;
    client
        .send(
            "POST /n HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        )
        .await;
    assert_eq!(client.reply().await.status, 100);
    client.send("abc").await;
    assert_eq!(client.reply().await.text(), "t  /n 3 294");
    drop(target);
}

#[tokio::test]
async fn a_request_whose_body_was_held_back_can_still_go_to_the_standby() {
    let (rig, old) = scene(both(2, 0)).await;
    let new = Target::start("new").await;
    let mut request = request_for(&new);
    request.settings.buffering = both(2, 0);
    request.standby_ms = 60_000;
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    new.stop().await;
    assert_eq!(post(&mut rig.open().await, "/n", "abc").await.text(), "t  /n 3 294");
    drop(old);
}

#[tokio::test]
async fn an_answer_that_was_cut_is_an_error_where_it_was_held_back() {
    let (rig, target) = scene(both(1000, 0)).await;
    let reply = rig.open().await.get("/cut").await;
    assert_eq!(reply.status, 502);
    assert!(reply.header("content-length").is_some_and(|length| length != "100"), "{reply:?}");
    drop(target);
}

// proxy-compat cases 107, 108: what comes in pieces is sent on at once.
#[tokio::test]
async fn answers_of_unknown_length_and_those_that_decline_are_sent_at_once() {
    let (rig, target) = scene(both(1000, 0)).await;
    let mut client = rig.open().await;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nContent-Length: 100\r\n\r\nonly this";
    for text in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
        head,
        "HTTP/1.1 200 OK\r\nX-Accel-Buffering: no\r\nContent-Length: 100\r\n\r\nfirst",
    ] {
        // The target ends its answer before it is whole: only what was sent on at once is seen.
        let length = text.len();
        let request =
            format!("POST /raw HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: {length}\r\n\r\n{text}");
        client.send(request).await;
        assert!(client.head().await.unwrap().starts_with("HTTP/1.1 200"), "{text}");
        client = rig.open().await;
    }
    assert_eq!(client.get("/chunked").await.text(), "hello world");
    drop(target);
}

// proxy-compat case 78.
#[tokio::test]
async fn upgraded_connections_are_not_held_back() {
    let (rig, target) = scene(both(2, 2)).await;
    let mut client = rig.open().await;
    client
        .send("GET /socket HTTP/1.1\r\nHost: shop.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(client.reply().await.status, 101);
    client.send("a long message").await;
    let mut echo = [0; 14];
    tokio::io::AsyncReadExt::read_exact(&mut client.stream, &mut echo).await.unwrap();
    assert_eq!(&echo, b"a long message");
    drop(target);
}

// proxy-compat case 103.
#[tokio::test]
async fn malformed_chunks_are_refused() {
    let (rig, target) = scene(both(1000, 0)).await;
    let mut client = rig.open().await;
    client
        .send("POST /n HTTP/1.1\r\nHost: shop.example.com\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n")
        .await;
    assert_eq!(client.reply().await.status, 400);
    assert_eq!(rig.status().await.gate, Gate::Open);
    drop(target);
}

#[tokio::test]
async fn a_body_that_cannot_be_kept_is_an_error_of_the_proxy() {
    let (rig, target) = scene(both(2, 0)).await;
    fs_err::remove_dir(rig.spill_folder()).unwrap();
    assert_eq!(post(&mut rig.open().await, "/n", "abc").await.status, 500);
    drop(target);
}

/// Begins a request whose answer comes in two parts, the second once the gate is open.
async fn begin(rig: &Rig, path: &str, target: &Target) -> Connection {
    let mut client = rig.open().await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")).await;
    target.wait_for_waiting(1).await;
    client
}

// proxy-compat cases 77, 86, 107, 108.
#[tokio::test]
async fn a_piece_that_was_sent_is_read_while_the_answer_goes_on() {
    for buffering in [Buffering::default(), both(1000, 0)] {
        for kind in ["text/event-stream", "text/event-stream;charset=utf-8", "text/plain", "application/json"]
        {
            let (rig, target) = scene(buffering.clone()).await;
            let mut client = begin(&rig, &format!("/pieces-gate?{kind}"), &target).await;
            let head = crate::client::soon(client.head()).await.unwrap();
            assert!(head.contains(&format!("Content-Type: {kind}\r\n")), "{head}");
            assert_eq!(crate::client::soon(client.chunk()).await.unwrap(), b"first", "{kind}");
            target.open_gate();
            assert_eq!(crate::client::soon(client.chunk()).await.unwrap(), b"-last", "{kind}");
            assert_eq!(crate::client::soon(client.chunk()).await.unwrap(), b"", "{kind}");
        }
    }
}

// proxy-compat cases 106, 109, 110.
#[tokio::test]
async fn an_answer_of_known_length_is_sent_when_it_is_whole() {
    for path in ["/whole-gate", "/half-gate?text/plain", "/half-gate?application/json", "/half-gate"] {
        let (rig, target) = scene(both(1000, 0)).await;
        let mut client = begin(&rig, path, &target).await;
        let nothing = tokio::time::timeout(std::time::Duration::from_millis(100), client.head()).await;
        assert!(nothing.is_err(), "{path}: {nothing:?}");
        target.open_gate();
        let reply = client.reply().await;
        let (status, location) = if path == "/whole-gate" { (302, Some("/x")) } else { (200, None) };
        assert_eq!((reply.status, reply.header("location"), reply.text()), (status, location, "first-last"));
    }
}

// proxy-compat cases 95, 96: the very numbers of its own tests.
#[tokio::test]
async fn small_bodies_pass_and_large_ones_do_not_in_memory_and_through_files() {
    for (memory, limit, fits, request, response) in [(10, 10, 5, 21, 26), (5, 20, 11, 29, 39)] {
        let buffering = Buffering { responses: false, ..both(memory, limit) };
        let (rig, target) = scene(buffering).await;
        assert_eq!(post(&mut rig.open().await, "/n", &"x".repeat(fits)).await.status, 200);
        assert_eq!(post(&mut rig.open().await, "/n", &"x".repeat(request)).await.status, 413);
        drop(target);
        let buffering = Buffering { requests: false, ..both(memory, limit) };
        let (rig, target) = scene(buffering).await;
        let whole = post(&mut rig.open().await, "/raw", &answer(&"x".repeat(fits))).await;
        assert_eq!((whole.status, whole.body.len()), (200, fits));
        assert_eq!(post(&mut rig.open().await, "/raw", &answer(&"x".repeat(response))).await.status, 500);
        drop(target);
    }
}
