//! HTTPS by the deploy file.

use freehold_e2e::lab::Host;

use crate::scene::Scene;

const HOST: &str = "shop.example.com";
const FOLDER: &str = "/root/.kamal/proxy/apps-config/hello/tls/web";

/// Two self-signed certificates for [`HOST`], with their keys.
const FIRST: [&str; 2] = [
    include_str!("../../../crates/proxy/tests/certificates/first.crt"),
    include_str!("../../../crates/proxy/tests/certificates/first.key"),
];
const SECOND: [&str; 2] = [
    include_str!("../../../crates/proxy/tests/certificates/second.crt"),
    include_str!("../../../crates/proxy/tests/certificates/second.key"),
];

fn give(scene: &Scene, certificate: &str, key: &str) {
    scene.project.write("tls.crt", certificate).unwrap();
    scene.project.write("tls.key", key).unwrap();
}

/// Asks for the version over HTTPS, trusting one certificate only.
async fn ask(host: &Host, certificate: &str) -> String {
    let script = format!(
        "printf '%s' '{certificate}' >/tmp/trusted.pem; curl --silent --max-time 10 --cacert /tmp/trusted.pem \
         --resolve {HOST}:443:127.0.0.1 https://{HOST}/version || echo \"curl: $?\""
    );
    host.exec(&script).await.unwrap().trim().to_owned()
}

// kamal-compat §7 rows 3, 4, 15; §7.1 row 8; §16 row 9.
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
    assert_eq!(modes, "cert.pem 644 0\nkey.pem 600 1001\n");

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
