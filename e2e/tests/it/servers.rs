//! Making hosts ready: Docker on one that has none and no way out to its package sources, and hardening.

mod fedora;
mod hardening;

use freehold_e2e::lab::{Lab, Topology};
use freehold_e2e::project::Project;

const SETTINGS: &str = "\
service: hello
image: hello
servers: [app]
builder: {arch: amd64, context: .}
accessories:
  db: {image: postgres:15, host: database}
";

/// Takes the engine off the host, and has the lab start it again once there is one.
const WITHOUT_DOCKER: &str = r#"
touch /run/lab/engine-off
kill "$(cat /run/lab/engine.pid)"
while [ -e "/proc/$(cat /run/lab/engine.pid)" ]; do sleep 0.1; done
dpkg --purge --force-depends docker.io >/dev/null 2>&1
rm -rf /run/docker /var/run/docker.sock
! command -v dockerd
(
  for try in $(seq 1200); do
    if [ -x /usr/sbin/dockerd ]; then sleep 1; rm /run/lab/engine-off; exit; fi
    sleep 0.1
  done
) >/dev/null 2>&1 &
"#;

/// sshd as the images of many providers have it.
const PASSWORDS: &str = r#"
printf 'PasswordAuthentication yes\nPermitRootLogin yes\n' >/etc/ssh/sshd_config.d/50-cloud-init.conf
for file in /etc/ssh/sshd_config.d/*.conf; do
  sed -i '/^PasswordAuthentication no/d; /^PermitRootLogin prohibit-password/d' "$file"
done
kill -HUP "$(cat /run/sshd.pid)"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_private_host_gets_docker_through_this_computer_and_is_hardened() {
    let lab = Lab::start(Topology::bastion()).await.unwrap();
    let project = Project::new(&lab, &["app"]).unwrap();
    project.write("config/deploy.yml", SETTINGS).unwrap();
    let (app, database) = (lab.host("app").unwrap(), lab.host("database").unwrap());
    database.exec(WITHOUT_DOCKER).await.unwrap();
    app.exec(PASSWORDS).await.unwrap();

    let run = project.freehold(&["server", "bootstrap", "--harden", "--without", "upgrades"]).await.unwrap();
    let run = run.expect_code(9).unwrap();
    for said in [
        "database: installs the package docker.io",
        "does not reach its package sources (deb.debian.org): they come through this computer",
        "nobody can be asked",
    ] {
        assert!(run.stderr.contains(said), "`{said}` is not said in:\n{}", run.stderr);
    }
    database.wait_until_ready().await.unwrap();
    let left = database.exec("ls /tmp; env; cat /etc/apt/apt.conf.d/*").await.unwrap();
    assert!(!left.contains("freehold:"), "the proxy's password stays nowhere: {left}");

    let again = ["server", "bootstrap", "--harden", "--without", "upgrades", "--yes"];
    project.freehold(&again).await.unwrap().expect_code(0).unwrap();
    let effective = app.exec("sshd -T | grep -E '^(passwordauth|permitroot)'").await.unwrap();
    assert!(effective.contains("passwordauthentication no"), "{effective}");
    assert!(effective.contains("permitrootlogin without-password"), "{effective}");
    for host in [&app, &database] {
        let file = host.exec("cat /etc/docker/daemon.json").await.unwrap();
        let settings: serde_json::Value = serde_json::from_str(&file).unwrap();
        assert_eq!(settings["live-restore"], true);
        assert_eq!(settings["log-opts"]["max-size"], "10m");
        assert_eq!(host.exec("docker info --format '{{.LiveRestoreEnabled}}'").await.unwrap().trim(), "true");
        assert_eq!(host.exec("cat /proc/sys/net/ipv4/conf/all/send_redirects").await.unwrap().trim(), "0");
    }

    let run = project.freehold(&[&again[..], &["--json"]].concat()).await.unwrap().expect_code(0).unwrap();
    let result: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let hardened = &result["result"]["hardened"];
    assert_eq!(hardened.as_array().map(Vec::len), Some(2), "{result}");
    assert_eq!(hardened[0]["changed"], serde_json::json!([]), "{result}");
    assert_eq!(hardened[1]["changed"], serde_json::json!([]), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sshd_gets_its_settings_back_when_nobody_comes_in_any_more() {
    let lab = Lab::start(Topology::one()).await.unwrap();
    let project = Project::new(&lab, &["h1"]).unwrap();
    let host = lab.host("h1").unwrap();
    host.exec(PASSWORDS).await.unwrap();
    // A setting that was never read in, and that lets nobody in once sshd reads its files again.
    host.exec("echo 'AllowUsers nobody' >/etc/ssh/sshd_config.d/90-later.conf").await.unwrap();
    let only_ssh = "upgrades,sysctl,docker,swap,time";
    let arguments = ["server", "bootstrap", "--harden", "--without", only_ssh, "--yes"];
    let run = project.freehold(&arguments).await.unwrap();
    assert_ne!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("cannot open a session to host `h1`"), "{}", run.stderr);
    host.exec("! test -e /etc/ssh/sshd_config.d/00-freehold.conf").await.unwrap();
}
