//! The host guard: what it closes stays closed whatever Docker, ufw and reboots do, and nobody is locked out by it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use freehold_e2e::lab::{Host, Images, Lab, Topology};
use freehold_e2e::project::{Project, Run};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::scene::eventually;

/// Makes a small image of the host's own busybox, since nothing can be pulled.
const IMPORT_BUSYBOX: &str = "docker image inspect busybox >/dev/null 2>&1 && exit 0; mkdir -p /tmp/image && \
    cp /bin/busybox /tmp/image/ && tar --create --directory /tmp/image . | \
    docker import --change 'ENTRYPOINT [\"/busybox\"]' - busybox >/dev/null";

/// The same service four times: on every address, on the private one, on the loopback one, in the host's network.
const EVERYWHERE: u16 = 5001;
const PRIVATE: u16 = 5002;
const LOOPBACK: u16 = 5003;
const HOST_NETWORK: u16 = 5004;
const PORTS: [u16; 4] = [EVERYWHERE, PRIVATE, LOOPBACK, HOST_NETWORK];

/// The architecture of this computer, and so of the lab.
const ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// How long silence is listened to.
const WAIT: Duration = Duration::from_secs(1);

struct Guarded {
    lab: Arc<Lab>,
    project: Project,
}

impl Guarded {
    async fn new() -> Self {
        let lab = Lab::shared(Topology::guarded()).await.unwrap();
        lab.reset(Images::Keep).await.unwrap();
        let project = Project::new(&lab, &["application"]).unwrap();
        Self { lab, project }
    }

    fn host(&self, name: &str) -> Host {
        self.lab.host(name).unwrap()
    }

    fn private(&self, name: &str) -> Ipv4Addr {
        self.host(name).private_address().unwrap()
    }

    /// Writes a deploy file with the four services as accessories, and more keys of `firewall`.
    fn write(&self, head: &str, firewall: &str) {
        let private = self.private("database");
        let accessory = |name: &str, port: &str| {
            format!("  {name}:\n    image: busybox:latest\n    host: database\n{port}")
        };
        let text = format!(
            "service: hello\nimage: hello\nservers:\n  web: [application]\n{head}\
             proxy:\n  app_port: 80\n  healthcheck: {{path: /up, interval: 1, timeout: 2}}\n\
             builder:\n  arch: {ARCH}\n  context: .\naccessories:\n{}{}{}{}x-freehold:\n  firewall:\n    \
             publish: [everywhere]\n{firewall}",
            accessory("everywhere", &format!("    port: '{EVERYWHERE}:{EVERYWHERE}'\n")),
            accessory("private", &format!("    port: '{private}:{PRIVATE}:{PRIVATE}'\n")),
            accessory("loopback", &format!("    port: '127.0.0.1:{LOOPBACK}:{LOOPBACK}'\n")),
            accessory("own", ""),
        );
        self.project.write("config/deploy.yml", &text).unwrap();
    }

    async fn run(&self, arguments: &[&str]) -> Run {
        self.project.freehold(arguments).await.unwrap()
    }

    /// Starts the four services on the database host.
    async fn start_services(&self) {
        let host = self.host("database");
        host.exec(IMPORT_BUSYBOX).await.unwrap();
        let private = self.private("database");
        let publish = [
            format!("--publish {EVERYWHERE}:{EVERYWHERE}"),
            format!("--publish {private}:{PRIVATE}:{PRIVATE}"),
            format!("--publish 127.0.0.1:{LOOPBACK}:{LOOPBACK}"),
            "--network host".to_owned(),
        ];
        for (port, publish) in PORTS.iter().zip(&publish) {
            let run = format!(
                "docker run --detach --restart unless-stopped --stop-timeout 1 --name service-{port} {publish} busybox \
                 httpd -f -p {port} >/dev/null"
            );
            host.exec(&run).await.unwrap();
        }
    }

    /// Tries each port from each place, without the executable: this computer at the public address, the two other hosts at
    /// the private one. Returns what is open.
    async fn open(&self) -> BTreeMap<(String, u16), bool> {
        let mut seen = BTreeMap::new();
        let mut tries = JoinSet::new();
        let public = self.host("database").open_address().unwrap();
        for port in PORTS {
            let address = SocketAddr::from((public, port));
            tries.spawn(async move {
                let connected = tokio::time::timeout(WAIT, TcpStream::connect(address)).await;
                (("this computer".to_owned(), port), matches!(connected, Ok(Ok(_))))
            });
        }
        for name in ["application", "other"] {
            let (host, address) = (self.host(name), self.private("database"));
            for port in PORTS {
                let host = host.clone();
                tries.spawn(
                    async move { ((host.name().to_owned(), port), connects(&host, address, port).await) },
                );
            }
        }
        while let Some(outcome) = tries.join_next().await {
            let (cell, is_open) = outcome.unwrap();
            seen.insert(cell, is_open);
        }
        seen
    }
}

/// Says whether a connection from a host is accepted.
async fn connects(host: &Host, address: Ipv4Addr, port: u16) -> bool {
    let wait = WAIT.as_secs();
    let script = format!("timeout {wait} bash -c 'exec 3<>/dev/tcp/{address}/{port}' 2>/dev/null");
    host.attempt(&script).await.unwrap().code == Some(0)
}

/// Says whether `sshd` greets a new connection.
async fn greets(address: SocketAddr) -> bool {
    let mut greeting = [0; 4];
    let read = async { TcpStream::connect(address).await?.read_exact(&mut greeting).await };
    matches!(tokio::time::timeout(Duration::from_secs(2), read).await, Ok(Ok(_))) && &greeting == b"SSH-"
}

/// What the deploy file says: the application host reaches what is published to it, and nobody else anything. What ufw drops for
/// the host's own network stays closed.
fn expected(ufw: &str) -> BTreeMap<(String, u16), bool> {
    let mut cells = BTreeMap::new();
    for from in ["this computer", "application", "other"] {
        for port in PORTS {
            let is_meant = from == "application" && port != LOOPBACK;
            let is_dropped = ufw == "deny" && port == HOST_NETWORK;
            cells.insert((from.to_owned(), port), is_meant && !is_dropped);
        }
    }
    cells
}

/// What `firewall verify --json` says of the cells.
fn told(guarded: &Guarded, run: &Run) -> BTreeMap<(String, u16), bool> {
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let public = guarded.host("database").open_address().unwrap().to_string();
    let private = guarded.private("database").to_string();
    let mut cells = BTreeMap::new();
    for check in json["result"]["hosts"][0]["checks"].as_array().unwrap() {
        let from = check["from"].as_str().unwrap();
        let port = u16::try_from(check["port"].as_u64().unwrap()).unwrap();
        let address = if from == "this computer" { &public } else { &private };
        if check["address"] == *address && check["protocol"] == "tcp" && PORTS.contains(&port) {
            cells.insert((from.to_owned(), port), check["seen"] == "open");
        }
    }
    cells
}

/// Issue 6, must show 3.
#[tokio::test(flavor = "multi_thread")]
async fn the_guard_holds_whatever_docker_ufw_and_reboots_do() {
    let guarded = Guarded::new().await;
    let allow = format!("    allow:\n      - {{port: {HOST_NETWORK}, from: web, on: database}}\n");
    guarded.write("", &allow);
    guarded.start_services().await;
    let database = guarded.host("database");
    let verify = ["firewall", "verify", "-h", "database", "--from", "other", "--timeout", "1", "--json"];

    // Without the guard the world differs from the file, and that is said.
    let open = guarded.open().await;
    assert!(
        open[&("this computer".to_owned(), EVERYWHERE)] && open[&("other".to_owned(), PRIVATE)],
        "{open:?}"
    );
    let run =
        guarded.run(&["firewall", "verify", "-h", "database", "--from", "other", "--timeout", "1"]).await;
    let run = run.expect_code(1).unwrap();
    assert!(run.stderr.contains("should be closed") && run.stderr.contains("service-5001"), "{}", run.stderr);
    assert!(run.stdout.contains("container service-5001 (5001)"), "{}", run.stdout);

    let plan = guarded.run(&["firewall", "plan", "--exit-code"]).await.expect_code(10).unwrap();
    assert!(plan.stdout.contains("+ closed on eth0: everything else"), "{}", plan.stdout);
    guarded.run(&["firewall", "apply"]).await.expect_code(0).unwrap();
    let again = guarded.run(&["firewall", "apply"]).await.expect_code(0).unwrap();
    assert!(again.stdout.contains("every host is in step"), "{}", again.stdout);
    guarded.run(&["firewall", "plan", "--exit-code"]).await.expect_code(0).unwrap();

    let application = guarded.private("application");
    let application_public = guarded.host("application").open_address().unwrap();
    let mut cells = 0;
    for ufw in ["off", "on", "deny"] {
        let script = match ufw {
            "off" => "true".to_owned(),
            "on" => format!(
                "ufw default deny incoming; ufw allow 22/tcp; ufw allow from {application} to any port {HOST_NETWORK}; \
                 ufw allow from {application_public} to any port {HOST_NETWORK}; ufw --force enable"
            ),
            _ => format!("ufw insert 1 deny {HOST_NETWORK}/tcp; ufw insert 1 deny {EVERYWHERE}/tcp"),
        };
        database.exec(&format!("{{ {script}; }} >/dev/null 2>&1")).await.unwrap();
        for event in ["nothing", "restart of dockerd", "reload of ufw", "reboot"] {
            match event {
                "nothing" => {}
                "restart of dockerd" => database.restart_engine().await.unwrap(),
                "reload of ufw" => drop(database.exec("ufw reload").await.unwrap()),
                _ => database.reboot().await.unwrap(),
            }
            eventually("the services", async || connects(&database, [127, 0, 0, 1].into(), LOOPBACK).await)
                .await;
            eventually("the service in the host's network", async || {
                connects(&database, [127, 0, 0, 1].into(), HOST_NETWORK).await
            })
            .await;
            let seen = guarded.open().await;
            assert_eq!(seen, expected(ufw), "ufw {ufw}, after {event}");
            let run = guarded.run(&verify).await;
            assert_eq!(told(&guarded, &run), seen, "ufw {ufw}, after {event}: {}", run.stdout);
            let code = if ufw == "deny" { 1 } else { 0 };
            run.expect_code(code).unwrap();
            cells += seen.len();
        }
    }
    println!("{cells} cells are as the deploy file says, and `firewall verify` says the same");
    let run = guarded
        .run(&["firewall", "verify", "-h", "database", "--timeout", "1"])
        .await
        .expect_code(1)
        .unwrap();
    assert!(run.stderr.contains("ufw on host `database` may drop it"), "{}", run.stderr);
    neighbours_cannot_go_round(&guarded).await;
}

/// A neighbour that sends packets for private and for container addresses to the host's interfaces gets nothing.
async fn neighbours_cannot_go_round(guarded: &Guarded) {
    let (other, database) = (guarded.host("other"), guarded.host("database"));
    let inspect = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let container: Ipv4Addr = database
        .docker(&["inspect", "--format", inspect, "service-5001"])
        .await
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let (private, public) = (guarded.private("database"), database.open_address().unwrap());
    let go_round = async |target: Ipv4Addr, port: u16| {
        // The other host has a Docker network of the same addresses: only this one goes away.
        other.exec(&format!("ip route replace {target}/32 via {public}")).await.unwrap();
        assert!(!connects(&other, target, port).await, "{target}:{port} by way of {public}");
        other.exec(&format!("ip route del {target}/32 via {public}")).await.unwrap();
    };
    go_round(private, PRIVATE).await;
    go_round(container, EVERYWHERE).await;
    assert!(dropped(guarded, "stray").await >= 2);
    // On an interface that is not closed, the container itself cannot be asked either.
    guarded.write("", "    interfaces: {database: [eth1]}\n");
    guarded.run(&["firewall", "apply", "-h", "database"]).await.expect_code(0).unwrap();
    go_round(container, EVERYWHERE).await;
    assert!(dropped(guarded, "direct").await > 0);
}

/// Returns how many packets the database host dropped for a reason.
async fn dropped(guarded: &Guarded, reason: &str) -> u64 {
    let run = guarded.run(&["firewall", "show", "-h", "database", "--json"]).await.expect_code(0).unwrap();
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    json["result"][0]["dropped_packets"][reason].as_u64().unwrap()
}

/// Issue 6, must show 4.
#[tokio::test(flavor = "multi_thread")]
async fn rules_that_lock_us_out_undo_themselves() {
    let guarded = Guarded::new().await;
    let database = guarded.host("database");
    let ssh = SocketAddr::from(database.ssh_address().unwrap());
    let table = "nft list table inet freehold 2>/dev/null || true";
    guarded.write("", "    ssh: [192.0.2.1]\n");

    // The client finds out by itself.
    let plan = guarded.run(&["firewall", "plan", "-h", "database"]).await.expect_code(0).unwrap();
    assert!(plan.stdout.contains("your own SSH connection is not let in"), "{}", plan.stdout);
    let run = guarded
        .run(&["firewall", "apply", "-h", "database", "--undo-after", "4"])
        .await
        .expect_code(1)
        .unwrap();
    assert!(run.stderr.contains("let no new SSH connection in under the new rules"), "{}", run.stderr);
    eventually("the host", async || greets(ssh).await).await;
    assert_eq!(database.exec(table).await.unwrap(), "", "there was no table before");

    // Rules that are good stay when bad ones are undone; this time nobody is left to undo them.
    guarded.write("", "    metadata: true\n");
    guarded.run(&["firewall", "apply", "-h", "database"]).await.expect_code(0).unwrap();
    let good = database.exec("nft -s list table inet freehold").await.unwrap();
    guarded.write("", "    ssh: [192.0.2.1]\n");
    let mut client =
        guarded.project.start(&["firewall", "apply", "-h", "database", "--undo-after", "8"]).unwrap();
    eventually("the new table", async || {
        let now = database.attempt("nft -s list table inet freehold").await.unwrap();
        now.code == Some(0) && now.stdout != good
    })
    .await;
    client.kill().await.unwrap();
    assert!(!greets(ssh).await, "the new rules let nobody in");
    eventually("the host", async || greets(ssh).await).await;
    assert_eq!(database.exec("nft -s list table inet freehold").await.unwrap(), good);
    assert_eq!(database.exec("ls /run/freehold-guard.pending 2>/dev/null || true").await.unwrap(), "");
    guarded.write("", "    metadata: true\n");
    guarded.run(&["firewall", "plan", "-h", "database", "--exit-code"]).await.expect_code(0).unwrap();
}

/// A user with `sudo`, an init system that we do not know, drift, another project on the same host, and the end of it all.
#[tokio::test(flavor = "multi_thread")]
async fn the_guard_is_shared_kept_and_removed() {
    let guarded = Guarded::new().await;
    let database = guarded.host("database");
    let user = "ssh: {user: deploy}\n";
    guarded.write(user, "    metadata: true\n");

    // Without systemd it says what would be lost, and takes a timer of its own.
    database.exec("mv /run/systemd/system /run/systemd/away").await.unwrap();
    let refused = guarded.run(&["firewall", "apply", "-h", "database"]).await.expect_code(1).unwrap();
    assert!(
        refused.stderr.contains("has no systemd") && refused.stderr.contains("--until-reboot"),
        "{}",
        refused.stderr
    );
    guarded.run(&["firewall", "apply", "-h", "database", "--until-reboot"]).await.expect_code(0).unwrap();
    database.exec("mv /run/systemd/away /run/systemd/system").await.unwrap();
    let show = guarded.run(&["firewall", "show", "-h", "database"]).await.expect_code(0).unwrap();
    assert!(show.stdout.contains("drifted"), "it is not loaded at boot: {}", show.stdout);
    guarded.run(&["firewall", "apply", "-h", "database"]).await.expect_code(0).unwrap();
    guarded.run(&["firewall", "plan", "-h", "database", "--exit-code"]).await.expect_code(0).unwrap();

    // Another project on the same host keeps what it lets in.
    let second = Project::new(&guarded.lab, &["database"]).unwrap();
    let text = "service: second\nimage: hello\nservers: [database]\nbuilder: {arch: ARCH, context: .}\n\
        firewall: {allow: [{port: 7777}]}\n"
        .replace("ARCH", ARCH);
    second.write("config/deploy.yml", &text).unwrap();
    second.freehold(&["firewall", "apply"]).await.unwrap().expect_code(0).unwrap();
    let table = "nft list table inet freehold 2>/dev/null || true";
    let both = database.exec(table).await.unwrap();
    assert!(both.contains("7777") && both.contains(&EVERYWHERE.to_string()), "{both}");
    guarded.run(&["firewall", "plan", "-h", "database", "--exit-code"]).await.expect_code(0).unwrap();

    // Somebody changes the loaded table: it is seen and mended. So is a flush of every table.
    database.exec("nft add rule inet freehold allowed tcp dport 9999 accept").await.unwrap();
    let show = guarded.run(&["firewall", "show", "-h", "database"]).await.expect_code(0).unwrap();
    assert!(show.stdout.contains("changed"), "{}", show.stdout);
    guarded.run(&["firewall", "apply", "-h", "database"]).await.expect_code(0).unwrap();
    assert!(!database.exec(table).await.unwrap().contains("9999"));
    // The restart carries over to the guard, and is done a moment later.
    let flush = "systemctl restart nftables
        for try in $(seq 100); do nft list table inet freehold 2>/dev/null && break; sleep 0.1; done";
    let again = database.exec(flush).await.unwrap();
    assert!(again.contains("7777"), "it is loaded again after a flush: {again}");
    database.restart_engine().await.unwrap();

    guarded.run(&["firewall", "remove", "-h", "database"]).await.expect_code(9).unwrap();
    guarded.run(&["firewall", "remove", "-h", "database", "-y"]).await.expect_code(0).unwrap();
    let one = database.exec(table).await.unwrap();
    assert!(one.contains("7777") && !one.contains(&EVERYWHERE.to_string()), "{one}");
    second.freehold(&["firewall", "remove", "-y"]).await.unwrap().expect_code(0).unwrap();
    assert_eq!(database.exec(table).await.unwrap(), "");
    let left = "ls -d /etc/freehold /etc/systemd/system/freehold-guard.service /run/freehold-guard.* 2>/dev/null || true";
    assert_eq!(database.exec(left).await.unwrap(), "");
    let audit = database.exec("cat /home/deploy/.kamal/hello-audit.log").await.unwrap();
    assert!(audit.contains("Applied firewall") && audit.contains("Removed firewall"), "{audit}");
}

/// A deploy leaves hosts without a guard alone, and keeps one in step.
#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_keeps_the_guard_in_step() {
    let guarded = Guarded::new().await;
    let application = guarded.host("application");
    guarded.write("", "    metadata: true\n");
    guarded.run(&["deploy", "--version", "1"]).await.expect_code(0).unwrap();
    let table = "nft list table inet freehold 2>/dev/null || true";
    assert_eq!(application.exec(table).await.unwrap(), "");
    guarded.run(&["firewall", "apply"]).await.expect_code(0).unwrap();
    guarded.write("", "    metadata: true\n    allow: [{port: 8443}]\n");
    guarded.project.set_version("2").unwrap();
    guarded.run(&["deploy", "--version", "2"]).await.expect_code(0).unwrap();
    assert!(application.exec(table).await.unwrap().contains("8443"));
    guarded.run(&["firewall", "plan", "--exit-code"]).await.expect_code(0).unwrap();
    let address = SocketAddr::from((application.open_address().unwrap(), 80));
    assert_eq!(crate::scene::ask(address, "/version").await.as_deref(), Ok("2"));
    guarded.run(&["firewall", "verify", "--timeout", "1"]).await.expect_code(0).unwrap();
}

/// Every table that a deploy file gives is one that `nft` takes, of both families.
#[tokio::test(flavor = "multi_thread")]
async fn nft_takes_every_table() {
    let guarded = Guarded::new().await;
    let database = guarded.host("database");
    let sections = [
        "    metadata: true\n",
        "    ssh: [10.0.0.0/8, 10.1.0.0/16, 10.1.2.3, 2001:db8::/32, 2001:db8::1, web]\n    tailnet: true\n",
        "    ssh: ['::/0', 0.0.0.0/0]\n    tailnet: 12345\n",
        "    interfaces: [eth0, eth1]\n    allow: [{port: 1-65535}, {port: 1-65535/udp}]\n",
        "    allow:\n      - {port: 1, from: [application, database, own]}\n      - {port: 1, from: any}\n      \
         - {port: 1-2/udp, from: '2001:db8::/128'}\n      - {port: 2-3/udp, from: [192.0.2.0/25, 192.0.2.0/24]}\n",
        "    interfaces: {database: [eth1]}\n    allow: [{port: 65535, from: 255.255.255.255, on: web}]\n",
    ];
    for section in sections {
        guarded.write("", section);
        let run = guarded.run(&["firewall", "plan", "--json"]).await.expect_code(0).unwrap();
        let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        for host in json["result"].as_array().unwrap() {
            let table = host["table"].as_str().unwrap();
            database.write("/tmp/table.nft", table.as_bytes()).await.unwrap();
            let checked = database.attempt("nft -c -f /tmp/table.nft").await.unwrap();
            assert_eq!(checked.code, Some(0), "{section}\n{table}\n{}", checked.stderr);
        }
    }
    let unknown = "    interfaces: [eth7]\n";
    guarded.write("", unknown);
    let run = guarded.run(&["firewall", "plan"]).await.expect_code(3).unwrap();
    assert!(
        run.stderr.contains("has no network interface `eth7`") && run.stderr.contains("eth0, eth1"),
        "{}",
        run.stderr
    );
}
