//! Which target gets a request, and what it gets of it.

use freehold_wire::{HostPattern, PathPrefix, ProxyError};

use crate::client::{LIMIT, Reply};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

/// The head that the target got, as it tells it in its answer.
fn seen(reply: &Reply) -> Vec<(String, String)> {
    let lines = reply.text().lines().skip(1);
    lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect()
}

fn value<'r>(seen: &'r [(String, String)], name: &str) -> Vec<&'r str> {
    seen.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
}

async fn ask(rig: &Rig, lines: &str) -> Reply {
    let mut connection = rig.open().await;
    connection.send(format!("GET /head HTTP/1.1\r\nHost: shop.example.com:8080\r\n{lines}\r\n")).await;
    connection.reply().await
}

// proxy-compat cases 62, 63, 73-75, 82, 111, 112.
#[tokio::test]
async fn a_client_is_not_believed_unless_the_service_says_so() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    let spoofed = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\n\
        X-Forwarded-Host: evil.example\r\nX_Forwarded_For: 8.8.8.8\r\nForwarded: for=9.9.9.9\r\n\
        X-Kamal-Target: elsewhere\r\nX-Request-Id: 1234\r\nX-Request-Start: t=5\r\nX-Other: stays\r\n";
    let got = seen(&ask(&rig, spoofed).await);
    for (header, wanted) in [
        ("host", vec!["shop.example.com:8080"]),
        ("x-forwarded-for", vec!["127.0.0.1"]),
        ("x_forwarded_for", vec![]),
        ("x-forwarded-proto", vec!["http"]),
        ("x-forwarded-host", vec!["shop.example.com:8080"]),
        ("forwarded", vec![]),
        ("x-kamal-target", vec![target.address().as_str()]),
        ("x-request-id", vec!["1234"]),
        ("x-request-start", vec!["t=5"]),
        ("x-other", vec!["stays"]),
    ] {
        assert_eq!(value(&got, header), wanted, "{header}");
    }
    let mut request = request_for(&target);
    request.settings.forward_headers = true;
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let got = seen(&ask(&rig, spoofed).await);
    assert_eq!(value(&got, "x-forwarded-for"), ["6.6.6.6, 7.7.7.7, 127.0.0.1"]);
    assert_eq!(value(&got, "x-forwarded-proto"), ["https"]);
    assert_eq!(value(&got, "x-forwarded-host"), ["evil.example"]);
    assert_eq!(value(&got, "x-kamal-target"), [format!("elsewhere, {}", target.address())]);
    assert_eq!(value(&got, "forwarded"), [""; 0]);
    let got = seen(&ask(&rig, "").await);
    assert_eq!(value(&got, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(value(&got, "x-forwarded-proto"), ["http"]);
    assert_eq!(value(&got, "x-forwarded-host"), ["shop.example.com:8080"]);
    assert_eq!(value(&got, "x-kamal-target"), [target.address()]);
}

// proxy-compat cases 111, 112.
#[tokio::test]
async fn ids_and_times_are_added_where_there_are_none() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    let reply = ask(&rig, "").await;
    let got = seen(&reply);
    let id = value(&got, "x-request-id")[0].to_owned();
    assert!(id.len() == 36 && id.chars().nth(14) == Some('4'), "{id}");
    let start: u128 = value(&got, "x-request-start")[0].strip_prefix("t=").unwrap().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert!((start..=start + 20_000).contains(&now), "{start} {now}");
    assert!(reply.header("x-request-id").is_none());
    assert!(reply.header("date").is_some());
    assert_ne!(value(&seen(&ask(&rig, "").await), "x-request-id"), [id]);
}

#[tokio::test]
async fn what_is_about_one_connection_stays_on_it() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    let got = seen(
        &ask(
            &rig,
            "Connection: X-Hop, keep-alive, Content-Length, Host\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
             Proxy-Connection: keep-alive\r\nProxy-Authorization: secret\r\nTE: trailers\r\nCookie: a=b\r\n\
             Cookie: c=d\r\n",
        )
        .await,
    );
    for gone in ["connection", "x-hop", "keep-alive", "proxy-connection", "proxy-authorization"] {
        assert_eq!(value(&got, gone), [""; 0], "{gone}");
    }
    assert_eq!(value(&got, "te"), ["trailers"]);
    assert_eq!(value(&got, "cookie"), ["a=b", "c=d"]);
    assert_eq!(value(&got, "host"), ["shop.example.com:8080"]);
}

// proxy-compat cases 76, 83, 93.
#[tokio::test]
async fn targets_of_every_form_are_forwarded_as_paths() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    let line = async |request: &str| {
        let mut connection = rig.open().await;
        connection.send(request).await;
        let reply = connection.reply().await;
        (reply.status, reply.text().lines().next().unwrap_or_default().to_owned(), seen(&reply))
    };
    let (_, first, got) = line(
        "GET http://SHOP.example.com/head?p1=a;b;c&p2=%x&p3=ok HTTP/1.1\r\nHost: other.example.com\r\n\r\n",
    )
    .await;
    assert_eq!(first, "GET /head?p1=a;b;c&p2=%x&p3=ok HTTP/1.1");
    assert_eq!(value(&got, "host"), ["SHOP.example.com"]);
    assert_eq!(line("OPTIONS * HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await.0, 200);
    assert_eq!(line("CONNECT shop.example.com:443 HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await.0, 502);
    let (_, echoed, _) = line("GET /a%2Fb/../c//d HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    assert_eq!(echoed, "/a%2Fb/../c//d");
}

// proxy-compat cases 139, 142, 145, 155, 161-164.
#[tokio::test]
async fn services_are_found_by_host_and_path_and_own_what_they_asked_for() {
    let rig = Rig::start();
    let (shop, api, any) =
        (Target::start("shop").await, Target::start("api").await, Target::start("any").await);
    rig.deploy(&shop).await;
    let mut client = rig.client().await;
    let mut request = request_for(&api);
    request.settings.path_prefixes = vec![PathPrefix::parse("/api").unwrap()];
    client.deploy(&name("api"), &request, LIMIT).await.unwrap();
    let mut request = request_for(&any);
    request.settings.hosts = vec![];
    client.deploy(&name("any"), &request, LIMIT).await.unwrap();
    let mut connection = rig.open().await;
    for (host, path, wanted) in [
        ("shop.example.com", "/n", "shop  /n 0 0"),
        ("SHOP.example.com.:99", "/n", "shop  /n 0 0"),
        ("shop.example.com", "/api/n?x=/api", "api  /n?x=/api 0 0"),
        ("shop.example.com", "/%61pi/n", "api  /n 0 0"),
        ("shop.example.com", "/api", "api  / 0 0"),
        ("shop.example.com", "/api/x%2Fy", "/x%2Fy"),
        ("shop.example.com", "/api?q", "api  /?q 0 0"),
        ("shop.example.com", "/apiary", "/apiary"),
        ("other.example.com", "/n", "any  /n 0 0"),
    ] {
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(connection.reply().await.text(), wanted, "{host} {path}");
    }
    // Another service may not take a pair of host and path; the owner may name it again.
    let mut connection_before = rig.open().await;
    let error = client.deploy(&name("thief"), &request_for(&any), LIMIT).await.unwrap_err();
    assert_eq!(connection_before.get("/n").await.text(), "shop  /n 0 0");
    assert!(matches!(error, ProxyError::HostConflict { .. }), "{error:?}");
    assert!(error.message().unwrap().starts_with("host settings conflict with another service"), "{error}");
    let mut request = request_for(&shop);
    request.settings.hosts.push(HostPattern::parse("*.shop.example.com").unwrap());
    client.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    connection.send("GET /n HTTP/1.1\r\nHost: de.shop.example.com\r\n\r\n").await;
    assert_eq!(connection.reply().await.text(), "shop  /n 0 0");
    client.remove(&name("any"), None, LIMIT).await.unwrap();
    connection.send("GET /n HTTP/1.1\r\nHost: other.example.com\r\n\r\n").await;
    let reply = connection.reply().await;
    assert_eq!(reply.status, 404);
    assert!(reply.text().contains("Not Found"));
}

// proxy-compat cases 113, 114, 116.
#[tokio::test]
async fn a_header_with_the_clients_address_goes_before_the_chain() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let mut request = request_for(&target);
    request.settings.client_ip_header = Some("True-Client-IP".to_owned());
    for (trusted, lines, wanted) in [
        (true, "true-client-ip: 203.0.113.9\r\nX-Forwarded-For: 6.6.6.6\r\n", "203.0.113.9, 127.0.0.1"),
        (true, "X-Forwarded-For: 6.6.6.6\r\n", "6.6.6.6, 127.0.0.1"),
        (true, "True-Client-IP:\r\nX-Forwarded-For: 6.6.6.6\r\n", "6.6.6.6, 127.0.0.1"),
        (true, "True-Client-IP: 203.0.113.9\r\n", "203.0.113.9, 127.0.0.1"),
        (false, "True-Client-IP: 203.0.113.9\r\nX-Forwarded-For: 6.6.6.6\r\n", "127.0.0.1"),
    ] {
        request.settings.forward_headers = trusted;
        rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
        let got = seen(&ask(&rig, lines).await);
        assert_eq!(value(&got, "x-forwarded-for"), [wanted], "{lines}");
        assert_eq!(
            value(&got, "true-client-ip").len(),
            usize::from(lines.to_lowercase().contains("client-ip: "))
        );
    }
}
