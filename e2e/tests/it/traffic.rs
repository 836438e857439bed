//! What the deploy file says of traffic reaches the real proxies; releases that are tried.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use freehold_e2e::lab::Host;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::certificates::FIRST;
use crate::proxy::{audit, inspect};
use crate::scene::{Scene, address, ask, eventually};

const HOST: &str = "shop.example.com";

/// The password `secret` of `ann`.
const USERS: &str = "ann:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

/// An authority, and a client's certificate of it with its key.
fn client() -> [String; 3] {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(Vec::new()).unwrap().signed_by(&key, &issuer).unwrap();
    [issuer.pem(), certificate.pem(), key.serialize_pem()]
}

pub(crate) fn indented(text: &str, spaces: usize) -> String {
    text.lines().map(|line| format!("{:spaces$}{line}\n", "")).collect()
}

/// What `curl` on a host says of a request: the head of the answer, or its own code.
async fn head(host: &Host, options: &str, path: &str) -> String {
    let script = format!(
        "curl --silent --insecure --max-time 10 --dump-header - --output /dev/null --resolve {HOST}:443:127.0.0.1 \
         {options} https://{HOST}{path} || echo \"curl: $?\""
    );
    host.exec(&script).await.unwrap().to_lowercase()
}

/// The settings of the service as the proxy of a host has them.
pub(crate) async fn settings(host: &Host) -> Value {
    let list = host.exec("docker exec kamal-proxy kamal-proxy list --json").await.unwrap();
    let list: Value = serde_json::from_str(&list).unwrap();
    let services = list.get("services").unwrap_or(&list).as_array();
    let service = services.and_then(|all| all.iter().find(|service| service["name"] == "hello-web"));
    assert!(service.is_some(), "no hello-web in {list}");
    service.unwrap()["settings"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_users_and_clients_of_the_deploy_file_are_what_the_proxy_follows() {
    let mut scene = Scene::new(&["h1"]).await;
    let [authority, certificate, key] = client();
    scene.file.proxy_hosts = vec![HOST.to_owned()];
    let rules = format!(
        "  ssl:\n    certificate_pem: CERT\n    private_key_pem: KEY\n    client_ca: |\n{}  basic_auth: USERS\n  \
         compress: [gzip]\n  redirects: [{{from: /old, to: /version}}]\n  headers:\n    hsts: true\n    \
         response: {{set: {{Server: acme}}}}\n",
        indented(&authority, 6)
    );
    scene.file.proxy_more.clone_from(&rules);
    scene.write(&scene.file);
    scene.project.write("tls.crt", FIRST[0]).unwrap();
    scene.project.write("tls.key", FIRST[1]).unwrap();
    scene.project.write("users", USERS).unwrap();
    let secrets = "CERT=$(cat tls.crt)\nKEY=$(cat tls.key)\nUSERS=$(cat users)\n";
    scene.project.write(".kamal/secrets", secrets).unwrap();
    scene.deploy("1").await.expect_code(0).unwrap();
    let host = scene.host("h1");
    host.write("/tmp/client.crt", certificate.as_bytes()).await.unwrap();
    host.write("/tmp/client.key", key.as_bytes()).await.unwrap();
    let known = "--cert /tmp/client.crt --key /tmp/client.key";
    let user = format!("{known} --user ann:secret");

    let stranger = head(&host, "", "/version").await;
    assert!(!stranger.contains(" 200"), "without a certificate: {stranger}");
    assert!(head(&host, known, "/version").await.contains(" 401"), "without a password");
    let answer = head(&host, &user, "/version").await;
    for part in [" 200", "server: acme", "strict-transport-security: max-age="] {
        assert!(answer.contains(part), "{part} in {answer}");
    }
    let packed = head(&host, &format!("{user} --header 'Accept-Encoding: gzip'"), "/").await;
    assert!(packed.contains("content-encoding: gzip"), "{packed}");
    let old = head(&host, &user, "/old").await;
    assert!(old.contains(" 302") && old.contains("/version"), "{old}");
    let proxy = inspect(&host, "kamal-proxy").await.to_string();
    assert!(!proxy.contains("$2y$"), "a hash in the container's description");

    // Rates, and a release that crashes once it serves: all of it is as before.
    scene.file.proxy_more = format!("{rules}  rate_limit: {{service: \"1/3600s:3\"}}\n");
    scene.write(&scene.file);
    scene.deploy("2").await.expect_code(0).unwrap();
    let mut last = String::new();
    for _ in 0..5 {
        last = head(&host, &user, "/version").await;
    }
    assert!(last.contains(" 429") && last.contains("retry-after"), "{last}");
    let before = settings(&host).await;
    scene.file.soak = 4;
    scene.file.proxy_more.clear();
    scene.file.clear.push(("HELLO_CRASH_AFTER_MS".to_owned(), "3000".to_owned()));
    scene.write(&scene.file);
    let run = scene.deploy("3").await;
    assert_eq!(run.code, Some(6), "{run:?}");
    assert_eq!(settings(&host).await, before);
    assert!(head(&host, known, "/version").await.contains(" 401"), "the users are back");

    // Containers that are spoken to by HTTP/2 and do not know it.
    scene.file.clear.clear();
    scene.file.deploy_timeout = 5;
    scene.file.proxy_more = format!("{rules}  target_protocol: h2c\n");
    scene.write(&scene.file);
    let run = scene.deploy("4").await;
    assert_eq!(run.code, Some(6), "{run:?}");
    assert_eq!(settings(&host).await, before);
}

/// What `kamal-proxy deploy` can say and a deploy file cannot is there again when a deploy is put back.
#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_that_is_put_back_loses_nothing_that_others_have_set() {
    let mut scene = Scene::new(&["h1"]).await;
    scene.deploy_well("1").await;
    let host = scene.host("h1");
    let id = host.exec("docker ps --quiet --filter name=hello-web-1").await.unwrap();
    let (id, names) = (id.trim(), format!("--host localhost --host {HOST} --canonical-host localhost"));
    let deploy = format!(
        "docker exec kamal-proxy kamal-proxy deploy hello-web --target {id}:80 {names} --health-check-host up.example.com \
         --exclude-metrics-path /up"
    );
    host.exec(&deploy).await.unwrap();
    let before = settings(&host).await;
    assert!(before.to_string().contains("canonical_host"), "{before}");
    scene.file.soak = 4;
    scene.file.clear.push(("HELLO_CRASH_AFTER_MS".to_owned(), "3000".to_owned()));
    scene.write(&scene.file);
    let run = scene.deploy("2").await;
    assert_eq!(run.code, Some(6), "{run:?}");
    assert_eq!(settings(&host).await, before);
    scene.expect_serving("1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_with_a_proxy_header_are_taken_by_the_proxy_and_by_its_stand_in() {
    let mut scene = Scene::new(&["h1"]).await;
    scene.file.proxy_more =
        "  run: {trusted_proxies: [0.0.0.0/0], proxy_protocol: [http], buffer_disk: 1000000000}\n".to_owned();
    scene.write(&scene.file);
    scene.deploy("1").await.expect_code(0).unwrap();
    let host = scene.host("h1");
    let curl = "curl --silent --fail --max-time 10 --output /dev/null";
    host.exec(&format!("{curl} --haproxy-protocol http://127.0.0.1/version")).await.unwrap();
    assert!(host.exec(&format!("{curl} http://127.0.0.1/version")).await.is_err(), "without the header");

    // A request after the other while one container takes the place of another.
    let watch = format!(
        "rm -f /tmp/stop /tmp/seen; (while [ ! -e /tmp/stop ]; do {curl} --haproxy-protocol \
         http://$(hostname -i | cut -d' ' -f1)/version && echo good || echo bad $?; done >/tmp/seen 2>&1 &) </dev/null \
         >/dev/null 2>&1"
    );
    host.exec(&watch).await.unwrap();
    let earlier = inspect(&host, "kamal-proxy").await["Id"].clone();
    let run = scene.run(&["proxy", "reboot"]).await;
    host.exec("touch /tmp/stop").await.unwrap();
    run.expect_code(0).unwrap();
    assert_ne!(inspect(&host, "kamal-proxy").await["Id"], earlier);
    let seen = host.exec("sleep 1; cat /tmp/seen").await.unwrap();
    assert!(seen.lines().count() > 50 && !seen.contains("bad"), "{}", seen.replace("good\n", ""));
}

/// Asks so often for the version, each time as a visitor whom nobody knows, and counts who answers.
async fn share(host: &Host, version: &str) -> usize {
    let mut count = 0;
    for _ in 0..60 {
        count += usize::from(ask(address(host), "/version").await.as_deref() == Ok(version));
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_takes_its_share_and_is_promoted_as_a_release() {
    let mut scene = Scene::new(&["h1", "h2"]).await;
    scene.file.more = "canary: {percent: 50, verdict: {window: 3600}}\n".to_owned();
    scene.write(&scene.file);
    let early = scene.run(&["canary", "start", "--version", "1"]).await;
    assert_eq!(early.code, Some(1), "{early:?}");
    assert!(early.stderr.contains("the proxy does not run on host"), "{}", early.stderr);
    scene.deploy_well("1").await;

    scene.project.set_version("2").unwrap();
    let start = scene.run(&["canary", "start", "--version", "2"]).await.expect_code(0).unwrap();
    assert!(start.stdout.contains("is tried by 50 % of the visitors on 2 hosts"), "{}", start.stdout);
    for host in scene.hosts() {
        let taken = share(&host, "2").await;
        assert!((10..=50).contains(&taken), "{taken} of 60 on {}", host.name());
        assert_eq!(scene.state(&host).await.running, ["hello-web-1", "hello-web-2"]);
    }
    let status = scene.run(&["canary", "status", "--json"]).await.expect_code(0).unwrap();
    let seen: Value = serde_json::from_str(&status.stdout).unwrap();
    let canaries = seen["result"].as_array().unwrap();
    assert_eq!(canaries.len(), 2, "{seen}");
    for canary in canaries {
        assert_eq!((&canary["version"], &canary["percent"]), (&"2".into(), &50.into()), "{canary}");
        assert_eq!(canary["verdict"]["state"], "watching", "{canary}");
        assert!(canary["all"]["requests"].as_u64().unwrap() >= 10, "{canary}");
    }
    let status = scene.run(&["status"]).await.expect_code(0).unwrap();
    assert!(status.stdout.contains("hello-web 2") && status.stdout.contains("watching"), "{}", status.stdout);

    // Whatever would get in its way is refused, and says what to do.
    for command in [
        &["deploy", "--version", "3", "--skip-push"][..],
        &["rollback"],
        &["canary", "start", "--version", "3"],
    ] {
        let run = scene.run(command).await;
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.contains("canary abort"), "{}", run.stderr);
    }
    // The proxy's container is replaced; who tries it stays.
    scene.run(&["proxy", "reboot", "-h", "h1"]).await.expect_code(0).unwrap();
    assert!(share(&scene.host("h1"), "2").await >= 10);

    let promoted = scene.run(&["canary", "promote"]).await.expect_code(0).unwrap();
    assert!(promoted.stdout.contains("hello 2 is live on 2 hosts"), "{}", promoted.stdout);
    scene.expect_serving("2").await;
    scene.expect_clean("2").await;
    for host in scene.hosts() {
        assert_eq!(share(&host, "2").await, 60);
        let acts = audit(&host).await;
        assert!(acts.contains(&"Started canary of version 2".to_owned()), "{acts:?}");
        assert!(acts.contains(&"[web] Booted app version 2".to_owned()), "{acts:?}");
    }
    let releases = scene.run(&["releases"]).await.expect_code(0).unwrap();
    assert!(
        releases.stdout.lines().any(|line| line.contains("live") && line.contains(" 2 ")),
        "{}",
        releases.stdout
    );
    let none = scene.run(&["canary", "promote"]).await;
    assert!(none.code == Some(1) && none.stderr.contains("no release of `hello` is tried"), "{none:?}");
    scene.run(&["rollback"]).await.expect_code(0).unwrap();
    scene.expect_serving("1").await;
    scene.expect_clean("1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_is_given_up_by_itself_and_one_that_cannot_start_leaves_nothing() {
    let mut scene = Scene::new(&["h1", "h2"]).await;
    scene.file.more = "canary: {percent: 50, verdict: {window: 120, min_requests: 10}}\n".to_owned();
    scene.write(&scene.file);
    scene.deploy_well("1").await;
    let mut before = Vec::new();
    for host in scene.hosts() {
        before.push(settings(&host).await);
    }

    // On one host it never gets healthy: on no host it is tried.
    let faulty = scene.file.clone().with_fault("h2", "HELLO_UNHEALTHY", "503");
    scene.write(&crate::deploy_file::DeployFile { deploy_timeout: 5, ..faulty });
    scene.project.set_version("2").unwrap();
    let run = scene.run(&["canary", "start", "--version", "2"]).await;
    assert_eq!(run.code, Some(6), "{run:?}");
    scene.expect_serving("1").await;
    scene.expect_clean("1").await;
    for host in scene.hosts() {
        assert_eq!(share(&host, "1").await, 60);
    }

    // It answers, but with errors.
    scene.file.clear.push(("HELLO_FAIL".to_owned(), "500".to_owned()));
    scene.write(&scene.file);
    scene.project.set_version("3").unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut visitors = JoinSet::new();
    for host in scene.hosts() {
        let (address, is_over) = (address(&host), Arc::clone(&is_over));
        visitors.spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                // Some get an error, which is what is to be noticed.
                ask(address, "/version").await.ok();
            }
        });
    }
    let run = scene.run(&["canary", "start", "--version", "3", "--wait"]).await;
    is_over.store(true, Ordering::Relaxed);
    visitors.join_all().await;
    assert_eq!(run.code, Some(6), "{run:?}");
    assert!(run.stderr.contains("version `3` was given up by the proxy on host"), "{}", run.stderr);
    println!("{}", run.stderr);
    scene.expect_serving("1").await;
    scene.expect_clean("1").await;
    for (host, before) in scene.hosts().iter().zip(&before) {
        assert_eq!(settings(host).await, *before);
        assert_eq!(share(host, "1").await, 60);
        let left = host.exec("ls /root/.kamal/freehold/apps/hello").await.unwrap();
        assert!(!left.contains("canary"), "{left}");
    }
    scene.file.clear.clear();
    scene.write(&scene.file);
    scene.deploy_well("4").await;
}

/// A certificate authority of one's own that wants an account which exists already.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_ones_own_and_an_account_there_are_told_to_the_proxy_and_to_nobody_else() {
    const HMAC_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let mut scene = Scene::new(&["h1"]).await;
    let host = scene.host("h1");
    let address = host.open_address().unwrap();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new([address.to_string()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = serde_json::json!({"pebble": {
        "listenAddress": "0.0.0.0:14000", "managementListenAddress": "0.0.0.0:15000",
        "certificate": "/tmp/ca.crt", "privateKey": "/tmp/ca.key", "httpPort": 80, "tlsPort": 443,
        "ocspResponderURL": "", "externalAccountBindingRequired": true,
        "externalAccountMACKeys": {"kid-1": HMAC_KEY},
    }});
    for (path, text) in [
        ("/tmp/ca.crt", certificate.pem()),
        ("/tmp/ca.key", key.serialize_pem()),
        ("/tmp/pebble.json", config.to_string()),
    ] {
        host.write(path, text.as_bytes()).await.unwrap();
    }
    let pebble = fs_err::read("/usr/bin/pebble").expect("pebble is needed, which script/test installs");
    host.write("/tmp/pebble", &pebble).await.unwrap();
    let start = "chmod +x /tmp/pebble; (PEBBLE_VA_ALWAYS_VALID=1 PEBBLE_VA_NOSLEEP=1 nohup /tmp/pebble -config \
        /tmp/pebble.json >/tmp/pebble.log 2>&1 & echo $! >/tmp/pebble.pid) </dev/null >/dev/null 2>&1";
    host.exec(start).await.unwrap();

    scene.file.proxy_hosts = vec![HOST.to_owned()];
    scene.file.proxy_more = format!(
        "  ssl: {{acme_name_check: false}}\n  run:\n    acme:\n      directory: https://{address}:14000/dir\n      \
         contact: ops@example.com\n      ca: |\n{}      eab: {{key_id: kid-1, hmac_key: EAB_KEY}}\n",
        indented(&issuer.pem(), 8)
    );
    scene.write(&scene.file);
    scene.project.write(".kamal/secrets", &format!("EAB_KEY={HMAC_KEY}\n")).unwrap();
    scene.deploy("1").await.expect_code(0).unwrap();
    eventually("the certificate", async || {
        let status = scene.run(&["status", "--json"]).await.expect_code(0).unwrap();
        let seen: Value = serde_json::from_str(&status.stdout).unwrap();
        seen.pointer("/result/hosts/0/certificates/0/state") == Some(&"valid".into())
    })
    .await;
    let proxy = inspect(&host, "kamal-proxy").await.to_string();
    assert!(proxy.contains("kid-1") && !proxy.contains(HMAC_KEY), "{proxy}");
    let copy =
        "docker cp kamal-proxy:/home/kamal-proxy/acme-account.key - | tar --list --verbose --numeric-owner";
    let listed = host.exec(copy).await.unwrap();
    assert!(listed.starts_with("-rw-------") && listed.contains("1001/1001"), "{listed}");

    // Another container gets its own; a command that knows no secrets needs none.
    scene.run(&["proxy", "reboot"]).await.expect_code(0).unwrap();
    assert!(host.exec(copy).await.unwrap().starts_with("-rw-------"));
    scene.run(&["app", "stop"]).await.expect_code(0).unwrap();
    host.exec("kill $(cat /tmp/pebble.pid)").await.unwrap();
}
