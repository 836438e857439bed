//! Settings of a service that change heads, pages and the log.

use freehold_wire::{DeployRequest, HostPattern, PathPrefix, ProxyError};

use crate::client::{LIMIT, soon};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

async fn scene(change: impl FnOnce(&mut DeployRequest)) -> (Rig, Target) {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let mut request = request_for(&target);
    change(&mut request);
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    (rig, target)
}

fn host(text: &str) -> HostPattern {
    HostPattern::parse(text).unwrap()
}

// proxy-compat cases 168, 170.
#[tokio::test]
async fn other_hosts_are_redirected_to_the_canonical_one() {
    let (rig, target) = scene(|request| {
        request.settings.hosts.push(host("www.shop.example.com"));
        request.settings.canonical_host = Some(host("shop.example.com"));
    })
    .await;
    let mut client = rig.open().await;
    assert_eq!(client.get("/n").await.status, 200);
    client.send("GET /a%20b?x=<y>&z HTTP/1.1\r\nHost: WWW.shop.example.com:8080\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!(reply.status, 301);
    assert_eq!(reply.header("location"), Some("http://shop.example.com/a%20b?x=<y>&z"));
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(reply.text().contains("x=&lt;y&gt;&amp;z"), "{reply:?}");
    assert!(client.is_closed().await);
    let mut client = rig.open().await;
    client.send("POST /n HTTP/1.1\r\nHost: www.shop.example.com\r\nContent-Length: 1\r\n\r\nx").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.body.len()), (301, 0));
    drop(target);
}

// proxy-compat cases 18-20.
#[tokio::test]
async fn a_canonical_host_is_one_of_the_hosts() {
    let (rig, target) = scene(|_| {}).await;
    let mut request = request_for(&target);
    request.settings.hosts = vec![host("example.com"), host("www.example.com")];
    request.settings.canonical_host = Some(host("api.example.com"));
    let error = rig.client().await.deploy(&name("other"), &request, LIMIT).await.unwrap_err();
    let wanted =
        "canonical-host 'api.example.com' must be present in the hosts list: [example.com www.example.com]";
    assert!(error.message().unwrap().contains(wanted), "{error:?}");
    request.settings.hosts.clear();
    rig.client().await.deploy(&name("other"), &request, LIMIT).await.unwrap();
    request.settings.canonical_host = None;
    rig.client().await.deploy(&name("other"), &request, LIMIT).await.unwrap();
    request.settings.hosts = vec![host("example.com"), host("www.example.com")];
    for canonical in ["example.com", "www.example.com"] {
        request.settings.canonical_host = Some(host(canonical));
        rig.client().await.deploy(&name("other"), &request, LIMIT).await.unwrap();
    }
}

// proxy-compat cases 192, 193; proxy-compat case 175 where it is about error pages.
#[tokio::test]
async fn an_applications_own_pages_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("502.html"), "<h1>Sorry</h1>").unwrap();
    let (rig, target) = scene(|request| {
        request.settings.error_pages = Some(folder.path().to_str().unwrap().to_owned());
    })
    .await;
    assert_eq!(rig.open().await.get("/drop").await.text(), "<h1>Sorry</h1>");
    assert_eq!(rig.open().await.get("/nothing").await.text(), "/nothing", "the target's own 404");
    let mut client = rig.open().await;
    client.send("GET / HTTP/1.1\r\nHost: unknown.example.com\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.header("content-type")), (404, Some("text/html; charset=utf-8")));
    let mut request = request_for(&target);
    request.settings.error_pages = Some("/nonexistent".to_owned());
    let error = rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::Refused { .. }), "{error:?}");
    assert!(error.message().unwrap().starts_with("unable to load error pages"), "{error:?}");
    assert_eq!(rig.open().await.get("/drop").await.text(), "<h1>Sorry</h1>", "the old settings still hold");
    let stored = fs_err::read_to_string(rig.state_file()).unwrap();
    assert!(!stored.contains("/nonexistent") && stored.contains(folder.path().to_str().unwrap()), "{stored}");
}

// proxy-compat case 118.
#[tokio::test]
async fn headers_are_logged_that_are_asked_for() {
    let (rig, target) = scene(|request| {
        request.settings.log_request_headers = vec!["X-Custom".to_owned(), "Content-Type".to_owned()];
        request.settings.log_response_headers =
            ["Cache-Control", "X-Custom", "X-None"].map(ToOwned::to_owned).to_vec();
    })
    .await;
    let mut client = rig.open().await;
    let answer = "HTTP/1.1 200 OK\r\ncache-control: no-store\r\nx-CUSTOM: d\r\nContent-Length: 0\r\n\r\n";
    let lines = format!("x-custom: a\"b\r\nX-Custom: c\r\nContent-Length: {}\r\n", answer.len());
    client.send(format!("POST /raw HTTP/1.1\r\nHost: shop.example.com\r\n{lines}\r\n{answer}")).await;
    assert_eq!(client.reply().await.status, 200);
    soon(async {
        while rig.log.requests().is_empty() {
            tokio::task::yield_now().await
        }
    })
    .await;
    let line = rig.log.requests().pop().unwrap();
    assert_eq!((line["req_x_custom"].as_str(), line["resp_x_custom"].as_str()), (Some("a\"b,c"), Some("d")));
    assert_eq!(line["resp_cache_control"], "no-store");
    assert_eq!(line["resp_x_none"], "");
    assert_eq!(rig.log.text().matches("req_content_type").count(), 1);
    drop(target);
}

// proxy-compat cases 157, 159.
#[tokio::test]
async fn cookies_are_put_under_the_prefix_that_was_used() {
    let (rig, target) = scene(|request| {
        request.settings.path_prefixes =
            ["/app", "/api"].map(|prefix| PathPrefix::parse(prefix).unwrap()).to_vec();
        request.settings.scope_cookie_paths = true;
        request.health = freehold_wire::HealthGate::Trust;
    })
    .await;
    let answer = "HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/something\r\nX-Between: 1\r\nSet-Cookie: c=d\r\nContent-Length: 0\r\n\r\n";
    for prefix in ["/app", "/api"] {
        let mut client = rig.open().await;
        let length = answer.len();
        client.send(format!("POST {prefix}/raw HTTP/1.1\r\nHost: shop.example.com:80\r\nContent-Length: {length}\r\n\r\n{answer}")).await;
        let reply = client.reply().await;
        let wanted = format!(
            "Set-Cookie: a=b; Path={prefix}/something\r\nX-Between: 1\r\nSet-Cookie: c=d; Path={prefix}\r\n"
        );
        assert!(reply.head.contains(&wanted), "{reply:?}");
    }
    drop(target);
}

// proxy-compat case 157: what is not asked for is not done, and `/` becomes the prefix.
#[tokio::test]
async fn cookies_stay_as_they_are_unless_a_service_says_so() {
    let answer = "HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n";
    for (scoped, wanted) in [(false, "a=b; Path=/"), (true, "a=b; Path=/chat")] {
        let (rig, target) = scene(|request| {
            request.settings.path_prefixes = vec![PathPrefix::parse("/chat").unwrap()];
            request.settings.scope_cookie_paths = scoped;
            request.health = freehold_wire::HealthGate::Trust;
        })
        .await;
        let mut client = rig.open().await;
        let head =
            format!("POST /chat/raw HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: {}", answer.len());
        client.send(format!("{head}\r\n\r\n{answer}")).await;
        assert_eq!(client.reply().await.header("set-cookie"), Some(wanted));
        drop(target);
    }
}
