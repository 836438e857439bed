//! A real `docker run` and our request for the same container must look the same to `docker inspect`.

use std::collections::BTreeMap;
use std::time::Duration;

use freehold_docker::{ContainerSpec, EnvValue, ImageName, RemoveOptions};
use freehold_model::{ContainerName, EnvName, ImageReference, Logging, RestartPolicy, Ulimit};
use secrecy::SecretString;

use crate::inspect::{differences, inspected};
use crate::lab::{TestEngine, must, unique};

struct Case {
    name: &'static str,
    flags: Vec<String>,
    command: Vec<String>,
    set: Box<dyn Fn(&mut ContainerSpec)>,
}

fn case(name: &'static str, flags: &[&str], set: impl Fn(&mut ContainerSpec) + 'static) -> Case {
    let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    Case { name, flags, command: Vec::new(), set: Box::new(set) }
}

#[tokio::test]
async fn our_containers_are_those_of_docker_run() {
    let lab = TestEngine::first().await;
    let image = lab.load_busybox().await;
    let network = unique("kamal");
    must(lab.engine.ensure_network(&network).await);
    let secrets = tempfile::NamedTempFile::new().expect("a file");
    fs_err::write(secrets.path(), "SEC=hidden\n").expect("a file");
    let mut cases = options();
    cases.push(kamals(&network, secrets.path().to_str().expect("text")));
    let mut differences = Vec::new();
    for case in &cases {
        differences.extend(compare(&lab, &image, case).await);
    }
    assert!(differences.is_empty(), "differences to `docker run`:\n{}", differences.join("\n"));
    must(lab.engine.remove_network(&network).await);
    must(lab.engine.remove_image(&image.to_string()).await);
    lab.docker(&["volume", "rm", "--force", "fh-it-data"]);
}

/// The command that Kamal 2.12 runs (kamal-compat §13.4.1 and §19.1).
fn kamals(network: &str, secrets: &str) -> Case {
    let host = "127.0.0.1-2dc7682cde2f";
    let flags = [
        "--restart",
        "unless-stopped",
        "--network",
        network,
        "--hostname",
        host,
        "--env",
        "KAMAL_VERSION=1",
        "--env",
        "X=a$b ${HOSTNAME}",
        "--env",
        "N=3",
        "--env",
        "E=",
        "--env-file",
        secrets,
        "--log-opt",
        "max-size=10m",
        "--volume",
        "fh-it-data:/data",
        "--volume",
        "/tmp:/rails/public/assets:ro",
        "--label",
        "service=app",
        "--label",
        "role=web",
        "--label",
        "destination",
        "--label",
        "foo=bar baz",
    ];
    let network = network.to_owned();
    let mut case = case("kamal", &flags, move |spec| {
        spec.options.restart = RestartPolicy::UnlessStopped;
        spec.network = Some(network.clone());
        spec.hostname = Some(host.to_owned());
        for (name, value) in [("KAMAL_VERSION", "1"), ("X", "a$b ${HOSTNAME}"), ("N", "3"), ("E", "")] {
            spec.env.insert(EnvName::parse(name).unwrap(), EnvValue::Clear(value.to_owned()));
        }
        let secret = EnvValue::Secret(SecretString::from("hidden"));
        spec.env.insert(EnvName::parse("SEC").unwrap(), secret);
        spec.logging = Logging::default();
        spec.volumes = texts(&["fh-it-data:/data", "/tmp:/rails/public/assets:ro"]);
        let labels = [("service", "app"), ("role", "web"), ("destination", ""), ("foo", "bar baz")];
        spec.labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        spec.command = Some(texts(&["bin/jobs", "a b"]));
    });
    case.command = texts(&["bin/jobs", "a b"]);
    case
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Every field of `ContainerOptions`.
fn options() -> Vec<Case> {
    let mut cases = resources();
    cases.extend(surroundings());
    cases.extend([
        case("nothing", &[], |_| {}),
        case("restart always", &["--restart", "always"], |s| s.options.restart = RestartPolicy::Always),
        case("restart no", &["--restart", "no"], |s| s.options.restart = RestartPolicy::No),
        case("restart on-failure", &["--restart", "on-failure:3"], |s| {
            s.options.restart = RestartPolicy::OnFailure { maximum: Some(3) };
        }),
        case("init", &["--init"], |s| s.options.init = true),
        case("privileged", &["--privileged"], |s| s.options.privileged = true),
        case("read-only", &["--read-only"], |s| s.options.read_only = true),
        case("user", &["--user", "1000:1000"], |s| s.options.user = Some("1000:1000".to_owned())),
        case("workdir", &["--workdir", "/tmp"], |s| s.options.working_directory = Some("/tmp".to_owned())),
        case("entrypoint", &["--entrypoint", "/bin/true"], |s| {
            s.options.entrypoint = Some("/bin/true".to_owned())
        }),
        case("stop-signal", &["--stop-signal", "SIGINT"], |s| {
            s.options.stop_signal = Some("SIGINT".to_owned())
        }),
        case("stop-timeout", &["--stop-timeout", "42"], |s| s.stop_timeout = Some(Duration::from_secs(42))),
    ]);
    cases
}

fn surroundings() -> Vec<Case> {
    vec![
        case("add-host", &["--add-host", "a:1.2.3.4", "--add-host", "b:::1"], |s| {
            s.options.add_host = texts(&["a:1.2.3.4", "b:::1"]);
        }),
        case("caps", &["--cap-add", "NET_ADMIN", "--cap-drop", "ALL"], |s| {
            s.options.cap_add = texts(&["NET_ADMIN"]);
            s.options.cap_drop = texts(&["ALL"]);
        }),
        case("caps twice", &["--cap-add", "chown", "--cap-drop", "CHOWN", "--cap-drop", "kill"], |s| {
            s.options.cap_add = texts(&["chown"]);
            s.options.cap_drop = texts(&["CHOWN", "kill"]);
        }),
        case(
            "security-opt",
            &["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"],
            |s| s.options.security_opt = texts(&["no-new-privileges", "seccomp=unconfined"]),
        ),
        case("systempaths", &["--security-opt", "systempaths=unconfined"], |s| {
            s.options.security_opt = texts(&["systempaths=unconfined"]);
        }),
        case("dns", &["--dns", "1.1.1.1", "--dns", "8.8.8.8"], |s| {
            s.options.dns = texts(&["1.1.1.1", "8.8.8.8"])
        }),
        case("group-add", &["--group-add", "extra"], |s| s.options.group_add = texts(&["extra"])),
        case(
            "publish",
            &["--publish", "127.0.0.1:18080:80", "--publish", "18443:443/udp", "--publish", "99"],
            |s| {
                s.options.publish = texts(&["127.0.0.1:18080:80", "18443:443/udp", "99"]);
            },
        ),
        case("publish ranges", &["--publish", "18000-18001:80-81", "--publish", "18010-18012:90"], |s| {
            s.options.publish = texts(&["18000-18001:80-81", "18010-18012:90"]);
        }),
        case("expose", &["--expose", "9000-9001", "--expose", "53/udp"], |s| {
            s.options.expose = texts(&["9000-9001", "53/udp"]);
        }),
        case("tmpfs", &["--tmpfs", "/run:size=1m,mode=1777", "--tmpfs", "/scratch"], |s| {
            s.options.tmpfs = map(&[("/run", "size=1m,mode=1777"), ("/scratch", "")]);
        }),
        case("sysctl", &["--sysctl", "net.ipv4.ip_unprivileged_port_start=0"], |s| {
            s.options.sysctl = map(&[("net.ipv4.ip_unprivileged_port_start", "0")]);
        }),
        case("volumes", &["--volume", "/cache", "--volume", "/tmp:/host:ro,z"], |s| {
            s.volumes = texts(&["/cache", "/tmp:/host:ro,z"]);
        }),
        case("log driver", &["--log-driver", "local", "--log-opt", "max-file=3"], |s| {
            s.logging = Logging { driver: Some("local".to_owned()), options: map(&[("max-file", "3")]) };
        }),
        case(
            "health",
            &[
                "--health-cmd",
                "true || false",
                "--health-interval",
                "5s",
                "--health-timeout",
                "2s",
                "--health-start-period",
                "1m",
                "--health-retries",
                "4",
            ],
            |s| {
                s.options.health_command = Some("true || false".to_owned());
                s.options.health_interval = Some(Duration::from_secs(5));
                s.options.health_timeout = Some(Duration::from_secs(2));
                s.options.health_start_period = Some(Duration::from_secs(60));
                s.options.health_retries = Some(4);
            },
        ),
    ]
}

fn resources() -> Vec<Case> {
    vec![
        case("memory", &["--memory", "64m", "--memory-swap", "128m", "--memory-reservation", "32m"], |s| {
            s.options.memory_bytes = Some(64 << 20);
            s.options.memory_swap_bytes = Some(128 << 20);
            s.options.memory_reservation_bytes = Some(32 << 20);
        }),
        case("unlimited swap", &["--memory", "64m", "--memory-swap", "-1"], |s| {
            s.options.memory_bytes = Some(64 << 20);
            s.options.memory_swap_bytes = Some(-1);
        }),
        case("cpus", &["--cpus", "1.5"], |s| s.options.nano_cpus = Some(1_500_000_000)),
        case("cpu-shares", &["--cpu-shares", "512", "--cpuset-cpus", "0"], |s| {
            s.options.cpu_shares = Some(512);
            s.options.cpuset_cpus = Some("0".to_owned());
        }),
        case("pids-limit", &["--pids-limit", "100"], |s| s.options.pids_limit = Some(100)),
        case("shm-size", &["--shm-size", "128m"], |s| s.options.shm_size_bytes = Some(128 << 20)),
        case("ulimit", &["--ulimit", "nofile=1024:2048", "--ulimit", "nproc=500"], |s| {
            s.options.ulimit = vec![
                Ulimit { name: "nofile".to_owned(), soft: 1024, hard: 2048 },
                Ulimit { name: "nproc".to_owned(), soft: 500, hard: 500 },
            ];
        }),
    ]
}

async fn compare(lab: &TestEngine, image: &ImageReference, case: &Case) -> Vec<String> {
    let (theirs, ours) = (unique("theirs"), unique("ours"));
    // `create` takes the flags of `run` and makes the same request.
    let mut arguments = vec!["create".to_owned(), "--name".to_owned(), theirs.clone()];
    if !case.flags.iter().any(|flag| flag == "--restart") {
        arguments.extend(texts(&["--restart", "unless-stopped"]));
    }
    arguments.extend(case.flags.iter().cloned());
    arguments.push(image.to_string());
    arguments.extend(case.command.iter().cloned());
    lab.docker(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let mut spec =
        ContainerSpec::new(ContainerName::parse(&ours).unwrap(), ImageName::Reference(image.clone()));
    (case.set)(&mut spec);
    must(lab.engine.create_container(&spec).await);
    let found = differences("", &inspected(lab, &theirs), &inspected(lab, &ours));
    for name in [&theirs, &ours] {
        let options = RemoveOptions { force: true, anonymous_volumes: true };
        must(lab.engine.remove_container(name, options).await);
    }
    found.into_iter().map(|difference| format!("{}: {difference}", case.name)).collect()
}
