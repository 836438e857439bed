//! Certificates that are ordered when a client asks for a name.

use std::sync::Arc;
use std::time::Duration;

use freehold_wire::{Acme, CertificateSource, CertificateState, Gate, GateRequest, Tls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::acme::{HOST, Scene, ask, scene, tls};
use crate::client::{LIMIT, soon};
use crate::rig::{Rig, name};
use crate::target::Target;

const DENIED: &str = "other.example.com";

/// Agrees on an encrypted connection by a name; none is asked for where it is empty.
async fn agree(
    rig: &Rig,
    root: CertificateDer<'static>,
    host: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut trusted = RootCertStore::empty();
    trusted.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(trusted).with_no_client_auth();
    config.enable_sni = !host.is_empty();
    let server = ServerName::try_from(if host.is_empty() { HOST } else { host }.to_owned()).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", rig.https_port())).await?;
    soon(TlsConnector::from(Arc::new(config)).connect(server, socket)).await
}

async fn deploy(scene: &Scene, url: &str) {
    let mut request = scene.request();
    request.settings.hosts.clear();
    request.settings.tls = Some(tls(Acme { on_demand_url: Some(url.to_owned()), ..Acme::default() }));
    scene.rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
}

fn denials(scene: &Scene) -> Vec<String> {
    let lines = scene.rig.log.lines().into_iter();
    let lines = lines.filter(|line| line["msg"] == "Certificate on demand denied");
    lines
        .map(|line| format!("{} {}", line["host"].as_str().unwrap(), line["error"].as_str().unwrap()))
        .collect()
}

/// Asks for a name in vain, and returns why.
async fn denied(scene: &Scene, host: &str) -> String {
    let before = denials(scene).len();
    assert!(agree(&scene.rig, scene.pebble.root().await, host).await.is_err());
    soon(async {
        while denials(scene).len() == before {
            tokio::task::yield_now().await;
        }
    })
    .await;
    denials(scene).pop().unwrap()
}

// proxy-compat cases 6, 180-183.
#[tokio::test]
async fn the_application_says_for_which_names() {
    let scene = scene().await;
    deploy(&scene, "/allow?token=abc").await;
    let denial = denied(&scene, DENIED).await;
    assert_eq!(denial, format!("{DENIED} denied with status 403: {}", "x".repeat(256)));
    assert_eq!(scene.orders(), 0);
    ask(scene.rig.https_port(), scene.pebble.root().await).await;
    assert_eq!((scene.orders(), denials(&scene).len()), (1, 1));
    let questions = scene.target.shared.questions.lock().clone();
    assert_eq!(questions.len(), 2, "one for each name: {questions:?}");
    // It is not redirected, although every visitor is.
    assert_eq!(scene.rig.open().await.get("/n").await.status, 301);
    for (question, host) in questions.iter().zip([DENIED, HOST]) {
        let question = question.to_lowercase();
        assert!(
            question.starts_with(&format!("get /allow?host={host}&token=abc http/1.1\r\n")),
            "{question}"
        );
        for line in [format!("\nhost: {host}\r"), "\nx-forwarded-proto: http\r".to_owned()] {
            assert!(question.contains(&line), "{question}");
        }
    }
    let certificates = scene.rig.status().await.certificates;
    assert_eq!(certificates.len(), 1);
    assert_eq!((certificates[0].name.as_str(), certificates[0].state), (HOST, CertificateState::Valid));
    // The second visitor asks nobody.
    ask(scene.rig.https_port(), scene.pebble.root().await).await;
    assert_eq!(scene.target.shared.questions.lock().len(), 2);
}

// proxy-compat case 177.
#[tokio::test]
async fn it_is_nobodys_name_for_clients_that_name_none() {
    let scene = scene().await;
    let root = scene.pebble.root().await;
    assert!(agree(&scene.rig, root.clone(), "").await.is_err(), "there is no service at all");
    deploy(&scene, "/allow").await;
    ask(scene.rig.https_port(), root.clone()).await;
    assert!(
        agree(&scene.rig, root.clone(), "").await.is_err(),
        "a certificate is there, but not for everybody"
    );
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
    let path = |file: &str| folder.join(file).to_str().unwrap().to_owned();
    let certificate =
        CertificateSource::Files { certificate_path: path("first.crt"), private_key_path: path("first.key") };
    let mut request = scene.request();
    request.settings.hosts = vec![freehold_wire::HostPattern::parse("named.example.com").unwrap()];
    request.settings.tls = Some(Tls { certificate, redirect: true, clients: None });
    scene.rig.client().await.deploy(&name("named"), &request, LIMIT).await.unwrap();
    let first = CertificateDer::from_pem_slice(&fs_err::read(folder.join("first.crt")).unwrap()).unwrap();
    agree(&scene.rig, first, "").await.unwrap();
}

// proxy-compat case 184.
#[tokio::test]
async fn a_stopped_service_allows_nothing() {
    let scene = scene().await;
    deploy(&scene, "/allow").await;
    let set = async |gate: Gate| {
        let request = GateRequest { gate, drain_timeout_ms: 0, fence: None };
        scene.rig.client().await.set_gate(&name("shop"), &request, LIMIT).await.unwrap();
    };
    set(Gate::Stopped { message: String::new() }).await;
    assert!(denied(&scene, HOST).await.contains("denied with status 503"));
    assert!(scene.target.shared.questions.lock().is_empty());
    set(Gate::Open).await;
    ask(scene.rig.https_port(), scene.pebble.root().await).await;
}

// proxy-compat cases 185, 186.
#[tokio::test]
async fn a_server_elsewhere_says_for_which_names() {
    let scene = scene().await;
    let elsewhere = Target::start("elsewhere").await;
    deploy(&scene, &format!("http://{}/moved", elsewhere.address())).await;
    assert_eq!(denied(&scene, HOST).await, format!("{HOST} denied with status 302: "));
    deploy(&scene, &format!("http://{}/allow", elsewhere.address())).await;
    assert!(denied(&scene, DENIED).await.starts_with(&format!("{DENIED} denied with status 403: xxx")));
    ask(scene.rig.https_port(), scene.pebble.root().await).await;
    let question = elsewhere.shared.questions.lock().pop().unwrap().to_lowercase();
    assert!(question.contains(&format!("\nhost: {}\r", elsewhere.address())), "{question}");
    assert!(scene.target.shared.questions.lock().is_empty());
    // One that is gone allows nothing; one that is asked over an encrypted connection does.
    let gone = elsewhere.address();
    elsewhere.stop().await;
    deploy(&scene, &format!("http://{gone}/allow")).await;
    assert!(denied(&scene, DENIED).await.contains("cannot reach `127.0.0.1`: it refuses connections"));
    deploy(&scene, &scene.pebble.directory()).await;
    let before = scene.orders();
    assert!(agree(&scene.rig, scene.pebble.root().await, DENIED).await.is_err(), "the name leads nowhere");
    assert_eq!(scene.orders(), before);
    assert!(scene.rig.log.text().contains("Certificate not ordered"));
}

// proxy-compat case 187.
#[tokio::test]
async fn who_leaves_takes_the_question_along() {
    let scene = scene().await;
    deploy(&scene, "/gate").await;
    let root = scene.pebble.root().await;
    {
        let mut leaving = std::pin::pin!(agree(&scene.rig, root, HOST));
        tokio::select! {
            _ = &mut leaving => panic!("there is no answer yet"),
            () = scene.target.wait_for_waiting(1) => {}
        }
    }
    soon(async {
        while !scene.rig.log.text().contains("Question about a certificate given up") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    scene.target.open_gate();
    assert_eq!((scene.orders(), denials(&scene).len()), (0, 0));
}

// proxy-compat cases 188, 190.
#[tokio::test]
async fn what_is_stored_was_allowed_before() {
    let mut scene = scene().await;
    deploy(&scene, "/allow").await;
    let root = scene.pebble.root().await;
    let first = ask(scene.rig.https_port(), root.clone()).await;
    scene.rig.restart(Duration::from_secs(5));
    assert_eq!(ask(scene.rig.https_port(), root.clone()).await, first);
    fs_err::rename(scene.stored(HOST), scene.stored(&format!("{HOST}+rsa"))).unwrap();
    scene.rig.restart(Duration::from_secs(5));
    assert_eq!(ask(scene.rig.https_port(), root.clone()).await, first);
    assert_eq!((scene.target.shared.questions.lock().len(), scene.orders()), (1, 1));
    assert!(denied(&scene, DENIED).await.contains("status 403"));
    // What is known of earlier orders would let it wait.
    for file in [&format!("{HOST}+rsa"), "freehold-orders.json"] {
        fs_err::remove_file(scene.stored(file)).unwrap();
    }
    scene.rig.restart(Duration::from_secs(5));
    assert_ne!(ask(scene.rig.https_port(), root).await, first);
    assert_eq!((scene.target.shared.questions.lock().len(), scene.orders()), (3, 2));
}

#[tokio::test]
async fn a_denial_is_remembered_for_a_while() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let mut request = crate::rig::request_for(&target);
    request.settings.hosts.clear();
    request.settings.tls = Some(tls(Acme { on_demand_url: Some("/allow".to_owned()), ..Acme::default() }));
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
    let root = CertificateDer::from_pem_slice(&fs_err::read(folder.join("first.crt")).unwrap()).unwrap();
    for host in [DENIED, DENIED, "localhost", DENIED] {
        assert!(agree(&rig, root.clone(), host).await.is_err());
    }
    assert_eq!(
        target.shared.questions.lock().len(),
        1,
        "names that can have no certificate are not asked for"
    );
}
