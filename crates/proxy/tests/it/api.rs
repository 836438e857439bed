//! The control API: what it tells, what it refuses, and over which ways.

use std::os::unix::fs::PermissionsExt;

use freehold_wire::{DeployRequest, ErrorReply, ProxyClient, ProxyError, ServiceSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::client::{LIMIT, soon};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

async fn raw(rig: &Rig, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(rig.socket()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    soon(stream.read_to_string(&mut text)).await.unwrap();
    let body = text.split("\r\n\r\n").nth(1).unwrap().to_owned();
    (text.get(9..12).unwrap().parse().unwrap(), body)
}

fn put(body: &str) -> String {
    format!(
        "PUT /v1/services/shop HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn it_says_which_proxy_it_is_and_what_it_serves() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let mut client = rig.client().await;
    let version = client.version(LIMIT).await.unwrap();
    assert_eq!(
        (version.api, version.generation, version.http_port),
        (freehold_wire::API_VERSION, 0, rig.port())
    );
    assert!(client.services(LIMIT).await.unwrap().is_empty());
    rig.deploy(&target).await;
    rig.open().await.get("/n").await;
    rig.counters(1).await;
    let services = client.services(LIMIT).await.unwrap();
    assert_eq!(services.len(), 1);
    assert_eq!((services[0].counters.requests, services[0].counters.responses_2xx), (1, 1));
    assert_eq!(services[0].targets[0].address.to_string(), target.address());
    assert_eq!(client.version(LIMIT).await.unwrap().generation, 1);
    let removed = client.remove(&name("shop"), None, LIMIT).await.unwrap();
    assert_eq!(removed.previous.settings, request_for(&target).settings);
    let error = client.remove(&name("shop"), None, LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::UnknownService { .. }), "{error:?}");
    let error = client.service(&name("shop"), LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::UnknownService { .. }), "{error:?}");
}

#[tokio::test]
async fn a_holder_that_comes_late_is_refused_everywhere() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let mut client = rig.client().await;
    let mut request = request_for(&target);
    request.fence = Some(5);
    client.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    request.fence = Some(5);
    client.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    request.fence = Some(4);
    let error = client.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::Fenced { .. }), "{error:?}");
    let error = client.remove(&name("shop"), Some(4), LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::Fenced { .. }), "{error:?}");
    assert_eq!(rig.status().await.generation, 2);
    // The number outlives the service, or a late holder could install it anew.
    client.remove(&name("shop"), Some(6), LIMIT).await.unwrap();
    request.fence = Some(5);
    let error = client.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::Fenced { .. }), "{error:?}");
}

#[tokio::test]
async fn a_holder_that_is_overtaken_while_it_waits_changes_nothing() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let slow = Target::start("slow").await;
    slow.shared.health.store(500, std::sync::atomic::Ordering::SeqCst);
    let mut late = request_for(&slow);
    late.fence = Some(1);
    let mut overtaking = request_for(&target);
    overtaking.fence = Some(2);
    let mut client = rig.client().await;
    let shop = name("shop");
    let first = client.deploy(&shop, &late, LIMIT);
    let second = async {
        soon(async {
            while slow.requests() == 0 {
                tokio::task::yield_now().await
            }
        })
        .await;
        let reply = rig.client().await.deploy(&shop, &overtaking, LIMIT).await.unwrap();
        slow.shared.health.store(200, std::sync::atomic::Ordering::SeqCst);
        reply
    };
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(first.unwrap_err(), ProxyError::Fenced { .. }));
    assert_eq!(second.generation, 1);
    assert_eq!(rig.open().await.get("/n").await.text(), "t  /n 0 0");
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_switch_has_changed_nothing() {
    let (rig, old) = (Rig::start(), Target::start("old").await);
    rig.deploy(&old).await;
    let new = Target::start("new").await;
    new.shared.health.store(500, std::sync::atomic::Ordering::SeqCst);
    let shop = name("shop");
    let mut client = rig.client().await;
    let request = request_for(&new);
    let mut deploy = Box::pin(client.deploy(&shop, &request, LIMIT));
    let asked = async {
        while new.requests() == 0 {
            tokio::task::yield_now().await
        }
    };
    tokio::select! {
        _ = &mut deploy => panic!("did not wait"),
        () = asked => {}
    }
    drop(deploy);
    drop(client);
    // Its checks end with it.
    soon(async {
        loop {
            let before = new.requests();
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            if new.requests() == before {
                return;
            }
        }
    })
    .await;
    new.shared.health.store(200, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(rig.open().await.get("/n").await.text(), "old  /n 0 0");
    assert_eq!(rig.status().await.generation, 1);
}

#[tokio::test]
async fn requests_outside_the_api_are_refused_in_its_own_shape() {
    let rig = Rig::start();
    for (request, status, wanted) in [
        (put("{}"), 400, "missing field `targets`"),
        (put(r#"{"targets":["web"],"settings":{},"tls":true}"#), 400, "unknown field `tls`"),
        (
            put(r#"{"targets":["web"],"settings":{"max_request_body":1}}"#),
            400,
            "unknown field `max_request_body`",
        ),
        (put(r#"{"targets":[],"settings":{}}"#), 400, "1 to 256 targets"),
        (put(r#"{"targets":["http://web"],"settings":{}}"#), 400, "`http://web` is not a valid target"),
        (
            put(r#"{"targets":["web"],"settings":{},"drain_timeout_ms":999999999999}"#),
            400,
            "`drain_timeout_ms`",
        ),
        (
            "GET /v5/services HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
            404,
            "`GET /v5/services`",
        ),
        (
            "DELETE /v2/services/a?fence=x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
            400,
            "fence=x",
        ),
        ("GET /v2/services/a%20b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), 400, "a%20b"),
    ] {
        let (found, body) = raw(&rig, &request).await;
        let reply: ErrorReply = serde_json::from_str(&body).unwrap();
        assert_eq!(found, status, "{body}");
        assert!(reply.message.contains(wanted), "{body}");
    }
}

#[tokio::test]
async fn a_state_that_cannot_be_stored_changes_nothing() {
    let (rig, old, new) = (Rig::start(), Target::start("old").await, Target::start("new").await);
    rig.deploy(&old).await;
    // The file is replaced by way of a new one beside it, in whose place a folder stands.
    fs_err::create_dir(rig.state_file().with_extension("state.new")).unwrap();
    let error = rig.client().await.deploy(&name("shop"), &request_for(&new), LIMIT).await.unwrap_err();
    assert!(error.message().unwrap().contains("cannot be stored"), "{error:?}");
    assert_eq!(rig.open().await.get("/n").await.text(), "old  /n 0 0");
}

#[tokio::test]
async fn only_the_owner_may_open_the_socket() {
    let rig = Rig::start();
    let mode = fs_err::metadata(rig.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn several_clients_are_served_at_once() {
    let rig = Rig::start();
    let mut slow = rig.client().await;
    let health_check = freehold_wire::HealthCheck::default();
    let probe = freehold_wire::ProbeRequest {
        target: crate::rig::address("127.0.0.1:1"),
        health_check,
        deadline_ms: 60_000,
    };
    let quick =
        async { ProxyClient::connect(&rig.socket(), LIMIT).await.unwrap().version(LIMIT).await.unwrap() };
    tokio::select! {
        _ = slow.probe(&probe, LIMIT) => panic!("ended first"),
        version = quick => assert_eq!(version.api, freehold_wire::API_VERSION),
    }
}

#[test]
fn the_defaults_of_a_deploy_are_kamal_proxys() {
    let request = DeployRequest::new(vec![crate::rig::address("web")], ServiceSettings::default());
    let short: DeployRequest = serde_json::from_str(r#"{"targets":["web"],"settings":{}}"#).unwrap();
    assert_eq!(request, short);
    assert_eq!(
        (short.deploy_timeout_ms, short.drain_timeout_ms, short.tunnel_timeout_ms),
        (30_000, 30_000, 0)
    );
    assert_eq!((short.settings.response_timeout_ms, short.settings.strip_path_prefix), (30_000, true));
}
