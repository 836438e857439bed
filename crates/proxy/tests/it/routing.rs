//! Services that come, change and go.

use freehold_wire::{Buffering, DeployRequest, HostPattern, PathPrefix, ProxyError};

use crate::client::LIMIT;
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

fn request(target: &Target, hosts: &[&str], prefixes: &[&str]) -> DeployRequest {
    let mut request = request_for(target);
    request.settings.hosts = hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
    request.settings.path_prefixes =
        prefixes.iter().map(|prefix| PathPrefix::parse(prefix).unwrap()).collect();
    request
}

/// Asks and returns the status with the first word of the answer, which is the target's name.
async fn ask(rig: &Rig, host: &str, path: &str) -> (u16, String) {
    let mut client = rig.open().await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    let reply = client.reply().await;
    let word = reply.text().split(' ').next().unwrap().to_owned();
    (reply.status, if reply.status == 200 { word } else { String::new() })
}

fn found(name: &str) -> (u16, String) {
    (200, name.to_owned())
}

fn nothing() -> (u16, String) {
    (404, String::new())
}

// proxy-compat cases 135-141, 144, 164.
#[tokio::test]
async fn hosts_follow_the_latest_deploy() {
    let (rig, one, two) = (Rig::start(), Target::start("one").await, Target::start("two").await);
    assert_eq!(ask(&rig, "1.example.com", "/").await, nothing());
    let mut client = rig.client().await;
    client
        .deploy(&name("shop"), &request(&one, &["1.example.com", "2.example.com"], &[]), LIMIT)
        .await
        .unwrap();
    for (host, wanted) in [
        ("1.example.com", found("one")),
        ("2.example.com", found("one")),
        ("2.example.com:80", found("one")),
        ("3.example.com", nothing()),
    ] {
        assert_eq!(ask(&rig, host, "/n").await, wanted, "{host}");
    }
    client
        .deploy(&name("shop"), &request(&two, &["3.example.com", "2.example.com"], &[]), LIMIT)
        .await
        .unwrap();
    for (host, wanted) in
        [("1.example.com", nothing()), ("2.example.com", found("two")), ("3.example.com", found("two"))]
    {
        assert_eq!(ask(&rig, host, "/n").await, wanted, "{host}");
    }
    // What was given up is free for another service.
    client.deploy(&name("other"), &request(&one, &["1.example.com"], &[]), LIMIT).await.unwrap();
    assert_eq!(ask(&rig, "1.example.com", "/n").await, found("one"));
    assert_eq!(ask(&rig, "3.example.com", "/n").await, found("two"));
    client.remove(&name("other"), None, LIMIT).await.unwrap();
    assert_eq!(ask(&rig, "1.example.com", "/n").await, nothing());
}

// proxy-compat cases 136, 142, 143, 154.
#[tokio::test]
async fn a_host_and_path_has_one_owner() {
    let (rig, one, two) = (Rig::start(), Target::start("one").await, Target::start("two").await);
    let mut client = rig.client().await;
    client.deploy(&name("any"), &request(&one, &[], &[]), LIMIT).await.unwrap();
    assert_eq!(ask(&rig, "whatever.example.com", "/n").await, found("one"));
    for wanted in [request(&two, &[], &[]), request(&two, &[""], &["/"])] {
        let error = client.deploy(&name("thief"), &wanted, LIMIT).await.unwrap_err();
        assert!(matches!(error, ProxyError::HostConflict { .. }), "{error:?}");
    }
    client.deploy(&name("named"), &request(&two, &["a.example.com"], &[]), LIMIT).await.unwrap();
    let error =
        client.deploy(&name("thief"), &request(&one, &["a.example.com"], &[]), LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::HostConflict { .. }), "{error:?}");
    assert_eq!(ask(&rig, "a.example.com", "/n").await, found("two"));
    assert_eq!(ask(&rig, "b.example.com", "/n").await, found("one"));
}

// proxy-compat cases 145-151.
#[tokio::test]
async fn the_closest_host_and_the_longest_prefix_win() {
    let rig = Rig::start();
    let mut client = rig.client().await;
    let mut targets = Vec::new();
    for (service, hosts, prefixes) in [
        ("exact", &["example.com"][..], &[][..]),
        ("wild", &["*.example.com"], &[]),
        ("any", &[], &[]),
        ("anyapi", &[], &["/api"]),
        ("api", &["only.com"], &["/api"]),
        ("root", &["a.com"], &["/"]),
        ("aapi", &["a.com"], &["/api"]),
        ("special", &["a.com"], &["/api/special"]),
    ] {
        let target = Target::start(service).await;
        let mut wanted = request(&target, hosts, prefixes);
        wanted.health = freehold_wire::HealthGate::Trust;
        client.deploy(&name(service), &wanted, LIMIT).await.unwrap();
        targets.push(target);
    }
    for (host, path, wanted) in [
        ("example.com", "/n", found("exact")),
        ("app.example.com", "/n", found("wild")),
        ("b.app.example.com", "/n", found("any")),
        ("other.com", "/n", found("any")),
        ("other.com", "/api/n", found("anyapi")),
        ("only.com", "/api/n", found("api")),
        ("only.com", "/n", nothing()),
        ("a.com", "/n", found("root")),
        ("a.com", "/api/n", found("aapi")),
        ("a.com", "/api", found("aapi")),
        ("a.com", "/api/special", found("special")),
        ("a.com", "/api/special/n", found("special")),
    ] {
        assert_eq!(ask(&rig, host, path).await, wanted, "{host}{path}");
    }
}

// proxy-compat case 165: what a deploy does not say is as if it had never been said.
#[tokio::test]
async fn options_are_replaced_as_a_whole() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let mut wanted = request_for(&target);
    wanted.settings.buffering = Buffering { requests: true, max_request_bytes: 10, ..Buffering::default() };
    let mut client = rig.client().await;
    client.deploy(&name("shop"), &wanted, LIMIT).await.unwrap();
    let post = "POST /n HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 11\r\n\r\n12345678901";
    let mut connection = rig.open().await;
    connection.send(post).await;
    assert_eq!(connection.reply().await.status, 413);
    client.deploy(&name("shop"), &request_for(&target), LIMIT).await.unwrap();
    let mut connection = rig.open().await;
    connection.send(post).await;
    assert_eq!(connection.reply().await.status, 200);
    let certificates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
    let path = |file: &str| certificates.join(file).to_str().unwrap().to_owned();
    let tls = freehold_wire::CertificateSource::Files {
        certificate_path: path("first.crt"),
        private_key_path: path("first.key"),
    };
    let mut wanted = request_for(&target);
    wanted.settings.tls = Some(freehold_wire::Tls { certificate: tls, redirect: true, clients: None });
    client.deploy(&name("shop"), &wanted, LIMIT).await.unwrap();
    assert_eq!(ask(&rig, "shop.example.com", "/n").await.0, 301);
    wanted.settings.hosts = vec![HostPattern::parse("www.example.com").unwrap()];
    client.deploy(&name("shop"), &wanted, LIMIT).await.unwrap();
    assert_eq!(ask(&rig, "shop.example.com", "/n").await.0, 404);
    assert_eq!(ask(&rig, "www.example.com", "/n").await.0, 301);
}
