//! HTTPS by the deploy file.

use freehold_e2e::lab::Host;

use crate::scene::{Scene, eventually};

const HOST: &str = "shop.example.com";
const FOLDER: &str = "/root/.kamal/proxy/apps-config/hello/tls/web";

/// Two self-signed certificates for [`HOST`], with their keys.
pub(crate) const FIRST: [&str; 2] = [
    include_str!("../../../crates/proxy/tests/certificates/first.crt"),
    include_str!("../../../crates/proxy/tests/certificates/first.key"),
];
pub(crate) const SECOND: [&str; 2] = [
    include_str!("../../../crates/proxy/tests/certificates/second.crt"),
    include_str!("../../../crates/proxy/tests/certificates/second.key"),
];

fn give(scene: &Scene, certificate: &str, key: &str) {
    scene.project.write("tls.crt", certificate).unwrap();
    scene.project.write("tls.key", key).unwrap();
}

/// Asks for the version over HTTPS, trusting one certificate only.
pub(crate) async fn ask(host: &Host, certificate: &str) -> String {
    let script = format!(
        "printf '%s' '{certificate}' >/tmp/trusted.pem; curl --silent --max-time 10 --cacert /tmp/trusted.pem \
         --resolve {HOST}:443:127.0.0.1 https://{HOST}/version || echo \"curl: $?\""
    );
    host.exec(&script).await.unwrap().trim().to_owned()
}

/// kamal-compat §7 rows 3, 4, 15; kamal-compat §7.1 row 8; kamal-compat §16 row 9
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_ones_own_is_served_replaced_and_put_back() {
    let mut scene = Scene::new(&["h1"]).await;
    scene.file.proxy_hosts = vec![HOST.to_owned()];
    scene.file.proxy_more = "  ssl:\n    certificate_pem: CERT\n    private_key_pem: KEY\n  \
        run:\n    options:\n      memory: 256m\n      publish: 8081:80\n"
        .to_owned();
    scene.write(&scene.file);
    scene.project.write(".kamal/secrets", "CERT=$(cat tls.crt)\nKEY=$(cat tls.key)\n").unwrap();
    let host = scene.host("h1");
    give(&scene, FIRST[0], FIRST[1]);
    scene.deploy("1").await.expect_code(0).unwrap();
    assert_eq!(ask(&host, FIRST[0]).await, "1");
    assert_eq!(ask(&host, SECOND[0]).await, "curl: 60", "a certificate that is not trusted");
    let plain = |port: u16| {
        format!(
            "curl --silent --output /dev/null --write-out '%{{http_code}} %{{redirect_url}}' \
            --resolve {HOST}:{port}:127.0.0.1 http://{HOST}:{port}/version"
        )
    };
    for port in [80, 8081] {
        assert_eq!(host.exec(&plain(port)).await.unwrap(), format!("301 https://{HOST}/version"));
    }
    let memory =
        host.docker(&["inspect", "--format", "{{.HostConfig.Memory}}", "kamal-proxy"]).await.unwrap();
    assert_eq!(memory.trim(), (256 * 1024 * 1024).to_string());
    // The key belongs to the proxy's user, and to nobody else.
    let modes = host.exec(&format!("cd {FOLDER} && stat --format '%n %a %u' *")).await.unwrap();
    assert_eq!(modes, "cert.pem 644 1001\nkey.pem 600 1001\n");

    give(&scene, SECOND[0], SECOND[1]);
    scene.deploy("2").await.expect_code(0).unwrap();
    assert_eq!(ask(&host, SECOND[0]).await, "2");

    // A key of another certificate: nothing changes, and the earlier pair is back.
    give(&scene, FIRST[0], SECOND[1]);
    let run = scene.deploy("3").await;
    assert_ne!(run.code, Some(0), "{run:?}");
    assert!(run.stderr.contains("unable to load certificate"), "{}", run.stderr);
    assert!(!run.stderr.contains("PRIVATE KEY"), "{}", run.stderr);
    assert_eq!(ask(&host, SECOND[0]).await, "2");
    assert_eq!(host.exec(&format!("cat {FOLDER}/cert.pem")).await.unwrap().trim(), SECOND[0].trim());
    assert_eq!(host.exec(&format!("ls {FOLDER}")).await.unwrap(), "cert.pem\nkey.pem\n");

    // Without the redirect both are served.
    give(&scene, SECOND[0], SECOND[1]);
    scene.file.proxy_more.push_str("  ssl_redirect: false\n");
    scene.write(&scene.file);
    scene.deploy("4").await.expect_code(0).unwrap();
    assert_eq!(ask(&host, SECOND[0]).await, "4");
    assert_eq!(host.exec(&plain(80)).await.unwrap(), "200 ");
}

/// The certificate that a host shows to clients who ask for a name.
pub(crate) async fn shown(host: &Host, name: &str) -> String {
    let script = format!(
        "curl --silent --insecure --max-time 10 --output /dev/null --write-out '%{{certs}}' \
         --resolve {name}:443:127.0.0.1 https://{name}/version || echo \"curl: $?\""
    );
    let text = host.exec(&script).await.unwrap();
    let (_, chain) = text.split_once("-----BEGIN CERTIFICATE-----").expect("a certificate");
    format!("-----BEGIN CERTIFICATE-----{}", chain.trim_end())
}

/// Whoever logs in, a key belongs to the proxy's user and is nobody else's to read.
///
/// kamal-compat §16 row 9; kamal-compat §8 row 14; kamal-compat §7 row 4
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_the_proxys_alone_whoever_logs_in_and_accessories_have_them_too() {
    const SIDE: &str = "side.example.com";
    let mut scene = Scene::new(&["h1"]).await;
    scene.file.proxy_hosts = vec![HOST.to_owned()];
    scene.file.proxy_more = "  ssl: {certificate_pem: CERT, private_key_pem: KEY}\n".to_owned();
    scene.file.more = format!(
        "ssh: {{user: deploy}}\naccessories:\n  side:\n    image: hello:1\n    host: h1\n    proxy:\n      \
         host: {SIDE}\n      app_port: 80\n      healthcheck: {{interval: 1}}\n      \
         ssl: {{certificate_pem: SIDE_CERT, private_key_pem: SIDE_KEY}}\n"
    );
    scene.write(&scene.file);
    let secrets =
        "CERT=$(cat tls.crt)\nKEY=$(cat tls.key)\nSIDE_CERT=$(cat side.crt)\nSIDE_KEY=$(cat side.key)\n";
    scene.project.write(".kamal/secrets", secrets).unwrap();
    give(&scene, FIRST[0], FIRST[1]);
    scene.project.write("side.crt", SECOND[0]).unwrap();
    scene.project.write("side.key", SECOND[1]).unwrap();
    let host = scene.host("h1");
    host.exec("chown deploy:deploy /home/deploy").await.unwrap();
    scene.deploy("1").await.expect_code(0).unwrap();
    assert_eq!(ask(&host, FIRST[0]).await, "1");
    scene.run(&["accessory", "boot", "side"]).await.expect_code(0).unwrap();
    assert_eq!(shown(&host, SIDE).await, SECOND[0].trim(), "the accessory's own");
    assert_eq!(shown(&host, HOST).await, FIRST[0].trim());
    let files =
        "cd /home/deploy/.kamal/proxy/apps-config/hello/tls; find . -type f -printf '%p %m %U\\n' | sort";
    let expected = "./accessories/side/cert.pem 644 1001\n./accessories/side/key.pem 600 1001\n\
        ./web/cert.pem 644 1001\n./web/key.pem 600 1001\n";
    assert_eq!(host.exec(files).await.unwrap(), expected);

    // Replaced, and put back where the new pair is none, although the login may not read the key.
    give(&scene, SECOND[0], SECOND[1]);
    scene.deploy("2").await.expect_code(0).unwrap();
    assert_eq!(ask(&host, SECOND[0]).await, "2");
    give(&scene, FIRST[0], SECOND[1]);
    let run = scene.deploy("3").await;
    assert!(run.code != Some(0) && run.stderr.contains("unable to load certificate"), "{run:?}");
    assert_eq!(ask(&host, SECOND[0]).await, "2");
    assert_eq!(host.exec(files).await.unwrap(), expected);

    scene.run(&["accessory", "remove", "side", "--confirmed"]).await.expect_code(0).unwrap();
    let left = host.exec(files).await.unwrap();
    assert!(!left.contains("side"), "{left}");
}

/// A deploy does not wait for an order; how it stands is told at once and by `status`.
///
/// kamal-compat §7 row 3
#[tokio::test(flavor = "multi_thread")]
async fn how_an_ordered_certificate_stands_is_told() {
    let mut scene = Scene::new(&["h1"]).await;
    scene.file.proxy_hosts = vec![HOST.to_owned()];
    // Nobody is there.
    scene.file.proxy_more = "  ssl: {acme_directory: 'https://127.0.0.1:9/directory'}\n".to_owned();
    scene.write(&scene.file);
    let run = scene.deploy("1").await.expect_code(0).unwrap();
    let notes = [
        format!("the certificate of {HOST} is being ordered"),
        format!("the certificate of {HOST} is not there yet: "),
    ];
    assert!(notes.iter().any(|note| run.stderr.contains(note)), "{}", run.stderr);
    eventually("the order to fail", async || {
        let status = scene.run(&["status", "--json"]).await.expect_code(0).unwrap();
        let seen: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
        let certificate = seen.pointer("/result/hosts/0/certificates/0");
        let certificate = certificate.unwrap_or_else(|| panic!("{seen}"));
        assert_eq!(certificate["name"], HOST);
        certificate["state"] == "failed"
            && certificate["error"].as_str().is_some_and(|error| !error.is_empty())
    })
    .await;
    let status = scene.run(&["status"]).await.expect_code(0).unwrap();
    let line =
        status.stdout.lines().find(|line| line.contains(HOST) && line.contains("failed")).unwrap_or_default();
    for part in ["h1", "failed", "tried again at 20", "or by a deploy"] {
        assert!(line.contains(part), "{part} in {}", status.stdout);
    }
    let details = scene.run(&["proxy", "details"]).await.expect_code(0).unwrap();
    assert!(details.stdout.contains(HOST), "{}", details.stdout);
}
