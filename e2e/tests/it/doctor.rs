//! Faults that a shell line makes on a real host, one after the other: each is named, and nothing else is blamed that works.

use std::sync::Arc;

use freehold_e2e::lab::{Host, Lab, Topology};

use crate::scene::{Scene, eventually};

/// Large enough for a release, small enough to be filled.
const DISK: u64 = 800 * 1024 * 1024;

/// A fault that the host itself has.
struct Fault {
    title: &'static str,
    breaks: &'static str,
    mends: &'static str,
    code: i32,
    check: &'static str,
    /// What the finding or its cause says.
    says: &'static str,
}

const fn fault(
    (title, check): (&'static str, &'static str),
    code: i32,
    says: &'static str,
    breaks: &'static str,
    mends: &'static str,
) -> Fault {
    Fault { title, breaks, mends, code, check, says }
}

const STATE: &str = "state=/root/.kamal/freehold/apps/hello";

/// `HUP` stands for having sshd read its settings again.
const FAULTS: [Fault; 26] = [
    fault(
        ("the service is stopped", "service"),
        1,
        "no container of role `web` runs",
        "docker stop hello-web-9",
        "docker start hello-web-9",
    ),
    fault(
        ("the service is frozen", "service"),
        1,
        "is frozen",
        "docker pause hello-web-9",
        "docker unpause hello-web-9",
    ),
    fault(
        ("the service was removed", "service"),
        1,
        "no container of role `web` runs",
        "docker rename hello-web-9 aside; docker stop aside",
        "docker rename aside hello-web-9; docker start hello-web-9",
    ),
    fault(
        ("the proxy is stopped", "proxy"),
        1,
        "is stopped",
        "docker stop kamal-proxy",
        "docker start kamal-proxy",
    ),
    fault(
        ("the proxy was removed", "proxy"),
        1,
        "there is no proxy",
        "docker stop kamal-proxy; docker rename kamal-proxy aside",
        "docker rename aside kamal-proxy; docker start kamal-proxy",
    ),
    fault(
        ("another program has the port of the proxy", "ports"),
        1,
        "port 443, which the proxy needs, is taken by `busybox`",
        "docker stop kamal-proxy; busybox nc -ll -p 443 -e /bin/true >/dev/null 2>&1 & echo $! >/run/taken
        until ss -Hltn sport = :443 | grep -q 443; do sleep 0.05; done",
        "kill $(cat /run/taken); while ss -Hltn sport = :443 | grep -q 443; do sleep 0.05; done; docker start kamal-proxy",
    ),
    fault(
        ("the lock is held", "lock"),
        0,
        "is held",
        "mkdir -p /root/.kamal/lock-hello",
        "rmdir /root/.kamal/lock-hello",
    ),
    fault(
        ("a rollout did not end", "rollout"),
        1,
        "did not come to its end",
        "$STATE; echo >$state/journal",
        "$STATE; rm $state/journal",
    ),
    fault(
        ("the journal is damaged", "rollout"),
        1,
        "cannot understand",
        "$STATE; printf 'x\\ny\\n' >$state/journal",
        "$STATE; rm $state/journal",
    ),
    fault(
        ("a stored release is damaged", "service"),
        1,
        "cannot understand",
        "$STATE; echo x >$state/releases/damaged.json",
        "$STATE; rm $state/releases/damaged.json",
    ),
    fault(
        ("the engine's socket is gone", "engine"),
        1,
        "it does not exist",
        "mv /var/run/docker.sock /run/aside.sock",
        "mv /run/aside.sock /var/run/docker.sock",
    ),
    fault(
        ("something else stands in the place of the engine's socket", "engine"),
        1,
        "it is not a socket",
        "mv /var/run/docker.sock /run/aside.sock; touch /var/run/docker.sock",
        "mv /run/aside.sock /var/run/docker.sock",
    ),
    fault(
        ("sshd forwards no sockets, and there is no `docker`", "engine"),
        1,
        "does not forward streams to sockets",
        "echo AllowStreamLocalForwarding no >/etc/ssh/lab.d/fault.conf; mv /usr/bin/docker /usr/bin/aside; HUP",
        "rm /etc/ssh/lab.d/fault.conf; mv /usr/bin/aside /usr/bin/docker; HUP",
    ),
    fault(
        ("no key is let in any more", "authentication"),
        4,
        "did not let us in",
        "mv /root/.ssh/authorized_keys /root/.ssh/aside",
        "mv /root/.ssh/aside /root/.ssh/authorized_keys",
    ),
    fault(
        ("root may not log in", "authentication"),
        4,
        "did not let us in",
        "echo 'DenyUsers root' >/etc/ssh/lab.d/fault.conf; HUP",
        "rm /etc/ssh/lab.d/fault.conf; HUP",
    ),
    fault(
        ("the login shell is none", "shell"),
        4,
        "start a shell",
        "usermod -s /usr/sbin/nologin root",
        "usermod -s /bin/bash root",
    ),
    fault(
        ("a command is forced on every login", "shell"),
        4,
        "start a shell",
        "echo 'ForceCommand /bin/true' >/etc/ssh/lab.d/fault.conf; HUP",
        "rm /etc/ssh/lab.d/fault.conf; HUP",
    ),
    fault(
        ("the host has another key", "host-key"),
        4,
        "has changed",
        "cp -a /etc/ssh/ssh_host_ed25519_key /run/aside; ssh-keygen -q -t ed25519 -N '' -f /run/other
        cat /run/other >/etc/ssh/ssh_host_ed25519_key; HUP",
        "cat /run/aside >/etc/ssh/ssh_host_ed25519_key; rm /run/other*; HUP",
    ),
    fault(
        ("the login directory is read-only", "disk"),
        1,
        "cannot write into its login directory",
        "mount --bind /root /root; mount -o remount,bind,ro /root",
        "umount --lazy /root",
    ),
    fault(
        ("no inode is free", "inodes"),
        1,
        "no room for more files",
        "mount -o remount,nr_inodes=$(($(df --output=iused /disk | tail -n 1) + 1)) /disk",
        "mount -o remount,nr_inodes=1000000 /disk",
    ),
    fault(
        ("a restart is due", "engine"),
        0,
        "restarted",
        "touch /var/run/reboot-required",
        "rm /var/run/reboot-required",
    ),
    fault(
        ("no memory is left", "memory"),
        1,
        "no memory is left",
        "printf 'MemTotal: 1000000 kB\\nMemAvailable: 9000 kB\\n' >/run/meminfo; mount --bind /run/meminfo /proc/meminfo",
        "umount /proc/meminfo",
    ),
    fault(
        ("memory is scarce", "memory"),
        0,
        "memory is scarce",
        "printf 'MemTotal: 1000000 kB\\nMemAvailable: 60000 kB\\n' >/run/meminfo; mount --bind /run/meminfo /proc/meminfo",
        "umount /proc/meminfo",
    ),
    fault(("the clock is an hour late", "clock"), 1, "behind", CLOCK, "rm /usr/local/bin/date"),
    fault(
        ("the service is in maintenance", "proxy"),
        0,
        "in maintenance",
        "docker exec kamal-proxy /freehold proxy stop hello-web",
        "docker exec kamal-proxy /freehold proxy resume hello-web",
    ),
    fault(
        ("the proxy has lost the route", "proxy"),
        1,
        "sends no requests",
        "docker exec kamal-proxy /freehold proxy remove hello-web",
        "",
    ),
];

/// A `date` that is wrong about the seconds since 1970.
const CLOCK: &str = r#"cat >/usr/local/bin/date <<'END'
#!/bin/sh
case $1 in +%s) echo $(($(/bin/date +%s) - 3600)) ;; *) exec /bin/date "$@" ;; esac
END
chmod 755 /usr/local/bin/date"#;

/// What `doctor` found that is not good, each as its check and all that it says.
pub(crate) async fn diagnose(scene: &Scene) -> (Option<i32>, Vec<(String, String)>) {
    let run = scene.run(&["doctor", "--json"]).await;
    let first = run.stdout.lines().next().expect("a line of JSON");
    let diagnosis: serde_json::Value = serde_json::from_str(first).unwrap();
    let findings = diagnosis["result"]["findings"].as_array().expect(first);
    let text =
        |finding: &serde_json::Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let bad = findings.iter().filter(|finding| finding["verdict"] != "good");
    let bad = bad.map(|finding| {
        (text(finding, "check"), format!("{} {}", text(finding, "finding"), text(finding, "cause")))
    });
    (run.code, bad.collect())
}

/// Runs a line of a fault on the host.
async fn do_line(host: &Host, line: &str) {
    let hup = "kill -HUP $(cat /run/sshd.pid); until timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/22 && head -c 4 <&3' |
        grep -q SSH-; do sleep 0.05; done";
    let line = line.replace("$STATE", STATE).replace("HUP", hup);
    host.exec(&line).await.unwrap();
}

/// The one fault is named, with the exit code that it deserves.
fn expect(title: &str, (code, check, says): (i32, &str, &str), seen: &(Option<i32>, Vec<(String, String)>)) {
    println!("{title}: {seen:?}");
    let (exit, bad) = seen;
    assert!(bad.iter().any(|(name, text)| name == check && text.contains(says)), "{title}: {bad:?}");
    assert_eq!(*exit, Some(code), "{title}: {bad:?}");
    // What follows from it may be told, too; an engine that answers is never blamed for what is not its fault.
    assert!(check == "engine" || bad.iter().all(|(name, _)| name != "engine"), "{title}: {bad:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_real_host_is_named() {
    let topology = Topology::one().with("doctor", |host| host.disk_bytes = Some(DISK));
    let lab = Arc::new(Lab::start(topology).await.unwrap());
    let scene = Scene::on(lab, &["h1"]).await;
    let host = scene.host("h1");
    scene.deploy("9").await.expect_code(0).unwrap();
    let well = (Some(0), Vec::new());
    assert_eq!(diagnose(&scene).await, well, "nothing is wrong");
    let mut count = 0;
    count += faults_of_the_file(&scene).await;
    count += faults_of_the_way(&scene, &host).await;
    count += faults_of_the_disk(&scene, &host).await;
    count += faults_of_a_user(&scene, &host).await;
    count += faults_of_an_accessory(&scene, &host).await;
    for fault in &FAULTS {
        do_line(&host, fault.breaks).await;
        expect(fault.title, (fault.code, fault.check, fault.says), &diagnose(&scene).await);
        if !fault.mends.is_empty() {
            do_line(&host, fault.mends).await;
            eventually(fault.title, async || diagnose(&scene).await == well).await;
        }
        count += 1;
    }
    // The last fault took the route; a deploy sets it again.
    scene.run(&["deploy", "--version", "9", "--skip-push"]).await.expect_code(0).unwrap();
    host.stop_engine().await.unwrap();
    expect("the engine is stopped", (1, "engine", "does not answer"), &diagnose(&scene).await);
    count += 1;
    println!("{count} faults were named");
}

/// What is wrong with the deploy file, seen from the host.
async fn faults_of_the_file(scene: &Scene) -> usize {
    let registry =
        |server: &str| format!("registry: {{server: '{server}', username: ann, password: [PASSWORD]}}\n");
    scene.project.write(".kamal/secrets", "PASSWORD=x\n").unwrap();
    let cases = [
        ("the registry has no address", "registry", "no address", registry("registry.invalid")),
        ("nothing answers at the registry", "registry", "nothing answers", registry("127.0.0.1:9")),
    ];
    for (title, check, says, more) in &cases {
        let mut file = scene.file.clone();
        file.more.clone_from(more);
        scene.write(&file);
        expect(title, (1, check, says), &diagnose(scene).await);
    }
    let mut file = scene.file.clone();
    file.proxy_hosts = vec!["nowhere.invalid".to_owned()];
    scene.write(&file);
    expect("no name server knows the name", (1, "dns", "has no address"), &diagnose(scene).await);
    let (own, other) = if cfg!(target_arch = "aarch64") { ("arm64", "amd64") } else { ("amd64", "arm64") };
    let text = scene.file.render().replace(&format!("arch: {own}"), &format!("arch: {other}"));
    scene.project.write("config/deploy.yml", &text).unwrap();
    expect("the image is for another processor", (1, "architecture", own), &diagnose(scene).await);
    scene.write(&scene.file);
    cases.len() + 2
}

/// What is wrong before anybody is let in.
async fn faults_of_the_way(scene: &Scene, host: &Host) -> usize {
    let config = scene.project.home().join(".ssh/config");
    let right = fs_err::read_to_string(&config).unwrap();
    let address = host.open_address().unwrap();
    let [a, b, c, _] = address.octets();
    let nobody = std::net::Ipv4Addr::new(a, b, c, 250);
    let cases = [
        ("nothing listens", "port", "refused", format!("Host h1\n  HostName {address}\n  Port 2\n")),
        (
            "what listens is no sshd",
            "handshake",
            "SSH handshake",
            format!("Host h1\n  HostName {address}\n  Port 80\n"),
        ),
        ("there is no such name", "name", "cannot resolve", "Host h1\n  HostName gone.invalid\n".to_owned()),
        // An address of the lab's network that no host has.
        ("nobody is there", "route", "cannot connect", format!("Host h1\n  HostName {nobody}\n")),
        (
            "a jump host is not there",
            "port",
            "jump",
            format!("Host h1\n  ProxyJump jump\nHost jump\n  HostName {address}\n  Port 2\n"),
        ),
        (
            "the proxy command is none",
            "handshake",
            "SSH handshake",
            "Host h1\n  ProxyCommand /nonexistent/nc %h %p\n".to_owned(),
        ),
        (
            "no key is there to be tried",
            "authentication",
            "did not let us in",
            "Host h1\n  PubkeyAuthentication no\n".to_owned(),
        ),
        ("the configuration cannot be read", "configuration", "", "Host h1\n  Port many\n".to_owned()),
        (
            "the host is not known",
            "host-key",
            "is not known",
            "Host h1\n  HostKeyAlias stranger\n".to_owned(),
        ),
    ];
    for (title, check, says, first) in &cases {
        // The first value that `ssh` finds counts.
        fs_err::write(&config, format!("{first}{right}")).unwrap();
        expect(title, (4, check, says), &diagnose(scene).await);
    }
    fs_err::write(&config, right).unwrap();
    cases.len()
}

async fn faults_of_the_disk(scene: &Scene, host: &Host) -> usize {
    host.fill_disk(100 * 1024 * 1024).await.unwrap();
    expect("the disk is nearly full", (1, "disk", "is full"), &diagnose(scene).await);
    host.free_disk().await.unwrap();
    host.fill_disk(0).await.unwrap();
    expect("the disk is full", (1, "disk", "is full"), &diagnose(scene).await);
    host.free_disk().await.unwrap();
    2
}

/// A user who may not use the engine, and is nobody else.
async fn faults_of_a_user(scene: &Scene, host: &Host) -> usize {
    host.exec(
        "id guest >/dev/null 2>&1 || useradd --create-home --shell /bin/bash guest
        install -d -m 700 -o guest /home/guest/.ssh
        install -m 600 -o guest /root/.ssh/authorized_keys /home/guest/.ssh/authorized_keys",
    )
    .await
    .unwrap();
    let mut file = scene.file.clone();
    file.more = "ssh: {user: guest}\n".to_owned();
    scene.write(&file);
    let seen = diagnose(scene).await;
    expect("the user may not use the engine", (1, "engine", "the user may not use it"), &seen);
    assert!(seen.1.iter().any(|(check, _)| check == "sudo"), "{seen:?}");
    host.exec("gpasswd --add guest docker >/dev/null; chmod 600 /var/run/docker.sock").await.unwrap();
    let seen = diagnose(scene).await;
    expect("the socket's rights are wrong", (1, "engine", "the user may not use it"), &seen);
    host.exec("chmod 660 /var/run/docker.sock").await.unwrap();
    scene.write(&scene.file);
    2
}

async fn faults_of_an_accessory(scene: &Scene, host: &Host) -> usize {
    let accessory = |greeting: &str| {
        let mut file = scene.file.clone();
        file.more = format!(
            "accessories:\n  other:\n    image: hello:9\n    host: h1\n    env: {{clear: {{GREETING: {greeting}}}}}\n"
        );
        scene.write(&file);
    };
    accessory("Hi");
    expect("the accessory has no container", (1, "accessory", "has no container"), &diagnose(scene).await);
    scene.run(&["accessory", "boot", "other"]).await.expect_code(0).unwrap();
    assert_eq!(diagnose(scene).await, (Some(0), Vec::new()), "the accessory runs");
    host.exec("docker stop hello-other").await.unwrap();
    expect("the accessory is stopped", (1, "accessory", "does not run"), &diagnose(scene).await);
    host.exec("docker start hello-other").await.unwrap();
    accessory("Hello");
    expect("the accessory is another", (0, "accessory", "another configuration"), &diagnose(scene).await);
    host.exec("docker rm --force hello-other").await.unwrap();
    scene.write(&scene.file);
    3
}
