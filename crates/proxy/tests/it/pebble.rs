//! A certificate authority: Pebble, which Let's Encrypt keeps for tests, with a name server of ours.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use freehold_proxy::NameFiles;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::soon;
use crate::name_server::NameServer;

/// The account key that an authority with `external` wants, as its people would hand it out.
pub(crate) const KEY_ID: &str = "kid-1";
pub(crate) const HMAC_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

/// How an authority is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    /// The ports on which it looks for proofs.
    pub(crate) http: u16,
    pub(crate) https: u16,
    /// How long certificates are valid, in seconds.
    pub(crate) validity: u64,
    /// Whether it wants an account that exists already.
    pub(crate) external: bool,
}

/// A running authority; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Pebble {
    folder: TempDir,
    process: Child,
    port: u16,
    management: u16,
    pub(crate) names: NameServer,
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Pebble {
    pub(crate) async fn start(setup: Setup) -> Self {
        Self::start_with(setup, None).await
    }

    /// Starts one that asks another name server.
    pub(crate) async fn start_with(setup: Setup, name_server: Option<u16>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &issuer).unwrap();
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs_err::write(&path, text).unwrap();
            path
        };
        write("ca.pem", issuer.pem());
        let names = NameServer::start(0).await;
        let (port, management) = (free_port(), free_port());
        let mut config = json!({
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": write("tls.crt", certificate.pem()),
            "privateKey": write("tls.key", key.serialize_pem()),
            "httpPort": setup.http,
            "tlsPort": setup.https,
            "ocspResponderURL": "",
            "certificateValidityPeriod": setup.validity,
            "externalAccountBindingRequired": setup.external,
        });
        if setup.external {
            config["externalAccountMACKeys"] = json!({ KEY_ID: HMAC_KEY });
        }
        let config = write("pebble.json", json!({ "pebble": config }).to_string());
        let output = fs_err::File::create(folder.path().join("pebble.log")).unwrap().into_parts().0;
        let process = Command::new("pebble")
            .arg("-config")
            .arg(config)
            .args(["-strict", "-dnsserver", &format!("127.0.0.1:{}", name_server.unwrap_or(names.port))])
            // It looks for a proof at once, and refuses a good nonce now and then, as authorities may.
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "5")
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .expect("pebble is needed, which script/test installs");
        let pebble = Self { folder, process, port, management, names };
        soon(async {
            while TcpStream::connect(("127.0.0.1", pebble.port)).await.is_err()
                || TcpStream::connect(("127.0.0.1", pebble.management)).await.is_err()
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        pebble
    }

    /// Returns the URL of its directory.
    pub(crate) fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// Returns the file with the certificate by which it is to be trusted.
    pub(crate) fn authority_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Returns the folder with its own certificate.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Returns the root of the certificates that it issues.
    pub(crate) async fn root(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(&self.fetch(self.management, "/roots/0").await).unwrap()
    }

    /// Returns the port on which it takes orders.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the files by which a proxy looks names up at the authority's name server.
    pub(crate) fn name_files(&self) -> NameFiles {
        let write = |name: &str, text: String| {
            let path = self.folder.path().join(name);
            fs_err::write(&path, text).unwrap();
            path
        };
        NameFiles {
            hosts: write("hosts", String::new()),
            servers: write(
                "resolv.conf",
                format!("nameserver 127.0.0.1:{}\noptions ndots:0\n", self.names.port),
            ),
            host_name: write("hostname", "proxy\n".to_owned()),
        }
    }

    async fn fetch(&self, port: u16, path: &str) -> Vec<u8> {
        let mut trusted = RootCertStore::empty();
        trusted.add(CertificateDer::from_pem_file(self.authority_file()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(trusted).with_no_client_auth();
        let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let server = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = soon(TlsConnector::from(Arc::new(config)).connect(server, socket)).await.unwrap();
        let text = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // It does not say goodbye.
        soon(stream.read_to_end(&mut answer)).await.ok();
        answer
    }

    /// Ends it, so that nothing can be ordered any more.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads a stored JSON file.
pub(crate) fn read_json(path: &std::path::Path) -> Value {
    serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
}
