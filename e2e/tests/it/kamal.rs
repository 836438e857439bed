//! Servers as Kamal 2.12 leaves them.
//!
//! kamal-proxy itself is not to be had here: its place takes our own executable under its name, in an image with its tag,
//! label, user and layout, which speaks its command line.

use freehold_e2e::lab::Host;
use freehold_e2e::load::{Kind, Load, LoadOptions};

use crate::scene::{Scene, address, ask, eventually, expect_no_failure};

/// Makes the image that stands for `basecamp/kamal-proxy:v0.9.2`, once for each host.
async fn kamal_proxy_image(host: &Host) {
    if host.docker(&["image", "ls", "--quiet", "basecamp/kamal-proxy:v0.9.2"]).await.unwrap().trim() != "" {
        return;
    }
    let executable = fs_err::read(freehold_e2e::executable::path().unwrap()).unwrap();
    host.exec("mkdir -p /opt/kamal-proxy/usr/local/bin").await.unwrap();
    host.write("/opt/kamal-proxy/usr/local/bin/kamal-proxy", &executable).await.unwrap();
    host.exec(
        "cd /opt/kamal-proxy
        chmod 755 usr/local/bin/kamal-proxy
        mkdir -p tmp etc home/kamal-proxy/.config/kamal-proxy home/kamal-proxy/.apps-config
        chmod 1777 tmp; echo 'kamal-proxy:x:1001:1001::/home/kamal-proxy:/bin/sh' > etc/passwd
        echo 'kamal-proxy:x:1001:' > etc/group
        chown -R 1001:1001 home/kamal-proxy
        tar --numeric-owner -c . | docker import \
          --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
          --change 'USER kamal-proxy' --change 'EXPOSE 80 443' --change 'CMD [\"kamal-proxy\",\"run\"]' \
          --change 'LABEL org.opencontainers.image.title=kamal-proxy' - basecamp/kamal-proxy:v0.9.2
        rm -rf /opt/kamal-proxy",
    )
    .await
    .unwrap();
}

/// Sets a host up as `kamal setup` does, with version 1 of the application behind a running kamal-proxy (kamal-compat §16
/// and the commands of §19.1).
async fn set_up(host: &Host) {
    set_up_with(host, "").await;
    assert_eq!(ask(address(host), "/version").await.as_deref(), Ok("1"));
}

/// The same with more flags for the proxy's service.
async fn set_up_with(host: &Host, flags: &str) {
    kamal_proxy_image(host).await;
    let hello = fs_err::read(freehold_e2e::executable::hello().unwrap()).unwrap();
    host.exec("mkdir -p /opt/hello").await.unwrap();
    host.write("/opt/hello/hello", &hello).await.unwrap();
    let script = r#"
        cd /opt/hello; chmod 755 hello; printf 1 > VERSION
        tar -c hello VERSION | docker import --change 'LABEL service=hello' --change 'EXPOSE 80' \
          --change 'CMD ["/hello"]' - hello:1
        docker tag hello:1 hello:latest
        rm -rf /opt/hello; cd /root
        mkdir -p .kamal .kamal/apps/hello/env/roles .kamal/proxy/apps-config
        (umask 077; echo > .kamal/apps/hello/env/roles/web.env)
        echo '[2026-01-31T12:00:00Z] [someone@example.com] [web] Booted app version 1' >> .kamal/hello-audit.log
        docker network create kamal
        docker run --name kamal-proxy --network kamal --detach --restart unless-stopped \
          --volume kamal-proxy-config:/home/kamal-proxy/.config/kamal-proxy \
          --volume $PWD/.kamal/proxy/apps-config:/home/kamal-proxy/.apps-config \
          --publish 80:80 --publish 443:443 --log-opt max-size=10m basecamp/kamal-proxy:v0.9.2
        docker run --detach --restart unless-stopped --name hello-web-1 --network kamal --hostname h1-2dc7682cde2f \
          --env KAMAL_CONTAINER_NAME="hello-web-1" --env KAMAL_VERSION="1" --env KAMAL_HOST="h1" \
          --env-file .kamal/apps/hello/env/roles/web.env --log-opt max-size="10m" \
          --label service="hello" --label role="web" --label destination hello:1
        id=$(docker container ls --all --filter 'name=^hello-web-1$' --quiet)
        docker exec kamal-proxy kamal-proxy deploy hello-web --target="$id:80" @FLAGS@ --deploy-timeout="30s" \
          --drain-timeout="30s" --health-check-interval="1s" --health-check-timeout="2s" --health-check-path="/up" \
          --buffer-requests="false" --buffer-responses="false" --log-request-header="Cache-Control" \
          --log-request-header="Last-Modified" --log-request-header="User-Agent"
        # What only the stand-in has, and kamal-proxy has not.
        cp -a $(docker volume inspect --format '{{.Mountpoint}}' kamal-proxy-config)/freehold-proxy.state /root/kept
        rm $(docker volume inspect --format '{{.Mountpoint}}' kamal-proxy-config)/freehold-proxy.state
        rm -f /root/kept
    "#;
    host.exec(&script.replace("@FLAGS@", flags)).await.unwrap();
}

async fn inspect(host: &Host, container: &str, format: &str) -> String {
    host.docker(&["inspect", "--format", format, container]).await.unwrap().trim().to_owned()
}

async fn services(host: &Host) -> String {
    host.exec("docker exec kamal-proxy kamal-proxy list").await.unwrap()
}

/// kamal-compat §17 rows 1, 2, 3, 4, 7, 8; kamal-compat §16 rows 1, 3, 4, 13, 14, 17, 18; kamal-compat §12.2 row 21
#[tokio::test(flavor = "multi_thread")]
async fn a_kamal_proxy_that_runs_is_deployed_through() {
    let scene = Scene::new(&["h1"]).await;
    let host = scene.host("h1");
    set_up(&host).await;
    let proxy = inspect(&host, "kamal-proxy", "{{.Id}} {{.State.StartedAt}}").await;

    // kamal-proxy cuts upgraded connections at every deploy.
    let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::WebSocket).collect();
    let options = LoadOptions { workers: 1, kinds, ..LoadOptions::new([address(&host)]) };
    let load = Load::start(options);
    load.answered(2).await;
    let plan = scene.run(&["plan", "--version", "2"]).await.expect_code(0).unwrap();
    assert!(plan.stdout.contains("through kamal-proxy"), "{}", plan.stdout);
    scene.deploy_well("2").await;
    assert_eq!(
        inspect(&host, "kamal-proxy", "{{.Id}} {{.State.StartedAt}}").await,
        proxy,
        "it stays as it is"
    );
    let labels = "{{.Config.Labels.service}}|{{.Config.Labels.role}}|{{.Config.Labels.destination}}|";
    assert_eq!(inspect(&host, "hello-web-2", labels).await, "hello|web||");
    let state = scene.state(&host).await;
    assert!(state.stopped.contains(&"hello-web-1".to_owned()), "{state:?}");

    // One that does not become healthy: nothing was sent to it, and nothing of it is left in the proxy.
    scene.write(&scene.file.clone().with_fault("h1", "HELLO_UNHEALTHY", "500"));
    let run = scene.deploy("bad").await.expect_code(6).unwrap();
    assert!(run.stderr.contains("kamal-proxy: "), "{}", run.stderr);
    scene.expect_serving("2").await;
    let listed = services(&host).await;
    assert!(!listed.contains("probe"), "{listed}");
    scene.write(&scene.file);

    scene.deploy_well("3").await;
    scene.run(&["rollback"]).await.expect_code(0).unwrap();
    scene.expect_serving("2").await;
    scene.expect_clean("2").await;
    println!("{}", expect_no_failure(load).await);

    scene.run(&["app", "maintenance", "--message", "Back <soon>"]).await.expect_code(0).unwrap();
    let answer = ask(address(&host), "/version").await.unwrap_err();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(services(&host).await.contains("stopped"));
    let status = scene.run(&["status"]).await.expect_code(0).unwrap();
    assert!(status.stdout.contains("in maintenance"), "{}", status.stdout);
    scene.run(&["app", "live"]).await.expect_code(0).unwrap();
    scene.expect_serving("2").await;
    let details = scene.run(&["proxy", "details"]).await.expect_code(0).unwrap();
    assert!(
        details.stdout.contains("kamal-proxy") && details.stdout.contains("hello-web"),
        "{}",
        details.stdout
    );
    let audit = scene.run(&["audit"]).await.expect_code(0).unwrap();
    for line in ["Booted app version 1", "Began maintenance", "Ended maintenance"] {
        assert!(audit.stdout.contains(line), "{line} in {}", audit.stdout);
    }

    scene.run(&["app", "stop"]).await.expect_code(0).unwrap();
    assert!(!services(&host).await.contains("hello-web"));
    // The newest container starts again.
    scene.run(&["app", "start"]).await.expect_code(0).unwrap();
    scene.expect_serving("3").await;
}

/// Clients on the host itself, one on each loopback address on which the proxy is to be reached, until they are told to
/// end.
async fn begin_local_clients(host: &Host) {
    host.exec(
        "rm -f /tmp/end /tmp/failures; touch /tmp/failures
        for address in 127.0.0.1 '[::1]'; do
          curl -gfsS -m 5 \"http://$address/version\" >/dev/null 2>&1 || continue
          (while [ ! -e /tmp/end ]; do
            curl -gfsS -m 5 \"http://$address/version\" >/dev/null 2>>/tmp/failures || echo \"$address\" >>/tmp/failures
          done) >/dev/null 2>&1 &
        done",
    )
    .await
    .unwrap();
}

async fn end_local_clients(host: &Host) -> String {
    host.exec("touch /tmp/end; sleep 0.3; cat /tmp/failures").await.unwrap()
}

async fn expect_no_traces(host: &Host) {
    let names = host.containers().await.unwrap();
    assert!(!names.iter().any(|name| name.contains("handover") || name.contains("replaced")), "{names:?}");
    let rules = host.exec("iptables-save -t nat; ip6tables-save -t nat 2>/dev/null || true").await.unwrap();
    assert!(!rules.contains("FREEHOLD"), "{rules}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_kamal_is_adopted_and_given_back() {
    let scene = Scene::new(&["h1"]).await;
    let host = scene.host("h1");
    set_up(&host).await;
    let before = inspect(&host, "kamal-proxy", "{{.Id}}").await;

    let refused = scene.run(&["adopt"]).await.expect_code(9).unwrap();
    for part in
        ["kamal-proxy", "hello-web-1", "Freehold's proxy takes the place of kamal-proxy, with 1 service"]
    {
        assert!(refused.stdout.contains(part), "{part} in {}", refused.stdout);
    }
    assert_eq!(inspect(&host, "kamal-proxy", "{{.Id}}").await, before, "asking changes nothing");

    let requests = scene.load().await;
    begin_local_clients(&host).await;
    let run = scene.run(&["adopt", "--confirmed"]).await.expect_code(0).unwrap();
    println!("adopt: {:?}", run.elapsed);
    let label = "{{index .Config.Labels \"freehold.proxy\"}}";
    assert_ne!(inspect(&host, "kamal-proxy", label).await, "");
    assert_eq!(
        inspect(&host, "kamal-proxy-before-freehold", "{{.Id}} {{.State.Running}}").await,
        format!("{before} false")
    );
    expect_no_traces(&host).await;
    scene.expect_serving("1").await;
    let again = scene.run(&["adopt", "--confirmed"]).await.expect_code(0).unwrap();
    assert!(again.stdout.contains("there is nothing to change"), "{}", again.stdout);

    scene.deploy_well("2").await;
    let run = scene.run(&["proxy", "reboot"]).await.expect_code(0).unwrap();
    println!("proxy reboot: {:?}", run.elapsed);
    expect_no_traces(&host).await;
    scene.expect_serving("2").await;

    let run = scene.run(&["adopt", "--undo", "--confirmed", "--json"]).await.expect_code(0).unwrap();
    println!("adopt --undo: {:?}", run.elapsed);
    assert_eq!(inspect(&host, "kamal-proxy", "{{.Id}}").await, before);
    assert!(services(&host).await.contains("hello-web"));
    expect_no_traces(&host).await;
    scene.expect_serving("2").await;
    assert_eq!(end_local_clients(&host).await, "");
    println!("{}", expect_no_failure(requests).await);
    scene.deploy_well("3").await;
    let audit = scene.run(&["audit"]).await.expect_code(0).unwrap();
    for line in ["Adopted by Freehold", "Rebooted proxy", "Gave back to kamal-proxy"] {
        assert!(audit.stdout.contains(line), "{line} in {}", audit.stdout);
    }
    eventually("the clients to be gone", async || host.exec("! pgrep curl").await.is_ok()).await;
}

/// Certificates that kamal-proxy ordered are served from the first connection on, and not ordered again.
///
/// kamal-compat §17 row 3; kamal-compat §7 row 3
#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_kamal_proxy_ordered_are_carried_over() {
    const NAME: &str = "shop.example.com";
    let mut scene = Scene::new(&["h1"]).await;
    scene.file.proxy_hosts = vec![NAME.to_owned()];
    scene.file.proxy_more = "  ssl: true\n".to_owned();
    scene.write(&scene.file);
    let host = scene.host("h1");
    // autocert's cache, as kamal-proxy has it for Let's Encrypt: the key, then the chain.
    let [certificate, key] = crate::certificates::FIRST;
    host.write("/root/ordered", format!("{}\n{}", key.trim(), certificate).as_bytes()).await.unwrap();
    let folder = "$(docker volume inspect --format '{{.Mountpoint}}' kamal-proxy-config)/certs";
    let usual = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    host.exec(&format!(
        "docker volume create kamal-proxy-config
        mkdir -p {folder}/{usual}; mv /root/ordered {folder}/{usual}/{NAME}
        chmod 600 {folder}/{usual}/{NAME}; chmod 700 {folder} {folder}/{usual}; chown -R 1001:1001 {folder}/.."
    ))
    .await
    .unwrap();
    set_up_with(&host, &format!("--host={NAME} --tls")).await;
    assert_eq!(crate::certificates::ask(&host, certificate).await, "1");

    let asked = scene.run(&["adopt"]).await.expect_code(9).unwrap();
    assert!(asked.stdout.contains(NAME), "{}", asked.stdout);
    scene.run(&["adopt", "--confirmed"]).await.expect_code(0).unwrap();
    assert_eq!(crate::certificates::ask(&host, certificate).await, "1", "the same certificate");
    scene.deploy("2").await.expect_code(0).unwrap();
    assert_eq!(crate::certificates::ask(&host, certificate).await, "2");
    scene.run(&["proxy", "reboot", "-y"]).await.expect_code(0).unwrap();
    assert_eq!(crate::certificates::ask(&host, certificate).await, "2");
    let status = scene.run(&["status"]).await.expect_code(0).unwrap();
    let line =
        status.stdout.lines().find(|line| line.contains(NAME) && line.contains("until")).unwrap_or_default();
    assert!(line.contains("valid") && line.contains("until 2"), "{}", status.stdout);
    // Nothing was ordered: the files are those of before, and no order was begun.
    let files = host.exec(&format!("cd {folder} && find . -type f | sort")).await.unwrap();
    assert!(files.contains(&format!("./{usual}/{NAME}")), "{files}");
    let account = format!("cat {folder}/{usual}/freehold-account.json 2>/dev/null || echo none");
    assert_eq!(host.exec(&account).await.unwrap().trim(), "none", "there is not even an account");
    let log = host.docker(&["logs", "kamal-proxy"]).await.unwrap();
    assert!(!log.contains("Certificate ordered") && !log.contains("not ordered"), "{log}");

    // Back to kamal-proxy: it has them as well.
    scene.run(&["adopt", "--undo", "--confirmed"]).await.expect_code(0).unwrap();
    assert_eq!(crate::certificates::ask(&host, certificate).await, "2");
}
