//! Targets that speak TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use freehold_proxy::Limits;
use freehold_wire::{
    DeployRequest, HealthGate, ProbeOutcome, ProbeRequest, ProxyError, TargetProtocol, TargetTls,
};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::client::{LIMIT, soon};
use crate::http2::{Client, post};
use crate::http2_targets::{answer, trailers};
use crate::rig::{Rig, address, name, settings};
use crate::target::Target;

const NAME: &str = "app.internal";
const BOTH: [&str; 2] = ["h2", "http/1.1"];

/// An authority that makes certificates for targets.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap() }
    }

    /// Makes the settings of a server with a certificate for a name.
    fn server(&self, name: &str, protocols: &[&str]) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn trusted(&self) -> TargetTls {
        TargetTls { ca_path: None, ca_pem: Some(self.issuer.pem()), server_name: Some(NAME.to_owned()) }
    }
}

/// A server that speaks TLS. Who has agreed on HTTP/2 is answered here, others by a target behind it.
struct Server {
    port: u16,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    connections: Arc<AtomicU64>,
    inner: Arc<Target>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (inner, config) = (Arc::new(Target::start("t").await), Arc::new(Mutex::new(config)));
        let connections = Arc::<AtomicU64>::default();
        let mut tasks = JoinSet::new();
        let shared = (Arc::clone(&config), Arc::clone(&connections), inner.port);
        tasks.spawn(async move {
            let (config, connections, inner) = shared;
            let mut all = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let acceptor = TlsAcceptor::from(Arc::clone(&config.lock()));
                all.spawn(serve(socket, acceptor, Arc::clone(&connections), inner));
            }
        });
        Self { port, config, connections, inner, _tasks: tasks }
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    fn request(&self, protocol: TargetProtocol, tls: Option<TargetTls>) -> DeployRequest {
        let mut settings = settings("shop.example.com");
        settings.target_protocol = protocol;
        settings.target_tls.clone_from(&tls);
        settings.health_check.protocol = protocol;
        settings.health_check.tls = tls;
        settings.health_check.interval_ms = 60_000;
        let mut request = DeployRequest::new(vec![address(&format!("127.0.0.1:{}", self.port))], settings);
        request.deploy_timeout_ms = 700;
        request
    }
}

/// Serves a connection; one that is not agreed on is not counted.
async fn serve(socket: TcpStream, acceptor: TlsAcceptor, connections: Arc<AtomicU64>, inner: u16) {
    let Ok(mut stream) = acceptor.accept(socket).await else { return };
    connections.fetch_add(1, Ordering::SeqCst);
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        let mut inner = TcpStream::connect(("127.0.0.1", inner)).await.unwrap();
        // It ends when either side has had enough.
        copy_bidirectional(&mut stream, &mut inner).await.ok();
        return;
    }
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut requests = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        requests.spawn(answer(request, respond));
    }
}

async fn deploy(rig: &Rig, request: &DeployRequest) -> Result<(), ProxyError> {
    rig.client().await.deploy(&name("shop"), request, LIMIT).await.map(drop)
}

/// What the checks of a deploy saw that did not succeed.
async fn refused(rig: &Rig, request: &DeployRequest) -> String {
    match deploy(rig, request).await.unwrap_err() {
        ProxyError::Unhealthy { probes, .. } => match &probes[0].last {
            ProbeOutcome::NotTrusted { message } => message.clone(),
            other => format!("saw {other:?}"),
        },
        other => format!("failed by {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_spoken_over_tls() {
    let (rig, authority) = (Rig::start(), Authority::new("one"));
    let server = Server::start(authority.server(NAME, &BOTH)).await;
    let mut request = server.request(TargetProtocol::H2, Some(authority.trusted()));
    request.settings.health_check.path = "/grpc.health.v1.Health/Check".to_owned();
    deploy(&rig, &request).await.unwrap();
    let before = server.connections();
    let mut client = rig.open().await;
    for _ in 0..5 {
        let reply = client.get("/head").await;
        assert!(reply.text().starts_with("https://shop.example.com/head"), "{}", reply.text());
    }
    let mut client = Client::open(rig.port()).await;
    let reply = client.send(post("/echo"), &[b"abc", b"de"], Some(trailers("5"))).await.unwrap();
    assert_eq!((reply.text(), reply.trailers.get("grpc-status").unwrap().to_str().unwrap()), ("abcde", "5"));
    let made = server.connections() - before;
    assert!(made <= 2, "{made} connections of two threads");
    assert_eq!(server.inner.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_that_do_not_agree_on_http2_get_http1_over_tls() {
    let authority = Authority::new("one");
    for (protocol, offered) in [
        (TargetProtocol::H2, &BOTH[1..]),
        (TargetProtocol::H2, &[]),
        // This one would take HTTP/2, and is not asked for it.
        (TargetProtocol::Https, &BOTH[..]),
    ] {
        let rig = Rig::start();
        let server = Server::start(authority.server(NAME, offered)).await;
        deploy(&rig, &server.request(protocol, Some(authority.trusted()))).await.unwrap();
        let before = server.connections();
        let mut client = rig.open().await;
        for _ in 0..5 {
            assert_eq!(client.get("/n").await.text(), "t  /n 0 0", "{protocol:?} {offered:?}");
        }
        client.send("POST /n HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 3\r\n\r\nabc").await;
        assert_eq!(client.reply().await.text(), "t  /n 3 294");
        assert_eq!(client.get("/large").await.body.len(), 200_000);
        assert_eq!(server.connections() - before, 1, "{protocol:?} {offered:?}: it is used again");
        client.send("GET /socket HTTP/1.1\r\nHost: shop.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly").await;
        assert_eq!(client.reply().await.status, 101);
        let mut back = [0; 5];
        soon(client.stream.read_exact(&mut back)).await.unwrap();
        assert_eq!(&back, b"early");
        // A connection whose target has said that it closes, or has closed, is not used again.
        let mut client = rig.open().await;
        for path in ["/close", "/close-silently", "/n", "/close-silently", "/n"] {
            assert_eq!(client.get(path).await.status, 200, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_cannot_be_trusted_is_not_deployed_and_says_why() {
    let (rig, authority, other) = (Rig::start(), Authority::new("one"), Authority::new("two"));
    let server = Server::start(authority.server(NAME, &BOTH)).await;
    let renamed = TargetTls { server_name: Some("other.internal".to_owned()), ..authority.trusted() };
    let unnamed = TargetTls { server_name: None, ..authority.trusted() };
    for protocol in [TargetProtocol::H2, TargetProtocol::Https] {
        for (tls, said) in [
            (Some(other.trusted()), "UnknownIssuer"),
            (None, "UnknownIssuer"),
            (Some(renamed.clone()), "other.internal"),
            (Some(unnamed.clone()), "127.0.0.1"),
        ] {
            let seen = refused(&rig, &server.request(protocol, tls)).await;
            assert!(seen.contains(said), "{said} in {seen}");
        }
    }
    assert_eq!(server.connections(), 0);
    // A target that speaks no TLS at all.
    let plain = Target::start("t").await;
    let mut request = server.request(TargetProtocol::Https, Some(authority.trusted()));
    request.targets = vec![address(&plain.address())];
    let seen = refused(&rig, &request).await;
    assert!(seen.contains("tls handshake eof") || seen.contains("corrupt message"), "{seen}");
    // What cannot be meant is refused before any target is asked.
    for (tls, said) in [
        (
            TargetTls { ca_pem: Some("no certificate".to_owned()), ..authority.trusted() },
            "hold no certificate",
        ),
        (TargetTls { ca_path: Some("/none".to_owned()), ca_pem: None, server_name: None }, "cannot read"),
        (TargetTls { ca_path: Some("/none".to_owned()), ..authority.trusted() }, "in a file or by those"),
        (TargetTls { server_name: Some("a b".to_owned()), ..authority.trusted() }, "neither a host name"),
    ] {
        let error = deploy(&rig, &server.request(TargetProtocol::H2, Some(tls))).await.unwrap_err();
        let text = format!("{error:?}");
        assert!(text.contains(said), "{said} in {text}");
    }
    let error =
        deploy(&rig, &server.request(TargetProtocol::H2c, Some(authority.trusted()))).await.unwrap_err();
    assert!(format!("{error:?}").contains("needs `health_check.protocol`"), "{error:?}");
    // A probe goes the same way.
    let request = server.request(TargetProtocol::H2, Some(other.trusted()));
    let target = request.targets[0].clone();
    let probe = ProbeRequest { target, health_check: request.settings.health_check, deadline_ms: 1 };
    let report = rig.client().await.probe(&probe, LIMIT).await.unwrap();
    assert!(matches!(&report.last, ProbeOutcome::NotTrusted { .. }), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_shows_another_certificate_gets_no_requests() {
    let (mut rig, authority, other) = (Rig::start(), Authority::new("one"), Authority::new("two"));
    let server = Server::start(authority.server(NAME, &BOTH)).await;
    deploy(&rig, &server.request(TargetProtocol::Https, Some(authority.trusted()))).await.unwrap();
    assert_eq!(rig.open().await.get("/n").await.status, 200);
    let mut request = server.request(TargetProtocol::Https, Some(other.trusted()));
    request.health = HealthGate::Trust;
    deploy(&rig, &request).await.unwrap();
    let served = server.inner.requests();
    assert_eq!(rig.open().await.get("/n").await.status, 502);
    assert_eq!(server.inner.requests(), served);
    rig.stop();
    let requests = rig.log.requests();
    let bad: Vec<_> = requests.iter().filter(|line| line["status"] == 502).collect();
    assert!(bad.len() == 1 && bad[0]["reason"] == "target_not_trusted", "{requests:?}");
    let lines = rig.log.lines();
    let said: Vec<_> = lines.iter().filter(|line| line["msg"] == "Target not trusted").collect();
    assert_eq!(said.len(), 1, "{lines:?}");
    assert!(said[0]["error"].as_str().unwrap().contains("UnknownIssuer"), "{}", said[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorities_in_a_file_are_followed_and_nobody_is_trusted_without_it() {
    let limits = Limits { certificates: Duration::from_millis(20), ..Limits::default() };
    let (mut rig, first, second) = (Rig::with_limits(limits), Authority::new("one"), Authority::new("two"));
    let path = rig.folder.path().join("ca.pem");
    fs_err::write(&path, first.issuer.pem()).unwrap();
    let server = Server::start(first.server(NAME, &[])).await;
    let ca_path = Some(path.to_str().unwrap().to_owned());
    let tls = TargetTls { ca_path, ca_pem: None, server_name: Some(NAME.to_owned()) };
    let mut request = server.request(TargetProtocol::Https, Some(tls));
    // A fresh connection for each request: those that are there stay trusted.
    deploy(&rig, &request).await.unwrap();
    assert_eq!(rig.open().await.get("/close").await.status, 200);
    *server.config.lock() = second.server(NAME, &[]);
    assert_eq!(rig.open().await.get("/close").await.status, 502);
    fs_err::write(&path, format!("{}{}", first.issuer.pem(), second.issuer.pem())).unwrap();
    let until = async |rig: &Rig, status: u16| {
        soon(async { while rig.open().await.get("/close").await.status != status {} }).await;
    };
    until(&rig, 200).await;
    // A file that is not there when the proxy starts.
    fs_err::remove_file(&path).unwrap();
    rig.restart(Duration::from_secs(1));
    assert_eq!(rig.open().await.get("/close").await.status, 502);
    assert!(rig.log.text().contains("Authorities of targets not loaded"));
    fs_err::write(&path, second.issuer.pem()).unwrap();
    until(&rig, 200).await;
    // What is trusted by others is not among what is kept for a new deploy.
    request.settings.target_tls = None;
    request.settings.health_check.tls = None;
    let seen = refused(&rig, &request).await;
    assert!(seen.contains("UnknownIssuer"), "{seen}");
}
