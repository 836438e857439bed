//! Hosts behind one bastion that give each other an image.

use std::sync::Arc;

use freehold_e2e::lab::{Host, Lab, Topology};

use crate::delivery::{add_layer, exported};
use crate::scene::{Scene, eventually};

const KEYS: &str = "/root/.ssh/authorized_keys";
const MODES: &str = "stat -c '%a %U %n' /root/.ssh/*";

async fn scene() -> Scene {
    let lab: Arc<Lab> = Lab::shared(Topology::bastion()).await.unwrap();
    Scene::on(lab, &["app", "database"]).await
}

async fn keys(host: &Host) -> String {
    host.exec(&format!("cat {KEYS}")).await.unwrap()
}

/// Issue 5: what several hosts behind one bastion lack goes through it once.
#[tokio::test(flavor = "multi_thread")]
async fn what_two_hosts_lack_goes_through_the_bastion_once() {
    let scene = scene().await;
    let (app, database) = (scene.host("app"), scene.host("database"));
    let before = [keys(&app).await, keys(&database).await];
    let modes = app.exec(MODES).await.unwrap();
    add_layer(&scene, "large", 60);
    scene.run(&["build", "push", "--version", "once"]).await.expect_code(0).unwrap();
    let uplink = scene.relay("bastion").await;
    let run = scene.run(&["build", "pull", "--version", "once", "--verbose"]).await.expect_code(0).unwrap();
    assert!(run.stderr.contains("from a neighbour"), "{}", run.stderr);
    let mut size = 0;
    for host in ["app", "database"] {
        let [here, there] = exported(&scene, host, "hello:once").await;
        assert_eq!(here, there, "{host}");
        size = there.1;
    }
    println!("{} bytes through the bastion for two copies of {size}: {}", uplink.bytes(), run.stderr);
    assert!(uplink.bytes() < size * 12 / 10, "{} bytes for an image of {size}", uplink.bytes());
    assert_eq!([keys(&app).await, keys(&database).await], before, "nobody else is let in any more");
    for host in [&app, &database] {
        host.exec("! test -e /root/.kamal/freehold/transfer").await.unwrap();
        assert_eq!(host.exec(MODES).await.unwrap(), modes, "mode and owner stay, and no file beside it");
    }
}

/// While one host cannot reach the other, its key waits: it opens nothing but the pieces. A client that is killed in that
/// moment leaves it, and the next delivery takes it away; one that goes on sends by itself what did not come.
#[tokio::test(flavor = "multi_thread")]
async fn a_neighbours_key_opens_nothing_else_and_does_not_stay() {
    let scene = scene().await;
    let (app, database, bastion) = (scene.host("app"), scene.host("database"), scene.host("bastion"));
    let before = keys(&app).await;
    let (there, here) = (app.private_address().unwrap(), database.private_address().unwrap());
    add_layer(&scene, "large", 40);
    scene.run(&["build", "push", "--version", "shut"]).await.expect_code(0).unwrap();
    let shut = format!("iptables -I INPUT -p tcp --dport 22 -s {here} -j DROP");
    app.exec(&shut).await.unwrap();

    let mut child = scene.project.start(&["build", "pull", "--version", "shut"]).unwrap();
    eventually("the key of the neighbour", async || {
        assert!(child.try_wait().unwrap().is_none(), "the delivery ended before");
        keys(&app).await.contains("freehold-transfer")
            && database.exec("cat /root/.kamal/freehold/transfer/*/.k.*").await.is_ok()
    })
    .await;
    let line = keys(&app).await.lines().last().unwrap().to_owned();
    assert!(line.starts_with("restrict,expiry-time=\""), "{line}");
    let key = database.exec("cat /root/.kamal/freehold/transfer/*/.k.*").await.unwrap();
    let arguments = database.exec("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await.unwrap();
    let secret = key.lines().nth(2).unwrap();
    assert!(arguments.contains("ssh -F none") && !arguments.contains(secret), "{arguments}");
    child.start_kill().unwrap();
    child.wait().await.unwrap();

    // Whoever has the key gets at the pieces and nothing else.
    bastion.exec(&format!("umask 077; cat > /tmp/key <<'END'\n{}\nEND", key.trim_end())).await.unwrap();
    let ssh = "ssh -F none -i /tmp/key -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=no \
         -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR";
    let tried = async |options: &str, command: &str, input: &str| {
        let script = format!(
            "code=0; printf '{input}' | timeout 20 {ssh} {options} root@{there} {command} 2>&1 || code=$?; echo \" code $code\""
        );
        bastion.exec(&script).await.unwrap().trim().to_owned()
    };
    assert_eq!(tried("", "id", "").await, "code 0", "the command is not run");
    assert_eq!(tried("", "", "../../../../etc/passwd\\n").await, "code 21");
    assert_eq!(tried("", "", "load.pid\\n").await, "code 21");
    let names = app.exec("cd /root/.kamal/freehold/transfer/* && ls").await.unwrap();
    if let Some(name) = names.lines().find(|name| name.starts_with("f.")) {
        let given = tried("", "", &format!("{name}\\n")).await;
        assert!(given.starts_with(&format!("{name} ")), "a piece it is let to read: {given}");
    }
    let forwarded = tried("-W 127.0.0.1:22", "", "").await;
    assert!(forwarded.contains("forwarding failed") && !forwarded.contains("SSH-2.0"), "{forwarded}");
    let listening = tried("-N -R 0:127.0.0.1:22 -o ExitOnForwardFailure=yes", "", "").await;
    assert!(!listening.ends_with("code 0") && listening.contains("failed"), "{listening}");
    let terminal = tried("-tt", "", "").await;
    assert!(terminal.contains("PTY allocation request failed"), "{terminal}");
    let files = tried("-s", "sftp", "").await;
    assert!(!files.contains("SFTP"), "{files}");

    // The next delivery goes on by itself where a neighbour does not come through, and takes the old key away.
    let run = scene.run(&["build", "pull", "--version", "shut"]).await.expect_code(0).unwrap();
    app.exec(&shut.replace("-I", "-D")).await.unwrap();
    for host in ["app", "database"] {
        let [here, there] = exported(&scene, host, "hello:shut").await;
        assert_eq!(here, there, "{host}: {}", run.stderr);
    }
    assert_eq!(keys(&app).await, before);
    assert_eq!(tried("", "", "").await.rsplit(' ').next(), Some("255"), "the key opens nothing any more");
    bastion.exec("rm /tmp/key").await.unwrap();

    // The same with hosts that both lack it: a note says why it came from here.
    scene.lab.reset(freehold_e2e::lab::Images::Keep).await.unwrap();
    add_layer(&scene, "large", 40);
    scene.run(&["build", "push", "--version", "fallback"]).await.expect_code(0).unwrap();
    app.exec(&shut).await.unwrap();
    let run = scene.run(&["build", "pull", "--version", "fallback", "--verbose"]).await;
    app.exec(&shut.replace("-I", "-D")).await.unwrap();
    let run = run.expect_code(0).unwrap();
    assert!(
        run.stderr.contains("not all from a neighbour") && run.stderr.contains("timed out"),
        "{}",
        run.stderr
    );
    for host in ["app", "database"] {
        let [here, there] = exported(&scene, host, "hello:fallback").await;
        assert_eq!(here, there, "{host}: {}", run.stderr);
        scene.host(host).exec("! test -e /root/.kamal/freehold/transfer").await.unwrap();
    }
    assert_eq!(keys(&app).await, before);
}
