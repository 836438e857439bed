//! Answers that are compressed for the client.

use std::io::Read;

use freehold_wire::{Compression, ServiceSettings};
use http::HeaderValue;

use crate::client::{LIMIT, Reply};
use crate::http2::{Client, get, post};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

async fn scene(change: impl FnOnce(&mut ServiceSettings)) -> (Rig, Target) {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let mut request = request_for(&target);
    request.settings.compression = Compression::ALL.to_vec();
    change(&mut request.settings);
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    (rig, target)
}

/// Decompresses as far as it goes.
fn plain(coding: &str, bytes: &[u8]) -> String {
    let mut text = Vec::new();
    let ended = match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut text),
        "zstd" => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut text),
        coding => {
            assert_eq!(coding, "br");
            brotli::Decompressor::new(bytes, 4096).read_to_end(&mut text)
        }
    };
    drop(ended);
    String::from_utf8(text).unwrap()
}

fn page() -> String {
    (0..2000).map(|number| format!("line {number} of a page that is long enough\n")).collect()
}

/// Lets the target answer with this head and body.
async fn answered(rig: &Rig, accepted: &str, head: &str, body: &str) -> Reply {
    let answer = format!("HTTP/1.1 {head}\r\n\r\n{body}");
    let mut client = rig.open().await;
    let length = answer.len();
    client
        .send(format!(
            "POST /raw HTTP/1.1\r\nHost: shop.example.com\r\nAccept-Encoding: {accepted}\r\nContent-Length: {length}\r\n\r\n{answer}"
        ))
        .await;
    client.reply().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_compressed_as_the_client_wants() {
    let page = page();
    for holds in [false, true] {
        let (rig, _target) = scene(|settings| {
            settings.buffering.responses = holds;
            settings.buffering.memory_bytes = 10_000;
        })
        .await;
        for coding in ["gzip", "br", "zstd"] {
            for framing in
                [format!("Content-Length: {}", page.len()), "X-Ends: with the connection".to_owned()]
            {
                let head = format!("200 OK\r\nContent-Type: text/html\r\nETag: \"1\"\r\n{framing}");
                let reply = answered(&rig, coding, &head, &page).await;
                assert_eq!(reply.header("content-encoding"), Some(coding), "{}", reply.head);
                assert_eq!(reply.header("vary"), Some("Accept-Encoding"));
                assert_eq!(reply.header("etag"), Some("W/\"1\""));
                assert_eq!(reply.header("content-length"), None);
                assert!(reply.body.len() < page.len() / 3, "{}", reply.body.len());
                assert_eq!(plain(coding, &reply.body), page);
            }
        }
        let head = format!("200 OK\r\nContent-Type: text/html\r\nContent-Length: {}", page.len());
        let reply = answered(&rig, "identity", &head, &page).await;
        assert_eq!((reply.header("content-encoding"), reply.text()), (None, page.as_str()));
        assert_eq!(reply.header("vary"), Some("Accept-Encoding"));
        let reply =
            answered(&rig, "gzip", "200 OK\r\nContent-Type: image/png\r\nContent-Length: 3", "png").await;
        assert_eq!((reply.header("content-encoding"), reply.text()), (None, "png"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_http2_too() {
    let (rig, _target) = scene(|_| {}).await;
    let mut client = Client::open(rig.port()).await;
    let mut request = post("/raw");
    request.headers_mut().insert("accept-encoding", HeaderValue::from_static("br"));
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/css\r\n\r\n{}", page());
    let reply = client.send(request, &[answer.leak().as_bytes()], None).await.unwrap();
    assert_eq!(reply.headers.get("content-encoding").unwrap(), "br");
    assert_eq!(plain("br", &reply.body), page());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_readable_as_soon_as_they_are_there() {
    for coding in ["gzip", "br", "zstd"] {
        // Held back or not: what streams is sent on at once.
        let (rig, target) = scene(|settings| settings.buffering.responses = true).await;
        let client = Client::open(rig.port()).await;
        let mut request = get("/pieces-gate?text/event-stream");
        request.headers_mut().insert("accept-encoding", HeaderValue::from_static(coding));
        let mut requests = client.requests.clone().ready().await.unwrap();
        let (response, _) = requests.send_request(request, true).unwrap();
        let mut body = crate::client::soon(response).await.unwrap().into_body();
        let mut received = Vec::new();
        while plain(coding, &received) != "first" {
            received.extend_from_slice(&crate::client::soon(body.data()).await.unwrap().unwrap());
        }
        target.wait_for_waiting(1).await;
        target.open_gate();
        while let Some(data) = crate::client::soon(body.data()).await {
            received.extend_from_slice(&data.unwrap());
        }
        assert_eq!(plain(coding, &received), "first-last");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_was_cut_is_not_ended() {
    let (rig, _target) = scene(|_| {}).await;
    let head = "200 OK\r\nContent-Type: text/plain\r\nContent-Length: 90000";
    let answer = format!("HTTP/1.1 {head}\r\n\r\n{}", page().get(..50_000).unwrap());
    let mut client = rig.open().await;
    let length = answer.len();
    client
        .send(format!(
            "POST /raw HTTP/1.1\r\nHost: shop.example.com\r\nAccept-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n{answer}"
        ))
        .await;
    assert_eq!(crate::client::soon(client.try_reply("POST")).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_ask_for_it_gets_everything_as_it_is() {
    let (rig, _target) = scene(|settings| settings.compression = Vec::new()).await;
    let head = format!("200 OK\r\nContent-Type: text/html\r\nContent-Length: {}", page().len());
    let reply = answered(&rig, "gzip", &head, &page()).await;
    assert_eq!((reply.header("content-encoding"), reply.header("vary")), (None, None));
    assert_eq!(reply.text(), page());
}
