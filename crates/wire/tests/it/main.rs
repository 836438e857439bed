//! The client against a peer that speaks plain bytes.
#![expect(clippy::unwrap_used, reason = "a test's helper fails by panicking")]

use std::time::Duration;

use freehold_model::{Diagnose, ErrorKind, ProxyServiceName};
use freehold_wire::{
    DeployRequest, DrainMode, HealthGate, ProbeOutcome, ProxyClient, ProxyError, ServiceSettings,
    ServiceSnapshot, TargetAddress,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const LIMIT: Duration = Duration::from_secs(10);

fn service() -> ProxyServiceName {
    ProxyServiceName::parse("shop-web").unwrap()
}

async fn read_head(stream: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn answer(stream: &mut DuplexStream, status: &str, body: &str) {
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn several_calls_share_one_stream() {
    let (near, mut far) = duplex(64);
    let peer = async move {
        let first = read_head(&mut far).await;
        answer(&mut far, "200 OK", r#"{"services":[]}"#).await;
        let second = read_head(&mut far).await;
        let body = r#"{"code":"fenced","message":"fence 4 is behind 5"}"#;
        answer(&mut far, "409 Conflict", body).await;
        let third = read_head(&mut far).await;
        answer(&mut far, "200 OK", r#"{"services":[]}"#).await;
        (first, second, third)
    };
    let calls = async {
        let mut client = ProxyClient::over(near).await.unwrap();
        assert!(client.services(LIMIT).await.unwrap().is_empty());
        let error = client.remove(&service(), Some(4), LIMIT).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert_eq!(error.message(), Some("fence 4 is behind 5"));
        client.services(LIMIT).await.unwrap();
    };
    let ((first, second, third), ()) = tokio::join!(peer, calls);
    assert!(first.starts_with("GET /v4/services HTTP/1.1\r\n"), "{first}");
    assert!(second.starts_with("DELETE /v4/services/shop-web?fence=4 HTTP/1.1\r\n"), "{second}");
    assert_eq!(first, third);
}

#[tokio::test]
async fn a_deploy_is_sent_as_json_and_its_failure_carries_the_probes() {
    let (near, mut far) = duplex(64);
    let request =
        DeployRequest::new(vec![TargetAddress::parse("web:3000").unwrap()], ServiceSettings::default());
    let length = serde_json::to_vec(&request).unwrap().len();
    let peer = async move {
        let head = read_head(&mut far).await;
        assert!(head.starts_with("PUT /v4/services/shop-web HTTP/1.1\r\n"), "{head}");
        let mut body = vec![0; length];
        far.read_exact(&mut body).await.unwrap();
        let reply = r#"{"code":"unhealthy","message":"no","probes":[{"target":"web:3000","healthy":false,
            "attempts":3,"elapsed_ms":70,"last":{"outcome":"status","code":500,"body":"oops\\n"}}]}"#;
        answer(&mut far, "422 Unprocessable Content", reply).await;
        serde_json::from_slice::<DeployRequest>(&body).unwrap()
    };
    let calls = async {
        let mut client = ProxyClient::over(near).await.unwrap();
        client.deploy(&service(), &request, LIMIT).await.unwrap_err()
    };
    let (received, error) = tokio::join!(peer, calls);
    assert_eq!(received, request);
    let ProxyError::Unhealthy { probes, .. } = error else { panic!("{error:?}") };
    assert_eq!(probes[0].last, ProbeOutcome::Status { code: 500, location: None, body: "oops\\n".into() });
}

#[tokio::test]
async fn a_peer_that_goes_away_is_reported_and_ends_the_client() {
    let (near, mut far) = duplex(1024);
    let peer = async move {
        read_head(&mut far).await;
        drop(far);
    };
    let calls = async {
        let mut client = ProxyClient::over(near).await.unwrap();
        let error = client.version(LIMIT).await.unwrap_err();
        assert!(matches!(error, ProxyError::Closed { .. }), "{error:?}");
        let error = client.version(LIMIT).await.unwrap_err();
        assert!(matches!(error, ProxyError::Closed { .. }), "{error:?}");
    };
    tokio::join!(peer, calls);
}

#[tokio::test]
async fn a_silent_peer_meets_the_deadline_and_ends_the_client() {
    let (near, _far) = duplex(1024);
    let mut client = ProxyClient::over(near).await.unwrap();
    let error = client.version(Duration::from_millis(20)).await.unwrap_err();
    assert!(matches!(error, ProxyError::Deadline { .. }), "{error:?}");
    let error = client.version(LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::Closed { .. }), "{error:?}");
}

#[tokio::test]
async fn an_answer_of_another_api_is_malformed() {
    let (near, mut far) = duplex(1024);
    let peer = async move {
        read_head(&mut far).await;
        answer(&mut far, "200 OK", r#"{"services":[],"surprise":1}"#).await;
    };
    let calls = async {
        let mut client = ProxyClient::over(near).await.unwrap();
        client.services(LIMIT).await.unwrap_err()
    };
    let ((), error) = tokio::join!(peer, calls);
    assert!(matches!(error, ProxyError::Malformed { status: 200, .. }), "{error:?}");
}

#[tokio::test]
async fn a_missing_socket_is_named() {
    let error = ProxyClient::connect("/nonexistent/proxy.sock".as_ref(), LIMIT).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot connect to the proxy's socket `/nonexistent/proxy.sock`");
    assert!(!error.help().is_empty());
}

#[test]
fn a_snapshot_is_put_back_without_asking_for_health() {
    let text =
        r#"{"name":"shop-web","targets":["web:3000"],"settings":{"hosts":["Example.com"]},"generation":3}"#;
    let snapshot: ServiceSnapshot = serde_json::from_str(text).unwrap();
    let request = snapshot.clone().restore();
    assert_eq!((request.health, request.drain), (HealthGate::Trust, DrainMode::Background));
    assert_eq!((request.targets, request.settings), (snapshot.targets, snapshot.settings));
}

#[test]
fn unknown_settings_are_refused_by_name() {
    let text = r#"{"targets":["web"],"settings":{"nonsense":true}}"#;
    let error = serde_json::from_str::<DeployRequest>(text).unwrap_err();
    assert!(error.to_string().contains("unknown field `nonsense`"), "{error}");
}
