//! Certificates for wildcards: proven by a text that a real name server was told.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use freehold_proxy::{AcmeConfig, DnsConfig, Limits};
use freehold_wire::{Acme, CertificateState, HostPattern, TargetAddress};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::acme::tls;
use crate::client::{LIMIT, soon};
use crate::pebble::{Pebble, Setup, free_port};
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

const KEY: &[u8] = b"a key for changes of the zone ...";

/// A name server that is in charge of `example.com`; it ends when this is dropped.
struct Named {
    folder: TempDir,
    process: Child,
    port: u16,
}

impl Named {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, path) = (free_port(), folder.path().display());
        let zone =
            "$TTL 60\n@ SOA ns.example.com. ops.example.com. (1 60 60 60 60)\n@ NS ns\nns A 127.0.0.1\n";
        fs_err::write(folder.path().join("zone"), zone).unwrap();
        let secret = BASE64_STANDARD.encode(KEY);
        let config = format!(
            "options {{ directory \"{path}\"; pid-file \"{path}/pid\"; session-keyfile none; recursion no;
                listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; }};
            controls {{}};
            key freehold {{ algorithm hmac-sha256; secret \"{secret}\"; }};
            zone \"example.com\" {{ type primary; file \"zone\"; notify no;
                update-policy {{ grant freehold wildcard *.example.com TXT; }}; }};"
        );
        let file = folder.path().join("named.conf");
        fs_err::write(&file, config).unwrap();
        let log = fs_err::File::create(folder.path().join("log")).unwrap().into_parts().0;
        let process = Command::new("/usr/sbin/named")
            .args(["-g", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("bind9 is needed, which script/test installs");
        let named = Self { folder, process, port };
        soon(async {
            while !named.log().contains("running") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        named
    }

    fn log(&self) -> String {
        fs_err::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

async fn scene(key: &[u8]) -> (Rig, Target, Pebble, Named) {
    let (named, ports) = (Named::start().await, (free_port(), free_port()));
    let setup = Setup { http: ports.0, https: ports.1, validity: 365 * 24 * 60 * 60, external: false };
    let pebble = Pebble::start_with(setup, Some(named.port)).await;
    let dns = DnsConfig {
        server: TargetAddress::parse(&format!("127.0.0.1:{}", named.port)).unwrap(),
        key_name: "Freehold".to_owned(),
        key: key.to_owned(),
        pause: Duration::ZERO,
    };
    let acme = AcmeConfig {
        directory: pebble.directory(),
        roots: Some(pebble.authority_file()),
        dns: Some(dns),
        ..AcmeConfig::default()
    };
    let rig = Rig::ordering([127, 0, 0, 1].into(), Limits::default(), pebble.name_files(), (acme, ports));
    let target = Target::start("t").await;
    let mut request = request_for(&target);
    request.settings.hosts = vec![HostPattern::parse("*.shop.example.com").unwrap()];
    request.settings.tls = Some(tls(Acme::default()));
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    (rig, target, pebble, named)
}

async fn agree(rig: &Rig, root: CertificateDer<'static>, host: &str) -> std::io::Result<()> {
    let mut trusted = RootCertStore::empty();
    trusted.add(root).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(trusted).with_no_client_auth();
    let socket = TcpStream::connect(("127.0.0.1", rig.https_port())).await?;
    let server = ServerName::try_from(host.to_owned()).unwrap();
    soon(TlsConnector::from(std::sync::Arc::new(config)).connect(server, socket)).await.map(drop)
}

#[tokio::test]
async fn a_wildcard_is_proven_in_the_dns() {
    let (mut rig, _target, pebble, named) = scene(KEY).await;
    rig.wait_for(|status| status.certificates[0].state != CertificateState::Ordering).await;
    let status = rig.status().await;
    assert_eq!(status.certificates[0].error, None);
    assert_eq!(status.certificates[0].state, CertificateState::Valid);
    let root = pebble.root().await;
    agree(&rig, root.clone(), "one.shop.example.com").await.unwrap();
    agree(&rig, root.clone(), "other.shop.example.com").await.unwrap();
    assert!(agree(&rig, root.clone(), "shop.example.com").await.is_err());
    rig.restart(Duration::from_secs(5));
    agree(&rig, root, "one.shop.example.com").await.unwrap();
    // What was put there was taken away again.
    let log = named.log();
    let adding = "adding an RR at '_acme-challenge.shop.example.com' TXT";
    assert!(
        log.contains(adding) && log.contains("deleting an RR at _acme-challenge.shop.example.com TXT"),
        "{log}"
    );
}

#[tokio::test]
async fn a_name_server_that_refuses_is_told() {
    let (rig, _target, _pebble, _named) = scene(b"another key that nobody knows ...").await;
    rig.wait_for(|status| status.certificates[0].state == CertificateState::Failed).await;
    let error = rig.status().await.certificates[0].error.clone().unwrap();
    assert!(error.contains("refuses to change `_acme-challenge.shop.example.com`"), "{error}");
    assert!(error.contains("NOTAUTH"), "{error}");
}
