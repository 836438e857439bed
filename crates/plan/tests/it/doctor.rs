use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use freehold_model::{
    Accessory, AccessoryName, Architecture, ContainerName, ContainerOptions, Credential, Environment,
    HostName, Logging, PlainSecret, Registry, RegistryCredentials, RegistryPlace, RemoteImage,
};
use freehold_plan::doctor::{
    Check, Disk, Engine, Examined, Finding, Listening, RegistryAnswer, Sudo, Surroundings, Unseen, Verdict,
    Vitals, compare, examine, examine_names,
};
use freehold_plan::{
    CertificateState, ContainerState, ObservedAccessory, ObservedCertificate, ObservedHost, ObservedProxy,
    ProxyMaker, accessory_configuration,
};

use crate::fixture::{Script, host};

const NOW: i64 = 1_790_000_000;
const GIB: u64 = 1024 * 1024;

fn database() -> Accessory {
    Accessory {
        name: AccessoryName::parse("db").expect("a name"),
        container: ContainerName::parse("app-db").expect("a name"),
        image: RemoteImage::parse("postgres:16").expect("an image"),
        hosts: vec![host("one")],
        publish: None,
        command: None,
        environment: Environment::default(),
        files: Vec::new(),
        directories: Vec::new(),
        volumes: Vec::new(),
        labels: BTreeMap::new(),
        options: ContainerOptions::default(),
        logging: Logging::default(),
        network: "kamal".to_owned(),
        proxy: None,
    }
}

/// Two hosts on which everything is as it should be.
struct Fleet {
    script: Script,
    seen: BTreeMap<HostName, Result<Box<Examined>, Unseen>>,
    names: BTreeMap<String, Result<Vec<IpAddr>, String>>,
}

impl Fleet {
    fn healthy() -> Self {
        let db = database();
        let script = Script::new(&["one", "two"]).deploy("1").with(|project| {
            project.accessories.insert(db.name.clone(), db.clone());
            let text = |text: &str| Credential::Plain(PlainSecret::new(text));
            project.registry = Some(Registry {
                place: RegistryPlace::Server("registry.example.com".parse().expect("a server")),
                credentials: Some(RegistryCredentials { username: text("ann"), password: text("x") }),
                uses_docker_login: false,
            });
        });
        let seen = ["one", "two"].map(|name| (host(name), Ok(Box::new(examined(&script, name)))));
        let address = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
        let names = BTreeMap::from([("app.example.com".to_owned(), Ok(vec![address]))]);
        Self { script, seen: seen.into(), names }
    }

    fn one(&mut self) -> &mut Examined {
        self.seen.get_mut(&host("one")).and_then(|seen| seen.as_mut().ok()).expect("the host was reached")
    }

    fn vitals(&mut self) -> &mut Vitals {
        self.one().vitals.as_mut().expect("it was looked at")
    }

    fn observed(&mut self) -> &mut ObservedHost {
        self.one().observed.as_mut().expect("it was observed")
    }

    fn disk(&mut self) -> &mut Disk {
        &mut self.vitals().disks[0]
    }

    /// Puts a program on the proxy's port while the proxy is not there.
    fn taken(&mut self, port: u16) {
        self.observed().proxy = ObservedProxy::Absent;
        self.observed().releases.clear();
        let program = Some("nginx".to_owned());
        self.vitals().listening = vec![Listening { port: 22, program: None }, Listening { port, program }];
    }

    fn findings(&self) -> Vec<Finding> {
        let around = Surroundings { project: &self.script.project, now_seconds: NOW };
        let mut findings: Vec<Finding> =
            self.seen.iter().flat_map(|(name, seen)| examine(around, name, seen)).collect();
        findings.extend(examine_names(&self.names));
        findings.extend(compare(around, &self.seen));
        findings
    }

    fn bad(&self) -> Vec<Finding> {
        self.findings().into_iter().filter(|finding| finding.verdict != Verdict::Good).collect()
    }
}

fn examined(script: &Script, name: &str) -> Examined {
    let db = database();
    let accessory = ObservedAccessory {
        id: "0".repeat(64),
        name: db.container.clone(),
        image: "postgres:16".to_owned(),
        state: ContainerState::Running,
        configuration: Some(accessory_configuration(&db)),
        route: None,
    };
    let disk = |folder: &str, size_kib| Disk {
        folder: folder.to_owned(),
        size_kib,
        free_kib: size_kib / 2,
        inodes: 1_000_000,
        free_inodes: 900_000,
    };
    Examined {
        jumps: vec!["`bastion`".to_owned()],
        authentication: "agent (SHA256:x)".to_owned(),
        vitals: Some(Vitals {
            user: "root".to_owned(),
            sudo: Sudo::Root,
            seconds: Some(NOW + 1),
            disks: vec![disk("/root", 20 * GIB), disk("/var/lib/docker", 80 * GIB)],
            memory_kib: Some(2 * GIB),
            available_kib: Some(GIB),
            unprivileged_from: Some(1024),
            listening: [22, 80, 443].map(|port| Listening { port, program: None }).to_vec(),
            registry: Some(RegistryAnswer::Answers),
            can_write: true,
            wants_reboot: false,
        }),
        engine: docker("28.5.1"),
        observed: script.observed.hosts.get(&host(name)).cloned(),
        accessories: Some(
            BTreeMap::from([(db.name.clone(), accessory)]).into_iter().filter(|_| name == "one").collect(),
        ),
        lock: None,
        has_unfinished_rollout: false,
        unseen: Vec::new(),
    }
}

fn docker(version: &str) -> Engine {
    Engine::Answers { version: version.to_owned(), is_podman: false, is_rootless: false }
}

#[test]
fn a_healthy_fleet_has_no_finding_that_is_not_good() {
    assert_eq!(Fleet::healthy().bad(), []);
    // Small hosts are no faults: a cheap server, a board, a fresh disk.
    let mut fleet = Fleet::healthy();
    (fleet.vitals().memory_kib, fleet.vitals().available_kib) = (Some(512 * 1024), Some(200 * 1024));
    *fleet.disk() = Disk { size_kib: 8 * GIB, free_kib: GIB, ..fleet.disk().clone() };
    // Btrfs has no number of inodes.
    (fleet.disk().inodes, fleet.disk().free_inodes) = (0, 0);
    fleet.vitals().seconds = Some(NOW - 5);
    fleet.vitals().registry = None;
    fleet.one().engine = Engine::Answers { version: "4.3.1".to_owned(), is_podman: true, is_rootless: false };
    assert_eq!(fleet.bad(), []);
    let all = Fleet::healthy().findings();
    let about = |check| all.iter().filter(|finding| finding.check == check).count();
    assert_eq!([about(Check::Disk), about(Check::Proxy), about(Check::Dns)], [4, 2, 1], "{all:#?}");
}

type Seed = (&'static str, Check, Verdict, &'static str, fn(&mut Fleet));

const WAY: [(&str, Check); 8] = [
    ("the configuration of OpenSSH cannot be read", Check::Configuration),
    ("a name without an address", Check::Name),
    ("no route", Check::Route),
    ("nothing listens", Check::Port),
    ("a jump host that forwards nothing", Check::Jump),
    ("something that is no sshd", Check::Handshake),
    ("another host key", Check::HostKey),
    ("no key that is let in", Check::Authentication),
];

#[rustfmt::skip]
fn system_faults() -> Vec<Seed> {
    use Verdict::{Fault, Warning};
    vec![
        ("engine: not running", Check::Engine, Fault, "does not answer", |fleet| {
            fleet.one().engine = Engine::Silent { cause: "nobody listens".to_owned(), fix: vec!["start it".to_owned()] };
            fleet.one().observed = None;
            fleet.one().accessories = None;
        }),
        ("engine: not for this user", Check::Sudo, Warning, "no root's rights", |fleet| {
            fleet.one().engine = Engine::Silent { cause: "the user may not use it".to_owned(), fix: Vec::new() };
            (fleet.vitals().user, fleet.vitals().sudo) = ("deploy".to_owned(), Sudo::No);
            fleet.one().observed = None;
        }),
        ("engine: too old", Check::EngineVersion, Fault, "19.03.8", |fleet| fleet.one().engine = docker("19.03.8")),
        ("engine: much too old", Check::EngineVersion, Fault, "1.13.1", |fleet| fleet.one().engine = docker("1.13.1")),
        ("engine: a restart is due", Check::Engine, Warning, "restarted", |fleet| fleet.vitals().wants_reboot = true),
        ("architecture: built for another", Check::Architecture, Fault, "is arm64", |fleet| {
            fleet.script.project.builder.architectures = vec![Architecture::Amd64];
            fleet.observed().architecture = Some(Architecture::Arm64);
        }),
        ("home: not writable", Check::Disk, Fault, "cannot write", |fleet| fleet.vitals().can_write = false),
        ("disk: full", Check::Disk, Fault, "`/root`", |fleet| fleet.disk().free_kib = 0),
        ("disk: nearly nothing left", Check::Disk, Fault, "is full", |fleet| fleet.disk().free_kib = 200 * 1024),
        ("disk: that of the engine full", Check::Disk, Fault, "`/var/lib/docker`", |fleet| fleet.vitals().disks[1].free_kib = 1024),
        ("disk: almost full", Check::Disk, Warning, "almost full", |fleet| *fleet.disk() = Disk { size_kib: 40 * GIB, free_kib: GIB, ..fleet.disk().clone() }),
        ("inodes: none", Check::Inodes, Fault, "no room", |fleet| fleet.disk().free_inodes = 0),
        ("inodes: one in two hundred", Check::Inodes, Fault, "no room", |fleet| fleet.disk().free_inodes = 5000),
        ("inodes: one in thirty", Check::Inodes, Warning, "almost no room", |fleet| fleet.disk().free_inodes = 33_000),
        ("memory: none", Check::Memory, Fault, "no memory", |fleet| fleet.vitals().available_kib = Some(9 * 1024)),
        ("memory: scarce", Check::Memory, Warning, "scarce", |fleet| fleet.vitals().available_kib = Some(100 * 1024)),
        ("clock: an hour late", Check::Clock, Fault, "3600 s behind", |fleet| fleet.vitals().seconds = Some(NOW - 3600)),
        ("clock: years ahead", Check::Clock, Fault, "ahead", |fleet| fleet.vitals().seconds = Some(NOW + 200_000_000)),
        ("clock: a minute ahead", Check::Clock, Warning, "60 s ahead", |fleet| fleet.vitals().seconds = Some(NOW + 60)),
        ("registry: no address", Check::Registry, Fault, "no address", |fleet| fleet.vitals().registry = Some(RegistryAnswer::NoAddress)),
        ("registry: no connection", Check::Registry, Fault, "nothing answers", |fleet| fleet.vitals().registry = Some(RegistryAnswer::NoConnection)),
        ("registry: filtered", Check::Registry, Fault, "in time", |fleet| fleet.vitals().registry = Some(RegistryAnswer::TooSlow)),
        ("registry: unknown authority", Check::Registry, Fault, "certificate", |fleet| fleet.vitals().registry = Some(RegistryAnswer::Certificate)),
        ("registry: broken", Check::Registry, Fault, "503", |fleet| fleet.vitals().registry = Some(RegistryAnswer::Broken { status: 503 })),
    ]
}

fn container(fleet: &mut Fleet, state: ContainerState) {
    fleet.observed().containers[0].state = state;
}

fn certificate(fleet: &mut Fleet, state: CertificateState, error: Option<&str>) {
    let ObservedProxy::Running { routes, .. } = &mut fleet.observed().proxy else { panic!("it runs") };
    routes.values_mut().next().expect("a route").certificates.push(ObservedCertificate {
        name: "app.example.com".to_owned(),
        state,
        expires_at: None,
        next_order_at: None,
        error: error.map(str::to_owned),
    });
}

fn proxy(fleet: &mut Fleet, change: impl FnOnce(&mut ObservedProxy)) {
    change(&mut fleet.observed().proxy);
}

fn accessory(fleet: &mut Fleet) -> &mut ObservedAccessory {
    let accessories = fleet.one().accessories.as_mut();
    accessories.and_then(|accessories| accessories.values_mut().next()).expect("the accessory")
}

#[rustfmt::skip]
fn service_faults() -> Vec<Seed> {
    use Verdict::{Fault, Warning};
    vec![
        ("ports: HTTP taken", Check::Ports, Fault, "port 80", |fleet| fleet.taken(80)),
        ("ports: HTTPS taken", Check::Ports, Fault, "`nginx`", |fleet| fleet.taken(443)),
        ("ports: one of our choice taken", Check::Ports, Fault, "port 8080", |fleet| {
            fleet.taken(8080);
            let run = freehold_model::ProxyRun { http_port: 8080, ..freehold_model::ProxyRun::default() };
            fleet.script.project.proxy_runs.insert(host("one"), run);
        }),
        ("ports: of root's, and the engine is not", Check::Ports, Fault, "no port below 1024", |fleet| {
            fleet.observed().proxy = ObservedProxy::Absent;
            fleet.observed().releases.clear();
            fleet.vitals().listening.clear();
            fleet.one().engine =
                Engine::Answers { version: "28.5.1".to_owned(), is_podman: false, is_rootless: true };
        }),
        ("dns: no address", Check::Dns, Fault, "`app.example.com` has no address", |fleet| {
            fleet.names.insert("app.example.com".to_owned(), Err("Name or service not known".to_owned()));
        }),
        ("dns: a hole", Check::Dns, Fault, "leads nowhere", |fleet| {
            fleet.names.insert("app.example.com".to_owned(), Ok(vec![IpAddr::from([0, 0, 0, 0])]));
        }),
        ("proxy: stopped", Check::Proxy, Fault, "stopped", |fleet| proxy(fleet, |proxy| {
            *proxy = ObservedProxy::Stopped { image: "freehold-proxy".to_owned(), maker: ProxyMaker::Freehold };
        })),
        ("proxy: gone", Check::Proxy, Fault, "no proxy", |fleet| proxy(fleet, |proxy| *proxy = ObservedProxy::Absent)),
        ("proxy: of an earlier version", Check::Proxy, Warning, "earlier", |fleet| proxy(fleet, |proxy| {
            if let ObservedProxy::Running { is_outdated, .. } = proxy { *is_outdated = true; }
        })),
        ("proxy: its routes lost", Check::Proxy, Fault, "sends no requests", |fleet| proxy(fleet, |proxy| {
            if let ObservedProxy::Running { routes, .. } = proxy { routes.clear(); }
        })),
        ("proxy: in maintenance", Check::Proxy, Warning, "maintenance", |fleet| proxy(fleet, |proxy| {
            let ObservedProxy::Running { routes, .. } = proxy else { return };
            routes.values_mut().for_each(|route| route.gate = freehold_plan::Gate::Stopped { message: String::new() });
        })),
        ("certificate: refused", Check::Certificate, Fault, "no certificate for `app.example.com`", |fleet| certificate(fleet, CertificateState::Failed, Some("403 unauthorized"))),
        ("certificate: no reason", Check::Certificate, Fault, "no certificate", |fleet| certificate(fleet, CertificateState::Failed, None)),
        ("lock: held", Check::Lock, Warning, "Ann", |fleet| fleet.one().lock = Some("Locked by: Ann, Message: a long lunch".to_owned())),
        ("rollout: its client died", Check::Rollout, Fault, "did not come to its end", |fleet| fleet.one().has_unfinished_rollout = true),
        ("service: ends again and again", Check::Service, Fault, "again and again", |fleet| container(fleet, ContainerState::Restarting)),
        ("service: stopped", Check::Service, Fault, "no container of role `web` runs", |fleet| container(fleet, ContainerState::Exited)),
        ("service: dead", Check::Service, Fault, "no container of role `web` runs", |fleet| container(fleet, ContainerState::Dead)),
        ("service: removed", Check::Service, Fault, "no container of role `web` runs", |fleet| fleet.observed().containers.clear()),
        ("service: frozen", Check::Service, Fault, "frozen", |fleet| container(fleet, ContainerState::Paused)),
        ("service: never deployed", Check::Service, Warning, "never deployed", |fleet| {
            *fleet.observed() = ObservedHost { architecture: Some(Architecture::Amd64), ..ObservedHost::default() };
        }),
        ("service: another release than on the other host", Check::Service, Fault, "different releases", |fleet| {
            fleet.observed().containers[0].image = "acme/app:2".to_owned();
        }),
        ("accessory: never booted", Check::Accessory, Fault, "has no container", |fleet| fleet.one().accessories.as_mut().expect("they were seen").clear()),
        ("accessory: stopped", Check::Accessory, Fault, "does not run", |fleet| accessory(fleet).state = ContainerState::Exited),
        ("accessory: ends again and again", Check::Accessory, Fault, "again and again", |fleet| accessory(fleet).state = ContainerState::Restarting),
        ("accessory: another configuration", Check::Accessory, Warning, "another configuration", |fleet| accessory(fleet).configuration = Some("0123".to_owned())),
    ]
}

/// Each fault alone is named, with what mends it, and no other part of the fleet is blamed.
#[test]
fn every_seeded_fault_is_named() {
    let mut count = 0;
    for (title, check, verdict, text, seed) in system_faults().into_iter().chain(service_faults()) {
        let mut fleet = Fleet::healthy();
        seed(&mut fleet);
        let bad = fleet.bad();
        let found = bad.iter().find(|finding| finding.check == check && finding.finding.contains(text));
        let found = found.unwrap_or_else(|| panic!("{title}: {bad:#?}"));
        assert_eq!(found.verdict, verdict, "{title}");
        assert!(!found.fix.is_empty() || found.cause.is_some(), "{title}: {found:?}");
        assert!(bad.iter().all(|finding| finding.host.as_ref() != Some(&host("two"))), "{title}: {bad:#?}");
        count += 1;
    }
    for (title, check) in WAY {
        let mut fleet = Fleet::healthy();
        let unreached = Unseen {
            check,
            finding: title.to_owned(),
            cause: Some("refused".to_owned()),
            fix: vec!["try it by hand: `ssh one true`".to_owned()],
        };
        fleet.seen.insert(host("one"), Err(unreached));
        let bad = fleet.bad();
        assert_eq!(bad.len(), 1, "{title}: {bad:#?}");
        assert_eq!((bad[0].check, bad[0].verdict, bad[0].finding.as_str()), (check, Verdict::Fault, title));
        count += 1;
    }
    assert!(count >= 50, "{count} faults");
}

/// What could not be looked at is told as that; nothing is made up about it, and nothing else is blamed.
#[test]
fn a_part_that_does_not_answer_is_told_alone() {
    type Case = (Check, fn(&mut Examined));
    let unseen = |check| Unseen {
        check,
        finding: "cannot read it".to_owned(),
        cause: Some("line 3".to_owned()),
        fix: vec!["move it aside".to_owned()],
    };
    let cases: [Case; 6] = [
        (Check::Service, |seen| seen.observed = None),
        (Check::Accessory, |seen| seen.accessories = None),
        (Check::System, |seen| seen.vitals = None),
        (Check::Lock, |seen| seen.lock = None),
        (Check::Rollout, |seen| seen.has_unfinished_rollout = false),
        (Check::Route, |seen| {
            (seen.engine, seen.observed, seen.accessories) = (Engine::NotAsked, None, None);
        }),
    ];
    for (check, seed) in cases {
        let mut fleet = Fleet::healthy();
        seed(fleet.one());
        fleet.one().unseen.push(unseen(check));
        let bad = fleet.bad();
        assert_eq!(bad.len(), 1, "{check:?}: {bad:#?}");
        let found = (bad[0].check, bad[0].verdict, bad[0].finding.as_str(), bad[0].cause.as_deref());
        assert_eq!(found, (check, Verdict::Fault, "cannot read it", Some("line 3")));
        assert_eq!(bad[0].host, Some(host("one")));
    }
}
