//! Every flag of `docker run` that a deploy file may hold, given to a real `docker` and to the deploy file: either both
//! make a container that `docker inspect` shows alike, or the engine refuses both. Flags of which the two may differ say
//! why.
//!
//! These tests need root and Debian's `docker.io`; with `FREEHOLD_TEST_DOCKER_HOST=unix:///path` they use that engine.

#[path = "../../../docker/tests/it/inspect.rs"]
mod inspect;
#[expect(dead_code, reason = "the tests of the Engine API use all of it")]
#[path = "../../../docker/tests/it/lab.rs"]
mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use freehold_config::{Nowhere, Source, Sources, docker_flags, parse};
use freehold_docker::{ContainerSpec, ImageName, RemoveOptions};
use freehold_model::{ContainerName, ContainerOptions, ImageReference, RoleName};

use inspect::{differences, inspected};
use lab::{TestEngine, must, unique};

/// Flags of one container, and why it may look otherwise than that of `docker`, with the fields where it does.
struct Case {
    flags: &'static [(&'static str, &'static str)],
    differs: &'static [(&'static str, &'static str)],
}

const fn same(flags: &'static [(&'static str, &'static str)]) -> Case {
    Case { flags, differs: &[] }
}

const fn differs(
    flags: &'static [(&'static str, &'static str)],
    differs: &'static [(&'static str, &'static str)],
) -> Case {
    Case { flags, differs }
}

const CASES: &[Case] = &[
    same(&[("add-host", "db:10.0.0.2"), ("add-host", "six:2001:db8::1"), ("add-host", "host:host-gateway")]),
    same(&[("add-host", "db=10.0.0.2")]),
    same(&[("annotation", "a=b c")]),
    same(&[("blkio-weight", "500")]),
    same(&[("blkio-weight-device", "/dev/null:200")]),
    same(&[("cap-add", "NET_ADMIN"), ("cap-add", "chown"), ("cap-drop", "ALL"), ("cap-drop", "CHOWN")]),
    same(&[("cgroup-parent", "/freehold-test")]),
    same(&[("cgroupns", "host")]),
    same(&[("cgroupns", "private")]),
    same(&[("cpu-period", "50000"), ("cpu-quota", "25000")]),
    same(&[("cpu-rt-period", "1000000"), ("cpu-rt-runtime", "950000")]),
    same(&[("cpu-shares", "512")]),
    same(&[("cpus", "1.5")]),
    same(&[("cpus", ".25")]),
    same(&[("cpuset-cpus", "0-1")]),
    same(&[("cpuset-mems", "0")]),
    same(&[("device", "/dev/null:/dev/nothing:rw"), ("device", "/dev/zero")]),
    same(&[("device", "/dev/null:r")]),
    same(&[("device-cgroup-rule", "c 1:3 mr"), ("device-cgroup-rule", "a *:* rwm")]),
    same(&[("device-read-bps", "/dev/null:1mb")]),
    same(&[("device-read-iops", "/dev/null:1000")]),
    same(&[("device-write-bps", "/dev/null:1mb")]),
    same(&[("device-write-iops", "/dev/null:1000")]),
    same(&[("dns", "1.1.1.1"), ("dns", "2606:4700:4700::1111")]),
    same(&[("dns-option", "ndots:2"), ("dns-option", "rotate")]),
    same(&[("dns-search", "example.com"), ("dns-search", ".")]),
    same(&[("domainname", "example.com")]),
    same(&[("entrypoint", "/bin/echo")]),
    same(&[("expose", "9000-9001"), ("expose", "53/udp")]),
    same(&[("gpus", "all")]),
    same(&[("gpus", "2")]),
    same(&[("gpus", "\"device=0,1\",driver=nvidia,\"capabilities=compute,utility\"")]),
    same(&[("group-add", "extra"), ("group-add", "1234")]),
    same(&[
        ("health-cmd", "true || false"),
        ("health-interval", "1m30s"),
        ("health-retries", "4"),
        ("health-start-period", "1h"),
        ("health-timeout", "500ms"),
    ]),
    same(&[("health-interval", "5s")]),
    same(&[("health-cmd", "exit 0"), ("health-start-interval", "2s")]),
    same(&[("hostname", "box")]),
    same(&[("init", "true")]),
    same(&[("interactive", "true")]),
    same(&[("ip", "172.30.77.9")]),
    same(&[("ip6", "2001:db8:77::9")]),
    same(&[("ipc", "host")]),
    same(&[("ipc", "shareable")]),
    same(&[("ipc", "none")]),
    same(&[("isolation", "default")]),
    same(&[("link", "PARTNER:database")]),
    same(&[("link-local-ip", "169.254.77.2")]),
    differs(
        &[("mac-address", "92:d0:c6:0a:29:33")],
        &[(
            "",
            "from release 25 on, `docker` sends it for the network, which older engines do not know; we send both",
        )],
    ),
    same(&[("memory", "64m"), ("memory-reservation", "32m"), ("memory-swap", "128m")]),
    same(&[("memory", "1.5g"), ("memory-swap", "-1")]),
    same(&[("memory-swappiness", "60")]),
    same(&[("mount", "type=bind,source=/tmp,target=/b,readonly")]),
    same(&[("mount", "type=bind,src=/tmp,dst=/b,bind-propagation=rslave")]),
    same(&[("mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777")]),
    same(&[("mount", "type=volume,source=fh-it-mounted,target=/v,volume-nocopy,volume-label=a=b")]),
    same(&[(
        "mount",
        "source=fh-it-driven,target=/v,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs",
    )]),
    same(&[("network-alias", "db"), ("network-alias", "database")]),
    differs(
        &[("network", "OTHER")],
        &[
            (
                "/NetworkSettings/Networks",
                "`docker` gives the container this network only; a deploy file adds it",
            ),
            ("/HostConfig/NetworkMode", "as above"),
        ],
    ),
    same(&[("no-healthcheck", "true")]),
    same(&[("oom-kill-disable", "true"), ("memory", "64m")]),
    same(&[("oom-score-adj", "-500")]),
    same(&[("pid", "host")]),
    same(&[("pid", "container:PARTNER")]),
    same(&[("pids-limit", "100")]),
    same(&[("pids-limit", "-1")]),
    same(&[("privileged", "true")]),
    same(&[("publish", "127.0.0.1:18080:80"), ("publish", "18443:443/udp"), ("publish", "99")]),
    same(&[("publish", "18000-18001:80-81"), ("publish", "[::1]:18010-18012:90")]),
    same(&[("publish-all", "true")]),
    same(&[("read-only", "true")]),
    same(&[("restart", "always")]),
    same(&[("restart", "no")]),
    same(&[("restart", "on-failure")]),
    same(&[("restart", "on-failure:3")]),
    same(&[("runtime", "runc")]),
    same(&[("runtime", "fh-it-unknown")]),
    same(&[("security-opt", "no-new-privileges"), ("security-opt", "seccomp=unconfined")]),
    same(&[("security-opt", "apparmor=unconfined"), ("security-opt", "label=disable")]),
    same(&[("security-opt", "systempaths=unconfined")]),
    same(&[("shm-size", "128m")]),
    same(&[("stop-signal", "SIGINT")]),
    same(&[("storage-opt", "size=10g")]),
    same(&[("sysctl", "net.ipv4.ip_unprivileged_port_start=0")]),
    same(&[("tmpfs", "/run:size=1m,mode=1777"), ("tmpfs", "/scratch")]),
    same(&[("tty", "true")]),
    same(&[("ulimit", "nofile=1024:2048"), ("ulimit", "nproc=500"), ("ulimit", "memlock=-1:-1")]),
    same(&[("user", "1000:1000")]),
    same(&[("userns", "host")]),
    same(&[("uts", "host")]),
    same(&[("volume-driver", "local")]),
    same(&[("volumes-from", "PARTNER:ro")]),
    same(&[("workdir", "/tmp")]),
];

/// Flags that only mean something on a network of one's own.
const ON_A_NETWORK: [&str; 7] =
    ["ip", "ip6", "link", "link-local-ip", "mac-address", "network", "network-alias"];

struct Scene {
    lab: TestEngine,
    image: ImageReference,
    network: String,
    other: String,
    partner: String,
}

impl Scene {
    async fn new() -> Self {
        let lab = TestEngine::first().await;
        let image = lab.load_busybox().await;
        let (network, other, partner) = (unique("net"), unique("other"), unique("partner"));
        let subnets = ["--subnet", "172.30.77.0/24", "--ipv6", "--subnet", "2001:db8:77::/64"];
        lab.docker(&[&["network", "create"], &subnets[..], &[network.as_str()]].concat());
        lab.docker(&["network", "create", &other]);
        let volume = ["run", "--detach", "--volume", "/shared", "--ipc", "shareable", "--network", &network];
        lab.docker(&[&volume[..], &["--name", &partner, &image.to_string()]].concat());
        Self { lab, image, network, other, partner }
    }

    fn filled(&self, text: &str) -> String {
        text.replace("PARTNER", &self.partner).replace("OTHER", &self.other)
    }

    async fn end(self) {
        self.lab.docker(&["rm", "--force", "--volumes", &self.partner]);
        self.lab.docker(&["network", "rm", &self.network, &self.other]);
        self.lab.docker(&["volume", "rm", "--force", "fh-it-mounted", "fh-it-driven"]);
        must(self.lab.engine.remove_image(&self.image.to_string()).await);
    }
}

#[tokio::test]
async fn every_flag_makes_the_container_that_docker_makes() {
    let tried: BTreeSet<&str> = CASES.iter().flat_map(|case| case.flags).map(|(flag, _)| *flag).collect();
    let known: BTreeSet<&str> = docker_flags().collect();
    assert_eq!(tried, known, "each flag of the table has a case");
    let scene = Scene::new().await;
    let mut found = Vec::new();
    let (mut alike, mut refused) = (0, Vec::new());
    for case in CASES {
        match compare(&scene, case).await {
            Seen::Alike => alike += 1,
            Seen::BothRefused(why) => refused.push(why),
            Seen::Differences(differences) => found.extend(differences),
        }
    }
    println!("{alike} alike; refused by the engine in both ways:\n{}", refused.join("\n"));
    scene.end().await;
    assert!(found.is_empty(), "differences to `docker run`:\n{}", found.join("\n"));
    assert!(alike > CASES.len() * 3 / 4, "{alike}");
}

enum Seen {
    Alike,
    BothRefused(String),
    Differences(Vec<String>),
}

async fn compare(scene: &Scene, case: &Case) -> Seen {
    let lab = &scene.lab;
    let (theirs, ours) = (unique("theirs"), unique("ours"));
    let on_network = case.flags.iter().any(|(flag, _)| ON_A_NETWORK.contains(flag));
    // `create` takes the flags of `run` and makes the same request.
    let mut words = vec!["create".to_owned(), "--name".to_owned(), theirs.clone()];
    if !case.flags.iter().any(|(flag, _)| *flag == "restart") {
        words.extend(["--restart".to_owned(), "unless-stopped".to_owned()]);
    }
    if on_network && case.flags.iter().all(|(flag, _)| *flag != "network") {
        words.push(format!("--network={}", scene.network));
    }
    for (flag, value) in case.flags {
        words.push(format!("--{flag}={}", scene.filled(value)));
    }
    words.push(scene.image.to_string());
    let by_docker = Command::new("docker")
        .arg("--host")
        .arg(format!("unix://{}", lab.socket().display()))
        .args(&words)
        .output()
        .unwrap();
    let mut spec =
        ContainerSpec::new(ContainerName::parse(&ours).unwrap(), ImageName::Reference(scene.image.clone()));
    spec.options = options(scene, case);
    spec.network = on_network.then(|| scene.network.clone());
    let by_us = lab.engine.create_container(&spec).await;
    let name =
        case.flags.iter().map(|(flag, value)| format!("--{flag}={value}")).collect::<Vec<_>>().join(" ");
    let seen = match (by_docker.status.success(), by_us) {
        (true, Ok(_)) => {
            let differences = differences("", &inspected(lab, &theirs), &inspected(lab, &ours));
            let unexplained =
                |difference: &String| !case.differs.iter().any(|(field, _)| difference.starts_with(field));
            let found: Vec<String> =
                differences.into_iter().filter(unexplained).map(|text| format!("{name}: {text}")).collect();
            if found.is_empty() { Seen::Alike } else { Seen::Differences(found) }
        }
        (false, Err(error)) => Seen::BothRefused(format!("{name}: {error}")),
        (true, Err(error)) => Seen::Differences(vec![format!("{name}: only ours is refused: {error:?}")]),
        (false, Ok(_)) if !case.differs.is_empty() => Seen::Alike,
        (false, Ok(_)) => {
            let why = String::from_utf8_lossy(&by_docker.stderr).replace('\n', " ");
            Seen::Differences(vec![format!("{name}: only `docker` refuses: {why}")])
        }
    };
    for name in [&theirs, &ours] {
        if lab.engine.inspect_container(name).await.unwrap().is_some() {
            must(
                lab.engine
                    .remove_container(name, RemoveOptions { force: true, anonymous_volumes: true })
                    .await,
            );
        }
    }
    seen
}

/// Reads the flags as a deploy file has them.
fn options(scene: &Scene, case: &Case) -> ContainerOptions {
    let mut values: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (flag, value) in case.flags {
        values.entry(flag).or_default().push(scene.filled(value));
    }
    let quoted = |value: &String| format!("'{}'", value.replace('\'', "''"));
    let mut text = "service: app\nimage: app\nbuilder: {arch: amd64}\nservers:\n  web:\n    hosts: [192.0.2.1]\n    options:\n".to_owned();
    for (flag, values) in values {
        let value = match values.as_slice() {
            [only] if only == "true" => "true".to_owned(),
            [only] => quoted(only),
            several => format!("[{}]", several.iter().map(quoted).collect::<Vec<_>>().join(", ")),
        };
        text.push_str(&format!("      {flag}: {value}\n"));
    }
    let sources = Sources {
        base: Source { path: "config/deploy.yml", text: &text },
        destination: None,
        environment: &BTreeMap::new(),
        surroundings: &Nowhere,
    };
    let parsed = parse(&sources).unwrap_or_else(|errors| panic!("{text}{}", errors.render()));
    parsed.project.roles[&RoleName::web()].options.clone()
}
