//! The command line, ours and kamal-proxy's, and the server as a process.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use freehold_model::Diagnose;
use freehold_proxy::{CommandError, Console, Invocation, run};
use freehold_wire::{ProxyClient, ServiceList};

use crate::client::{LIMIT, soon};
use crate::rig::{LogText, Rig, address, name, request_for};
use crate::target::Target;

/// The variable by which a test hands arguments to a proxy in a process of its own.
const ARGUMENTS: &str = "FREEHOLD_TEST_PROXY_ARGUMENTS";

pub(crate) struct Outcome {
    pub(crate) result: Result<u8, CommandError>,
    pub(crate) output: String,
    pub(crate) errors: String,
}

pub(crate) async fn call(
    invocation: Invocation,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Outcome {
    let arguments = arguments.iter().map(Into::into).collect();
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let (output, errors) = (LogText::default(), LogText::default());
    let console = Console {
        input: Box::new(std::io::empty()),
        output: Box::new(output.clone()),
        errors: Box::new(errors.clone()),
        is_terminal: false,
    };
    let running = tokio::task::spawn_blocking(move || run(arguments, invocation, &environment, console));
    Outcome { result: soon(running).await.unwrap(), output: output.text(), errors: errors.text() }
}

pub(crate) async fn kamal(rig: &Rig, arguments: &[&str]) -> (u8, String) {
    let socket = rig.socket();
    let environment = [("KAMAL_PROXY_SOCKET", socket.to_str().unwrap())];
    let outcome = call(Invocation::KamalProxy, arguments, &environment).await;
    (outcome.result.unwrap(), outcome.output + &outcome.errors)
}

// proxy-compat cases 28, 42, 156, 204.
#[tokio::test]
async fn kamal_proxys_verbs_drive_the_server() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    let (address, port) = (target.address(), rig.port());
    let arguments = [
        "deploy",
        "shop-web",
        "--target",
        &address,
        "--host=a.example.com,B.example.com",
        "--host",
        "c.example.com",
        "--path-prefix=/api",
        "--strip-path-prefix=false",
        "--deploy-timeout=5s",
        "--drain-timeout",
        "1m30s",
        "--health-check-interval=50ms",
        "--forward-headers",
        "--target-timeout=10s",
    ];
    assert_eq!(kamal(&rig, &arguments).await, (0, String::new()));
    let status = rig.client().await.service(&name("shop-web"), LIMIT).await.unwrap();
    let hosts: Vec<&str> = status.settings.hosts.iter().map(|host| host.as_str()).collect();
    assert_eq!(hosts, ["a.example.com", "b.example.com", "c.example.com"]);
    assert!(status.settings.forward_headers && !status.settings.strip_path_prefix);
    assert_eq!(status.settings.response_timeout_ms, 10_000);
    let mut connection = crate::client::Connection::open(port).await;
    connection.send("GET /api HTTP/1.1\r\nHost: b.example.com\r\n\r\n").await;
    assert_eq!(connection.reply().await.text(), "/api");
    let (code, table) = kamal(&rig, &["ls"]).await;
    assert_eq!(code, 0);
    assert!(
        table.contains("a.example.com,b.example.com,c.example.com") && table.contains("running"),
        "{table}"
    );
    assert_eq!(kamal(&rig, &["rm", "shop-web"]).await, (0, String::new()));
    assert_eq!(kamal(&rig, &["remove", "shop-web"]).await, (1, "Error: service not found\n".to_owned()));
}

async fn expect_refusal(rig: &Rig, arguments: &[&str], wanted: &str) {
    let (code, text) = kamal(rig, arguments).await;
    assert_eq!(code, 1, "{arguments:?}");
    assert!(text.starts_with("Error: ") && text.contains(wanted), "{arguments:?}: {text}");
}

// proxy-compat cases 14, 15, 17, 23, 29.
#[tokio::test]
async fn kamal_proxys_errors_have_its_words() {
    let rig = Rig::start();
    for (arguments, wanted) in [
        (&["deploy", "a"][..], "required flag(s) \"target\" not set"),
        (&["deploy", "--target", "web"], "accepts 1 arg(s), received 0"),
        (&["deploy", "a", "b", "--target", "web"], "accepts 1 arg(s), received 2"),
        (&["deploy", "a", "b", "--force", "true", "--target", "web", "c"], "accepts 1 arg(s), received 3"),
        (&["rollout", "stop", "a", "b"], "accepts 1 arg(s), received 2"),
        (&["deploy", "a", "--target", "http://web"], "http://web :invalid host pattern"),
        (&["deploy", "a", "--target", "_"], "_ :invalid host pattern"),
        (&["deploy", "a", "--target", "/"], "/ :invalid host pattern"),
        (&["deploy", "a", "--target="], "a service needs 1 to 256 targets"),
        (
            &["deploy", "a", "--target=web", "--tls", "--tls-on-demand-url=/x", "--canonical-host=a.b"],
            "service options invalid: cannot set a canonical host when using a TLS on-demand URL",
        ),
        (
            &[
                "deploy",
                "a",
                "--target=web",
                "--tls",
                "--tls-on-demand-url=/x",
                "--tls-certificate-path=/a",
                "--tls-private-key-path=/b",
            ],
            "service options invalid: cannot use a custom TLS certificate with a TLS on-demand URL",
        ),
        (&["deploy", "a", "--target", "web", "--nonsense"], "unknown flag: --nonsense"),
        (
            &["deploy", "a", "--target", "web", "--tls"],
            "service options invalid: host must be set when using TLS",
        ),
        (
            &["deploy", "a", "--target", "web", "--tls", "--host=*.example.com"],
            "unable to load certificate: automatic TLS does not support wildcards",
        ),
        (
            &["deploy", "a", "--target", "web", "--tls-staging", "--host=a.example.com"],
            "`--tls-staging` can only be set with `--tls`",
        ),
        (
            &["deploy", "a", "--target", "web", "--tls", "--tls-staging", "--tls-acme-directory=https://a/b"],
            "name two certificate authorities",
        ),
        (
            &["deploy", "a", "--target", "web", "--tls", "--tls-certificate-path=x"],
            "they must all be set; missing [tls-private-key-path]",
        ),
        (
            &["deploy", "a", "--target", "web", "--tls-on-demand-url=/x"],
            "service options invalid: TLS must be enabled to use a TLS on-demand URL",
        ),
        (
            &["deploy", "a", "--target", "web", "--tls-client-ca-path=/ca.pem"],
            "`--tls-client-ca-path` can only be set with `--tls`",
        ),
        (
            &["deploy", "a", "--target", "web", "--tls", "--host=a.b", "--tls-client-optional"],
            "`--tls-client-optional` can only be set with `--tls-client-ca-path`",
        ),
        (
            &[
                "deploy",
                "a",
                "--target=web",
                "--tls",
                "--host=a.b",
                "--tls-client-ca-path=/x",
                "--tls-redirect=false",
            ],
            "plain HTTP must be redirected where clients show certificates",
        ),
    ] {
        expect_refusal(&rig, arguments, wanted).await;
    }
}

// proxy-compat cases 22, 24, 25, 49, 178.
#[tokio::test]
async fn values_are_refused_in_kamal_proxys_words() {
    let rig = Rig::start();
    for (arguments, wanted) in [
        (
            &["deploy", "a", "--target", "web", "--max-request-body=10"][..],
            "max-request-body can only be set when request buffering is enabled",
        ),
        (
            &["deploy", "a", "--target", "web", "--max-response-body=10", "--buffer-requests"],
            "max-response-body can only be set when response buffering is enabled",
        ),
        (&["deploy", "a", "--target", "web", "--error-pages", "/nonexistent"], "unable to load error pages"),
        (&["resume", "nothing"], "service not found"),
        (&["pause", "nothing", "--max-pause", "1"], "time: missing unit in duration \"1\""),
        (
            &["deploy", "a", "--target", "web", "--drain-timeout", "30"],
            "time: missing unit in duration \"30\"",
        ),
        (&["deploy", "a", "--target", "web", "--force=maybe"], "strconv.ParseBool: parsing \"maybe\""),
        (
            &["deploy", "a", "--target", "web", "--health-check-interval=0s"],
            "`health_check.interval_ms` must be 1",
        ),
        (&["rollout", "set", "a"], "at least one of the flags in the group [percent list] is required"),
        (&["rollout", "set", "a", "--percent=10"], "service not found"),
        (&["rollout", "set", "a", "--percent=101"], "invalid argument \"101\" for \"--percent\" flag"),
        (&["rollout", "deploy", "a"], "required flag(s) \"target\" not set"),
        (&["rollout", "deploy", "a", "--target=web"], "service not found"),
        (&["frobnicate"], "unknown command \"frobnicate\" for \"kamal-proxy\""),
        (&["run", "--metrics-port", "many"], "invalid argument \"many\" for \"--metrics-port"),
        (
            &["run", "--acme-directory", "http://ca.example.com/"],
            "`http://ca.example.com/` is not the `https` URL of a certificate authority's directory",
        ),
        (
            &["run", "--acme-dns-server", "a:53"],
            "`--acme-dns-server` needs `--acme-dns-key-name` and the key",
        ),
        (
            &["deploy", "a", "--target", "web", "--tls", "--host=a.b", "--tls-fleet-peer=b:80"],
            "`--tls-fleet-peer` and `--tls-fleet-key-path` can only be set together",
        ),
        (&["run", "--acme-eab-key-id", "a"], "`--acme-eab-key-id` needs `--acme-eab-hmac-key-file`"),
        (&["run", "--acme-ca-file", "/nonexistent"], "cannot set up the ordering of certificates"),
        (&["run", "--http3"], "`--http3` is not supported by this version of the proxy"),
        (&["list", "a"], "accepts 0 arg(s), received 1"),
    ] {
        expect_refusal(&rig, arguments, wanted).await;
    }
}

// proxy-compat cases 17, 22, 26.
#[tokio::test]
async fn without_a_server_commands_say_so_unless_they_are_wrong_themselves() {
    let socket = [("KAMAL_PROXY_SOCKET", "/nonexistent/x.sock")];
    for arguments in [
        &["list"][..],
        &["deploy", "a", "--target=web"],
        &["remove", "a"],
        &["pause", "a"],
        &["stop", "a"],
        &["resume", "a"],
        &["rollout", "deploy", "a", "--target=web"],
        &["rollout", "set", "a", "--percent=1"],
        &["rollout", "stop", "a"],
    ] {
        let outcome = call(Invocation::KamalProxy, arguments, &socket).await;
        let wanted = "Error: dial unix /nonexistent/x.sock: connect: no such file or directory\n";
        assert_eq!((outcome.result.unwrap(), outcome.errors.as_str()), (1, wanted), "{arguments:?}");
    }
    // What is wrong with the command itself is said without asking anybody.
    for (arguments, wanted) in [
        (
            &["--max-request-body=10"][..],
            "max-request-body can only be set when request buffering is enabled",
        ),
        (&["--max-response-body=10"], "max-response-body can only be set when response buffering is enabled"),
        (&["--tls"], "service options invalid: host must be set when using TLS"),
        (&["--tls", "--host=a.b", "--path-prefix=/api"], "TLS settings must be specified on the root path"),
    ] {
        let arguments = [&["deploy", "a", "--target=web"], arguments].concat();
        let outcome = call(Invocation::KamalProxy, &arguments, &socket).await;
        assert!(outcome.errors.contains(wanted), "{arguments:?}: {}", outcome.errors);
    }
    let outcome = call(Invocation::KamalProxy, &["list"], &[("XDG_RUNTIME_DIR", "/nonexistent")]).await;
    assert!(outcome.errors.contains("/nonexistent/kamal-proxy.sock"), "{}", outcome.errors);
}

#[tokio::test]
async fn an_unhealthy_deploy_says_what_the_checks_saw() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    target.shared.health.store(404, std::sync::atomic::Ordering::SeqCst);
    let address = target.address();
    let arguments = [
        "deploy",
        "a",
        "--target",
        &address,
        "--deploy-timeout=100ms",
        "--health-check-path=up",
        "--host=a.example.com",
    ];
    let (code, text) = kamal(&rig, &arguments).await;
    assert_eq!(code, 1);
    assert_eq!(
        text,
        format!(
            "Error: target failed to become healthy within configured timeout (100ms); `{address}` answered 404\n"
        )
    );
}

// proxy-compat case 208.
#[tokio::test]
async fn our_own_verbs_return_errors_to_be_rendered() {
    let rig = Rig::start();
    let socket = rig.socket();
    let environment = [("KAMAL_PROXY_SOCKET", socket.to_str().unwrap())];
    let outcome = call(Invocation::Freehold, &["list", "--json"], &environment).await;
    assert_eq!(outcome.result.unwrap(), 0);
    assert!(serde_json::from_str::<ServiceList>(&outcome.output).unwrap().services.is_empty());
    let error = call(Invocation::Freehold, &["deploy", "a"], &environment).await.result.unwrap_err();
    assert_eq!(error.kind().exit_code(), 2);
    let outcome = call(Invocation::Freehold, &["--help"], &environment).await;
    assert_eq!(outcome.result.unwrap(), 0);
    assert!(
        outcome.output.contains("freehold proxy") && outcome.output.contains("serve"),
        "{}",
        outcome.output
    );
    let taken = rig.port().to_string();
    let folder = rig.folder.path().join("other");
    let arguments = [
        "serve",
        "--bind=127.0.0.1",
        "--http-port",
        &taken,
        "--state-dir",
        folder.to_str().unwrap(),
        "--socket",
        folder.to_str().unwrap(),
    ];
    let error = call(Invocation::Freehold, &arguments, &[]).await.result.unwrap_err();
    assert_eq!((error.to_string(), error.kind().exit_code()), (format!("listen tcp 127.0.0.1:{taken}"), 3));
    let outcome = call(Invocation::KamalProxy, &arguments, &[]).await;
    let wanted = format!("Error: listen tcp 127.0.0.1:{taken}: bind: address already in use\n");
    assert_eq!((outcome.result.unwrap(), outcome.errors.as_str()), (1, wanted.as_str()));
    // proxy-compat case 27: the name with a prefix goes first, and a flag before both.
    let arguments: Vec<&str> =
        arguments.into_iter().filter(|text| !["--http-port", &taken].contains(text)).collect();
    let environment = [("KAMAL_PROXY_HTTP_PORT", taken.as_str()), ("HTTP_PORT", "1")];
    let outcome = call(Invocation::KamalProxy, &arguments, &environment).await;
    assert_eq!(outcome.errors, wanted);
}

#[tokio::test]
async fn the_api_is_reached_through_standard_input_and_output() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    // The two ends of the bridge are what `docker exec` would give it.
    let (near, far) = UnixStream::pair().unwrap();
    let console = Console {
        input: Box::new(far.try_clone().unwrap()),
        output: Box::new(far),
        errors: Box::new(std::io::sink()),
        is_terminal: false,
    };
    let environment =
        BTreeMap::from([("KAMAL_PROXY_SOCKET".to_owned(), rig.socket().to_str().unwrap().to_owned())]);
    let bridge = tokio::task::spawn_blocking(move || {
        run(vec!["api".into()], Invocation::Freehold, &environment, console)
    });
    near.set_nonblocking(true).unwrap();
    let mut client = ProxyClient::over(tokio::net::UnixStream::from_std(near).unwrap()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(client.version(LIMIT).await.unwrap().http_port, rig.port());
    }
    client.deploy(&name("shop"), &request_for(&target), LIMIT).await.unwrap();
    assert_eq!(client.services(LIMIT).await.unwrap().len(), 1);
    assert_eq!(rig.open().await.get("/n").await.text(), "t  /n 0 0");
    // The end of the input reaches the proxy, which ends its side, which ends the bridge.
    drop(client);
    assert_eq!(soon(bridge).await.unwrap().unwrap(), 0);
}

#[test]
#[ignore = "the proxy of other tests, which start it as a process of its own"]
#[expect(clippy::disallowed_methods, reason = "a process of its own gets its arguments by the environment")]
fn serve_as_a_process() {
    let arguments = std::env::var(ARGUMENTS).expect("started by another test");
    let console = Console {
        input: Box::new(std::io::stdin()),
        output: Box::new(std::io::stdout()),
        errors: Box::new(std::io::stderr()),
        is_terminal: false,
    };
    let arguments = arguments.split('\n').map(Into::into).collect();
    const ROLE: &str = "FREEHOLD_PROXY_HANDOVER";
    let environment = std::env::var(ROLE).ok().map(|role| (ROLE.to_owned(), role)).into_iter().collect();
    let code = run(arguments, Invocation::KamalProxy, &environment, console).unwrap();
    assert_eq!(code, 0);
}

fn start_process(folder: &std::path::Path) -> Child {
    start_process_on(folder, 0, &[])
}

pub(crate) fn start_process_on(folder: &std::path::Path, port: u16, more: &[&str]) -> Child {
    let has_https = more.iter().any(|flag| flag.starts_with("--https-port="));
    let arguments = [
        "run",
        &format!("--http-port={port}"),
        if has_https { "--debug=false" } else { "--https-port=0" },
        "--bind=127.0.0.1",
        &format!("--socket={}/proxy.sock", folder.display()),
        &format!("--state-dir={}/state", folder.display()),
    ];
    let arguments = [&arguments[..], more].concat().join("\n");
    Command::new(std::env::current_exe().unwrap())
        .args(["command_line::serve_as_a_process", "--exact", "--ignored", "--nocapture"])
        .env(ARGUMENTS, arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(crate) async fn client_of(folder: &std::path::Path) -> ProxyClient {
    soon(async {
        loop {
            if let Ok(mut client) = ProxyClient::connect(&folder.join("proxy.sock"), LIMIT).await
                && client.version(LIMIT).await.is_ok()
            {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

pub(crate) fn terminate(child: &Child) {
    let status = Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).status().unwrap();
    assert!(status.success());
}

fn end(mut child: Child) -> String {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    text
}

// proxy-compat case 205.
#[tokio::test]
async fn a_process_drains_on_sigterm_and_comes_back_with_its_state() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start("t").await;
    let child = start_process(folder.path());
    let mut client = client_of(folder.path()).await;
    let port = client.version(LIMIT).await.unwrap().http_port;
    client.deploy(&name("shop"), &request_for(&target), LIMIT).await.unwrap();
    let mut slow = crate::client::Connection::open(port).await;
    slow.send("GET /gate HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    target.wait_for_waiting(1).await;
    terminate(&child);
    soon(async { while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {} }).await;
    target.open_gate();
    assert_eq!(slow.reply().await.text(), "t");
    let started = Instant::now();
    let log = tokio::task::spawn_blocking(|| end(child)).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    for wanted in ["\"msg\":\"Server started\"", "\"msg\":\"Request\"", "\"msg\":\"Server stopped\""] {
        assert!(log.contains(wanted), "{log}");
    }
    let child = start_process(folder.path());
    let mut client = client_of(folder.path()).await;
    let port = client.version(LIMIT).await.unwrap().http_port;
    assert_eq!(crate::client::Connection::open(port).await.get("/n").await.text(), "t  /n 0 0");
    terminate(&child);
    tokio::task::spawn_blocking(|| end(child)).await.unwrap();
}

#[tokio::test]
async fn killed_in_the_middle_it_comes_back_with_its_state() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start("t").await;
    let mut child = start_process(folder.path());
    let mut client = client_of(folder.path()).await;
    let mut request = request_for(&target);
    for _ in 0..5 {
        client.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let child = start_process(folder.path());
    let mut client = client_of(folder.path()).await;
    assert_eq!(client.service(&name("shop"), LIMIT).await.unwrap().generation, 5);
    request.targets = vec![address("127.0.0.1:1")];
    request.health = freehold_wire::HealthGate::Trust;
    assert_eq!(client.deploy(&name("shop"), &request, LIMIT).await.unwrap().generation, 6);
    terminate(&child);
    tokio::task::spawn_blocking(|| end(child)).await.unwrap();
}
