//! An engine of a user who is not root, has no `sudo` and no business with root's engine.

use std::net::SocketAddr;

use freehold_e2e::lab::Host;

use super::lab;
use crate::scene::{Scene, ask};

/// The port on which the proxy of such an engine may listen.
const PORT: u16 = 8080;

/// The usual socket of the user's engine.
const USUAL: &str = "$XDG_RUNTIME_DIR/docker.sock";

/// Installs what an engine of a user needs beside the engine.
const INSTALL: &str = r#"
if ! command -v rootlesskit >/dev/null; then
  apt-get -q update >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends rootlesskit slirp4netns uidmap >/dev/null 2>&1
fi
"#;

/// Makes the user, and starts an engine as the user in the way in which Docker's own script does it.
///
/// What `pam_systemd` and `systemd --user` do where there is an init system is done by hand. The engine's folder is in
/// memory, because an overlay cannot be on another one.
const START: &str = r#"
if ! id tenant >/dev/null 2>&1; then useradd --create-home --shell /bin/bash tenant; fi
install -d -m 700 -o tenant -g tenant /home/tenant/.ssh "/run/user/$(id -u tenant)"
install -m 600 -o tenant -g tenant /home/deploy/.ssh/authorized_keys /home/tenant/.ssh/authorized_keys
mkdir -p /dev/net
[ -e /dev/net/tun ] || mknod -m 666 /dev/net/tun c 10 200
# As on a host; in a container of Docker's every port is anybody's.
sysctl -qw net.ipv4.ip_unprivileged_port_start=1024
cat >/usr/local/bin/lab-tenant <<'END'
#!/bin/sh
cd /home/tenant
export HOME=/home/tenant XDG_RUNTIME_DIR=/run/user/$(id -u) PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
exec "$@"
END
chmod 755 /usr/local/bin/lab-tenant
setpriv --reuid tenant --regid tenant --init-groups lab-tenant sh -c '
  setsid /usr/share/docker.io/contrib/dockerd-rootless.sh --data-root /tmp/tenant \
    -H "unix://$XDG_RUNTIME_DIR/docker.sock" -H unix:///home/tenant/engine.sock >/tmp/tenant.log 2>&1 </dev/null &
  echo $! >/tmp/tenant.pid'
for try in $(seq 300); do
  if setpriv --reuid tenant --regid tenant --init-groups lab-tenant docker -H unix:///home/tenant/engine.sock info \
    >/dev/null 2>&1; then exit 0; fi
  sleep 0.1
done
tail -n 20 /tmp/tenant.log >&2
exit 1
"#;

/// Ends the engine with everything that it runs.
const STOP: &str = r#"
kill "$(cat "/run/user/$(id -u tenant)/docker.pid")"
while [ -d "/proc/$(cat /tmp/tenant.pid)" ]; do sleep 0.05; done
rm -rf /tmp/tenant "/run/user/$(id -u tenant)" /home/tenant/.kamal /home/tenant/.docker /home/tenant/engine.sock
sysctl -qw net.ipv4.ip_unprivileged_port_start=0
"#;

/// Runs a command on the host as the user.
async fn as_tenant(host: &Host, script: &str) -> String {
    let quoted = script.replace('\'', r"'\''");
    host.exec(&format!("setpriv --reuid tenant --regid tenant --init-groups lab-tenant sh -euc '{quoted}'"))
        .await
        .unwrap()
}

async fn containers(host: &Host) -> Vec<String> {
    let ask = "docker -H unix:///home/tenant/engine.sock ps --all --format '{{.Names}}' | sort";
    as_tenant(host, ask).await.lines().map(str::to_owned).collect()
}

/// kamal-compat §9 ssh row 1
#[tokio::test(flavor = "multi_thread")]
async fn a_rootless_engine_is_found_and_deployed_to() {
    let mut scene = Scene::on(lab().await, &["outside"]).await;
    let host = scene.host("outside");
    host.exec(INSTALL).await.unwrap();
    host.exec(START).await.unwrap();
    scene.file.more = "ssh:\n  user: tenant\n".to_owned();
    scene.write(&scene.file);

    refused_ports(&scene, &host).await;
    scene.file.proxy_more = format!("  run: {{http_port: {PORT}, https_port: 8443}}\n");
    scene.write(&scene.file);
    deploys(&scene, &host).await;
    sockets(&scene, &host).await;
    host.exec(STOP).await.unwrap();
}

/// Ports below 1024 are root's: that is said with the way out, and nothing is left behind.
async fn refused_ports(scene: &Scene, host: &Host) {
    let run = scene.deploy("1").await;
    println!("{}", run.stderr);
    let run = run.expect_code(1).unwrap();
    for said in ["rootless", "port 80", "http_port", "ip_unprivileged_port_start"] {
        assert!(run.stderr.contains(said), "`{said}` is not said in\n{}", run.stderr);
    }
    assert_eq!(containers(host).await, [""; 0]);
    let run = scene.run(&["doctor"]).await;
    assert!(run.stdout.contains("may publish no port below 1024"), "{}", run.stdout);
}

async fn deploys(scene: &Scene, host: &Host) {
    let serves = async |version: &str| {
        let address = SocketAddr::from((host.open_address().unwrap(), PORT));
        assert_eq!(ask(address, "/version").await.as_deref(), Ok(version));
    };
    let run = scene.deploy("1").await.expect_code(0).unwrap();
    println!("the first deploy to a rootless engine: {:?}", run.elapsed);
    serves("1").await;
    assert_eq!(containers(host).await, ["hello-web-1", "kamal-proxy"]);
    assert_eq!(host.containers().await.unwrap(), [""; 0], "root's engine has nothing of it");
    let run = scene.deploy("2").await.expect_code(0).unwrap();
    println!("the next one: {:?}", run.elapsed);
    serves("2").await;
    let run = scene.run(&["doctor"]).await.expect_code(0).unwrap();
    assert!(run.stdout.contains("0 faults, 0 warnings"), "{}", run.stdout);
    scene.run(&["rollback"]).await.expect_code(0).unwrap();
    serves("1").await;
    let run = scene.run(&["app", "logs"]).await.expect_code(0).unwrap();
    assert!(run.stdout.contains("listens on"), "{}", run.stdout);
    scene.run(&["proxy", "reboot", "-y"]).await.expect_code(0).unwrap();
    serves("1").await;
}

/// Where the engine's socket is found: in the login's environment, by the command line's context, at the usual place.
async fn sockets(scene: &Scene, host: &Host) {
    let looks = async |way: &str| {
        let run = scene.run(&["app", "version"]).await.expect_code(0).unwrap();
        assert!(run.stdout.contains('1'), "{way}: {}", run.stdout);
        println!("{way}: found in {:?}", run.elapsed);
    };
    looks("the usual socket").await;
    as_tenant(host, &format!("mv {USUAL} $XDG_RUNTIME_DIR/aside")).await;
    let run = scene.run(&["app", "version"]).await;
    assert_ne!(run.code, Some(0), "{}", run.stdout);
    as_tenant(host, "sed -i '1i export DOCKER_HOST=unix:///home/tenant/engine.sock' ~/.bashrc").await;
    looks("`DOCKER_HOST` of the login").await;
    as_tenant(host, "sed -i 1d ~/.bashrc").await;
    as_tenant(
        host,
        "docker context create own --docker host=unix:///home/tenant/engine.sock >/dev/null 2>&1
        docker context use own >/dev/null 2>&1",
    )
    .await;
    looks("the context of the command line").await;
    as_tenant(
        host,
        &format!("docker context use default >/dev/null 2>&1; mv $XDG_RUNTIME_DIR/aside {USUAL}"),
    )
    .await;
    looks("the usual socket again").await;
}
