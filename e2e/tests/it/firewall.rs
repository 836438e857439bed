//! The host guard: what it closes stays closed whatever Docker, ufw and reboots do, and nobody is locked out by it.

mod matrix;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use freehold_e2e::lab::{Host, Images, Lab, Topology};
use freehold_e2e::project::{Project, Run};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::scene::eventually;

/// The same service four times: on every address, on the private one, on the loopback one, in the host's network.
const EVERYWHERE: u16 = 5001;
const PRIVATE: u16 = 5002;
const LOOPBACK: u16 = 5003;
const HOST_NETWORK: u16 = 5004;
/// What answers datagrams with themselves, on every address.
const ECHO: u16 = 5005;

/// The architecture of this computer, and so of the lab.
const ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

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

    /// Writes a deploy file with the services as accessories, and more keys of `firewall`.
    fn write(&self, head: &str, firewall: &str) {
        let private = self.private("database");
        let accessory = |name: &str, port: &str| {
            format!("  {name}:\n    image: busybox:latest\n    host: database\n{port}")
        };
        let text = format!(
            "service: hello\nimage: hello\nservers:\n  web: [application]\n{head}\
             proxy:\n  app_port: 80\n  healthcheck: {{path: /up, interval: 1, timeout: 2}}\n\
             builder:\n  arch: {ARCH}\n  context: .\naccessories:\n{}{}{}{}{}x-freehold:\n  firewall:\n    \
             publish: [everywhere, echo]\n{firewall}",
            accessory("everywhere", &format!("    port: '{EVERYWHERE}:{EVERYWHERE}'\n")),
            accessory("private", &format!("    port: '{private}:{PRIVATE}:{PRIVATE}'\n")),
            accessory("loopback", &format!("    port: '127.0.0.1:{LOOPBACK}:{LOOPBACK}'\n")),
            accessory("own", ""),
            accessory("echo", &format!("    port: '{ECHO}:{ECHO}/udp'\n")),
        );
        self.project.write("config/deploy.yml", &text).unwrap();
    }

    async fn run(&self, arguments: &[&str]) -> Run {
        self.project.freehold(arguments).await.unwrap()
    }
}

/// Says whether `sshd` greets a new connection.
async fn greets(address: SocketAddr) -> bool {
    let mut greeting = [0; 4];
    let read = async { TcpStream::connect(address).await?.read_exact(&mut greeting).await };
    matches!(tokio::time::timeout(Duration::from_secs(2), read).await, Ok(Ok(_))) && &greeting == b"SSH-"
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
    for verb in ["restart", "stop", "start", "reload"] {
        let again = database.exec(&format!("systemctl {verb} nftables; {table}")).await.unwrap();
        assert!(again.contains("7777"), "it is loaded again after a flush by `{verb}`: {again}");
    }
    let flushed = database.exec(&format!("nft flush ruleset; {table}")).await.unwrap();
    assert_eq!(flushed, "", "by hand, nothing brings it back");
    let show = guarded.run(&["firewall", "show", "-h", "database"]).await.expect_code(0).unwrap();
    assert!(show.stdout.contains("drifted"), "{}", show.stdout);
    guarded.run(&["firewall", "apply", "-h", "database"]).await.expect_code(0).unwrap();
    database.restart_engine().await.unwrap();

    guarded.run(&["firewall", "remove", "-h", "database"]).await.expect_code(9).unwrap();
    guarded.run(&["firewall", "remove", "-h", "database", "-y"]).await.expect_code(0).unwrap();
    let one = database.exec(table).await.unwrap();
    assert!(one.contains("7777") && !one.contains(&EVERYWHERE.to_string()), "{one}");
    second.freehold(&["firewall", "remove", "-y"]).await.unwrap().expect_code(0).unwrap();
    assert_eq!(database.exec(table).await.unwrap(), "");
    let left = "ls -d /etc/freehold /etc/systemd/system/freehold-guard.service /etc/systemd/system/nftables.service.d \
                /run/freehold-guard.* 2>/dev/null || true";
    assert_eq!(database.exec(left).await.unwrap(), "");
    let audit = database.exec("cat /home/deploy/.kamal/hello-audit.log").await.unwrap();
    assert!(audit.contains("Applied firewall") && audit.contains("Removed firewall"), "{audit}");
}

/// Two projects change the guard of one host at the same time: none overwrites what the other lets in.
#[tokio::test(flavor = "multi_thread")]
async fn projects_that_change_one_host_at_once_do_not_overwrite_each_other() {
    let guarded = Guarded::new().await;
    let database = guarded.host("database");
    let second = Project::new(&guarded.lab, &["database"]).unwrap();
    let write = |port: u16| {
        guarded.write("", &format!("    allow: [{{port: {port}}}]\n"));
        let text = format!(
            "service: second\nimage: hello\nservers: [database]\nbuilder: {{arch: {ARCH}, context: .}}\n\
             firewall: {{allow: [{{port: {}}}]}}\n",
            port + 1000
        );
        second.write("config/deploy.yml", &text).unwrap();
    };
    let mut refused = 0;
    for port in [7001, 7002, 7003] {
        write(port);
        let own = ["firewall", "apply", "-h", "database"];
        let (one, other) = tokio::join!(guarded.run(&own), second.freehold(&["firewall", "apply"]));
        for run in [&one, other.as_ref().unwrap()] {
            if run.code != Some(0) {
                assert_eq!(run.code, Some(5), "{}", run.stderr);
                let is_told = run.stderr.contains("was changed meanwhile")
                    || run.stderr.contains("waits for its confirmation");
                assert!(is_told, "{}", run.stderr);
                refused += 1;
            }
        }
        guarded.run(&own).await.expect_code(0).unwrap();
        second.freehold(&["firewall", "apply"]).await.unwrap().expect_code(0).unwrap();
        let table = database.exec("nft list table inet freehold").await.unwrap();
        assert!(table.contains(&port.to_string()) && table.contains(&(port + 1000).to_string()), "{table}");
        guarded.run(&["firewall", "plan", "-h", "database", "--exit-code"]).await.expect_code(0).unwrap();
        second.freehold(&["firewall", "plan", "--exit-code"]).await.unwrap().expect_code(0).unwrap();
    }
    println!("{refused} of 6 were told to try again");
    let left =
        database.exec("ls /run/freehold-guard.* /etc/freehold/guard.new 2>/dev/null || true").await.unwrap();
    assert_eq!(left, "/run/freehold-guard.last\n");
}

/// What only root sees is not told by somebody else, and a database that anybody can talk to is named.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_seen_is_not_told_and_what_answers_is_named() {
    let guarded = Guarded::new().await;
    let database = guarded.host("database");
    guarded.write("ssh: {user: deploy}\n", "    metadata: true\n");
    guarded.run(&["firewall", "apply", "-h", "database"]).await.expect_code(0).unwrap();
    database.exec("mv /etc/sudoers.d /etc/sudoers.away").await.unwrap();
    let show = guarded.run(&["firewall", "show", "-h", "database"]).await;
    let plan = guarded.run(&["firewall", "plan", "-h", "database"]).await;
    let apply = guarded.run(&["firewall", "apply", "-h", "database"]).await;
    database.exec("mv /etc/sudoers.away /etc/sudoers.d").await.unwrap();
    let show = show.expect_code(0).unwrap().stdout;
    assert!(
        show.contains("not seen") && show.contains("only root sees it") && !show.contains("drifted"),
        "{show}"
    );
    let plan = plan.expect_code(0).unwrap().stdout;
    assert!(plan.contains("whether it is loaded only root can see"), "{plan}");
    assert!(apply.expect_code(8).unwrap().stderr.contains("needs root"));

    guarded.run(&["firewall", "remove", "-h", "database", "-y"]).await.expect_code(0).unwrap();
    for (unit, port, greeting, answer) in [
        ("fake-postgres", 5433, "", "N"),
        ("fake-redis", 6379, "", "-NOAUTH Authentication required."),
        ("fake-mysql", 3306, "\\x4a\\x00\\x00\\x00\\x0a8.0.36\\x00", ""),
    ] {
        // What is no question of theirs is not answered: PostgreSQL's begins with a zero.
        let program = format!(
            "import socketserver\n\
             class H(socketserver.BaseRequestHandler):\n \
             def handle(self):\n  \
             self.request.sendall(b'{greeting}')\n  \
             text = self.request.recv(64)\n  \
             if text and (text[0] == 0) == ({port} == 5433): self.request.sendall(b'{answer}')\n  \
             self.request.recv(64)\n\
             socketserver.ThreadingTCPServer.allow_reuse_address = True\n\
             socketserver.ThreadingTCPServer(('', {port}), H).serve_forever()\n"
        );
        database.write(&format!("/tmp/{unit}.py"), program.as_bytes()).await.unwrap();
        database.exec(&format!("systemd-run --quiet --unit={unit} python3 /tmp/{unit}.py")).await.unwrap();
        let address = SocketAddr::from((database.open_address().unwrap(), port));
        eventually("the database", async || tokio::net::TcpStream::connect(address).await.is_ok()).await;
    }
    // Datagrams are swallowed by something that is not ours: that proves nothing, and is said.
    database.exec("iptables -I INPUT ! -i lo -p udp -j DROP").await.unwrap();
    let run = guarded.run(&["firewall", "verify", "-h", "database", "--timeout", "1"]).await;
    let clean =
        "iptables -D INPUT ! -i lo -p udp -j DROP; systemctl stop fake-postgres fake-redis fake-mysql";
    database.exec(clean).await.unwrap();
    let run = run.expect_code(1).unwrap();
    for (port, name) in [
        (5433, "PostgreSQL, without TLS"),
        (6379, "Redis, which asks for a password"),
        (3306, "MySQL 8.0.36"),
    ] {
        let is_named =
            |line: &str| line.contains(&format!(":{port}/tcp")) && line.contains(&format!("{name}, answers"));
        assert!(run.stderr.lines().any(is_named), "{name}: {}", run.stderr);
    }
    let silent = "not proven from this computer: UDP over IPv4 (no answer)";
    assert!(run.stdout.contains(silent), "{}", run.stdout);
}

/// A deploy leaves hosts without a guard alone, and keeps one in step.
#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_keeps_the_guard_in_step() {
    let guarded = Guarded::new().await;
    let application = guarded.host("application");
    guarded.write("", "    metadata: true\n");
    // A port that a role publishes is tried at once.
    let file = fs_err::read_to_string(guarded.project.folder().join("config/deploy.yml")).unwrap();
    let published = "  web:\n    hosts: [application]\n    options: {publish: '8081:80'}\n";
    let open = file.replace("  web: [application]\n", published);
    guarded.project.write("config/deploy.yml", &open.replace("[everywhere,", "[web, everywhere,")).unwrap();
    let run = guarded.run(&["deploy", "--version", "1"]).await.expect_code(0).unwrap();
    let is_told =
        |line: &str| line.contains(":8081/tcp from this computer: open") && line.contains("should be closed");
    assert!(
        run.stderr.lines().any(is_told) && run.stderr.contains("freehold firewall verify"),
        "{}",
        run.stderr
    );
    let run = guarded.run(&["firewall", "apply", "-h", "application"]).await.expect_code(0).unwrap();
    assert!(run.stderr.contains("all as the deploy file says"), "{}", run.stderr);
    guarded.run(&["firewall", "remove", "-y", "-h", "application"]).await.expect_code(0).unwrap();
    guarded.project.write("config/deploy.yml", &file).unwrap();
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
