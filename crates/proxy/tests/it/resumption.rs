//! Encrypted connections that go on where an earlier one ended.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::{LIMIT, soon};
use crate::encrypted::{Files, exchange};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

fn client(version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates/first.crt");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(path).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn connect(rig: &Rig, config: &Arc<ClientConfig>) -> Option<HandshakeKind> {
    let socket = TcpStream::connect(("127.0.0.1", rig.https_port())).await.unwrap();
    let server = ServerName::try_from("shop.example.com").unwrap();
    let mut stream = soon(TlsConnector::from(Arc::clone(config)).connect(server, socket)).await.unwrap();
    let text = "GET /n HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
    exchange(&mut stream, text, " 0 0").await;
    stream.get_ref().1.handshake_kind()
}

// Two threads serve, and the system chooses by chance which of them gets a connection.
#[tokio::test]
async fn whichever_thread_takes_a_connection_resumes_it() {
    let (mut rig, target, files) = (Rig::start(), Target::start("t").await, Files::new("first"));
    let mut request = request_for(&target);
    request.settings.tls = Some(files.tls(true));
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    for version in [&TLS12, &TLS13] {
        let config = client(version);
        assert_eq!(connect(&rig, &config).await, Some(HandshakeKind::Full));
        for _ in 0..12 {
            assert_eq!(connect(&rig, &config).await, Some(HandshakeKind::Resumed), "{version:?}");
        }
    }
    // The keys of tickets are the process's own.
    let config = client(&TLS13);
    connect(&rig, &config).await;
    rig.restart(Duration::from_secs(5));
    assert_eq!(connect(&rig, &config).await, Some(HandshakeKind::Full));
}
