//! Clients that show certificates (mutual TLS).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use freehold_proxy::Limits;
use freehold_wire::{ClientCertificates, ClientMode, HostPattern, PathPrefix};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{LIMIT, soon};
use crate::encrypted::Files;
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

const HOST: &str = "shop.example.com";
const OPEN: &str = "www.shop.example.com";

/// An authority that makes certificates for clients.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

struct Shown {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self { issuer: CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap() }
    }

    fn certify(&self, common_name: &str, serial: u64) -> Shown {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        parameters.serial_number = Some(SerialNumber::from(serial));
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Shown {
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    fn revocations(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2126, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// A proxy with `shop`, which knows its clients, and `open` beside it, which does not.
struct Scene {
    rig: Rig,
    _target: Target,
    authority: Authority,
    folder: TempDir,
    _files: Files,
}

impl Scene {
    async fn start(mode: ClientMode) -> Self {
        let limits = Limits { certificates: Duration::from_millis(20), ..Limits::default() };
        let (rig, target, files) = (Rig::with_limits(limits), Target::start("t").await, Files::new("first"));
        let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
        fs_err::write(folder.path().join("ca.pem"), authority.issuer.pem()).unwrap();
        fs_err::write(folder.path().join("crl.pem"), authority.revocations(&[99])).unwrap();
        let scene = Self { rig, _target: target, authority, folder, _files: files };
        let mut request = request_for(&scene._target);
        let mut tls = scene._files.tls(true);
        let path = |file: &str| Some(scene.path(file).to_str().unwrap().to_owned());
        tls.clients = Some(ClientCertificates {
            ca_path: path("ca.pem"),
            ca_pem: None,
            mode,
            crl_path: path("crl.pem"),
            crl_pem: None,
        });
        request.settings.tls = Some(tls.clone());
        scene.rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
        request.settings.hosts = vec![HostPattern::parse(OPEN).unwrap()];
        tls.clients = None;
        request.settings.tls = Some(tls);
        scene.rig.client().await.deploy(&name("open"), &request, LIMIT).await.unwrap();
        // A service below a path of the same host has no settings of its own for HTTPS.
        request.settings.hosts = vec![HostPattern::parse(HOST).unwrap()];
        request.settings.path_prefixes = vec![PathPrefix::parse("/api").unwrap()];
        request.settings.tls = None;
        scene.rig.client().await.deploy(&name("api"), &request, LIMIT).await.unwrap();
        scene
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    async fn agree(&self, host: &str, shown: Option<&Shown>) -> std::io::Result<TlsStream<TcpStream>> {
        connect(&self.rig, &client(shown), host).await
    }

    /// Sends a request and returns the answer, unless the connection is refused before.
    async fn ask(&self, host: &str, shown: Option<&Shown>) -> Option<String> {
        let mut stream = self.agree(host, shown).await.ok()?;
        answer(&mut stream, host, "/head", "").await
    }
}

fn client(shown: Option<&Shown>) -> Arc<ClientConfig> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates/first.crt");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(path).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    Arc::new(match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => builder.with_client_cert_resolver(Arc::new(Shows(Arc::new(shown.certified())))),
    })
}

/// Shows a certificate whoever asks, and whatever it is.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Shown {
    fn certified(&self) -> CertifiedKey {
        let keys = rustls::crypto::ring::default_provider().key_provider;
        CertifiedKey::new(
            vec![self.certificate.clone()],
            keys.load_private_key(self.key.clone_key()).unwrap(),
        )
    }
}

async fn connect(rig: &Rig, config: &Arc<ClientConfig>, host: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(("127.0.0.1", rig.https_port())).await?;
    let server = ServerName::try_from(host.to_owned()).unwrap();
    soon(TlsConnector::from(Arc::clone(config)).connect(server, socket)).await
}

/// Sends a request on a connection; none where it ends before the answer.
async fn answer(stream: &mut TlsStream<TcpStream>, host: &str, path: &str, lines: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n");
    stream.write_all(text.as_bytes()).await.ok()?;
    let mut received = Vec::new();
    loop {
        if soon(stream.read_buf(&mut received)).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&received).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.split("Content-Length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        if body.len() >= length.parse().unwrap() {
            return Some(text);
        }
    }
}

#[tokio::test]
async fn only_clients_of_the_authority_are_served_and_the_target_sees_who_they_are() {
    let scene = Scene::start(ClientMode::Required).await;
    let alice = scene.authority.certify("alice, of shop", 5);
    assert_eq!(scene.ask(HOST, None).await, None);
    assert_eq!(scene.ask(HOST, Some(&Authority::new().certify("alice, of shop", 5))).await, None);
    assert_eq!(scene.ask(HOST, Some(&scene.authority.certify("mallory", 99))).await, None, "revoked");
    let mut stream = scene.agree(HOST, Some(&alice)).await.unwrap();
    let forged = "X-Client-Certificate-Subject: CN=root\r\nx-client-certificate-FINGERPRINT: 00\r\n\
        X_Client_Certificate_Subject: CN=root\r\n";
    for path in ["/head", "/api/head"] {
        let seen = answer(&mut stream, HOST, path, forged).await.unwrap();
        let digest = Sha256::digest(&alice.certificate);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(seen.contains("X-Client-Certificate-Subject: CN=alice\\, of shop\r\n"), "{seen}");
        assert!(seen.contains(&format!("X-Client-Certificate-Fingerprint: {digest}\r\n")), "{seen}");
        assert_eq!(
            seen.to_lowercase().replace('_', "-").matches("x-client-certificate").count(),
            2,
            "{seen}"
        );
    }
    // Plain HTTP is no way in, and elsewhere the lines are not taken from clients either.
    assert_eq!(scene.rig.open().await.get("/head").await.status, 301);
    let mut open = scene.agree(OPEN, None).await.unwrap();
    let seen = answer(&mut open, OPEN, "/head", forged).await.unwrap();
    assert!(seen.starts_with("HTTP/1.1 200") && !seen.contains("root"), "{seen}");
}

#[tokio::test]
async fn a_connection_for_another_name_is_no_way_in() {
    let scene = Scene::start(ClientMode::Required).await;
    let alice = scene.authority.certify("alice", 5);
    for shown in [None, Some(&alice)] {
        let mut stream = scene.agree(OPEN, shown).await.unwrap();
        for path in ["/head", "/api/head"] {
            let seen = answer(&mut stream, HOST, path, "").await.unwrap();
            assert!(seen.starts_with("HTTP/1.1 421 Misdirected Request\r\n"), "{seen}");
        }
        let seen = answer(&mut stream, OPEN, "/head", "").await.unwrap();
        assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
    }
    let mut nameless = ClientConfig::clone(&client(None));
    nameless.enable_sni = false;
    let mut stream = connect(&scene.rig, &Arc::new(nameless), HOST).await.unwrap();
    assert!(answer(&mut stream, HOST, "/head", "").await.unwrap().starts_with("HTTP/1.1 421"));
    soon(async {
        while !scene.rig.log.requests().iter().any(|line| line["reason"] == "misdirected") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // A client that is known here is not presented as such elsewhere.
    let mut stream = scene.agree(HOST, Some(&alice)).await.unwrap();
    let seen = answer(&mut stream, OPEN, "/head", "").await.unwrap();
    assert!(seen.starts_with("HTTP/1.1 200") && !seen.contains("alice"), "{seen}");
}

#[tokio::test]
async fn what_was_agreed_on_elsewhere_is_not_resumed() {
    let scene = Scene::start(ClientMode::Required).await;
    let alice = scene.authority.certify("alice", 5);
    for shown in [None, Some(&alice)] {
        let config = client(shown);
        for host in [OPEN, OPEN, HOST, HOST] {
            let Ok(mut stream) = connect(&scene.rig, &config, host).await else { continue };
            let seen = answer(&mut stream, host, "/n", "").await;
            assert_eq!(seen.is_some(), host == OPEN || shown.is_some(), "{host}");
            if host == HOST {
                assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
            }
        }
    }
}

#[tokio::test]
async fn who_may_show_none_is_told_from_who_does() {
    let scene = Scene::start(ClientMode::Optional).await;
    let alice = scene.authority.certify("alice", 5);
    let mut stream = scene.agree(HOST, None).await.unwrap();
    let seen =
        answer(&mut stream, HOST, "/head", "X-Client-Certificate-Subject: CN=alice\r\n").await.unwrap();
    assert!(seen.starts_with("HTTP/1.1 200") && !seen.contains("alice"), "{seen}");
    let seen = scene.ask(HOST, Some(&alice)).await.unwrap();
    assert!(seen.contains("X-Client-Certificate-Subject: CN=alice\r\n"), "{seen}");
    assert_eq!(scene.ask(HOST, Some(&Authority::new().certify("alice", 5))).await, None);
}

#[tokio::test]
async fn authorities_and_revocations_follow_their_files_and_outlive_a_restart() {
    let mut scene = Scene::start(ClientMode::Required).await;
    let (alice, bob) = (scene.authority.certify("alice", 5), scene.authority.certify("bob", 6));
    let mut stream = scene.agree(HOST, Some(&alice)).await.unwrap();
    assert!(answer(&mut stream, HOST, "/n", "").await.unwrap().starts_with("HTTP/1.1 200"));
    let replace = |file: &str, text: String| {
        fs_err::write(scene.path("fresh"), text).unwrap();
        fs_err::rename(scene.path("fresh"), scene.path(file)).unwrap();
    };
    replace("crl.pem", "nonsense".to_owned());
    soon(async {
        while !scene.rig.log.text().contains("Authorities of clients not reloaded") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(scene.ask(HOST, Some(&alice)).await.is_some());
    replace("crl.pem", scene.authority.revocations(&[5]));
    soon(async { while scene.ask(HOST, Some(&alice)).await.is_some() {} }).await;
    // A connection that is open already is looked at again.
    assert!(answer(&mut stream, HOST, "/n", "").await.unwrap().starts_with("HTTP/1.1 421"));
    assert!(scene.ask(HOST, Some(&bob)).await.is_some());
    scene.rig.restart(Duration::from_secs(5));
    assert!(scene.ask(HOST, Some(&bob)).await.is_some());
    assert_eq!(scene.ask(HOST, Some(&alice)).await, None);
    // Without its authorities the service lets nobody in, by whatever name.
    fs_err::remove_file(scene.path("ca.pem")).unwrap();
    scene.rig.restart(Duration::from_secs(5));
    assert_eq!(scene.ask(HOST, Some(&bob)).await, None);
    let mut open = scene.agree(OPEN, None).await.unwrap();
    assert!(answer(&mut open, HOST, "/n", "").await.unwrap().starts_with("HTTP/1.1 421"));
    let reply = scene.rig.open().await.get("/n").await;
    assert_eq!(reply.status, 503);
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused() {
    let (rig, target, files) = (Rig::start(), Target::start("t").await, Files::new("first"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
    let text = |path: PathBuf| Some(path.to_str().unwrap().to_owned());
    let (ca, key) = (text(folder.join("first.crt")), text(folder.join("first.key")));
    let pem = Some(fs_err::read_to_string(folder.join("first.crt")).unwrap());
    let clients =
        |ca_path: &Option<String>, ca_pem: &Option<String>, crl_path: &Option<String>| ClientCertificates {
            ca_path: ca_path.clone(),
            ca_pem: ca_pem.clone(),
            mode: ClientMode::Required,
            crl_path: crl_path.clone(),
            crl_pem: None,
        };
    for (redirect, clients, rule) in [
        (false, clients(&ca, &None, &None), "plain HTTP must be redirected"),
        (true, clients(&None, &None, &None), "in a file or by those that are given"),
        (true, clients(&ca, &pem, &None), "in a file or by those that are given"),
        (true, clients(&key, &None, &None), "hold no certificate in PEM"),
        (true, clients(&ca, &None, &ca), "there is no list of revoked certificates"),
        (true, clients(&text("/nonexistent".into()), &None, &None), "cannot read the authorities"),
    ] {
        let mut request = request_for(&target);
        let mut tls = files.tls(redirect);
        tls.clients = Some(clients);
        request.settings.tls = Some(tls);
        let error = rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
        assert!(error.message().unwrap().contains(rule), "{rule}: {error:?}");
    }
    let mut request = request_for(&target);
    let mut tls = files.tls(true);
    tls.clients = Some(clients(&None, &pem, &None));
    request.settings.tls = Some(tls);
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
}

#[tokio::test]
async fn who_is_refused_is_counted_and_logged_with_the_reason() {
    let (mut rig, target, files) = (Rig::counting(), Target::start("t").await, Files::new("first"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
    let authority = Authority::new();
    let old = fs_err::read_to_string(folder.join("old-authority.crt")).unwrap();
    let mut request = request_for(&target);
    let mut tls = files.tls(true);
    tls.clients = Some(ClientCertificates {
        ca_path: None,
        ca_pem: Some(format!("{}{old}", authority.issuer.pem())),
        mode: ClientMode::Required,
        crl_path: None,
        crl_pem: None,
    });
    request.settings.tls = Some(tls);
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let version_1 = Shown {
        certificate: CertificateDer::from_pem_file(folder.join("version-1.crt")).unwrap(),
        key: PrivateKeyDer::from_pem_file(folder.join("version-1.key")).unwrap(),
    };
    let ask = async |host: &str, shown: Option<&Shown>| {
        let mut stream = connect(&rig, &client(shown), host).await.ok()?;
        answer(&mut stream, HOST, "/n", "").await
    };
    assert!(ask(HOST, Some(&authority.certify("alice", 5))).await.is_some());
    for shown in [None, Some(&Authority::new().certify("alice", 5)), Some(&version_1), Some(&version_1)] {
        assert_eq!(ask(HOST, shown).await, None);
    }
    assert_eq!(ask("nobody.example.com", None).await, None);
    let mut plain = crate::client::Connection::open(rig.https_port()).await;
    plain.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    let mut rest = Vec::new();
    use tokio::io::AsyncReadExt;
    // Whether a client that speaks something else gets an alert or nothing does not matter.
    soon(plain.stream.read_to_end(&mut rest)).await.ok();
    drop(crate::client::Connection::open(rig.https_port()).await);
    for (reason, count) in [
        ("client_certificate_missing", 1),
        ("client_certificate_unknown", 1),
        ("client_certificate_version", 2),
        ("tls_unknown_name", 1),
        ("tls_malformed", 1),
        ("tls_closed", 1),
    ] {
        let line = format!("freehold_connections_dropped_total{{reason=\"{reason}\"}} {count}");
        crate::metrics::wait_for(&rig, &line).await;
    }
    rig.stop();
    let lines = rig.log.lines();
    let dropped: Vec<_> = lines.iter().filter(|line| line["msg"] == "Connection dropped").collect();
    assert_eq!(dropped.len(), 7, "{dropped:#?}");
    let version = dropped.iter().find(|line| line["reason"] == "client_certificate_version").unwrap();
    assert!(version["error"].as_str().unwrap().contains("X.509 version 1"), "{version}");
    assert_eq!((&version["host"], &version["client_addr"]), (&HOST.into(), &"127.0.0.1".into()));
}
