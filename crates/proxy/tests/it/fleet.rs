//! Several proxies that share their certificates.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use freehold_model::Network;
use freehold_proxy::{AcmeConfig, EdgeConfig, ExternalAccount, Limits, ProofPorts};
use freehold_wire::{
    Acme, CertificateState, DeployRequest, FleetKey, FleetStore, HostPattern, TargetAddress,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::acme::{HOST, tls};
use crate::client::{LIMIT, soon};
use crate::name_server::Says;
use crate::pebble::{HMAC_KEY, KEY_ID, Pebble, Setup, free_port};
use crate::renewal_front::RenewalFront;
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

const KEY: &str = "a key that the proxies of the fleet share";

/// Three proxies on addresses of their own, which use the same ports.
struct Scene {
    rigs: Vec<Rig>,
    target: Target,
    pebble: Pebble,
    front: RenewalFront,
    ports: (u16, u16),
}

fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, u8::try_from(number + 1).unwrap())
}

impl Scene {
    async fn start(setup: impl FnOnce(&mut Setup), config: impl Fn(&mut AcmeConfig)) -> Self {
        let ports = (free_port(), free_port());
        let mut wanted =
            Setup { http: ports.0, https: ports.1, validity: 365 * 24 * 60 * 60, external: false };
        setup(&mut wanted);
        let pebble = Pebble::start(wanted).await;
        let front = RenewalFront::start(&pebble, None).await;
        pebble.names.say(HOST, Says::Address(address(1)));
        let mut acme = AcmeConfig {
            directory: front.directory(),
            roots: Some(pebble.authority_file()),
            ports: ProofPorts { http: ports.0, https: ports.1 },
            ..AcmeConfig::default()
        };
        config(&mut acme);
        let limits = Limits {
            fleet_poll: Duration::from_millis(100),
            fleet_claim: Duration::from_secs(2),
            order_retry: Duration::from_secs(1),
            ..Limits::default()
        };
        let rig = |number| {
            Rig::ordering(IpAddr::V4(address(number)), limits, pebble.name_files(), (acme.clone(), ports))
        };
        let rigs = (0..3).map(rig).collect();
        Self { rigs, target: Target::start("t").await, pebble, front, ports }
    }

    fn request(&self, hosts: &[&str]) -> DeployRequest {
        let key = self.pebble.folder().join("fleet.key");
        fs_err::write(&key, KEY).unwrap();
        let peers = (0..3)
            .map(|number| TargetAddress::parse(&format!("{}:{}", address(number), self.ports.0)).unwrap());
        let fleet = FleetStore { peers: peers.collect(), key_path: Some(key.to_str().unwrap().to_owned()) };
        let mut request = request_for(&self.target);
        request.settings.hosts = hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect();
        request.settings.tls = Some(tls(Acme { fleet: Some(fleet), ..Acme::default() }));
        request
    }

    async fn deploy(&self, hosts: &[&str]) {
        let request = self.request(hosts);
        for rig in &self.rigs {
            rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
        }
    }

    /// Returns who ordered which names.
    fn orders(&self) -> Vec<(usize, String)> {
        let ordered = |(number, rig): (usize, &Rig)| {
            let lines = rig.log.lines().into_iter().filter(|line| line["msg"] == "Certificate ordered");
            lines.map(move |line| (number, line["host"].as_str().unwrap().to_owned())).collect::<Vec<_>>()
        };
        self.rigs.iter().enumerate().flat_map(ordered).collect()
    }

    async fn all_valid(&self, numbers: &[usize]) {
        for number in numbers {
            self.rigs[*number]
                .wait_for(|status| {
                    let mut states = status.certificates.iter().map(|certificate| certificate.state);
                    states.all(|state| state == CertificateState::Valid)
                })
                .await;
        }
    }

    async fn shown(&self, number: usize, host: &str) -> CertificateDer<'static> {
        let mut trusted = RootCertStore::empty();
        trusted.add(self.pebble.root().await).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(trusted).with_no_client_auth();
        let socket = TcpStream::connect((address(number), self.ports.1)).await.unwrap();
        let server = ServerName::try_from(host.to_owned()).unwrap();
        let stream = soon(TlsConnector::from(Arc::new(config)).connect(server, socket)).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

#[tokio::test]
async fn one_order_for_each_name_and_the_proof_at_whichever_the_name_leads_to() {
    let scene = Scene::start(|_| {}, |_| {}).await;
    let hosts: Vec<String> = (0..8).map(|number| format!("name-{number}.example.com")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    hosts.iter().for_each(|host| scene.pebble.names.say(host, Says::Address(address(1))));
    scene.deploy(&hosts).await;
    scene.all_valid(&[0, 1, 2]).await;
    let orders = scene.orders();
    let names: BTreeSet<&str> = orders.iter().map(|(_, host)| host.as_str()).collect();
    assert_eq!((orders.len(), names.len(), scene.front.orders().len()), (8, 8, 8), "{orders:?}");
    assert!(
        orders.iter().any(|(number, _)| *number != 1),
        "somebody else than the one that proves: {orders:?}"
    );
    let looked = |number: usize| {
        let agent = |line: &serde_json::Value| line["user_agent"].as_str().unwrap_or("").contains("Pebble");
        scene.rigs[number].log.requests().iter().filter(|line| agent(line)).count()
    };
    assert!(looked(0) == 0 && looked(2) == 0 && looked(1) >= 8);
    for host in hosts {
        let first = scene.shown(0, host).await;
        assert_eq!((scene.shown(1, host).await == first, scene.shown(2, host).await == first), (true, true));
    }
    // Nothing of it can be read where it is stored, nor in the log.
    for rig in &scene.rigs {
        let certificates = rig.folder.path().join("state/certs");
        for folder in fs_err::read_dir(certificates).unwrap() {
            for file in fs_err::read_dir(folder.unwrap().path()).unwrap() {
                let text = fs_err::read_to_string(file.unwrap().path()).unwrap();
                assert!(!text.contains("PRIVATE KEY") && !text.contains("key_pkcs8"), "{text}");
            }
        }
        assert!(!rig.log.text().contains("PRIVATE KEY") && !rig.log.text().contains(KEY));
    }
}

#[tokio::test]
async fn another_one_steps_in_for_one_that_dies_while_it_orders() {
    let mut scene = Scene::start(|_| {}, |_| {}).await;
    // The proof is shown and told when the authority is asked to look for it.
    scene.front.hold(Some("/chalZ/"));
    scene.deploy(&[HOST]).await;
    soon(async {
        while scene.front.count("/chalZ/") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let orders = scene.orders();
    assert_eq!(orders.len(), 1, "{orders:?}");
    let dead = orders[0].0;
    scene.rigs[dead].stop();
    let alive: Vec<usize> = (0..3).filter(|number| *number != dead).collect();
    scene.pebble.names.say(HOST, Says::Address(address(alive[0])));
    scene.front.hold(None);
    scene.all_valid(&alive).await;
    let orders = scene.orders();
    assert_eq!(orders.iter().filter(|(number, _)| *number != dead).count(), 1, "{orders:?}");
    assert_eq!(scene.shown(alive[0], HOST).await, scene.shown(alive[1], HOST).await);
    // Back again, it takes what the others have.
    scene.rigs[dead].restart(Duration::from_secs(5));
    scene.all_valid(&[dead]).await;
    assert_eq!(scene.shown(dead, HOST).await, scene.shown(alive[0], HOST).await);
    assert_eq!(scene.orders().len(), 2);
}

// Some authorities let a key bind one account only.
#[tokio::test]
async fn they_have_one_account_and_wait_together_after_a_failure() {
    let account = ExternalAccount { key_id: KEY_ID.to_owned(), hmac_key: HMAC_KEY.into() };
    let scene =
        Scene::start(|setup| setup.external = true, |config| config.external_account = Some(account.clone()))
            .await;
    scene.front.refuse(crate::renewal_front::Refusal {
        path: "/order-plz",
        times: 1,
        status: "429 Too Many Requests",
        problem: "rateLimited",
        retry_after: Some(4),
    });
    scene.deploy(&[HOST]).await;
    for rig in &scene.rigs {
        rig.wait_for(|status| {
            let error = status.certificates[0].error.as_deref();
            error.is_some_and(|error| error.contains("rateLimited for a test"))
        })
        .await;
    }
    assert_eq!(scene.front.count("/order-plz"), 1);
    scene.all_valid(&[0, 1, 2]).await;
    assert_eq!((scene.front.created("/order-plz"), scene.orders().len()), (1, 2));
    // Whoever orders next does not make an account of its own.
    scene.pebble.names.say("other.example.com", Says::Address(address(2)));
    scene.deploy(&[HOST, "other.example.com"]).await;
    scene.all_valid(&[0, 1, 2]).await;
    assert_eq!(scene.front.created("/sign-me-up"), 1);
}

#[tokio::test]
async fn strangers_are_not_listened_to() {
    let scene = Scene::start(|_| {}, |_| {}).await;
    scene.deploy(&[HOST]).await;
    scene.all_valid(&[0]).await;
    let mut connection = scene.rigs[0].open().await;
    let path = "/.well-known/acme-challenge/freehold-fleet";
    for query in ["", "?", "?x", "?0011223344556677.AAAA"] {
        let reply = connection.get(&format!("{path}{query}")).await;
        assert_eq!((reply.status, reply.text()), (404, "not found\n"), "{query}");
    }
    // Even the name of a key that is known opens nothing.
    let certificates = scene.rigs[0].folder.path().join("state/certs");
    let folders = fs_err::read_dir(certificates).unwrap().map(|folder| folder.unwrap().file_name());
    let id = folders.filter_map(|name| Some(name.to_str()?.rsplit_once('-')?.1.to_owned())).next().unwrap();
    let reply = connection.get(&format!("{path}?{id}.{}", "A".repeat(200))).await;
    assert_eq!(reply.status, 404);
    let mut request = scene.request(&[HOST]);
    let short = scene.pebble.folder().join("short.key");
    fs_err::write(&short, "short").unwrap();
    let fleet = FleetStore {
        peers: vec![TargetAddress::parse("other:80").unwrap()],
        key_path: Some(short.to_str().unwrap().to_owned()),
    };
    request.settings.tls = Some(tls(Acme { fleet: Some(fleet), ..Acme::default() }));
    let error = scene.rigs[0].client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
    assert!(error.message().unwrap().contains("has less than 32 characters"), "{error:?}");
    // The key may come with the deploy, and is kept for the next one.
    let fleet = FleetStore { peers: vec![TargetAddress::parse("other:80").unwrap()], key_path: None };
    request.settings.tls = Some(tls(Acme { fleet: Some(fleet), ..Acme::default() }));
    let mut client = scene.rigs[0].client().await;
    let error = client.deploy(&name("shop"), &request, LIMIT).await.unwrap_err();
    assert!(error.message().unwrap().contains("cannot read the key of the fleet"), "{error:?}");
    request.fleet_key = Some(FleetKey::new(KEY.into()));
    let mut client = scene.rigs[0].client().await;
    client.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    assert!(!format!("{request:?}").contains(KEY));
    request.fleet_key = None;
    let mut client = scene.rigs[0].client().await;
    client.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    assert!(!fs_err::read_to_string(scene.rigs[0].state_file()).unwrap().contains(KEY));
    let kept = fs_err::metadata(scene.rigs[0].folder.path().join("state/fleet-keys/shop")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&kept.permissions()) & 0o777, 0o600);
}

#[tokio::test]
async fn they_find_each_other_where_proxies_in_front_have_to_say_who_connects() {
    let mut scene = Scene::start(|_| {}, |_| {}).await;
    let request = scene.request(&[HOST]);
    scene.rigs[1].client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    scene.all_valid(&[1]).await;
    let first = scene.shown(1, HOST).await;
    let edge = |networks: &str| EdgeConfig {
        trusted: vec![Network::parse(networks).unwrap()],
        proxy_protocol_http: true,
        proxy_protocol_https: true,
        ..EdgeConfig::default()
    };
    // The third trusts nobody whom the others are: to it a header is no request.
    for (number, networks) in [(0, "127.0.0.0/8"), (1, "127.0.0.0/8"), (2, "10.0.0.0/8")] {
        scene.rigs[number].behind_others(edge(networks));
    }
    for number in [0, 2] {
        scene.rigs[number].client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    }
    scene.all_valid(&[0, 1, 2]).await;
    assert_eq!(scene.orders().len(), 1, "{:?}", scene.orders());
    assert_eq!(scene.shown(2, HOST).await, first);
    // A name that leads to a proxy that has to be told so leads here, too. That the authority does not say it is another thing.
    let mut request = request_for(&scene.target);
    request.settings.tls = Some(tls(Acme::default()));
    request.settings.hosts = vec![HostPattern::parse("own.example.com").unwrap()];
    scene.pebble.names.say("own.example.com", Says::Address(address(0)));
    scene.rigs[0].client().await.deploy(&name("own"), &request, LIMIT).await.unwrap();
    soon(async {
        while !scene.orders().iter().any(|(number, host)| *number == 0 && host == "own.example.com") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
