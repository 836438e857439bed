//! Certificates that the proxy orders by itself, from a real certificate authority.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use freehold_proxy::{AcmeConfig, ExternalAccount, Limits, ProofPorts};
use freehold_wire::{
    Acme, CertificateSource, CertificateState, CertificateStatus, DeployRequest, HostPattern, Tls,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{LIMIT, soon};
use crate::name_server::Says;
use crate::pebble::{HMAC_KEY, KEY_ID, Pebble, Setup, free_port, read_json};
use crate::renewal_front::{Refusal, RenewalFront};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

pub(crate) const HOST: &str = "shop.example.com";
const YEAR: u64 = 365 * 24 * 60 * 60;

/// A proxy that orders from an authority that looks for proofs at it.
pub(crate) struct Scene {
    pub(crate) rig: Rig,
    pub(crate) target: Target,
    pub(crate) pebble: Pebble,
}

fn limits() -> Limits {
    let second = Duration::from_secs(1);
    Limits { order_retry: second, reorder: second, denial: Duration::ZERO, ..Limits::default() }
}

pub(crate) async fn scene() -> Scene {
    scene_with(|_| {}, |_| {}).await
}

/// Changes how the authority is set up, and how the proxy orders.
async fn scene_with(setup: impl FnOnce(&mut Setup), config: impl FnOnce(&mut AcmeConfig)) -> Scene {
    let (http, https) = (free_port(), free_port());
    let mut wanted = Setup { http, https, validity: YEAR, external: false };
    setup(&mut wanted);
    let pebble = Pebble::start(wanted).await;
    pebble.names.say(HOST, Says::Address([127, 0, 0, 1].into()));
    let mut acme = AcmeConfig {
        ports: ProofPorts { http, https },
        directory: pebble.directory(),
        contact: Some("ops@example.com".to_owned()),
        roots: Some(pebble.authority_file()),
        ..AcmeConfig::default()
    };
    config(&mut acme);
    let rig = Rig::ordering([127, 0, 0, 1].into(), limits(), pebble.name_files(), (acme, (http, https)));
    Scene { rig, target: Target::start("t").await, pebble }
}

pub(crate) fn tls(acme: Acme) -> Tls {
    Tls { certificate: CertificateSource::Acme(acme), redirect: true, clients: None }
}

impl Scene {
    pub(crate) fn request(&self) -> DeployRequest {
        let mut request = request_for(&self.target);
        request.settings.tls = Some(tls(Acme::default()));
        request
    }

    async fn deploy(&self) {
        self.rig.client().await.deploy(&name("shop"), &self.request(), LIMIT).await.unwrap();
    }

    async fn certificate(&self) -> CertificateStatus {
        self.rig.status().await.certificates.into_iter().next().unwrap()
    }

    /// Waits until the order has come to an end.
    async fn settled(&self, state: CertificateState) -> CertificateStatus {
        self.rig.wait_for(|status| status.certificates[0].state == state).await;
        self.certificate().await
    }

    pub(crate) fn orders(&self) -> usize {
        self.rig.log.lines().iter().filter(|line| line["msg"] == "Certificate ordered").count()
    }

    /// Returns a stored file.
    pub(crate) fn stored(&self, file: &str) -> PathBuf {
        let folder = fs_err::read_dir(self.rig.folder.path().join("state/certs")).unwrap().next().unwrap();
        folder.unwrap().path().join(file)
    }
}

/// Agrees on an encrypted connection with whoever has a certificate from an authority.
async fn agree(port: u16, root: CertificateDer<'static>) -> std::io::Result<TlsStream<TcpStream>> {
    let mut trusted = RootCertStore::empty();
    trusted.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(trusted).with_no_client_auth();
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    soon(TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(HOST).unwrap(), socket)).await
}

/// Asks over an encrypted connection and returns the certificate that was shown.
pub(crate) async fn ask(port: u16, root: CertificateDer<'static>) -> CertificateDer<'static> {
    let mut stream = agree(port, root).await.unwrap();
    let text = format!("GET /n HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test]
async fn a_certificate_is_ordered_at_the_deploy_and_outlives_a_restart() {
    let mut scene = scene().await;
    scene.deploy().await;
    let root = scene.pebble.root().await;
    // The first visitor comes before the certificate, and waits for it.
    let first = ask(scene.rig.https_port(), root.clone()).await;
    let status = scene.settled(CertificateState::Valid).await;
    assert_eq!((status.name.as_str(), &status.error), (HOST, &None));
    assert!(status.expires_at.unwrap() > status.next_order_at.unwrap());
    // The proof was shown although everything else is redirected.
    let proof = |line: &serde_json::Value| line["path"].as_str().unwrap().starts_with("/.well-known/acme");
    soon(async {
        while !scene.rig.log.requests().iter().any(proof) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let requests = scene.rig.log.requests();
    assert_eq!(requests.iter().find(|line| proof(line)).unwrap()["status"], 200);
    let reply = scene.rig.open().await.get("/.well-known/acme-challenge/unknown").await;
    assert_eq!((reply.status, reply.header("content-type")), (404, Some("text/plain; charset=utf-8")));
    assert_eq!(scene.rig.open().await.get("/n").await.status, 301);
    for file in [HOST, "freehold-account.json", "freehold-orders.json"] {
        let mode = fs_err::metadata(scene.stored(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(scene.orders(), 1);
    assert!(!scene.rig.log.text().contains("PRIVATE KEY"));

    scene.rig.restart(Duration::from_secs(5));
    scene.pebble.stop();
    assert_eq!(ask(scene.rig.https_port(), root).await, first);
    assert_eq!(scene.rig.status().await.certificates[0].state, CertificateState::Valid);
    assert_eq!(scene.rig.log.text().matches("Certificate ordered").count(), 1);
}

#[tokio::test]
async fn a_certificate_is_renewed_before_it_ends() {
    let scene = scene_with(|setup| setup.validity = 9, |_| {}).await;
    scene.deploy().await;
    let root = scene.pebble.root().await;
    let first = ask(scene.rig.https_port(), root.clone()).await;
    soon(async {
        while ask(scene.rig.https_port(), root.clone()).await == first {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let status = scene.settled(CertificateState::Valid).await;
    assert_eq!(status.error, None);
    assert!(scene.orders() >= 2);
}

// RFC 9773: the authority wants a certificate back that has a year to go.
#[tokio::test]
async fn a_certificate_is_renewed_when_the_authority_says_so() {
    let scene = scene().await;
    let past = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let front = RenewalFront::start(&scene.pebble, Some(past)).await;
    let mut request = scene.request();
    request.settings.tls = Some(tls(Acme { directory: Some(front.directory()), ..Acme::default() }));
    scene.rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let root = scene.pebble.root().await;
    let first = ask(scene.rig.https_port(), root.clone()).await;
    soon(async {
        while front.asked().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let future = ("2126-01-01T00:00:00Z", "2126-01-02T00:00:00Z");
    front.say(future);
    soon(async {
        while ask(scene.rig.https_port(), root.clone()).await == first {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let next = |status: &CertificateStatus| {
        status.next_order_at.as_deref().is_some_and(|at| at.starts_with("2126-01-01"))
    };
    scene.rig.wait_for(|status| next(&status.certificates[0])).await;
    assert_eq!(scene.orders(), 2);
    // The second order says whose place its certificate takes.
    let replaced: Vec<_> =
        front.orders().iter().map(|order| order["replaces"].as_str().map(str::to_owned)).collect();
    assert_eq!(replaced[..2], [None, Some(front.asked()[0].clone())]);
    // Each certificate is asked about by its authority's key and its own number.
    let asked = front.asked();
    assert_ne!(asked[0], *asked.last().unwrap());
    assert!(asked.iter().all(|certificate| certificate.split('.').count() == 2), "{asked:?}");
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_told_and_not_asked_for_again_and_again() {
    let mut scene = scene().await;
    scene.pebble.names.say(HOST, Says::NoSuchName);
    let mut request = scene.request();
    request.settings.tls = Some(tls(Acme { skip_name_check: true, ..Acme::default() }));
    scene.rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let status = scene.settled(CertificateState::Failed).await;
    let error = status.error.clone().unwrap();
    assert!(error.contains("could not verify by HTTP-01 that the name leads here"), "{error}");
    assert!(error.contains("nor by TLS-ALPN-01"), "{error}");
    assert!(error.contains(HOST), "{error}");
    assert!(agree(scene.rig.https_port(), scene.pebble.root().await).await.is_err());
    // The service itself serves.
    assert_eq!(scene.rig.open().await.get("/n").await.status, 301);
    // It is tried again after longer and longer pauses, which a restart does not shorten.
    let failures =
        |scene: &Scene| read_json(&scene.stored("freehold-orders.json"))[HOST]["failures"].as_u64();
    soon(async {
        while failures(&scene) < Some(2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let status = scene.settled(CertificateState::Failed).await;
    let orders = scene.orders();
    scene.rig.restart(Duration::from_secs(5));
    assert_eq!(scene.certificate().await, status);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(scene.orders(), orders);
    // Whoever deploys has perhaps put it right.
    scene.pebble.names.say(HOST, Says::Address([127, 0, 0, 1].into()));
    scene.deploy().await;
    scene.settled(CertificateState::Valid).await;
    ask(scene.rig.https_port(), scene.pebble.root().await).await;
}

// The check before an order: what the name leads to is looked at, and nothing is ordered in vain.
#[tokio::test]
async fn nothing_is_ordered_for_a_name_that_does_not_lead_here() {
    let scene = scene().await;
    let other =
        Target::on("other", tokio::net::TcpListener::bind(("127.0.0.2", scene.rig.port())).await.unwrap());
    for (says, found) in [
        (Says::NoSuchName, "found that it has no address".to_owned()),
        (
            Says::Address([127, 0, 0, 2].into()),
            format!(
                "found that at 127.0.0.2 port {} is somebody else's, who answers with status 404",
                scene.rig.port()
            ),
        ),
        (
            Says::Address([127, 0, 0, 3].into()),
            format!("found that at 127.0.0.3 port {} refuses connections, and port", scene.rig.port()),
        ),
    ] {
        scene.pebble.names.say(HOST, says);
        scene.deploy().await;
        scene
            .rig
            .wait_for(|status| {
                status.certificates[0].error.as_ref().is_some_and(|error| error.contains(&found))
            })
            .await;
        let status = scene.settled(CertificateState::Failed).await;
        assert!(status.error.unwrap().contains("expected that `shop.example.com` leads to this proxy"));
        assert!(status.next_order_at.is_some());
    }
    assert_eq!(scene.orders(), 0);
    assert!(!fs_err::read_to_string(scene.pebble.folder().join("pebble.log")).unwrap().contains("order-plz"));
    drop(other);
    // Once it does, it is found out without a deploy.
    scene.pebble.names.say(HOST, Says::Address([127, 0, 0, 1].into()));
    scene.settled(CertificateState::Valid).await;
    ask(scene.rig.https_port(), scene.pebble.root().await).await;
}

fn refusal(path: &'static str, times: usize, (status, problem): (&'static str, &'static str)) -> Refusal {
    Refusal { path, times, status, problem, retry_after: None }
}

async fn deploy_through(scene: &Scene, front: &RenewalFront) {
    let mut request = scene.request();
    request.settings.tls = Some(tls(Acme { directory: Some(front.directory()), ..Acme::default() }));
    scene.rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
}

#[tokio::test]
async fn an_authority_that_wants_a_pause_gets_it() {
    let mut scene = scene().await;
    let front = RenewalFront::start(&scene.pebble, None).await;
    let limited = refusal("/order-plz", 9, ("429 Too Many Requests", "rateLimited"));
    front.refuse(Refusal { retry_after: Some(3600), ..limited });
    let before = jiff::Timestamp::now().as_second();
    deploy_through(&scene, &front).await;
    let status = scene.settled(CertificateState::Failed).await;
    assert!(status.error.as_ref().unwrap().contains("rateLimited for a test"), "{status:?}");
    let next: jiff::Timestamp = status.next_order_at.as_ref().unwrap().parse().unwrap();
    assert!((3600..3630).contains(&(next.as_second() - before)), "{next}");
    // Neither a restart nor a deploy shortens it.
    scene.rig.restart(Duration::from_secs(5));
    deploy_through(&scene, &front).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(scene.certificate().await, status);
    assert_eq!(front.count("/order-plz"), 1);
}

// An authority with several servers may know none of the nonces that another one gave out.
#[tokio::test]
async fn nonces_that_are_refused_several_times_are_no_failure() {
    let scene = scene().await;
    let front = RenewalFront::start(&scene.pebble, None).await;
    front.refuse(refusal("/order-plz", 4, ("400 Bad Request", "badNonce")));
    deploy_through(&scene, &front).await;
    ask(scene.rig.https_port(), scene.pebble.root().await).await;
    assert!(!scene.rig.log.text().contains("Certificate not issued"));
    assert!(front.count("/order-plz") >= 5);
}

#[tokio::test]
async fn a_certificate_whose_file_is_lost_is_ordered_at_once() {
    let mut scene = scene().await;
    scene.deploy().await;
    let root = scene.pebble.root().await;
    let first = ask(scene.rig.https_port(), root.clone()).await;
    scene.settled(CertificateState::Valid).await;
    scene.rig.stop();
    fs_err::remove_file(scene.stored(HOST)).unwrap();
    // It was issued a moment ago, after which the name is usually left alone for half a day.
    let orders = read_json(&scene.stored("freehold-orders.json"));
    assert!(orders[HOST]["not_before"].as_i64() > orders[HOST]["tried"].as_i64());
    scene.rig.restart(Duration::from_secs(5));
    scene.settled(CertificateState::Valid).await;
    assert_ne!(ask(scene.rig.https_port(), root).await, first);
    assert_eq!(scene.orders(), 2);
}

#[tokio::test]
async fn each_of_several_names_gets_a_certificate() {
    let scene = scene().await;
    let names = ["a.example.com", "b.example.com", "c.example.com", "d.example.com", "e.example.com"];
    let mut request = scene.request();
    request.settings.hosts = names.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
    names.iter().for_each(|host| scene.pebble.names.say(host, Says::Address([127, 0, 0, 1].into())));
    scene.rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    scene
        .rig
        .wait_for(|status| {
            status.certificates.len() == names.len()
                && status.certificates.iter().all(|certificate| certificate.state == CertificateState::Valid)
        })
        .await;
    assert_eq!(scene.orders(), names.len());
}

#[tokio::test]
async fn where_only_the_port_for_https_is_reached_the_proof_goes_by_tls() {
    let other = free_port();
    let scene = scene_with(|setup| setup.http = other, |config| config.ports.http = other).await;
    scene.deploy().await;
    scene.settled(CertificateState::Valid).await;
    ask(scene.rig.https_port(), scene.pebble.root().await).await;
    assert_eq!(read_json(&scene.stored("freehold-orders.json"))[HOST]["proof"], "tls");
    // Who asks for a proof that is not due gets none.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let socket = TcpStream::connect(("127.0.0.1", scene.rig.https_port())).await.unwrap();
    let server = ServerName::try_from(HOST).unwrap();
    let error = soon(TlsConnector::from(Arc::new(config)).connect(server, socket)).await.unwrap_err();
    assert!(error.to_string().contains("alert"), "{error}");
}

#[tokio::test]
async fn an_authority_that_is_away_does_not_keep_a_deploy_from_succeeding() {
    let scene = scene_with(|_| {}, |_| {}).await;
    let mut request = scene.request();
    let directory = format!("https://127.0.0.1:{}/dir", free_port());
    request.settings.tls = Some(tls(Acme { directory: Some(directory), ..Acme::default() }));
    scene.rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let status = scene.settled(CertificateState::Failed).await;
    let error = status.error.unwrap();
    assert!(error.contains("cannot reach `127.0.0.1`: it refuses connections"), "{error}");
    // One whose certificate is not trusted is no better.
    let mut request = scene.request();
    request.settings.hosts = vec![HostPattern::parse("other.example.com").unwrap()];
    scene.pebble.names.say("other.example.com", Says::Address([127, 0, 0, 1].into()));
    let stranger = format!("https://127.0.0.1:{}/dir", scene.rig.https_port());
    request.settings.tls = Some(tls(Acme { directory: Some(stranger), ..Acme::default() }));
    scene.rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let status = scene.settled(CertificateState::Failed).await;
    let error = status.error.unwrap();
    assert!(error.contains("cannot agree with `127.0.0.1` on an encrypted connection"), "{error}");
}

#[tokio::test]
async fn an_account_that_exists_already_is_bound_to_ours() {
    let refused = scene_with(|setup| setup.external = true, |_| {}).await;
    refused.deploy().await;
    let status = refused.settled(CertificateState::Failed).await;
    assert!(status.error.unwrap().contains("did not take the order"));
    let account = ExternalAccount { key_id: KEY_ID.to_owned(), hmac_key: HMAC_KEY.into() };
    let scene =
        scene_with(|setup| setup.external = true, |config| config.external_account = Some(account)).await;
    scene.deploy().await;
    scene.settled(CertificateState::Valid).await;
    assert!(!scene.rig.log.text().contains(HMAC_KEY));
}

// Section 17 of the description of kamal-proxy: what it has stored is used.
#[tokio::test]
async fn a_certificate_that_kamal_proxy_has_ordered_is_used() {
    let mut scene = scene().await;
    scene.deploy().await;
    scene.settled(CertificateState::Valid).await;
    let text = fs_err::read_to_string(scene.stored(HOST)).unwrap();
    assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n"), "the key stands before the chain");
    // Our own files are gone, as on a host where kamal-proxy has run until now.
    for file in ["freehold-account.json", "freehold-orders.json"] {
        fs_err::remove_file(scene.stored(file)).unwrap();
    }
    let root = scene.pebble.root().await;
    scene.rig.restart(Duration::from_secs(5));
    ask(scene.rig.https_port(), root.clone()).await;
    assert_eq!(scene.orders(), 1);
    // One that is damaged is ordered anew.
    fs_err::write(scene.stored(HOST), "nonsense").unwrap();
    scene.rig.restart(Duration::from_secs(5));
    ask(scene.rig.https_port(), root).await;
    assert_eq!(scene.orders(), 2);
    assert!(scene.rig.log.text().contains("Stored certificate not used"));
}

// proxy-compat cases 1-3, 5, 21, 174.
#[tokio::test]
async fn hosts_for_which_no_certificate_can_be_ordered_are_refused() {
    let scene = scene().await;
    for (hosts, message) in [
        (&[][..], "service options invalid: host must be set when using TLS"),
        (&[""], "service options invalid: host must be set when using TLS"),
        (&["*.example.com", ""], "service options invalid: host must be set when using TLS"),
        (&["shop.example.com", "*.example.com"], "automatic TLS does not support wildcards"),
    ] {
        let mut request = scene.request();
        request.settings.hosts = hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
        let error = scene.rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
        assert!(error.message().unwrap().contains(message), "{hosts:?}: {error:?}");
    }
    let mut request = scene.request();
    let directory = Some("http://ca.example.com/directory".to_owned());
    request.settings.tls = Some(tls(Acme { directory, ..Acme::default() }));
    let error = scene.rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
    assert!(error.message().unwrap().contains("is not the `https` URL"), "{error:?}");
    assert_eq!(scene.orders(), 0);
}
