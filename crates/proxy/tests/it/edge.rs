//! Proxies in front of this one that tell who connects, and clients with too many connections.

use freehold_model::{Network, Traffic};
use freehold_proxy::EdgeConfig;

use tokio::io::AsyncWriteExt;

use crate::client::{Connection, LIMIT};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

fn config(trusted: &str) -> EdgeConfig {
    let trusted = vec![Network::parse(trusted).unwrap()];
    EdgeConfig { trusted, proxy_protocol_http: true, max_connections: 2, ..EdgeConfig::default() }
}

async fn scene(edge: EdgeConfig, traffic: &str) -> (Rig, Target) {
    let (rig, target) = (Rig::behind(edge), Target::start("t").await);
    let mut request = request_for(&target);
    request.settings.traffic = serde_json::from_str::<Option<Box<Traffic>>>(traffic).unwrap();
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    (rig, target)
}

const ASK: &str = "GET /head HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";

async fn told(rig: &Rig, header: &[u8]) -> Connection {
    let mut client = rig.open().await;
    client.send(header).await;
    client
}

fn line(address: &str) -> Vec<u8> {
    format!("PROXY TCP4 {address} 127.0.0.1 5000 80\r\n").into_bytes()
}

#[tokio::test]
async fn a_proxy_in_front_tells_who_connects() {
    let (mut rig, _target) = scene(config("127.0.0.0/8"), r#"{"block":["203.0.113.0/24"]}"#).await;
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0f".to_vec();
    v2.extend_from_slice(&[192, 0, 2, 9, 127, 0, 0, 1, 0x13, 0x88, 0, 80, 4, 0, 0]);
    for (header, wanted) in [
        (line("192.0.2.1"), "192.0.2.1"),
        (v2, "192.0.2.9"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00".to_vec(), "127.0.0.1"),
    ] {
        // At once, and byte by byte.
        let mut client = told(&rig, &header).await;
        client.send(ASK).await;
        let text = client.reply().await.text().to_owned();
        assert!(text.contains(&format!("X-Forwarded-For: {wanted}\r\n")), "{text}");
        let mut client = rig.open().await;
        for byte in header.iter().chain(ASK.as_bytes()) {
            client.send([*byte]).await;
        }
        assert_eq!(client.reply().await.status, 200);
        assert_eq!(client.get("/n").await.status, 200, "and nothing more is expected");
    }
    let mut client = told(&rig, &line("203.0.113.5")).await;
    client.send(ASK).await;
    assert_eq!(client.reply().await.status, 403, "rules see the same address");
    rig.stop();
    let last = rig.log.requests().into_iter().find(|line| line["status"] == 403).unwrap();
    assert_eq!((&last["client_addr"], &last["client_port"]), (&"203.0.113.5".into(), &"5000".into()));
}

#[tokio::test]
async fn without_a_sound_header_a_proxy_is_not_served() {
    let (mut rig, target) = scene(config("127.0.0.0/8"), "null").await;
    let long = format!("PROXY TCP4 {}\r\n", "1".repeat(200)).into_bytes();
    for wrong in [
        ASK.as_bytes(),
        b"PROXY TCP4 a b 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\nGET / HTTP/1.1",
        &long,
    ] {
        let mut client = told(&rig, wrong).await;
        client.stream.get_mut().shutdown().await.ok();
        assert!(client.is_closed().await);
    }
    assert_eq!(target.requests(), 1, "only the check");
    rig.stop();
    assert!(rig.log.text().contains(r#""reason":"no_proxy_header""#));
}

#[tokio::test]
async fn nobody_else_may_tell() {
    let (rig, _target) = scene(config("10.0.0.0/8"), "null").await;
    let mut client = told(&rig, &line("192.0.2.1")).await;
    client.send(ASK).await;
    assert_eq!(client.reply().await.status, 400);
    let mut client = told(&rig, ASK.as_bytes()).await;
    assert!(client.reply().await.text().contains("X-Forwarded-For: 127.0.0.1\r\n"));
}

#[tokio::test]
async fn a_client_has_so_many_connections_and_no_more() {
    let (mut rig, _target) = scene(config("127.0.0.0/8"), "null").await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = told(&rig, &line("192.0.2.1")).await;
        assert_eq!(client.get("/n").await.status, 200);
        open.push(client);
    }
    assert!(told(&rig, &line("192.0.2.1")).await.is_closed().await);
    let mut other = told(&rig, &line("192.0.2.2")).await;
    assert_eq!(other.get("/n").await.status, 200);
    open.pop();
    crate::client::soon(async {
        loop {
            let mut client = told(&rig, &line("192.0.2.1")).await;
            client.send(ASK).await;
            if client.try_reply("GET").await.is_some() {
                break;
            }
        }
    })
    .await;
    rig.stop();
    assert!(rig.log.text().contains(r#""client_addr":"192.0.2.1","reason":"too_many_connections""#));
}
