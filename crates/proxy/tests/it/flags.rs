//! What kamal-proxy's flags do.

use std::sync::atomic::Ordering;

use freehold_proxy::Invocation;
use freehold_wire::{CertificateSource, CertificateState, Compression, TargetProtocol};

use crate::client::{LIMIT, soon};
use crate::command_line::{call, kamal};
use crate::rig::{Rig, name};
use crate::target::Target;

#[tokio::test]
async fn verbs_without_more_tell_what_there_is() {
    for arguments in
        [&[][..], &["--help"], &["help"], &["rollout"], &["rollout", "--help"], &["deploy", "-h"]]
    {
        let outcome = call(Invocation::KamalProxy, arguments, &[]).await;
        assert_eq!((outcome.result.unwrap(), outcome.errors.as_str()), (0, ""), "{arguments:?}");
        assert!(outcome.output.contains("Usage: kamal-proxy"), "{arguments:?}: {}", outcome.output);
    }
}

// proxy-compat case 48.
#[tokio::test]
async fn a_forced_deploy_waits_for_nothing() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    target.shared.health.store(500, Ordering::SeqCst);
    for force in [&["--force"][..], &["--force=true"], &["--force", "true"]] {
        let address = target.address();
        let arguments = ["deploy", "shop", "--target", &address, "--health-check-interval=20ms"];
        assert_eq!(kamal(&rig, &[&arguments, force].concat()).await, (0, String::new()));
        assert_eq!(rig.open().await.get("/n").await.status, 503);
    }
    target.shared.health.store(200, Ordering::SeqCst);
    let mut client = rig.open().await;
    soon(async { while client.get("/n").await.status != 200 {} }).await;
}

// proxy-compat cases 50, 56, 198 by the command line.
#[tokio::test]
async fn readers_and_a_rollout_are_set_by_flags() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let (reader, next) = (Target::start("reader").await, Target::start("next").await);
    let (address, reading, trying) = (target.address(), reader.address(), next.address());
    let arguments = [
        "deploy",
        "shop",
        "--target",
        &address,
        "--read-target",
        &reading,
        "--read-target-websockets",
        "true",
        "--writer-affinity-timeout=2s",
        "--client-ip-header=True-Client-IP",
        "--exclude-metrics-path=/up,/healthz",
        "--exclude-metrics-path",
        "/x",
    ];
    let done = (0, String::new());
    assert_eq!(kamal(&rig, &arguments).await, done);
    assert_eq!(kamal(&rig, &["rollout", "deploy", "shop", "--target", &trying]).await, done);
    assert_eq!(kamal(&rig, &["rollout", "set", "shop", "--percent=5", "--list", "1,2"]).await, done);
    let status = rig.status().await;
    let settings = &status.settings;
    assert!(settings.read_targets_take_websockets);
    assert_eq!(
        (settings.writer_affinity_ms, settings.client_ip_header.as_deref()),
        (2000, Some("True-Client-IP"))
    );
    assert_eq!(settings.exclude_metrics_paths, ["/up", "/healthz", "/x"]);
    let split = status.canary.unwrap().split.unwrap();
    assert_eq!((split.percentage, split.allow_list), (5, vec!["1".to_owned(), "2".to_owned()]));
    let (_, table) = kamal(&rig, &["list"]).await;
    assert!(table.contains(&format!("{address},{reading}")) && !table.contains(&trying), "{table}");
    let mut client = rig.open().await;
    assert_eq!(client.get("/n").await.text(), "reader  /n 0 0");
    client.send("GET /n HTTP/1.1\r\nHost: x\r\nCookie: kamal-rollout=2\r\n\r\n").await;
    assert_eq!(client.reply().await.text(), "next  /n 0 0");
    assert_eq!(kamal(&rig, &["rollout", "stop", "shop"]).await, done);
    assert_eq!(kamal(&rig, &["rollout", "stop", "shop"]).await, done);
    client.send("POST /n HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nCookie: kamal-rollout=2\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!(reply.text(), "t  /n 0 0");
    assert!(reply.header("set-cookie").unwrap().starts_with("kamal-writer="));
}

#[tokio::test]
async fn rules_are_set_by_flags() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let address = target.address();
    let users = rig.folder.path().join("users");
    fs_err::write(&users, "ann:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n").unwrap();
    let file = format!("--basic-auth-file={}", users.display());
    let arguments = [
        "deploy",
        "shop",
        "--target",
        &address,
        "--balance=least-connections",
        "--passive-health-failures=3",
        "--passive-health-pause=20s",
        "--client-rate=20/1s:40",
        "--service-rate=500/1s",
        "--allow-ip=127.0.0.0/8,::1",
        "--block-ip=10.0.0.1",
        "--trusted-proxy=10.0.0.0/8",
        "--redirect=/old https://new.example.com permanent keep-path",
        "--redirect=/one /two",
        "--request-header=X-Env: live",
        "--remove-request-header=X-Debug,X-Trace",
        "--response-header=Server: a, b",
        "--hsts=24h",
        "--hsts-subdomains",
        "--security-headers",
        &file,
    ];
    assert_eq!(kamal(&rig, &arguments).await, (0, String::new()));
    let settings = rig.status().await.settings;
    assert_eq!(settings.basic_auth_file, Some(users.display().to_string()));
    let wanted = r#"{"balance":"least_connections",
        "passive_health":{"failures":3,"pause_ms":20000,"max_pause_ms":300000},
        "client_rate":"20/1s:40","service_rate":"500/1s","allow":["127.0.0.0/8","::1/128"],"block":["10.0.0.1/32"],
        "trusted_proxies":["10.0.0.0/8"],"redirects":[
        {"from":"/old","to":"https://new.example.com","permanent":true,"keep_path":true},{"from":"/one","to":"/two"}],
        "request_headers":{"set":{"X-Env":"live"},"remove":["X-Debug","X-Trace"]},
        "response_headers":{"set":{"Server":"a, b"}},
        "hsts":{"max_age":86400,"subdomains":true},"security_headers":true}"#;
    assert_eq!(*settings.traffic.unwrap(), serde_json::from_str(wanted).unwrap());
    for (flag, wanted) in [
        ("--balance=random", "`random` is not a way to choose a target"),
        ("--client-rate=fast", "`fast` is not a rate: write `REQUESTS/SPAN`"),
        ("--block-ip=10.0.0.1/8", "`10.0.0.1/8` is not a range of addresses"),
        ("--response-header=Host: x", "`Host` is not a header that can be changed"),
        ("--redirect=/a", "`/a` is not a redirect"),
        ("--hsts-preload", "can only be set with `--hsts`"),
    ] {
        let (code, text) = kamal(&rig, &["deploy", "shop", "--target", &address, flag]).await;
        assert!(code == 1 && text.contains(wanted), "{flag}: {text}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_at_the_edge_is_refused() {
    for (flags, wanted) in [
        (&["--proxy-protocol=https"][..], "`--proxy-protocol` needs `--trusted-proxy`"),
        (&["--proxy-protocol=ftp", "--trusted-proxy=10.0.0.0/8"], "not for `ftp`"),
        (&["--trusted-proxy=10.0.0.1/8"], "`10.0.0.1/8` is not a range of addresses"),
    ] {
        let outcome = call(Invocation::KamalProxy, &[&["run"], flags].concat(), &[]).await;
        let text = match outcome.result {
            Ok(_) => outcome.errors,
            Err(error) => error.to_string(),
        };
        assert!(text.contains(wanted), "{flags:?}: {text}");
    }
}

#[tokio::test]
async fn verdicts_are_asked_for_by_flags() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let (address, next) = (target.address(), Target::start("next").await);
    let trying = next.address();
    let done = (0, String::new());
    assert_eq!(kamal(&rig, &["deploy", "shop", "--target", &address]).await, done);
    assert_eq!(kamal(&rig, &["rollout", "deploy", "shop", "--target", &trying]).await, done);
    let arguments = [
        "rollout",
        "set",
        "shop",
        "--percent=5",
        "--anonymous",
        "--cookie=visitor",
        "--header=X-Canary: yes",
        "--verdict",
        "--verdict-window=5m",
        "--verdict-min-requests=80",
        "--verdict-promote=false",
    ];
    assert_eq!(kamal(&rig, &arguments).await, done);
    let split = rig.status().await.canary.unwrap().split.unwrap();
    let wanted = r#"{"percentage":5,"cookie":"visitor","anonymous":true,"header":{"name":"X-Canary","value":"yes"},
        "verdict":{"window_ms":300000,"min_requests":80,"promote":false}}"#;
    assert_eq!(split, serde_json::from_str(wanted).unwrap());
    for (flags, wanted) in [
        (&["--percent=5", "--verdict-window=5m"][..], "can only be set with `--verdict`"),
        (&["--percent=100", "--verdict"], "`percentage` must be 1 to 99, not 100"),
        (&["--percent=1", "--cookie=a b"], "`a b` is not the name of a cookie"),
    ] {
        let (code, text) = kamal(&rig, &[&["rollout", "set", "shop"], flags].concat()).await;
        assert!(code == 1 && text.contains(wanted), "{flags:?}: {text}");
    }
    assert_eq!(kamal(&rig, &["rollout", "promote", "shop"]).await, done);
    assert_eq!(rig.open().await.get("/n").await.text(), "next  /n 0 0");
}

// What Kamal 2.12 calls on a deploy without TLS, for maintenance and for going live; also with a value behind a switch.
#[tokio::test]
async fn what_kamal_calls_is_done() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let address = format!("--target={}", target.address());
    let arguments = [
        "deploy",
        "app-web",
        &address,
        "--host=a.example.com",
        "--host=www.a.example.com",
        "--deploy-timeout=5s",
        "--drain-timeout=30s",
        "--health-check-interval=1s",
        "--buffer-requests",
        "--buffer-responses",
        "--buffer-memory=2000",
        "--max-request-body=3000",
        "--forward-headers",
        "false",
        "--tls=false",
        "--tls-redirect=false",
        "--canonical-host=a.example.com",
        "--log-request-header=Cache-Control",
        "--log-request-header=Last-Modified",
        "--log-request-header=User-Agent",
        "--error-pages=",
    ];
    assert_eq!(kamal(&rig, &arguments).await, (0, String::new()));
    let settings = rig.client().await.service(&name("app-web"), LIMIT).await.unwrap().settings;
    let buffering = &settings.buffering;
    assert!(buffering.requests && buffering.responses && !settings.forward_headers);
    assert_eq!((buffering.memory_bytes, buffering.max_request_bytes), (2000, 3000));
    assert_eq!(settings.log_request_headers, ["Cache-Control", "Last-Modified", "User-Agent"]);
    assert_eq!((settings.canonical_host.unwrap().as_str(), settings.error_pages), ("a.example.com", None));
    let done = (0, String::new());
    assert_eq!(kamal(&rig, &["stop", "app-web", "--drain-timeout=1s", "--message=Back soon"]).await, done);
    assert!(kamal(&rig, &["list"]).await.1.contains("stopped"));
    let mut connection = rig.open().await;
    connection.send("GET /n HTTP/1.1\r\nHost: a.example.com\r\n\r\n").await;
    assert!(connection.reply().await.text().contains("Back soon"));
    assert_eq!(kamal(&rig, &["pause", "app-web", "--max-pause", "1s"]).await, done);
    assert!(kamal(&rig, &["list"]).await.1.contains("paused"));
    assert_eq!(kamal(&rig, &["resume", "app-web"]).await, done);
    connection.send("GET /n HTTP/1.1\r\nHost: a.example.com\r\n\r\n").await;
    assert_eq!(connection.reply().await.text(), "t  /n 0 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_targets_speak_and_how_answers_are_compressed_is_set_by_flags_and_survives() {
    let (mut rig, target) = (Rig::start(), Target::start("t").await);
    let address = target.address();
    let deploy = |flags: &[&'static str]| {
        let mut arguments = vec!["deploy".to_owned(), "shop".to_owned(), format!("--target={address}")];
        arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        arguments
    };
    for (flags, codings) in [
        (&["--compress"][..], &Compression::ALL[..]),
        (&["--compress=gzip,br"], &[Compression::Gzip, Compression::Br]),
        (&["--compress=false"], &[]),
        (&[], &[]),
    ] {
        let arguments = deploy(flags);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(kamal(&rig, &arguments).await, (0, String::new()), "{flags:?}");
        assert_eq!(rig.status().await.settings.compression, codings, "{flags:?}");
    }
    // The target speaks HTTP/1.1 only: its checks go by HTTP/2 as well and fail, unless they go to another port.
    let port = format!("--health-check-port={}", address.rsplit(':').next().unwrap());
    let mut arguments = deploy(&["--target-protocol=h2c", "--deploy-timeout=300ms"]);
    assert_ne!(kamal(&rig, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await.0, 0);
    arguments.push(port);
    assert_eq!(
        kamal(&rig, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await,
        (0, String::new())
    );
    rig.restart(std::time::Duration::from_secs(1));
    let settings = rig.status().await.settings;
    assert_eq!(settings.target_protocol, TargetProtocol::H2c);
    assert_eq!(settings.health_check.protocol, TargetProtocol::Http1);
    for (flag, said) in [
        ("--target-protocol=h3", "`http1`, `h2c`, `h2` or `https`"),
        ("--target-tls-ca-path=/ca.pem", "can only be set with `--target-protocol` `h2` or `https`"),
        ("--target-tls-server-name=a.internal", "can only be set with `--target-protocol` `h2` or `https`"),
        ("--compress=deflate", "zstd,br,gzip"),
    ] {
        let arguments = deploy(&[flag]);
        let (code, text) = kamal(&rig, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert!(code != 0 && text.contains(said), "{text}");
    }
}

#[tokio::test]
async fn flags_for_targets_that_speak_tls_have_their_effect() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let address = target.address();
    let path = rig.folder.path().join("ca.pem");
    let certificates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates/first.crt");
    fs_err::copy(certificates, &path).unwrap();
    let ca = format!("--target-tls-ca-path={}", path.display());
    let deploy = async |more: &[&str]| {
        let name = "--target-tls-server-name=app.internal";
        let flags = ["deploy", "shop", "--target", &address, "--target-protocol=https", &ca, name];
        kamal(&rig, &[&flags[..], more].concat()).await
    };
    let (code, text) = deploy(&["--deploy-timeout=300ms"]).await;
    assert!(code != 0 && text.contains("cannot be trusted over TLS"), "{text}");
    assert_eq!(deploy(&["--force"]).await, (0, String::new()));
    let settings = rig.status().await.settings;
    let wanted = freehold_wire::TargetTls {
        ca_path: Some(path.to_str().unwrap().to_owned()),
        ca_pem: None,
        server_name: Some("app.internal".to_owned()),
    };
    assert_eq!(settings.target_protocol, TargetProtocol::Https);
    assert_eq!((settings.target_tls, settings.health_check.tls), (Some(wanted.clone()), Some(wanted)));
    // Another port is another server, which is asked without TLS.
    let port = format!("--health-check-port={}", target.port);
    assert_eq!(deploy(&[&port]).await, (0, String::new()));
    assert_eq!(rig.status().await.settings.health_check.tls, None);
}

// proxy-compat case 4.
#[tokio::test]
async fn flags_for_certificates_that_are_ordered_have_their_effect() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let cache = rig.folder.path().join("cache");
    let arguments = [
        "deploy",
        "shop",
        "--target",
        &target.address(),
        "--host=shop.example.com",
        "--tls",
        "--tls-redirect=false",
        "--tls-acme-directory=https://127.0.0.1:1/directory",
        &format!("--tls-acme-cache-path={}", cache.display()),
    ];
    assert_eq!(kamal(&rig, &arguments).await, (0, String::new()));
    let tls = rig.status().await.settings.tls.unwrap();
    let CertificateSource::Acme(acme) = tls.certificate else { panic!("{tls:?}") };
    assert_eq!((acme.directory.as_deref(), tls.redirect), (Some("https://127.0.0.1:1/directory"), false));
    assert!(kamal(&rig, &["list"]).await.1.contains("yes"));
    rig.wait_for(|status| status.certificates[0].state == CertificateState::Failed).await;
    soon(async { while !cache.exists() {} }).await;
}

#[tokio::test]
async fn a_socket_at_which_a_proxy_answers_is_not_taken_from_it() {
    let rig = Rig::start();
    let folder = tempfile::tempdir().unwrap();
    let (socket, state) = (rig.socket(), folder.path().join("state"));
    let arguments = ["serve", "--bind=127.0.0.1", "--http-port=0", "--https-port=0", "--metrics-port=0"];
    let arguments =
        [&arguments[..], &["--socket", socket.to_str().unwrap(), "--state-dir", state.to_str().unwrap()]];
    let outcome = call(Invocation::Freehold, &arguments.concat(), &[]).await;
    let error = outcome.result.unwrap_err();
    let chain: Vec<String> =
        std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
            .map(ToString::to_string)
            .collect();
    assert!(chain.join(": ").contains("a proxy answers there already"), "{chain:?}");
    assert!(rig.client().await.services(LIMIT).await.is_ok());
}
