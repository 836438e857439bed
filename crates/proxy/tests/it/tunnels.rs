//! Upgraded connections.

use freehold_wire::{DrainMode, DrainRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{Connection, LIMIT, soon};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

async fn rig() -> (Rig, Target) {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    (rig, target)
}

async fn upgrade(rig: &Rig) -> Connection {
    let mut connection = rig.open().await;
    connection
        .send(
            "GET /socket HTTP/1.1\r\nHost: shop.example.com\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: WebSocket\r\nSec-WebSocket-Key: x\r\n\r\n",
        )
        .await;
    let head = connection.reply().await;
    assert_eq!((head.status, head.header("upgrade")), (101, Some("websocket")));
    connection
}

async fn echo(connection: &mut Connection, bytes: &[u8]) {
    connection.send(bytes).await;
    let mut back = vec![0; bytes.len()];
    soon(connection.stream.read_exact(&mut back)).await.unwrap();
    assert_eq!(back, bytes);
}

// proxy-compat case 78.
#[tokio::test]
async fn a_websocket_carries_bytes_both_ways_and_its_end() {
    let (rig, _target) = rig().await;
    let mut connection = upgrade(&rig).await;
    for length in [1, 10, 1000, 60_000] {
        echo(&mut connection, &vec![9; length]).await;
    }
    let status = rig.status().await;
    assert_eq!((status.in_flight.requests, status.in_flight.tunnels, status.counters.upgrades), (0, 1, 1));
    // One side ends; the other may still say something.
    connection.stream.get_mut().shutdown().await.unwrap();
    let mut rest = Vec::new();
    soon(connection.stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"<end>");
    rig.wait_for(|status| status.in_flight.tunnels == 0).await;
}

#[tokio::test]
async fn what_the_client_sends_with_the_upgrade_is_not_lost() {
    let (rig, _target) = rig().await;
    let mut connection = rig.open().await;
    connection
        .send(
            "GET /socket HTTP/1.1\r\nHost: shop.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly",
        )
        .await;
    assert_eq!(connection.reply().await.status, 101);
    let mut back = [0; 5];
    soon(connection.stream.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"early");
}

// proxy-compat case 67.
#[tokio::test]
async fn a_switch_cuts_tunnels_at_once_unless_it_gives_them_time() {
    let (rig, _old) = rig().await;
    let mut connection = upgrade(&rig).await;
    echo(&mut connection, b"before").await;
    let new = Target::start("new").await;
    let drained = rig.deploy(&new).await.drained.unwrap();
    assert_eq!((drained.requests_left, drained.tunnels_left), (0, 1));
    assert!(drained.elapsed_ms < 1000, "{drained:?}");
    assert!(connection.is_closed().await);
    let mut connection = upgrade(&rig).await;
    let newest = Target::start("newest").await;
    let mut request = request_for(&newest);
    request.drain = DrainMode::Background;
    request.tunnel_timeout_ms = 60_000;
    let mut client = rig.client().await;
    client.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    echo(&mut connection, b"after").await;
    let drain = DrainRequest { timeout_ms: 1000, tunnel_timeout_ms: 0 };
    let report = client.drain(&name("shop"), &drain, LIMIT).await.unwrap();
    assert_eq!((report.requests_left, report.tunnels_left), (0, 1));
    assert_eq!(rig.status().await.draining[0].in_flight.tunnels, 1);
    drop(connection);
    let drain = DrainRequest { timeout_ms: 10_000, tunnel_timeout_ms: 10_000 };
    assert_eq!(client.drain(&name("shop"), &drain, LIMIT).await.unwrap().tunnels_left, 0);
    rig.wait_for(|status| status.draining.is_empty()).await;
}

// proxy-compat case 92.
#[tokio::test]
async fn other_upgrades_are_ordinary_requests() {
    let (rig, _target) = rig().await;
    let mut connection = rig.open().await;
    connection
        .send("GET /head HTTP/1.1\r\nHost: shop.example.com\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        .await;
    let reply = connection.reply().await;
    assert!(!reply.text().to_ascii_lowercase().contains("upgrade"), "{}", reply.text());
    // An upgrade that the target declines leaves an ordinary connection.
    connection
        .send(
            "GET /n HTTP/1.1\r\nHost: shop.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .await;
    assert_eq!(connection.reply().await.text(), "t  /n 0 0");
    assert_eq!(connection.get("/n").await.text(), "t  /n 0 0");
}

#[tokio::test]
async fn a_service_says_to_what_connections_may_be_upgraded() {
    let (rig, target) = rig().await;
    let ask = async |line: &str, upgrade: &str| {
        let mut connection = rig.open().await;
        let head = format!(
            "{line} HTTP/1.1\r\nHost: shop.example.com\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"
        );
        connection.send(head).await;
        let reply = connection.reply().await;
        (connection, reply)
    };
    for (upgrades, asked, wanted) in [
        (None, "websocket", Some("websocket")),
        (None, "tcp", None),
        (Some(&["tcp"][..]), "TCP", Some("tcp")),
        (Some(&["tcp"]), "irc/6.9, tcp", Some("tcp")),
        (Some(&["tcp"]), "websocket", None),
        (Some(&["websocket", "irc/6.9"]), "irc/6.9", Some("irc/6.9")),
        (Some(&["websocket", "irc/6.9"]), "WebSocket", Some("websocket")),
        (Some(&["websocket", "irc/6.9"]), "irc", None),
        (Some(&[]), "websocket", None),
    ] {
        let mut request = request_for(&target);
        let upgrades = upgrades.map(|names| serde_json::json!(names));
        let traffic = serde_json::json!({ "upgrades": upgrades });
        request.settings.traffic = serde_json::from_value::<Option<_>>(traffic).unwrap();
        rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
        let (mut connection, reply) = ask("GET /socket", asked).await;
        match wanted {
            Some(protocol) => {
                assert_eq!((reply.status, reply.header("upgrade")), (101, Some(protocol)), "{asked}");
                echo(&mut connection, b"there and back").await;
            }
            // Served as if nothing had been asked for: the target sees no upgrade.
            None => {
                assert_eq!(reply.status, 426, "{asked}");
                let (mut connection, reply) = ask("GET /head", asked).await;
                assert!(!reply.text().to_ascii_lowercase().contains("upgrade"), "{}", reply.text());
                assert_eq!(connection.get("/n").await.status, 200, "the connection goes on");
            }
        }
    }
}
