//! The containers of the proxies, made, stopped, configured and replaced by hand.

use freehold_e2e::lab::Host;
use freehold_e2e::load::{Kind, Load, LoadOptions};
use serde_json::Value;

use crate::scene::{Scene, address, ask, expect_no_failure};

/// A hook that writes down when it ran and what it was told.
const HOOK: &str = "#!/bin/sh\necho \"$(basename $0) $KAMAL_HOSTS $KAMAL_COMMAND $KAMAL_SUBCOMMAND $KAMAL_LOCK \
    ${PASSWORD:-no secret}\" >> hooks.log\n[ \"$(cat fail 2>/dev/null)\" != \"$(basename $0)\" ]\n";

pub(crate) async fn inspect(host: &Host, container: &str) -> Value {
    let text = host.docker(&["inspect", container]).await.unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[0].take()
}

async fn proxy_of(host: &Host) -> Value {
    inspect(host, "kamal-proxy").await
}

async fn ids(scene: &Scene) -> Vec<Value> {
    let mut ids = Vec::new();
    for host in scene.hosts() {
        ids.push(proxy_of(&host).await["Id"].clone());
    }
    ids
}

/// Removes the images of a service that other tests left, also those of other destinations.
pub(crate) async fn forget_images(host: &Host, service: &str) {
    let list = format!("docker image ls --all --quiet --filter label=service={service}");
    host.exec(&format!("{list} | sort -u | xargs -r docker image rm --force >/dev/null")).await.unwrap();
}

/// What the audit log of a host has, without times and performers.
pub(crate) async fn audit(host: &Host) -> Vec<String> {
    let text = host.exec("cat /root/.kamal/*-audit.log").await.unwrap();
    let act =
        |line: &str| line.split_once("] ").and_then(|(_, rest)| rest.split_once("] ")).unwrap().1.to_owned();
    text.lines().map(act).collect()
}

/// The host's port that leads to one of the proxy.
fn port(proxy: &Value, inside: &str) -> Value {
    proxy["HostConfig"]["PortBindings"][inside][0]["HostPort"].clone()
}

/// kamal-compat §12.2 rows 34, 36, 38, 39; kamal-compat §16 row 10; kamal-compat §7.1 row 10; kamal-compat §15 row 7
#[tokio::test(flavor = "multi_thread")]
async fn proxies_are_booted_stopped_started_and_configured() {
    let scene = Scene::new(&["h1", "h2"]).await;
    let host = scene.host("h1");
    let stopped = scene.run(&["proxy", "stop"]).await.expect_code(1).unwrap();
    assert!(stopped.stderr.contains("host `h1` has no proxy"), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("freehold proxy boot"), "{}", stopped.stderr);

    scene.run(&["proxy", "boot"]).await.expect_code(0).unwrap();
    let first = ids(&scene).await;
    let again = scene.run(&["proxy", "boot"]).await.expect_code(0).unwrap();
    assert!(again.stdout.contains("the proxy is running on 2 hosts"), "{}", again.stdout);
    assert_eq!(ids(&scene).await, first, "what runs is left as it is");
    assert!(
        ask(address(&host), "/").await.unwrap_err().starts_with("HTTP/1.1 404"),
        "it knows no service yet"
    );
    let details = scene.run(&["proxy", "details"]).await.expect_code(0).unwrap();
    for part in ["h1", "h2", "Freehold's", "running", "0.0.0.0:80", "0.0.0.0:443"] {
        assert!(details.stdout.contains(part), "{part} in {}", details.stdout);
    }
    let logs = scene.run(&["proxy", "logs", "-n", "20"]).await.expect_code(0).unwrap();
    for name in ["h1", "h2"] {
        assert!(logs.stdout.lines().any(|line| line.starts_with(name)), "{}", logs.stdout);
    }
    let one = scene.run(&["proxy", "logs", "-h", "h2", "--since", "1h", "-T"]).await.expect_code(0).unwrap();
    assert!(one.stdout.contains("\"level\"") && !one.stdout.contains("h1"), "{}", one.stdout);

    let started = |proxy: &Value| proxy["State"]["StartedAt"].clone();
    scene.run(&["proxy", "stop", "-h", "h1"]).await.expect_code(0).unwrap();
    assert_eq!(proxy_of(&host).await["State"]["Running"], false);
    assert_eq!(proxy_of(&scene.host("h2")).await["State"]["Running"], true, "only where it was asked for");
    let details = scene.run(&["proxy", "details"]).await.expect_code(0).unwrap();
    assert!(details.stdout.contains("exited"), "{}", details.stdout);
    scene.run(&["proxy", "start"]).await.expect_code(0).unwrap();
    assert!(ask(address(&host), "/").await.unwrap_err().starts_with("HTTP/1.1 404"));
    let before = started(&proxy_of(&host).await);
    scene.run(&["proxy", "restart"]).await.expect_code(0).unwrap();
    assert_ne!(started(&proxy_of(&host).await), before);
    assert_eq!(ids(&scene).await, first, "the same containers");
    let before = started(&proxy_of(&host).await);
    let upgraded = scene.run(&["proxy", "upgrade"]).await.expect_code(0).unwrap();
    assert!(upgraded.stdout.contains("running"), "{upgraded:?}");
    assert_eq!(started(&proxy_of(&host).await), before, "the container stays");
    assert!(ask(address(&host), "/").await.unwrap_err().starts_with("HTTP/1.1 404"));
    let list = scene.run(&["proxy", "list"]).await.expect_code(0).unwrap();
    assert!(list.stdout.contains("nothing is served"), "{list:?}");

    boot_files_count_from_the_next_reboot_on(&scene, &host).await;
    assert_eq!(
        audit(&host).await,
        [
            "Booted proxy",
            "Booted proxy",
            "Stopped proxy",
            "Started proxy",
            "Stopped proxy",
            "Started proxy",
            "Upgraded proxy",
            "Booted proxy",
            "Rebooted proxy",
            "Rebooted proxy"
        ]
    );
}

async fn boot_files_count_from_the_next_reboot_on(scene: &Scene, host: &Host) {
    let first = ids(scene).await;
    let words = ["proxy", "boot_config", "set", "--http-port", "8080", "--https-port", "8443"];
    let more = ["--log-max-size", "5m", "--debug", "--docker-options", "label=team=web", "memory=256m"];
    scene.run(&[&words[..], &more].concat()).await.expect_code(0).unwrap();
    let files =
        "cd /root/.kamal/proxy; for file in $(ls -p | grep -v /); do echo \"$file: $(cat $file)\"; done";
    assert_eq!(
        host.exec(files).await.unwrap(),
        "options: --publish 8080:80 --publish 8443:443 --log-opt max-size=5m --label=team=web --memory=256m\n\
         run_command: kamal-proxy run --debug\n",
        "what is as by default is not written"
    );
    let shown = scene.run(&["proxy", "boot_config", "get"]).await.expect_code(0).unwrap();
    for part in
        ["h2", "--publish 8080:80", "kamal-proxy run --debug", "image: basecamp/kamal-proxy  (default)"]
    {
        assert!(shown.stdout.contains(part), "{part} in {}", shown.stdout);
    }
    scene.run(&["proxy", "boot"]).await.expect_code(0).unwrap();
    assert_eq!(ids(scene).await, first, "a reboot makes them count");
    scene.run(&["proxy", "reboot", "-y"]).await.expect_code(0).unwrap();
    let proxy = proxy_of(host).await;
    assert_eq!((port(&proxy, "80/tcp"), port(&proxy, "443/tcp")), ("8080".into(), "8443".into()));
    assert_eq!(proxy["HostConfig"]["LogConfig"]["Config"]["max-size"], "5m");
    assert_eq!(proxy["HostConfig"]["Memory"], 256 * 1024 * 1024);
    assert_eq!(proxy["Config"]["Labels"]["team"], "web");
    assert!(proxy["Args"].as_array().unwrap().contains(&"--debug".into()), "{}", proxy["Args"]);
    let wrong = scene.run(&["proxy", "boot_config", "set", "--docker-options", "no-such-flag=1"]).await;
    let wrong = wrong.expect_code(2).unwrap();
    assert!(wrong.stderr.contains("no-such-flag"), "{}", wrong.stderr);

    scene.run(&["proxy", "boot_config", "reset"]).await.expect_code(0).unwrap();
    assert_eq!(host.exec(files).await.unwrap(), "");
    scene.run(&["proxy", "reboot", "-y"]).await.expect_code(0).unwrap();
    let proxy = proxy_of(host).await;
    assert_eq!((port(&proxy, "80/tcp"), port(&proxy, "443/tcp")), ("80".into(), "443".into()));
}

/// kamal-compat §12.2 row 35; kamal-compat §14 row 7; kamal-compat §13.10 row 1; kamal-compat §14 rows 12, 14, 15
#[tokio::test(flavor = "multi_thread")]
async fn a_reboot_of_proxies_runs_hooks_and_refuses_no_connection() {
    let mut scene = Scene::new(&["h1", "h2"]).await;
    scene.file.secrets = vec!["PASSWORD".to_owned()];
    scene.write(&scene.file);
    scene.project.write(".kamal/secrets", "PASSWORD=secret\n").unwrap();
    for hook in ["pre-proxy-reboot", "post-proxy-reboot"] {
        let path = format!(".kamal/hooks/{hook}");
        scene.project.write(&path, HOOK).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs_err::set_permissions(scene.project.folder().join(path), mode).unwrap();
    }
    scene.deploy_well("1").await;
    let first = ids(&scene).await;
    let declined = scene.run(&["proxy", "reboot", "--with-gap"]).await.expect_code(9).unwrap();
    assert!(declined.stderr.contains("--confirmed"), "{}", declined.stderr);
    scene.project.write("fail", "pre-proxy-reboot").unwrap();
    let failed = scene.run(&["proxy", "reboot", "--rolling"]).await.expect_code(1).unwrap();
    assert!(failed.stderr.contains("pre-proxy-reboot"), "{}", failed.stderr);
    assert_eq!(ids(&scene).await, first, "a hook that fails stops it");
    assert_eq!(hooks(&scene), ["pre-proxy-reboot h1 proxy reboot true no secret"]);

    scene.project.write("fail", "").unwrap();
    let load = scene.load().await;
    scene.run(&["proxy", "reboot", "--rolling"]).await.expect_code(0).unwrap();
    let expected =
        ["pre-proxy-reboot h1", "post-proxy-reboot h1", "pre-proxy-reboot h2", "post-proxy-reboot h2"];
    assert_eq!(hooks(&scene), expected.map(|start| format!("{start} proxy reboot true no secret")));
    let second = ids(&scene).await;
    assert!(first.iter().zip(&second).all(|(old, new)| old != new), "{first:?} {second:?}");
    println!("{}", expect_no_failure(load).await);
    scene.run(&["proxy", "reboot", "-y"]).await.expect_code(0).unwrap();
    let expected = ["pre-proxy-reboot h1,h2", "post-proxy-reboot h1,h2"];
    assert_eq!(hooks(&scene), expected.map(|start| format!("{start} proxy reboot true no secret")));
    scene.expect_serving("1").await;
    scene.expect_clean("1").await;

    // With a gap, for hosts without a packet filter.
    scene.run(&["proxy", "reboot", "--with-gap", "-y", "-H"]).await.expect_code(0).unwrap();
    assert_eq!(hooks(&scene), [""; 0], "-H skips them");
    scene.expect_serving("1").await;
}

/// What the hooks wrote since the last look.
fn hooks(scene: &Scene) -> Vec<String> {
    let path = scene.project.folder().join("hooks.log");
    let text = fs_err::read_to_string(&path).unwrap_or_default();
    fs_err::write(path, "").unwrap();
    text.lines().map(str::to_owned).collect()
}

/// kamal-compat §12.2 rows 22, 37; kamal-compat §13.11 row 1; kamal-compat §15 row 7
#[tokio::test(flavor = "multi_thread")]
async fn an_application_and_then_its_proxy_are_removed() {
    let scene = Scene::new(&["h1", "h2"]).await;
    for host in scene.hosts() {
        forget_images(&host, "hello").await;
    }
    scene.deploy_well("1").await;
    // The same version of something else: the earlier image loses its name, and its container stays.
    scene.project.set_version("1b").unwrap();
    scene.run(&["deploy", "--version", "1"]).await.expect_code(0).unwrap();
    let (host, images) = (
        scene.host("h1"),
        "docker image ls --all --format '{{.Repository}}:{{.Tag}}' --filter label=service=hello",
    );
    let listed = host.exec(images).await.unwrap();
    assert!(listed.contains("<none>"), "an image without a name: {listed}");
    scene.deploy_well("2").await;
    // One of another destination is not ours to remove.
    host.docker(&["tag", "hello:1", "hello:latest-other"]).await.unwrap();
    host.docker(&[
        "create",
        "--name",
        "hello-web-other-1",
        "--label",
        "service=hello",
        "--label",
        "role=web",
        "--label",
        "destination=other",
        "hello:1",
    ])
    .await
    .unwrap();

    let before = ids(&scene).await;
    let refused = scene.run(&["proxy", "remove"]).await.expect_code(1).unwrap();
    assert!(
        refused.stderr.contains("`hello` is installed there") && refused.stderr.contains("--force"),
        "{refused:?}"
    );
    assert_eq!(ids(&scene).await, before);
    scene.expect_serving("2").await;

    let earlier = audit(&host).await.len();
    scene.run(&["app", "remove"]).await.expect_code(0).unwrap();
    assert_eq!(host.containers().await.unwrap(), ["hello-web-other-1", "kamal-proxy"]);
    assert_eq!(scene.host("h2").containers().await.unwrap(), ["kamal-proxy"]);
    let mut left: Vec<String> = host.exec(images).await.unwrap().lines().map(str::to_owned).collect();
    left.sort();
    assert_eq!(left, ["hello:1", "hello:latest-other"], "the image of another destination's container");
    assert_eq!(scene.host("h2").exec(images).await.unwrap(), "", "no image of the application is left");
    let folders = "ls -A /root/.kamal/apps";
    assert_eq!(host.exec(folders).await.unwrap(), "");
    assert!(ask(address(&host), "/version").await.unwrap_err().starts_with("HTTP/1.1 404"));
    assert_eq!(ids(&scene).await, before, "the proxy stays");
    let acts =
        ["Stopped app", "Removed all app containers", "Removed all app images", "Removed .kamal/apps/hello"];
    assert_eq!(audit(&host).await[earlier..], acts);
    let again = scene.run(&["app", "remove"]).await.expect_code(0).unwrap();
    assert!(again.stderr.contains("nothing to remove") || again.stdout.contains("cleared away"), "{again:?}");
    host.docker(&["rm", "hello-web-other-1"]).await.unwrap();

    scene.run(&["proxy", "remove"]).await.expect_code(0).unwrap();
    for host in scene.hosts() {
        assert_eq!(host.containers().await.unwrap(), [""; 0]);
        let title = "docker image ls --quiet --filter label=org.opencontainers.image.title=kamal-proxy";
        assert_eq!(host.exec(title).await.unwrap(), "", "its image");
        assert_eq!(host.exec("ls -d /root/.kamal/proxy 2>/dev/null || true").await.unwrap(), "", "its files");
        let volumes = host.docker(&["volume", "ls", "--quiet"]).await.unwrap();
        assert!(volumes.lines().any(|name| name == "kamal-proxy-config"), "its state stays: {volumes}");
    }
    let acts = ["Stopped proxy", "Removed proxy container", "Removed proxy image"];
    assert!(audit(&host).await.ends_with(&acts.map(str::to_owned)), "{:?}", audit(&host).await);

    scene.deploy_well("3").await;
    scene.run(&["proxy", "remove", "--force"]).await.expect_code(0).unwrap();
    assert_eq!(host.containers().await.unwrap(), ["hello-web-3"], "whoever forces it, gets it");
    scene.run(&["proxy", "boot"]).await.expect_code(0).unwrap();
    scene.expect_serving("3").await;
}

/// Makes the proxy's container anew by hand, from the same image, as another Freehold may have made it.
async fn remake(host: &Host, labels: &str, ports: &str) {
    remake_as(host, labels, &format!("{ports} $image proxy run --http-port 80 --https-port 443")).await;
    let wait =
        "timeout 20 sh -c 'until curl --silent --output /dev/null http://localhost/; do sleep 0.1; done'";
    host.exec(wait).await.unwrap();
}

async fn remake_as(host: &Host, labels: &str, rest: &str) {
    let script = format!(
        "cd /root; image=$(docker inspect --format '{{{{.Config.Image}}}}' kamal-proxy); docker rm -f kamal-proxy
        docker run --detach --name kamal-proxy --network kamal --restart unless-stopped {labels} \
          --volume kamal-proxy-config:/home/kamal-proxy/.config/kamal-proxy \
          --volume $PWD/.kamal/proxy/apps-config:/home/kamal-proxy/.apps-config \
          {rest}"
    );
    host.exec(&script).await.unwrap();
}

const PORTS: &str = "--publish 80:80 --publish 443:443";

/// A proxy that does not understand this build's API is replaced before anything is asked of it. One that does is left alone,
/// whatever its label says: it may have handed over to a newer process since. One of a later version is left alone, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_an_earlier_build_is_replaced_and_one_of_a_later_build_is_not() {
    let scene = Scene::new(&["h1", "h2"]).await;
    scene.deploy_well("1").await;
    let host = scene.host("h1");
    remake(&host, "--label freehold.proxy=0.0.1 --label freehold.proxy.api=1", PORTS).await;
    scene.expect_serving("1").await;
    let before = ids(&scene).await;
    let load = scene.load().await;
    scene.deploy_well("2").await;
    println!("{}", expect_no_failure(load).await);
    assert_eq!(ids(&scene).await, before);

    // The agent answers at the proxy's socket, and understands nothing that a proxy is asked.
    let other = "--user 0:0 --publish 80:80 --volume /var/run/docker.sock:/run/docker.sock \
        $image agent serve --socket /tmp/kamal-proxy.sock --state-dir /tmp/state";
    remake_as(&host, "--label freehold.proxy=0.0.1 --label freehold.proxy.api=1", other).await;
    let before = ids(&scene).await;
    scene.deploy_well("3").await;
    let after = ids(&scene).await;
    assert!(after[0] != before[0] && after[1] == before[1], "{before:?} {after:?}");
    let api = proxy_of(&host).await["Config"]["Labels"]["freehold.proxy.api"].clone();
    assert_eq!(api, proxy_of(&scene.host("h2")).await["Config"]["Labels"]["freehold.proxy.api"]);
    let acts = audit(&host).await;
    assert!(acts.contains(&"Rebooted proxy".to_owned()), "{acts:?}");
    scene.expect_serving("3").await;

    remake(&host, "--label freehold.proxy=99.0.0 --label freehold.proxy.api=99", PORTS).await;
    let before = ids(&scene).await;
    let refused = scene.deploy("4").await.expect_code(1).unwrap();
    assert!(
        refused.stderr.contains("it is of a newer Freehold (version 99 of its API"),
        "{}",
        refused.stderr
    );
    assert_eq!(ids(&scene).await, before);
    scene.expect_serving("3").await;
}

/// A proxy that was made when nobody needed its port for HTTPS.
#[tokio::test(flavor = "multi_thread")]
async fn https_is_refused_while_no_port_leads_to_it() {
    let mut scene = Scene::new(&["h1"]).await;
    scene.deploy_well("1").await;
    let host = scene.host("h1");
    let api = proxy_of(&host).await["Config"]["Labels"]["freehold.proxy.api"].as_str().unwrap().to_owned();
    let labels = format!("--label freehold.proxy=0.1.0 --label freehold.proxy.api={api}");
    remake(&host, &labels, "--publish 80:80").await;
    scene.expect_serving("1").await;
    let before = ids(&scene).await;
    scene.file.proxy_hosts = vec!["shop.example.com".to_owned()];
    scene.file.proxy_more = "  ssl: {certificate_pem: CERT, private_key_pem: KEY}\n".to_owned();
    scene.write(&scene.file);
    let (certificate, key) = crate::certificates::FIRST.into();
    scene.project.write("tls.crt", certificate).unwrap();
    scene.project.write("tls.key", key).unwrap();
    scene.project.write(".kamal/secrets", "CERT=$(cat tls.crt)\nKEY=$(cat tls.key)\n").unwrap();
    let refused = scene.deploy("2").await.expect_code(1).unwrap();
    let expected = "no port of host `h1` leads to the proxy's port 443, and the deploy file asks for HTTPS";
    assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    assert!(refused.stderr.contains("freehold proxy reboot -h h1"), "{}", refused.stderr);
    assert_eq!(ids(&scene).await, before);
    scene.expect_serving("1").await;
    // As it says.
    scene.run(&["proxy", "reboot", "-h", "h1"]).await.expect_code(0).unwrap();
    scene.deploy("2").await.expect_code(0).unwrap();
    assert_eq!(crate::certificates::ask(&host, certificate).await, "2");
    // Who publishes no port has something else in front of it, and knows what it does.
    scene.file.proxy_more.push_str("  run: {publish: false}\n");
    scene.write(&scene.file);
    remake(&host, &labels, "--publish 80:80").await;
    scene.deploy("3").await.expect_code(0).unwrap();
}

/// kamal-compat §17 row 11
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_destination_is_seen_and_made_without_a_gap() {
    let scene = Scene::new(&["h1", "h2"]).await;
    scene.deploy_well("1").await;
    scene.project.write("config/deploy.production.yml", "env: {clear: {GREETING: Hi}}\n").unwrap();
    let deploy = async |version: &str, more: &[&str]| {
        scene.project.set_version(version).unwrap();
        scene.run(&[&["deploy", "--version", version], more].concat()).await
    };
    let load = scene.load().await;
    let refused = deploy("2", &["-d", "production"]).await.expect_code(1).unwrap();
    for part in ["under another name: `hello-web` has", "`hello-web-production`", "deploy --take-over"] {
        assert!(refused.stderr.contains(part), "{part} in {}", refused.stderr);
    }
    scene.expect_serving("1").await;
    scene.expect_clean("1").await;
    deploy("2", &["-d", "production", "--take-over"]).await.expect_code(0).unwrap();
    scene.expect_serving("2").await;
    for host in scene.hosts() {
        let state = scene.state(&host).await;
        assert_eq!(
            (state.running, state.stopped),
            (vec!["hello-web-production-2".into()], vec!["hello-web-1".into()])
        );
        let label = inspect(&host, "hello-web-production-2").await["Config"]["Labels"]["destination"].clone();
        assert_eq!(label, "production");
        let listed = host.exec("docker exec kamal-proxy kamal-proxy list").await.unwrap();
        assert!(
            listed.contains("hello-web-production") && listed.matches("hello-web").count() == 1,
            "{listed}"
        );
    }
    // From now on it is an ordinary deploy.
    deploy("3", &["-d", "production"]).await.expect_code(0).unwrap();
    scene.expect_serving("3").await;
    println!("{}", expect_no_failure(load).await);

    // On the way back, a release that crashes once it serves: the other destination has its requests again.
    let others = Load::start(LoadOptions { workers: 1, ..LoadOptions::new([address(&scene.host("h1"))]) });
    let kinds = [Kind::KeepAlive].into();
    let target = address(&scene.host("h2"));
    let crashing = Load::start(LoadOptions { workers: 1, kinds, ..LoadOptions::new([target]) });
    others.answered(2).await;
    let faulty = crate::deploy_file::DeployFile { soak: 5, ..scene.file.clone() };
    scene.write(&faulty.with_fault("h2", "HELLO_CRASH_AFTER_REQUEST_MS", "700"));
    deploy("4", &["--take-over"]).await.expect_code(6).unwrap();
    scene.expect_serving("3").await;
    scene.write(&scene.file);
    println!("{}", crashing.stop().await);
    deploy("5", &["--take-over"]).await.expect_code(0).unwrap();
    scene.expect_serving("5").await;
    println!("{}", expect_no_failure(others).await);

    // Another application is never pushed aside.
    let other = Scene::beside(&scene, "other", &["h1"], "localhost");
    let mut file = other.file.clone();
    file.proxy_hosts.clear();
    other.write(&file);
    let refused = other.run(&["deploy", "--version", "1", "--take-over"]).await.expect_code(3).unwrap();
    assert!(
        refused.stderr.contains("serves a host and path of `other-web` for `hello-web`"),
        "{}",
        refused.stderr
    );
}
