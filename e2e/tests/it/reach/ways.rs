use std::process::{Command, Stdio};

use freehold_e2e::lab::Host;
use freehold_e2e::project::Run;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{lab, private};
use crate::doctor::diagnose;
use crate::scene::Scene;

/// Everything that the ways to a host differ in.
struct Site {
    scene: Scene,
    public: String,
    app: String,
    database: String,
}

impl Site {
    async fn new() -> Self {
        let scene = Scene::on(lab().await, &["app", "database"]).await;
        let (app, database) = (private(&scene.host("app")), private(&scene.host("database")));
        let public = scene.host("bastion").address().unwrap().to_string();
        Self { scene, public, app, database }
    }

    fn ssh(&self, file: &str) -> String {
        self.scene.project.home().join(".ssh").join(file).display().to_string()
    }

    /// Replaces what OpenSSH is told of all hosts.
    fn configure(&self, lines: &str) {
        let known_hosts = self.ssh("known_hosts");
        let text = format!(
            "{lines}\nHost bastion\n  HostName {}\nHost app\n  HostName {}\n  ProxyJump bastion\n\
             Host database\n  HostName {}\n  ProxyJump bastion\nHost *\n  UserKnownHostsFile {known_hosts}\n  \
             GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  ConnectTimeout 10\n  LogLevel ERROR\n",
            self.public, self.app, self.database
        );
        fs_err::write(self.ssh("config"), text).unwrap();
    }

    /// Names hosts and the `ssh` section of the deploy file.
    fn deploy_file(&self, hosts: &[&str], ssh: &str) {
        let mut file = self.scene.file.clone();
        file.hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        file.more = ssh.to_owned();
        self.scene.write(&file);
    }

    /// Looks at the hosts: a shell and the engine answer.
    async fn looks(&self, way: &str) -> Run {
        let run = self.scene.run(&["status", "--json"]).await;
        println!("{way}: code {:?} in {:?}", run.code, run.elapsed);
        let run = run.expect_code(0).unwrap();
        assert!(run.stderr.contains("\"connected\""), "{way}: {}", run.stderr);
        run
    }
}

/// Makes `sshd` of a host read its configuration again.
pub(super) async fn reload(host: &Host) {
    host.exec("kill -HUP $(cat /run/sshd.pid)").await.unwrap();
    super::super::scene::eventually("sshd", async || {
        let ask = "timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/22 && head -c 4 <&3' | grep -q SSH-";
        host.attempt(ask).await.unwrap().code == Some(0)
    })
    .await;
}

fn keygen(arguments: &[&str]) {
    let output = Command::new("ssh-keygen").arg("-q").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An agent with the lab's key, which ends with the test.
struct Agent {
    socket: String,
    process: std::process::Child,
}

impl Agent {
    fn start(site: &Site) -> Self {
        let socket = site.ssh("agent");
        let words = ["--pdeathsig", "TERM", "ssh-agent", "-D", "-a", &socket];
        let process = Command::new("setpriv").args(words).stdout(Stdio::null()).spawn().unwrap();
        let agent = Self { socket, process };
        let add = || {
            let mut add = Command::new("ssh-add");
            add.env("SSH_AUTH_SOCK", &agent.socket).arg(site.ssh("id_ed25519"));
            add.output().unwrap().status.success()
        };
        let start = std::time::Instant::now();
        while !add() {
            assert!(start.elapsed() < super::LIMIT, "the agent does not answer");
            std::thread::yield_now();
        }
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// kamal-compat §9 ssh rows 1, 2, 3, 4, 5
#[tokio::test(flavor = "multi_thread")]
async fn hosts_behind_a_bastion_are_reached_in_every_way() {
    let site = Site::new().await;
    let (public, app, database) = (site.public.as_str(), site.app.as_str(), site.database.as_str());
    let key = format!("Host *\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes", site.ssh("id_ed25519"));
    site.configure(&key);
    site.deploy_file(&[database], &format!("ssh:\n  proxy: root@{public}\n"));
    site.looks("one jump").await;
    site.deploy_file(&[database], &format!("ssh:\n  proxy: root@{public},deploy@{app}\n"));
    site.looks("two jumps, each with its own user").await;
    let command = format!("ssh -F {} -W %h:%p bastion", site.ssh("config"));
    site.deploy_file(&[database, app], &format!("ssh:\n  proxy_command: {command}\n"));
    site.looks("a proxy command").await;
    site.deploy_file(&["database", "app"], "");
    site.looks("jumps of OpenSSH's own configuration").await;
    key_changes(&site).await;
    authentications(&site).await;
    users(&site).await;
}

/// The host shows another key than is known, on the last hop and on the bastion.
async fn key_changes(site: &Site) {
    let known = fs_err::read_to_string(site.ssh("known_hosts")).unwrap();
    let other = site.ssh("other_host");
    keygen(&["-t", "ed25519", "-N", "", "-f", &other]);
    let other = fs_err::read_to_string(format!("{other}.pub")).unwrap();
    let other: Vec<&str> = other.split_whitespace().take(2).collect();
    let line = |name: &str| known.lines().position(|line| line.split(' ').next() == Some(name)).unwrap() + 1;
    let lines = |change: &dyn Fn(&str, &str) -> String| {
        let lines = known.lines().map(|line| change(line.split(' ').next().unwrap_or_default(), line));
        lines.collect::<Vec<_>>().join("\n") + "\n"
    };
    site.deploy_file(&["database"], "");
    for (name, marker) in [
        ("database", "has changed"),
        ("bastion", "has changed"),
        ("database", "is revoked"),
        ("bastion", "is revoked"),
        ("database", "is not known"),
    ] {
        // As with OpenSSH the address counts that `HostName` names.
        let address = if name == "bastion" { &site.public } else { &site.database };
        let text = lines(&|at, line| match marker {
            "has changed" if at == address => format!("{at} {}", other.join(" ")),
            "is revoked" if at == address => format!("@revoked {line}"),
            // An authority that signed nothing of this host is no reason to believe its key.
            "is not known" if at == address => format!("@cert-authority {at} {}", other.join(" ")),
            _ => line.to_owned(),
        });
        fs_err::write(site.ssh("known_hosts"), text).unwrap();
        let run = site.scene.run(&["status"]).await.expect_code(4).unwrap();
        assert!(run.stderr.contains(marker), "{name}: {}", run.stderr);
        assert!(run.stderr.contains(&format!("`{name}`")), "{}", run.stderr);
        let place = format!("{}:{}", site.ssh("known_hosts"), line(address));
        assert!(run.stderr.contains(&place), "{place}: {}", run.stderr);
        println!("{name} {marker}: refused");
    }
    fs_err::write(site.ssh("known_hosts"), known).unwrap();
    site.looks("the right keys again").await;
}

async fn authentications(site: &Site) {
    let hosts = ["bastion", "app", "database"].map(|name| site.scene.host(name));
    site.deploy_file(&["database", "app"], "");
    {
        let agent = Agent::start(site);
        site.configure(&format!(
            "Host *\n  User root\n  IdentityAgent {}\n  IdentityFile none",
            agent.socket
        ));
        let run = site.looks("an agent alone").await;
        assert!(run.stderr.contains("agent"), "{}", run.stderr);
    }
    let authority = site.ssh("authority");
    let certified = site.ssh("certified");
    keygen(&["-t", "ed25519", "-N", "", "-f", &authority]);
    keygen(&["-t", "ed25519", "-N", "", "-f", &certified]);
    keygen(&["-s", &authority, "-I", "somebody", "-n", "root", &format!("{certified}.pub")]);
    let trusted = fs_err::read(format!("{authority}.pub")).unwrap();
    for host in &hosts {
        host.write("/etc/ssh/authority.pub", &trusted).await.unwrap();
        host.write("/etc/ssh/lab.d/authority.conf", b"TrustedUserCAKeys /etc/ssh/authority.pub\n")
            .await
            .unwrap();
        reload(host).await;
    }
    site.configure(&format!("Host *\n  User root\n  IdentityFile {certified}\n  IdentitiesOnly yes"));
    let run = site.looks("a certificate alone").await;
    assert!(run.stderr.contains("certified"), "{}", run.stderr);
    for host in &hosts {
        host.exec("rm /etc/ssh/lab.d/authority.conf").await.unwrap();
        reload(host).await;
    }
    let run = site.scene.run(&["status"]).await.expect_code(4).unwrap();
    assert!(run.stderr.contains("`bastion`") && run.stderr.contains("did not let us in"), "{}", run.stderr);

    let encrypted = site.ssh("encrypted");
    keygen(&["-t", "ed25519", "-N", "a phrase", "-f", &encrypted]);
    let public = fs_err::read_to_string(format!("{encrypted}.pub")).unwrap();
    for host in &hosts {
        host.exec(&format!("echo '{}' >>/root/.ssh/authorized_keys", public.trim())).await.unwrap();
    }
    site.configure(&format!("Host *\n  User root\n  IdentityFile {encrypted}\n  IdentitiesOnly yes"));
    let seen = on_a_terminal(&site.scene, "status", "Passphrase", "a phrase\n").await;
    assert_eq!(seen.matches("Passphrase").count(), 1, "one question for three hosts: {seen}");
    assert!(!seen.contains("a phrase"), "{seen}");
    assert!(seen.contains("database") && seen.contains("ended with 0"), "{seen}");
}

/// Runs a command on a terminal, answers one question, and returns everything that the terminal showed.
pub(super) async fn on_a_terminal(scene: &Scene, words: &str, question: &str, answer: &str) -> String {
    let plain = scene.project.command(&[]);
    let program = plain.as_std().get_program().to_string_lossy().into_owned();
    let mut command = tokio::process::Command::new("script");
    command.arg("-qfc").arg(format!("{program} {words}; echo ended with $?")).arg("/dev/null").env_clear();
    for (name, value) in plain.as_std().get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.current_dir(scene.project.folder()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut seen = Vec::new();
    let talk = async {
        let mut asked = false;
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = stdout.read(&mut piece).await {
            seen.extend_from_slice(&piece[..count]);
            if !asked && String::from_utf8_lossy(&seen).contains(question) {
                asked = true;
                stdin.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    };
    tokio::time::timeout(super::LIMIT, talk).await.expect("it ends in time");
    String::from_utf8_lossy(&seen).into_owned()
}

/// Users who are not root: in the group of the engine, and with `sudo` alone.
async fn users(site: &Site) {
    let key = site.ssh("id_ed25519");
    site.configure(&format!("Host bastion\n  User root\nHost *\n  IdentityFile {key}\n  IdentitiesOnly yes"));
    let app = site.scene.host("app");
    let script = "chown deploy: /home/deploy
        id keeper >/dev/null 2>&1 || useradd --create-home --shell /bin/bash keeper
        echo 'keeper ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/keeper
        install -d -m 700 -o keeper /home/keeper/.ssh
        install -m 600 -o keeper /home/deploy/.ssh/authorized_keys /home/keeper/.ssh/authorized_keys";
    app.exec(script).await.unwrap();
    for (user, version) in [("deploy", "1"), ("keeper", "2")] {
        site.deploy_file(&["app"], &format!("ssh:\n  user: {user}\n"));
        let run = site.scene.deploy(version).await;
        println!("deploy as {user}: code {:?} in {:?}", run.code, run.elapsed);
        let run = run.expect_code(0).unwrap();
        assert!(run.stderr.contains(&format!("hello-web-{version}")), "{}", run.stderr);
        let running = app.docker(&["ps", "--format", "{{.Names}}"]).await.unwrap();
        assert!(running.lines().any(|name| name == format!("hello-web-{version}")), "{running}");
        let owner = app.exec(&format!("stat -c %U /home/{user}/.kamal")).await.unwrap();
        assert_eq!(owner.trim(), user);
        app.exec("docker rm -f $(docker ps -aq --filter label=service=hello) >/dev/null").await.unwrap();
    }
    faults(site, &app).await;
    site.deploy_file(&["app"], "ssh:\n  user: keeper\n");
    app.exec("rm /etc/sudoers.d/keeper").await.unwrap();
    let run = site.scene.run(&["status"]).await;
    assert!(matches!(run.code, Some(1 | 4)), "{run:?}");
    assert!(run.stderr.contains("may not use"), "{}", run.stderr);
}

/// A healthy host, and what `doctor` says once something is broken on it.
async fn faults(site: &Site, app: &Host) {
    site.deploy_file(&["app"], "ssh:\n  user: root\n");
    site.scene.deploy("9").await.expect_code(0).unwrap();
    assert_eq!(diagnose(&site.scene).await, (Some(0), Vec::new()), "nothing is wrong");
    let cases: [(&str, &str, i32, &str); 5] = [
        ("docker stop hello-web-9", "docker start hello-web-9", 1, "service"),
        ("docker stop kamal-proxy", "docker start kamal-proxy", 1, "proxy"),
        ("mkdir -p /root/.kamal/lock-hello", "rmdir /root/.kamal/lock-hello", 0, "lock"),
        (
            "echo AllowTcpForwarding no >/etc/ssh/lab.d/forward.conf",
            "rm /etc/ssh/lab.d/forward.conf",
            4,
            "jump",
        ),
        (
            "mv /root/.ssh/authorized_keys /root/.ssh/aside",
            "mv /root/.ssh/aside /root/.ssh/authorized_keys",
            4,
            "authentication",
        ),
    ];
    for (breaks, mends, code, check) in cases {
        let bastion = site.scene.host("bastion");
        let host = if check == "jump" { &bastion } else { app };
        host.exec(breaks).await.unwrap();
        reload(host).await;
        let (seen, bad) = diagnose(&site.scene).await;
        assert!(bad.iter().any(|(name, _)| name == check), "{check}: {bad:?}");
        assert_eq!(seen, Some(code), "{check}: {bad:?}");
        println!("doctor: {bad:?}");
        host.exec(mends).await.unwrap();
        reload(host).await;
    }
    app.stop_engine().await.unwrap();
    let (code, bad) = diagnose(&site.scene).await;
    assert_eq!((code, bad[0].0.as_str()), (Some(1), "engine"), "{bad:?}");
    println!("doctor: {bad:?}");
    app.start_engine().await.unwrap();
    crate::scene::eventually("the host to be well again", async || {
        diagnose(&site.scene).await == (Some(0), Vec::new())
    })
    .await;
    app.exec("docker rm -f $(docker ps -aq --filter label=service=hello) >/dev/null").await.unwrap();
}
