//! HTTPS with certificates of one's own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freehold_proxy::Limits;
use freehold_wire::{CertificateSource, DeployRequest, HostPattern, PathPrefix, Tls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{LIMIT, soon};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

const HOST: &str = "shop.example.com";

/// Certificate files that a test may replace.
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    pub(crate) fn new(which: &str) -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        files.put(which);
        files
    }

    fn put(&self, which: &str) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
        for extension in ["crt", "key"] {
            let fresh = self.folder.path().join(format!("fresh.{extension}"));
            fs_err::copy(from.join(format!("{which}.{extension}")), &fresh).unwrap();
            fs_err::rename(fresh, self.folder.path().join(format!("tls.{extension}"))).unwrap();
        }
    }

    pub(crate) fn tls(&self, redirect: bool) -> Tls {
        let path = |file: &str| self.folder.path().join(file).to_str().unwrap().to_owned();
        let certificate =
            CertificateSource::Files { certificate_path: path("tls.crt"), private_key_path: path("tls.key") };
        Tls { certificate, redirect, clients: None }
    }
}

async fn scene(files: &Files, change: impl FnOnce(&mut DeployRequest)) -> (Rig, Target) {
    let limits = Limits { certificates: Duration::from_millis(20), ..Limits::default() };
    let (rig, target) = (Rig::with_limits(limits), Target::start("t").await);
    let mut request = request_for(&target);
    request.settings.tls = Some(files.tls(true));
    change(&mut request);
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    (rig, target)
}

/// Agrees on an encrypted connection, trusting one certificate.
async fn agree(rig: &Rig, which: &str, server_name: Option<&str>) -> std::io::Result<TlsStream<TcpStream>> {
    let mut config = client(which);
    config.enable_sni = server_name.is_some();
    let socket = TcpStream::connect(("127.0.0.1", rig.https_port())).await?;
    let verified = ServerName::try_from(server_name.unwrap_or(HOST).to_owned()).unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(verified, socket)).await
}

/// Makes a client that trusts one certificate.
pub(crate) fn client(which: &str) -> ClientConfig {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/certificates/{which}.crt"));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&fs_err::read(path).unwrap()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

/// Sends text and reads until the answer has ended as expected.
pub(crate) async fn exchange(stream: &mut TlsStream<TcpStream>, text: &str, end: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).ends_with(end) {
        let length = soon(stream.read_buf(&mut received)).await.unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&received));
    }
    String::from_utf8(received).unwrap()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
}

// proxy-compat cases 166, 172, 173, 175.
#[tokio::test]
async fn plain_requests_are_redirected_and_encrypted_ones_served() {
    let files = Files::new("first");
    let (rig, target) = scene(&files, |_| {}).await;
    let reply = rig.open().await.get("/n?a=b").await;
    assert_eq!((reply.status, reply.header("location")), (301, Some("https://shop.example.com/n?a=b")));
    let mut stream = agree(&rig, "first", Some(HOST)).await.unwrap();
    for number in 0..3 {
        let text = format!("GET /n HTTP/1.1\r\nHost: {HOST}\r\nX-Number: {number}\r\n\r\n");
        let answer = exchange(&mut stream, &text, &format!("t {number} /n 0 0")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    let head = exchange(&mut stream, &get("/head"), "\r\n").await;
    assert!(head.contains("X-Forwarded-Proto: https\r\n"), "{head}");
    // proxy-compat case 178 without HTTP/3, which is refused by name: nothing tells of it.
    assert!(!head.to_lowercase().contains("alt-svc"), "{head}");
    let encrypted = || rig.log.requests().into_iter().find(|line| line["scheme"] == "https");
    soon(async {
        while encrypted().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(encrypted().unwrap()["port"].as_u64(), Some(rig.https_port().into()));
    // A deploy whose certificate cannot be used changes nothing.
    let mut request = request_for(&target);
    let certificate = CertificateSource::Files {
        certificate_path: "/nonexistent".to_owned(),
        private_key_path: "/nonexistent".to_owned(),
    };
    request.settings.tls = Some(Tls { certificate, redirect: true, clients: None });
    let error = rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
    assert!(error.message().unwrap().starts_with("unable to load certificate"), "{error:?}");
    exchange(&mut agree(&rig, "first", Some(HOST)).await.unwrap(), &get("/n"), " 0 0").await;
}

#[tokio::test]
async fn bodies_of_all_kinds_go_both_ways() {
    let files = Files::new("first");
    let (rig, target) = scene(&files, |_| {}).await;
    let mut stream = agree(&rig, "first", Some(HOST)).await.unwrap();
    let body = "0123456789abcdef".repeat(20_000);
    let sum: u64 = body.bytes().map(u64::from).sum();
    let length = body.len();
    let text = format!("POST /n HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n{body}");
    exchange(&mut stream, &text, &format!("t  /n {length} {sum}")).await;
    stream.write_all(get("/large").as_bytes()).await.unwrap();
    let mut large = Vec::new();
    while large.len() < 200_000 || !large.ends_with(b"cdef") {
        assert!(soon(stream.read_buf(&mut large)).await.unwrap() > 0);
    }
    exchange(&mut stream, &get("/chunked"), "X-Sum: 11\r\n\r\n").await;
    let text =
        format!("POST /n HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    exchange(&mut stream, &text, "HTTP/1.1 100 Continue\r\n\r\n").await;
    exchange(&mut stream, "abc", "t  /n 3 294").await;
    // Two at once, of which the second is there before the first is answered.
    let both = exchange(&mut stream, &(get("/n") + &get("/until-close")), "0\r\n\r\n").await;
    assert!(both.contains("until the end"), "{both}");
    let upgrade =
        format!("GET /socket HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let mut stream = agree(&rig, "first", Some(HOST)).await.unwrap();
    assert!(exchange(&mut stream, &upgrade, "\r\n\r\n").await.starts_with("HTTP/1.1 101"));
    exchange(&mut stream, "echo", "echo").await;
    drop(target);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let files = Files::new("first");
    let (rig, target) = scene(&files, |_| {}).await;
    let mut stream = agree(&rig, "first", Some(HOST)).await.unwrap();
    stream.write_all(get("/gate").as_bytes()).await.unwrap();
    target.wait_for_waiting(1).await;
    drop(stream);
    rig.wait_for(|status| status.in_flight.requests == 0).await;
    soon(async {
        while rig.log.requests().is_empty() {
            tokio::task::yield_now().await
        }
    })
    .await;
    assert_eq!(rig.log.requests()[0]["status"], 499);
}

// proxy-compat case 167.
#[tokio::test]
async fn without_the_redirect_both_are_served() {
    let files = Files::new("first");
    let (rig, target) = scene(&files, |request| request.settings.tls = Some(files.tls(false))).await;
    assert!(rig.open().await.get("/head").await.text().contains("X-Forwarded-Proto: http\r\n"));
    let mut stream = agree(&rig, "first", Some(HOST)).await.unwrap();
    assert!(exchange(&mut stream, &get("/head"), "\r\n").await.contains("X-Forwarded-Proto: https\r\n"));
    drop(target);
}

// proxy-compat case 169.
#[tokio::test]
async fn the_canonical_host_and_https_are_one_redirect() {
    let files = Files::new("first");
    let (rig, target) = scene(&files, |request| {
        request.settings.hosts.push(HostPattern::parse("www.shop.example.com").unwrap());
        request.settings.canonical_host = Some(HostPattern::parse(HOST).unwrap());
    })
    .await;
    let mut plain = rig.open().await;
    plain.send("GET /n HTTP/1.1\r\nHost: www.shop.example.com\r\n\r\n").await;
    assert_eq!(plain.reply().await.header("location"), Some("https://shop.example.com/n"));
    let mut stream = agree(&rig, "first", Some("www.shop.example.com")).await.unwrap();
    let text = "GET /n HTTP/1.1\r\nHost: www.shop.example.com\r\n\r\n";
    let reply = exchange(&mut stream, text, "</a>.\n\n").await;
    assert!(reply.contains("Location: https://shop.example.com/n\r\n"), "{reply}");
    drop(target);
}

// proxy-compat cases 171, 176, 179.
#[tokio::test]
async fn services_without_tls_and_names_without_services() {
    let files = Files::new("first");
    let (rig, target) = scene(&files, |_| {}).await;
    let mut request = request_for(&target);
    request.settings.hosts = vec![HostPattern::parse("plain.example.com").unwrap()];
    rig.client().await.deploy(&name("plain"), &request, LIMIT).await.unwrap();
    let mut request = request_for(&target);
    request.settings.path_prefixes = vec![PathPrefix::parse("/api").unwrap()];
    rig.client().await.deploy(&name("api"), &request, LIMIT).await.unwrap();
    assert_eq!(rig.open().await.get("/api/n").await.status, 301, "as the service of the root path");
    let mut stream = agree(&rig, "first", None).await.unwrap();
    exchange(&mut stream, &get("/n"), " 0 0").await;
    let reply =
        exchange(&mut stream, "GET /n HTTP/1.1\r\nHost: plain.example.com\r\n\r\n", "</html>\n").await;
    assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
    for unknown in ["plain.example.com", "unknown.example.com"] {
        let error = agree(&rig, "first", Some(unknown)).await.unwrap_err();
        assert!(format!("{error:?}").contains("UnrecognisedName"), "{unknown}: {error:?}");
    }
    rig.client().await.remove(&name("shop"), None, LIMIT).await.unwrap();
    assert_eq!(rig.open().await.get("/api/n").await.status, 200);
}

// proxy-compat cases 17, 21.
#[tokio::test]
async fn tls_belongs_to_the_service_of_the_root_path() {
    let files = Files::new("first");
    let (rig, target) = scene(&files, |_| {}).await;
    let mut request = request_for(&target);
    request.settings.path_prefixes = vec![PathPrefix::parse("/api").unwrap()];
    request.settings.tls = Some(files.tls(true));
    let error = rig.client().await.deploy(&name("api"), &request, LIMIT).await.unwrap_err();
    assert!(
        error.message().unwrap().contains("TLS settings must be specified on the root path"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_certificate_follows_its_files_and_outlives_a_restart() {
    let files = Files::new("first");
    let (mut rig, target) = scene(&files, |_| {}).await;
    agree(&rig, "first", Some(HOST)).await.unwrap();
    files.put("second");
    soon(async { while agree(&rig, "second", Some(HOST)).await.is_err() {} }).await;
    assert!(agree(&rig, "first", Some(HOST)).await.is_err());
    // Files that cannot be used change nothing.
    fs_err::write(files.folder.path().join("tls.key"), "nonsense").unwrap();
    soon(async {
        while !rig.log.text().contains("Certificate not reloaded") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    agree(&rig, "second", Some(HOST)).await.unwrap();
    files.put("first");
    rig.restart(Duration::from_secs(5));
    let mut stream = agree(&rig, "first", Some(HOST)).await.unwrap();
    exchange(&mut stream, &get("/n"), " 0 0").await;
    drop(target);
}

fn host(text: &str) -> HostPattern {
    HostPattern::parse(text).unwrap()
}

// proxy-compat case 5: what cannot be ordered can be brought along.
#[tokio::test]
async fn a_certificate_of_ones_own_may_be_for_a_wildcard() {
    let files = Files::new("first");
    let (rig, target) =
        scene(&files, |request| request.settings.hosts.push(host("*.shop.example.com"))).await;
    let mut stream = agree(&rig, "first", Some("www.shop.example.com")).await.unwrap();
    exchange(&mut stream, &get("/n"), " 0 0").await;
    drop(target);
}

// A service for any host has the certificate for every name that no other service has.
#[tokio::test]
async fn one_certificate_may_be_for_all_other_names() {
    let (all, own) = (Files::new("first"), Files::new("second"));
    let (rig, target) = scene(&own, |_| {}).await;
    let mut request = request_for(&target);
    request.settings.hosts.clear();
    request.settings.tls = Some(all.tls(true));
    rig.client().await.deploy(&name("any"), &request, LIMIT).await.unwrap();
    let mut stream = agree(&rig, "first", Some("www.shop.example.com")).await.unwrap();
    exchange(&mut stream, "GET /n HTTP/1.1\r\nHost: www.shop.example.com\r\n\r\n", " 0 0").await;
    let mut stream = agree(&rig, "second", Some(HOST)).await.unwrap();
    exchange(&mut stream, &get("/n"), " 0 0").await;
    assert!(agree(&rig, "first", Some(HOST)).await.is_err());
}

// A certificate that is missing after a restart: whoever comes by plain HTTP is told, and not sent to where nobody is.
#[tokio::test]
async fn where_the_certificate_is_missing_plain_requests_get_503_with_a_reason() {
    let files = Files::new("first");
    let (mut rig, target) = scene(&files, |_| {}).await;
    fs_err::remove_file(files.folder.path().join("tls.crt")).unwrap();
    rig.restart(Duration::from_secs(5));
    assert_eq!(rig.open().await.get("/n").await.status, 503);
    soon(async {
        while !rig.log.requests().iter().any(|line| line["reason"] == "no_certificate") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(target);
}

// proxy-compat case 175: what is stored is what serves.
#[tokio::test]
async fn a_deploy_that_fails_is_not_stored() {
    let files = Files::new("first");
    let (mut rig, target) = scene(&files, |_| {}).await;
    let mut request = request_for(&target);
    request.settings.tls = Some(Files::new("first").tls(true));
    let error = rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
    assert!(error.message().unwrap().starts_with("unable to load certificate"), "{error:?}");
    rig.restart(Duration::from_secs(5));
    exchange(&mut agree(&rig, "first", Some(HOST)).await.unwrap(), &get("/n"), " 0 0").await;
    assert_eq!(rig.status().await.settings.tls, Some(files.tls(true)));
}

// proxy-compat case 199.
#[tokio::test]
async fn several_services_answer_after_a_restart_as_before() {
    let files = Files::new("first");
    let (mut rig, target) = scene(&files, |_| {}).await;
    let mut request = request_for(&target);
    request.settings.hosts.clear();
    rig.client().await.deploy(&name("any"), &request, LIMIT).await.unwrap();
    let mut request = request_for(&target);
    request.settings.path_prefixes = vec![PathPrefix::parse("/api").unwrap()];
    request.settings.strip_path_prefix = false;
    request.health = freehold_wire::HealthGate::Trust;
    rig.client().await.deploy(&name("api"), &request, LIMIT).await.unwrap();
    for turn in ["before", "after"] {
        let mut plain = rig.open().await;
        plain.send("GET /n HTTP/1.1\r\nHost: whatever.example.com\r\n\r\n").await;
        assert_eq!(plain.reply().await.text(), "t  /n 0 0", "{turn}");
        for path in ["/n", "/api/n"] {
            let reply = rig.open().await.get(path).await;
            let wanted = format!("https://{HOST}{path}");
            assert_eq!((reply.status, reply.header("location")), (301, Some(wanted.as_str())), "{turn}");
        }
        let mut stream = agree(&rig, "first", Some(HOST)).await.unwrap();
        exchange(&mut stream, &get("/n"), "t  /n 0 0").await;
        exchange(&mut stream, &get("/api/n"), "/api/n").await;
        if turn == "before" {
            rig.restart(Duration::from_secs(5));
        }
    }
}

// proxy-compat case 202.
#[tokio::test]
async fn a_service_whose_certificate_is_missing_harms_no_other_and_is_not_lost() {
    let files = Files::new("first");
    let (mut rig, target) = scene(&files, |_| {}).await;
    let mut request = request_for(&target);
    request.settings.hosts = vec![host("plain.example.com")];
    rig.client().await.deploy(&name("plain"), &request, LIMIT).await.unwrap();
    fs_err::rename(files.folder.path().join("tls.crt"), files.folder.path().join("away.crt")).unwrap();
    rig.restart(Duration::from_secs(5));
    soon(async {
        while !rig.log.text().contains("Certificate not loaded") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut plain = rig.open().await;
    plain.send("GET /n HTTP/1.1\r\nHost: plain.example.com\r\n\r\n").await;
    assert_eq!(plain.reply().await.text(), "t  /n 0 0");
    assert!(agree(&rig, "first", Some(HOST)).await.is_err());
    let status = |rig: &Rig| {
        let (rig, shop) = (rig.socket(), name("shop"));
        async move {
            let mut client = freehold_wire::ProxyClient::connect(&rig, LIMIT).await.unwrap();
            client.service(&shop, LIMIT).await.unwrap().certificates.remove(0)
        }
    };
    let failed = status(&rig).await;
    assert_eq!((failed.name.as_str(), failed.error.as_deref()), (HOST, Some("it cannot be loaded")));
    // A change stores everything again; the service is still part of it, and serves when its file is back.
    rig.client().await.deploy(&name("plain"), &request, LIMIT).await.unwrap();
    assert!(fs_err::read_to_string(rig.state_file()).unwrap().contains("tls.crt"));
    fs_err::rename(files.folder.path().join("away.crt"), files.folder.path().join("tls.crt")).unwrap();
    soon(async { while agree(&rig, "first", Some(HOST)).await.is_err() {} }).await;
    exchange(&mut agree(&rig, "first", Some(HOST)).await.unwrap(), &get("/n"), " 0 0").await;
    let valid = status(&rig).await;
    assert_eq!((valid.state, valid.error), (freehold_wire::CertificateState::Valid, None));
    assert!(valid.expires_at.unwrap().ends_with('Z'));
}
