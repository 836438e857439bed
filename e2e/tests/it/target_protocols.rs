//! Applications that speak something else than HTTP/1.1 without TLS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use tokio::task::JoinSet;

use crate::scene::{Scene, address, ask};
use crate::traffic::{indented, settings};

/// An authority, and a server's certificate of it with its key.
fn server(authority: &str) -> [String; 3] {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(DnType::CommonName, authority);
    let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(["app.internal".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    [issuer.pem(), certificate.pem(), key.serialize_pem()]
}

fn over_tls(authority: &str) -> String {
    format!(
        "  target_protocol: h2\n  target_tls:\n    server_name: app.internal\n    ca: |\n{}",
        indented(authority, 6)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_by_http2_is_served_without_tls_and_over_it_if_it_can_be_trusted() {
    let mut scene = Scene::new(&["h1"]).await;
    let host = scene.host("h1");
    // It speaks nothing else: whoever gets an answer has spoken HTTP/2.
    scene.file.clear.push(("HELLO_HTTP2".to_owned(), "h2c".to_owned()));
    scene.file.proxy_more = "  target_protocol: h2c\n".to_owned();
    scene.write(&scene.file);
    scene.deploy_well("1").await;
    assert_eq!(settings(&host).await["target_protocol"], "h2c");

    let [authority, certificate, key] = server("one");
    scene.project.write("app.crt", &certificate).unwrap();
    scene.project.write("app.key", &key).unwrap();
    let secrets = "HELLO_CERTIFICATE=$(cat app.crt)\nHELLO_PRIVATE_KEY=$(cat app.key)\n";
    scene.project.write(".kamal/secrets", secrets).unwrap();
    scene.file.clear = vec![("HELLO_HTTP2".to_owned(), "h2".to_owned())];
    scene.file.secrets = vec!["HELLO_CERTIFICATE".to_owned(), "HELLO_PRIVATE_KEY".to_owned()];
    scene.file.proxy_more = over_tls(&authority);
    scene.write(&scene.file);
    // From one kind to the other, while requests come.
    let is_over = Arc::new(AtomicBool::new(false));
    let (address, watched) = (address(&host), Arc::clone(&is_over));
    let mut visitors = JoinSet::new();
    visitors.spawn(async move {
        let mut seen = BTreeMap::<String, usize>::new();
        while !watched.load(Ordering::Relaxed) {
            *seen.entry(format!("{:?}", ask(address, "/version").await)).or_default() += 1;
        }
        seen
    });
    scene.deploy_well("2").await;
    is_over.store(true, Ordering::Relaxed);
    let seen = visitors.join_next().await.unwrap().unwrap();
    assert!(seen.len() == 2 && seen.keys().all(|answer| answer.starts_with("Ok")), "{seen:?}");
    let before = settings(&host).await;
    assert_eq!(before["target_protocol"], "h2");

    // Another authority has signed what the application shows.
    scene.file.proxy_more = over_tls(&server("two")[0]);
    scene.file.deploy_timeout = 5;
    scene.write(&scene.file);
    let run = scene.deploy("3").await;
    assert_eq!(run.code, Some(6), "{run:?}");
    let said = "cannot be trusted over TLS on port 80: invalid peer certificate: UnknownIssuer";
    assert!(run.stderr.contains(said) && run.stderr.contains("target_tls"), "{}", run.stderr);
    assert_eq!(settings(&host).await, before);
    scene.expect_serving("2").await;
    scene.expect_clean("2").await;

    scene.run(&["rollback"]).await.expect_code(0).unwrap();
    scene.expect_serving("1").await;
    assert_eq!(settings(&host).await["target_protocol"], "h2c");
}
