//! Limits, passwords, redirects and changed headers, in front of a real target.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freehold_proxy::Limits;
use freehold_wire::{DeployRequest, Gate, GateRequest};

use crate::client::{Connection, LIMIT, Reply};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

fn wanted(target: &Target, traffic: &str) -> DeployRequest {
    let mut request = request_for(target);
    request.settings.traffic = Some(serde_json::from_str(traffic).unwrap());
    request
}

async fn scene(traffic: &str) -> (Rig, Target) {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.client().await.deploy(&name("shop"), &wanted(&target, traffic), LIMIT).await.unwrap();
    (rig, target)
}

async fn ask(client: &mut Connection, line: &str, headers: &str) -> Reply {
    client.send(format!("{line} HTTP/1.1\r\nHost: shop.example.com\r\n{headers}\r\n")).await;
    client.reply().await
}

fn reasons(rig: &Rig) -> Vec<String> {
    rig.log.requests().iter().filter_map(|line| line["reason"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn who_asks_too_often_waits() {
    let (rig, target) = scene(r#"{"client_rate":"1/1m:3"}"#).await;
    let mut client = rig.open().await;
    for _ in 0..3 {
        assert_eq!(ask(&mut client, "GET /n", "").await.status, 200);
    }
    let reply = ask(&mut rig.open().await, "GET /n", "").await;
    assert_eq!(reply.status, 429, "all threads count together");
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    // A deploy that changes nothing of it does not forget.
    rig.client()
        .await
        .deploy(&name("shop"), &wanted(&target, r#"{"client_rate":"1/1m:3"}"#), LIMIT)
        .await
        .unwrap();
    assert_eq!(ask(&mut client, "GET /n", "").await.status, 429);
    rig.client()
        .await
        .deploy(&name("shop"), &wanted(&target, r#"{"client_rate":"1/1m:4"}"#), LIMIT)
        .await
        .unwrap();
    assert_eq!(ask(&mut client, "GET /n", "").await.status, 200);
    let mut rig = rig;
    rig.stop();
    assert_eq!(reasons(&rig), ["rate_limited"; 2]);
}

#[tokio::test]
async fn all_clients_together_have_a_rate_too() {
    let (rig, _target) = scene(r#"{"service_rate":"2/1m","trusted_proxies":["127.0.0.0/8"]}"#).await;
    let mut client = rig.open().await;
    let mut of = async |address: &str| {
        ask(&mut client, "GET /n", &format!("X-Forwarded-For: {address}\r\n")).await.status
    };
    assert_eq!([of("192.0.2.1").await, of("192.0.2.2").await, of("192.0.2.3").await], [200, 200, 429]);
}

#[tokio::test]
async fn clients_are_told_apart_behind_trusted_proxies() {
    let rules =
        r#"{"client_rate":"1/1m","trusted_proxies":["127.0.0.0/8","10.0.0.0/8"],"block":["203.0.113.0/24"]}"#;
    let (mut rig, _target) = scene(rules).await;
    let mut client = rig.open().await;
    for (forwarded, wanted) in [
        ("192.0.2.1", 200),
        ("192.0.2.2, 10.1.1.1", 200),
        ("1.1.1.1, 192.0.2.2", 429),
        ("203.0.113.7", 403),
        ("203.0.113.7, 192.0.2.3", 200),
    ] {
        let reply = ask(&mut client, "GET /head", &format!("X-Forwarded-For: {forwarded}\r\n")).await;
        assert_eq!(reply.status, wanted, "{forwarded}");
        if wanted == 200 {
            let told = format!("X-Forwarded-For: {forwarded}, 127.0.0.1\r\n");
            assert!(reply.text().contains(&told), "{}", reply.text());
        }
    }
    rig.stop();
    let addresses: Vec<String> =
        rig.log.requests().iter().map(|line| line["remote_addr"].as_str().unwrap().to_owned()).collect();
    assert_eq!(addresses, ["192.0.2.1", "192.0.2.2", "192.0.2.2", "203.0.113.7", "192.0.2.3"]);
    assert_eq!(reasons(&rig), ["rate_limited", "client_blocked"]);
}

#[tokio::test]
async fn what_a_stranger_says_of_itself_is_not_believed() {
    let (mut rig, _target) = scene(r#"{"client_rate":"2/1m","trusted_proxies":["10.0.0.0/8"]}"#).await;
    let mut client = rig.open().await;
    let reply =
        ask(&mut client, "GET /head", "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n").await;
    assert!(reply.text().contains("X-Forwarded-For: 127.0.0.1\r\n"), "{}", reply.text());
    assert!(reply.text().contains("X-Forwarded-Proto: http\r\n"), "{}", reply.text());
    assert_eq!(ask(&mut client, "GET /n", "X-Forwarded-For: 192.0.2.2\r\n").await.status, 200);
    assert_eq!(ask(&mut client, "GET /n", "X-Forwarded-For: 192.0.2.3\r\n").await.status, 429);
    rig.stop();
    assert!(rig.log.requests().iter().all(|line| line["remote_addr"] == "127.0.0.1"));
}

#[tokio::test]
async fn only_who_is_allowed_is_served() {
    for (rules, status) in [
        (r#"{"allow":["127.0.0.0/8"]}"#, 200),
        (r#"{"allow":["10.0.0.0/8"]}"#, 403),
        (r#"{"allow":["127.0.0.0/8"],"block":["127.0.0.1"]}"#, 403),
    ] {
        let (rig, target) = scene(rules).await;
        assert_eq!(ask(&mut rig.open().await, "GET /n", "").await.status, status, "{rules}");
        assert_eq!(target.requests() > 1, status == 200, "{rules}");
    }
}

#[tokio::test]
async fn old_addresses_are_redirected() {
    let rules = r#"{"redirects":[{"from":"/old","to":"https://new.example.com/x","permanent":true,"keep_path":true},
        {"from":"/one","to":"/two"}]}"#;
    let (rig, target) = scene(rules).await;
    let reply = ask(&mut rig.open().await, "GET /old/a%20b?c=d", "").await;
    assert_eq!((reply.status, reply.header("location")), (301, Some("https://new.example.com/x/a%20b?c=d")));
    let reply = ask(&mut rig.open().await, "DELETE /one", "").await;
    assert_eq!((reply.status, reply.header("location")), (307, Some("http://shop.example.com/two")));
    assert_eq!(target.requests(), 1, "only the check");
    assert_eq!(ask(&mut rig.open().await, "GET /n", "").await.status, 200);
}

#[tokio::test]
async fn headers_are_set_and_removed_both_ways() {
    let rules = r#"{"request_headers":{"set":{"X-Env":"live"},"remove":["X-Debug"]},
        "response_headers":{"set":{"X-Served-By":"us"},"remove":["Link"]},"security_headers":true,"hsts":{"max_age":60}}"#;
    let (rig, _target) = scene(rules).await;
    let mut client = rig.open().await;
    let reply = ask(&mut client, "GET /head", "x-debug: 1\r\nX-ENV: dev\r\nX-Kept: 1\r\n").await;
    let seen = reply.text().to_ascii_lowercase();
    assert!(seen.contains("x-env: live\r\n") && seen.contains("x-kept: 1\r\n"), "{seen}");
    assert!(!seen.contains("x-debug") && !seen.contains("dev"), "{seen}");
    assert_eq!(reply.header("x-served-by"), Some("us"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.header("strict-transport-security"), None, "not without HTTPS");
    // Bodies of every kind stay whole behind a changed head.
    assert_eq!(ask(&mut client, "GET /large", "").await.body.len(), 200_000);
    let reply = ask(&mut client, "GET /chunked", "").await;
    assert_eq!((reply.text(), reply.header("x-served-by")), ("hello world", Some("us")));
}

#[tokio::test]
async fn the_proxys_own_pages_have_the_headers_too() {
    let (rig, target) = scene(r#"{"response_headers":{"set":{"X-Served-By":"us"}}}"#).await;
    target.stop().await;
    let reply = ask(&mut rig.open().await, "GET /n", "").await;
    assert_eq!((reply.status, reply.header("x-served-by")), (502, Some("us")));
    assert!(reply.text().contains("<h1>Bad Gateway</h1>"));
}

// `htpasswd -nbB -C 4 ann secret`
const ANN: &str = "ann:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";

fn login(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

#[tokio::test]
async fn only_who_knows_a_password_gets_in() {
    let (mut rig, target) = (Rig::start(), Target::start("t").await);
    let file = rig.folder.path().join("users");
    fs_err::write(&file, ANN).unwrap();
    let mut request = request_for(&target);
    request.settings.basic_auth_file = Some(file.display().to_string());
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let mut client = rig.open().await;
    let reply = ask(&mut client, "GET /n", "").await;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.header("www-authenticate"), Some("Basic realm=\"Restricted\", charset=\"UTF-8\""));
    for (user, password, status) in [
        ("ann", "secret", 200),
        ("ann", "secret", 200),
        ("ann", "Secret", 401),
        ("ann", "", 401),
        ("bob", "secret", 401),
        ("", "", 401),
    ] {
        let reply = ask(&mut client, "GET /n", &login(user, password)).await;
        assert_eq!(reply.status, status, "{user} {password}");
    }
    assert_eq!(ask(&mut client, "GET /n", "Authorization: Bearer abc\r\n").await.status, 401);
    // Many at once, most of them wrong: nobody waits for ever, and who is right gets in.
    let mut all = tokio::task::JoinSet::new();
    for number in 0..40 {
        let mut client = rig.open().await;
        let password = if number % 4 == 0 { "secret".to_owned() } else { format!("wrong{number}") };
        all.spawn(async move { (number, ask(&mut client, "GET /n", &login("ann", &password)).await.status) });
    }
    for (number, status) in all.join_all().await {
        assert_eq!(status, if number % 4 == 0 { 200 } else { 401 }, "{number}");
    }
    rig.restart(Duration::from_secs(5));
    assert_eq!(ask(&mut rig.open().await, "GET /n", &login("ann", "secret")).await.status, 200);
    // Without its file nobody gets in, and a deploy is refused.
    fs_err::remove_file(&file).unwrap();
    let error = rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
    assert!(error.message().unwrap().starts_with("cannot read the users"), "{error:?}");
    rig.restart(Duration::from_secs(5));
    let reply = ask(&mut rig.open().await, "GET /n", &login("ann", "secret")).await;
    assert_eq!(reply.status, 503);
    rig.stop();
    let text = rig.log.text();
    assert!(text.contains("auth_unavailable") && text.contains("Nobody is let in"));
    assert!(!text.contains("secret") && !text.contains("$2y$"), "no password or hash in the log");
}

#[tokio::test]
async fn a_deploy_with_the_same_users_forgets_neither_rates_nor_passwords() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let file = rig.folder.path().join("users");
    fs_err::write(&file, ANN).unwrap();
    let mut request = wanted(&target, r#"{"client_rate":"1/1h:3"}"#);
    request.settings.basic_auth_file = Some(file.display().to_string());
    let deploy = async |request: &DeployRequest| {
        rig.client().await.deploy(&name("shop"), request, LIMIT).await.unwrap();
    };
    deploy(&request).await;
    for _ in 0..3 {
        assert_eq!(ask(&mut rig.open().await, "GET /n", &login("ann", "secret")).await.status, 200);
    }
    // A deploy writes the file anew, with the same in it.
    fs_err::remove_file(&file).unwrap();
    fs_err::write(&file, ANN).unwrap();
    deploy(&request).await;
    assert_eq!(ask(&mut rig.open().await, "GET /n", &login("ann", "secret")).await.status, 429);
    // What else changes is no reason to forget it, and other users are none either.
    request.settings.response_timeout_ms = 1000;
    fs_err::write(&file, ANN.replace("ann:", "bob:")).unwrap();
    deploy(&request).await;
    assert_eq!(ask(&mut rig.open().await, "GET /n", &login("bob", "secret")).await.status, 429);
    request.settings.traffic = None;
    deploy(&request).await;
    assert_eq!(ask(&mut rig.open().await, "GET /n", &login("ann", "secret")).await.status, 401);
    assert_eq!(ask(&mut rig.open().await, "GET /n", &login("bob", "secret")).await.status, 200);
}

#[tokio::test]
async fn a_pause_is_waited_for_as_long_as_it_says_also_behind_a_password() {
    let limits = Limits { password: Duration::from_millis(1), ..Limits::default() };
    let (rig, target) = (Rig::with_limits(limits), Target::start("t").await);
    let file = rig.folder.path().join("users");
    fs_err::write(&file, ANN).unwrap();
    let mut request = request_for(&target);
    request.settings.basic_auth_file = Some(file.display().to_string());
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let pause = Duration::from_millis(600);
    let gate = Gate::Paused { max_pause_ms: 600 };
    let gate = GateRequest { gate, drain_timeout_ms: 0, fence: None };
    rig.client().await.set_gate(&name("shop"), &gate, LIMIT).await.unwrap();
    let begun = Instant::now();
    let reply = ask(&mut rig.open().await, "GET /n", &login("ann", "secret")).await;
    assert_eq!(reply.status, 504);
    assert!(begun.elapsed() >= pause, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_by_name() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    for (rules, wanted) in [
        (r#"{"redirects":[{"from":"/a","to":"/a"}]}"#, "`/a /a` is not a redirect that ends"),
        (r#"{"passive_health":{"failures":0}}"#, "`0` is not a number of failures"),
        (r#"{"response_headers":{"set":{"X-A":"a\u000ab"}}}"#, "is not the value of a header"),
    ] {
        let request = self::wanted(&target, rules);
        let error = rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
        assert!(error.message().unwrap().contains(wanted), "{error:?}");
    }
}
