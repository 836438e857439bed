//! The lab keeps its promises: real hosts, faults on demand, nothing left behind.
#![expect(clippy::unwrap_used, reason = "a failing test ends by panicking, also in its helper functions")]

use std::process::Stdio;
use std::time::Duration;

use freehold_e2e::lab::{self, Images, Lab, Topology};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// Makes a small image of the host's own busybox, since nothing can be pulled.
const IMPORT_BUSYBOX: &str = "mkdir -p /tmp/image && cp /bin/busybox /tmp/image/ && \
    tar --create --directory /tmp/image . | docker import --change 'ENTRYPOINT [\"/busybox\"]' - busybox >/dev/null";

async fn three() -> std::sync::Arc<Lab> {
    let lab = Lab::shared(Topology::three()).await.unwrap();
    lab.reset(Images::Keep).await.unwrap();
    lab
}

#[tokio::test]
async fn three_hosts_take_ssh_and_run_containers_of_their_own() {
    let lab = three().await;
    for host in lab.hosts() {
        let output = lab
            .ssh(host.name(), "hostname; whoami; docker info --format '{{.ServerVersion}}'")
            .await
            .unwrap();
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert!(output.stdout.starts_with(&format!("{}\nroot\n20.10", host.name())), "{}", output.stdout);
        host.exec(IMPORT_BUSYBOX).await.unwrap();
        let printed = host.docker(&["run", "--rm", "busybox", "echo", "hello"]).await.unwrap();
        assert_eq!(printed, "hello\n");
    }
    let h1 = lab.host("h1").unwrap();
    h1.docker(&["run", "--detach", "--name", "only-here", "busybox", "sleep", "1000"]).await.unwrap();
    assert_eq!(h1.containers().await.unwrap(), ["only-here"]);
    assert!(lab.host("h2").unwrap().containers().await.unwrap().is_empty());
    lab.reset(Images::Remove).await.unwrap();
    assert!(h1.containers().await.unwrap().is_empty());
    assert_eq!(h1.docker(&["image", "ls", "--quiet"]).await.unwrap(), "");
}

#[tokio::test]
async fn deploy_user_logs_in_and_may_use_docker_and_sudo() {
    let lab = three().await;
    let output = lab.ssh("deploy@h1", "docker ps --quiet && sudo id -u").await.unwrap();
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), "0\n"), "{}", output.stderr);
}

#[tokio::test]
async fn a_reboot_and_an_engine_restart_bring_containers_back() {
    let lab = three().await;
    let host = lab.host("h2").unwrap();
    host.exec(IMPORT_BUSYBOX).await.unwrap();
    // The first process of a container ignores SIGTERM, and the engine would wait ten seconds for it.
    let run = "docker run --detach --restart unless-stopped --stop-timeout 1 --name stays busybox sleep 1000";
    host.exec(run).await.unwrap();
    let boot = host.exec("stat --format %Y /run").await.unwrap();
    host.reboot().await.unwrap();
    assert_ne!(host.exec("stat --format %Y /run").await.unwrap(), boot);
    assert!(is_running(&host, "stays").await);

    let engine = host.exec("cat /run/lab/engine.pid").await.unwrap();
    host.restart_engine().await.unwrap();
    assert_ne!(host.exec("cat /run/lab/engine.pid").await.unwrap(), engine);
    assert!(is_running(&host, "stays").await);

    host.power_off().await.unwrap();
    assert_ne!(lab.ssh("h2", "true").await.unwrap().code, Some(0));
    host.power_on().await.unwrap();
    assert!(is_running(&host, "stays").await);
}

#[tokio::test]
async fn faults_break_one_host_and_reset_mends_it() {
    let lab = three().await;
    let host = lab.host("h2").unwrap();

    host.cut_network().await.unwrap();
    assert!(!answers(&lab, "h2").await);
    assert!(answers(&lab, "h1").await);
    lab.reset(Images::Keep).await.unwrap();
    assert!(answers(&lab, "h2").await);

    host.pause().await.unwrap();
    assert!(!answers(&lab, "h2").await);
    lab.reset(Images::Keep).await.unwrap();
    assert!(answers(&lab, "h2").await);

    host.stop_engine().await.unwrap();
    assert!(answers(&lab, "h2").await);
    assert_ne!(lab.ssh("h2", "docker info >/dev/null 2>&1").await.unwrap().code, Some(0));
    lab.reset(Images::Keep).await.unwrap();
    assert_eq!(lab.ssh("h2", "docker info >/dev/null 2>&1").await.unwrap().code, Some(0));

    host.power_off().await.unwrap();
    lab.reset(Images::Keep).await.unwrap();
    assert!(answers(&lab, "h2").await);
}

#[tokio::test]
async fn ssh_connections_are_closed_while_new_ones_are_taken() {
    let lab = three().await;
    let host = lab.host("h3").unwrap();
    let session = lab.ssh("h3", "touch /tmp/session; sleep 100");
    let close = async {
        eventually("the session", async || {
            host.attempt("test -e /tmp/session").await.unwrap().code == Some(0)
        })
        .await;
        host.close_ssh_connections().await.unwrap();
    };
    let (ended, ()) = tokio::join!(session, close);
    assert_eq!(ended.unwrap().code, Some(255));
    assert!(answers(&lab, "h3").await);
}

#[tokio::test]
async fn private_hosts_have_no_way_in_or_out_but_the_bastion() {
    let lab = Lab::start(Topology::bastion()).await.unwrap();
    for (host, name) in [("bastion", "bastion"), ("app", "app"), ("database", "database")] {
        let output = lab.ssh(host, "hostname").await.unwrap();
        assert_eq!(output.stdout.trim(), name, "{}", output.stderr);
    }
    let database = lab.host("database").unwrap();
    assert!(database.address().is_err());
    let private = database.private_address().unwrap();
    let greeting = format!("timeout 3 bash -c 'exec 3<>/dev/tcp/{private}/22; head -c 4 <&3'");
    assert_eq!(lab.host("app").unwrap().exec(&greeting).await.unwrap(), "SSH-");
    let bastion = lab.host("bastion").unwrap();
    assert_eq!(bastion.exec(&greeting).await.unwrap(), "SSH-");

    let stranger = Lab::start(Topology::one()).await.unwrap();
    let stranger = stranger.host("h1").unwrap();
    assert_ne!(stranger.attempt(&greeting).await.unwrap().stdout, "SSH-");
    let open = bastion.open_address().unwrap();
    let way_out = format!("timeout 3 bash -c 'exec 3<>/dev/tcp/{open}/22; head -c 4 <&3'");
    assert_ne!(database.attempt(&way_out).await.unwrap().stdout, "SSH-");
}

#[tokio::test]
async fn a_disk_with_a_size_can_be_full() {
    let topology = Topology::one().with("small-disk", |host| host.disk_bytes = Some(200 * 1024 * 1024));
    let lab = Lab::start(topology).await.unwrap();
    let host = lab.host("h1").unwrap();
    host.exec(IMPORT_BUSYBOX).await.unwrap();
    host.fill_disk(0).await.unwrap();
    let write = "head -c 1000000 /dev/zero >/root/file";
    assert_ne!(host.attempt(write).await.unwrap().code, Some(0));
    assert_ne!(host.attempt(&IMPORT_BUSYBOX.replace("- busybox", "- second")).await.unwrap().code, Some(0));
    host.free_disk().await.unwrap();
    host.exec(write).await.unwrap();
    assert!(lab.hosts().iter().all(|host| host.spec().disk_bytes.is_some()));
}

#[tokio::test]
async fn debian_13_hosts_run_the_newer_engine() {
    let topology = Topology::one().with("trixie", |host| host.suite = lab::Suite::Trixie);
    let lab = Lab::start(topology).await.unwrap();
    let version = lab.ssh("h1", "docker version --format '{{.Server.Version}}'").await.unwrap();
    assert!(version.stdout.starts_with("26."), "{version:?}");
}

#[tokio::test]
async fn a_dropped_lab_leaves_nothing() {
    let lab = Lab::start(Topology::one()).await.unwrap();
    let (id, directory, engine) =
        (lab.id().to_owned(), lab.directory().to_owned(), lab.engine_address().to_owned());
    assert!(!objects(&engine, &id).await.is_empty());
    drop(lab);
    assert_eq!(objects(&engine, &id).await, "");
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_killed_owner_leaves_nothing() {
    let (mut owner, id, engine) = owned_lab().await;
    kill_group(&mut owner).await;
    eventually("the lab to go", async || objects(&engine, &id).await.is_empty()).await;
}

#[tokio::test]
async fn what_a_killed_owner_and_watcher_leave_goes_at_the_next_start() {
    let (mut owner, id, engine) = owned_lab().await;
    signal("KILL", &watcher(&id));
    kill_group(&mut owner).await;
    assert!(!objects(&engine, &id).await.is_empty());
    let next = Lab::start(Topology::one()).await.unwrap();
    assert_eq!(objects(&engine, &id).await, "");
    assert!(!objects(&engine, next.id()).await.is_empty());
}

#[tokio::test]
async fn ctrl_c_ends_the_command_first_and_then_the_lab() {
    let (mut owner, id, engine) = owned_lab().await;
    let pid = owner.id().unwrap();
    // What a terminal does: the signal goes to the whole process group.
    signal("INT", &format!("-{pid}"));
    tokio::time::timeout(Duration::from_secs(60), owner.wait()).await.unwrap().unwrap();
    assert_eq!(objects(&engine, &id).await, "");
}

/// Starts a process that owns a lab of one host, and returns the lab's id and engine.
async fn owned_lab() -> (Child, String, String) {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_freehold-lab"))
        .args(["with", "one", "--", "sh", "-c", "echo \"$FREEHOLD_LABS\"; exec sleep 300"])
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = tokio::io::BufReader::new(owner.stdout.take().unwrap());
    tokio::io::AsyncBufReadExt::read_line(&mut stdout, &mut line).await.unwrap();
    let id = line.trim().rsplit('/').next().unwrap().to_owned();
    let labs = Lab::running().unwrap();
    let lab = labs.iter().find(|lab| lab.id() == id).unwrap();
    (owner, id, lab.engine_address().to_owned())
}

/// Returns what the engine still has of a lab; the empty text for nothing.
async fn objects(engine: &str, id: &str) -> String {
    let filter = format!("label=freehold.lab={id}");
    let mut found = String::new();
    for list in [&["ps", "--all"][..], &["network", "ls"], &["volume", "ls"]] {
        let output = Command::new("docker")
            .args(["--host", engine])
            .args(list)
            .args(["--quiet", "--filter", &filter])
            .output()
            .await
            .unwrap();
        // An engine that was stopped because nobody used it any more has nothing left.
        found.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    found
}

/// Returns the pid of the process that removes a lab when its owner ends.
fn watcher(id: &str) -> String {
    let processes = std::fs::read_dir("/proc").unwrap();
    let pids = processes.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let is_watcher = |pid: &String| {
        let arguments = fs_err::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        arguments.contains("e2e/lab/watch") && arguments.contains(id)
    };
    pids.filter(|pid| pid.parse::<u32>().is_ok()).find(is_watcher).unwrap()
}

/// Kills the owner of a lab and the command that it runs.
async fn kill_group(owner: &mut Child) {
    signal("KILL", &format!("-{}", owner.id().unwrap()));
    owner.wait().await.unwrap();
}

fn signal(name: &str, pid: &str) {
    let status = std::process::Command::new("kill").args(["-s", name, "--", pid]).status().unwrap();
    assert!(status.success());
}

async fn answers(lab: &Lab, host: &str) -> bool {
    let config = lab.ssh_config();
    let status = Command::new("ssh")
        .arg("-F")
        .arg(config)
        .args(["-o", "ConnectTimeout=3", host, "true"])
        .stderr(Stdio::null())
        .status();
    tokio::time::timeout(Duration::from_secs(10), status).await.is_ok_and(|status| status.unwrap().success())
}

async fn is_running(host: &lab::Host, container: &str) -> bool {
    let running = host.docker(&["inspect", "--format", "{{.State.Running}}", container]).await.unwrap();
    running.trim() == "true"
}

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
