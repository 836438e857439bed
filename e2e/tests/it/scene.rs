use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use freehold_e2e::lab::{Host, Images, Lab, Relay, Topology};
use freehold_e2e::load::{Load, LoadOptions, Report};
use freehold_e2e::project::{Project, Run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::deploy_file::DeployFile;
use crate::following::Following;

/// Three hosts, the first of which is the primary one.
pub(crate) const THREE: [&str; 3] = ["h1", "h2", "h3"];

/// Hosts of a lab as new, and a project that deploys to them.
pub(crate) struct Scene {
    pub(crate) lab: Arc<Lab>,
    pub(crate) project: Project,
    pub(crate) file: DeployFile,
}

/// What a host has of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// Names of its containers that run.
    pub(crate) running: Vec<String>,
    /// Names of its containers that do not.
    pub(crate) stopped: Vec<String>,
    /// Files that only exist while a command is at work: locks, journals, plans.
    pub(crate) unfinished: Vec<String>,
}

impl Scene {
    /// Prepares a project for some hosts of the lab that the tests share.
    pub(crate) async fn new(hosts: &[&str]) -> Self {
        Self::on(Lab::shared(Topology::three()).await.unwrap(), hosts).await
    }

    /// Prepares a project for hosts of a lab.
    pub(crate) async fn on(lab: Arc<Lab>, hosts: &[&str]) -> Self {
        lab.reset(Images::Keep).await.unwrap();
        let project = Project::new(&lab, hosts).unwrap();
        let scene = Self { lab, project, file: DeployFile::new(hosts) };
        scene.write(&scene.file);
        scene
    }

    /// Prepares another service on hosts of the same lab, and leaves the first one as it is.
    pub(crate) fn beside(scene: &Self, service: &str, hosts: &[&str], proxy_host: &str) -> Self {
        let project = Project::new(&scene.lab, hosts).unwrap();
        let mut file = DeployFile::new(hosts);
        file.service = service.to_owned();
        file.proxy_hosts = vec![proxy_host.to_owned()];
        let other = Self { lab: Arc::clone(&scene.lab), project, file };
        other.write(&other.file);
        other
    }

    pub(crate) fn write(&self, file: &DeployFile) {
        self.project.write("config/deploy.yml", &file.render()).unwrap();
    }

    pub(crate) fn host(&self, name: &str) -> Host {
        self.lab.host(name).unwrap()
    }

    /// Returns the hosts that the project deploys to.
    pub(crate) fn hosts(&self) -> Vec<Host> {
        self.file.hosts.iter().map(|name| self.host(name)).collect()
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Run {
        self.project.freehold(arguments).await.unwrap()
    }

    /// Deploys a version whose image differs from that of every other version.
    pub(crate) async fn deploy(&self, version: &str) -> Run {
        self.project.set_version(version).unwrap();
        self.run(&["deploy", "--version", version]).await
    }

    /// As [`Scene::deploy`], but it has to succeed and to serve.
    pub(crate) async fn deploy_well(&self, version: &str) -> Run {
        let run = self.deploy(version).await.expect_code(0).unwrap();
        self.expect_serving(version).await;
        self.expect_clean(version).await;
        run
    }

    /// Starts a deploy with events.
    pub(crate) fn follow(&self, version: &str) -> Following {
        self.project.set_version(version).unwrap();
        Following::start(&self.project, &["deploy", "--version", version])
    }

    /// Sends the SSH connections to a host through a relay.
    pub(crate) async fn relay(&self, host: &str) -> Relay {
        let relay = Relay::start(self.host(host).ssh_address().unwrap()).await.unwrap();
        self.project.route(host, relay.address()).unwrap();
        relay
    }

    /// Puts the load of every kind on every host and waits until it is on.
    pub(crate) async fn load(&self) -> Load {
        let targets = self.hosts().iter().map(address).collect::<Vec<_>>();
        let load = Load::start(LoadOptions { workers: 1, ..LoadOptions::new(targets) });
        load.answered(2).await;
        load
    }

    /// Waits until every host answers with a version.
    pub(crate) async fn expect_serving(&self, version: &str) {
        for host in self.hosts() {
            let answer = ask(address(&host), "/version").await;
            assert_eq!(answer.as_deref(), Ok(version), "version served by {}", host.name());
        }
    }

    /// Checks that every host runs the container of this version and nothing else of the service, and that no command
    /// left anything unfinished.
    pub(crate) async fn expect_clean(&self, version: &str) {
        let name = format!("{}-web-{version}", self.file.service);
        for host in self.hosts() {
            let state = self.state(&host).await;
            assert_eq!(state.running, [name.as_str()], "running on {}", host.name());
            assert_eq!(state.unfinished, [""; 0], "left on {}", host.name());
            let prefix = format!("{}-web-", self.file.service);
            let unnamed = state.stopped.iter().filter(|name| !name.starts_with(&prefix));
            assert_eq!(unnamed.count(), 0, "{state:?}");
        }
    }

    pub(crate) async fn state(&self, host: &Host) -> State {
        let list = |status: &str| {
            let filter = format!("label=service={}", self.file.service);
            format!("docker ps --all --filter {filter} {status} --format '{{{{.Names}}}}' | sort")
        };
        let running = host.exec(&list("--filter status=running")).await.unwrap();
        let stopped = host
            .exec(&list("--filter status=exited --filter status=created --filter status=dead"))
            .await
            .unwrap();
        let find = "cd /root; find .kamal \\( -name journal -o -name plan.json -o -name 'lock-*' -o -name 'lease-*' \
            \\) 2>/dev/null | sort || true";
        let unfinished = host.exec(find).await.unwrap();
        let lines = |text: String| text.lines().map(str::to_owned).collect();
        State { running: lines(running), stopped: lines(stopped), unfinished: lines(unfinished) }
    }
}

/// Returns where a host serves requests, without a port forwarder in between.
pub(crate) fn address(host: &Host) -> SocketAddr {
    SocketAddr::from((host.open_address().unwrap(), 80))
}

/// Asks for a path and returns the body of a good answer, and whatever else happened as an error.
pub(crate) async fn ask(address: SocketAddr, path: &str) -> Result<String, String> {
    let request = async {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), request).await;
    let answer = answer.map_err(|_| "no answer in 10 s".to_owned())?.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("a torn answer: {answer}"))?;
    if head.starts_with("HTTP/1.1 200") { Ok(body.trim().to_owned()) } else { Err(head.to_owned()) }
}

/// Ends the load: not one request may have failed.
pub(crate) async fn expect_no_failure(load: Load) -> Report {
    load.answered(1).await;
    let report = load.stop().await;
    assert_eq!(report.failed(), 0, "{report}");
    report
}

/// Waits for a condition.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
