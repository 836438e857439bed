//! One process in the place of another.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_wire::{
    Acme, CertificateState, DrainMode, DrainRequest, ErrorCode, Gate, GateRequest, HealthGate, HealthState,
    ProxyClient, ProxyError, UpgradeReply, UpgradeRequest,
};
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsConnector;

use crate::acme::tls;
use crate::client::{Connection, LIMIT, soon};
use crate::command_line::client_of;
use crate::encrypted::{Files, client, exchange};
use crate::name_server::Says;
use crate::pebble::{Pebble, Setup, free_port};
use crate::process::Process;
use crate::renewal_front::RenewalFront;
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

/// A proxy in a process of its own, with a target.
struct Scene {
    folder: TempDir,
    first: Process,
    port: u16,
    target: Target,
}

impl Scene {
    async fn start() -> Self {
        let (folder, target) = (tempfile::tempdir().unwrap(), Target::start("t").await);
        let first = Process::start(folder.path(), 0);
        let mut client = client_of(folder.path()).await;
        let port = client.version(LIMIT).await.unwrap().http_port;
        client.deploy(&name("shop"), &request_for(&target), LIMIT).await.unwrap();
        Self { folder, first, port, target }
    }

    async fn client(&self) -> ProxyClient {
        client_of(self.folder.path()).await
    }

    async fn open(&self) -> Connection {
        Connection::open(self.port).await
    }

    async fn upgrade(&self, drain_timeout_ms: u64) -> UpgradeReply {
        let request = UpgradeRequest { executable: None, drain_timeout_ms };
        self.client().await.upgrade(&request, LIMIT).await.unwrap()
    }

    async fn end(self) -> String {
        self.first.end().await
    }
}

fn process_exists(id: u32) -> bool {
    Path::new(&format!("/proc/{id}")).exists()
}

async fn websocket(scene: &Scene) -> Connection {
    let mut connection = scene.open().await;
    connection
        .send(
            "GET /socket HTTP/1.1\r\nHost: shop.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .await;
    assert_eq!(connection.reply().await.status, 101);
    connection
}

async fn echo(connection: &mut Connection, bytes: &[u8]) {
    connection.send(bytes).await;
    let mut back = vec![0; bytes.len()];
    soon(connection.stream.read_exact(&mut back)).await.unwrap();
    assert_eq!(back, bytes);
}

#[tokio::test]
async fn a_new_process_serves_and_the_earlier_one_ends_what_it_has_begun() {
    let scene = Scene::start().await;
    let (mut slow, mut socket, mut idle) = (scene.open().await, websocket(&scene).await, scene.open().await);
    slow.send("GET /gate HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    scene.target.wait_for_waiting(1).await;
    assert_eq!(idle.get("/n").await.status, 200);
    let before = scene.client().await.version(LIMIT).await.unwrap();

    let reply = scene.upgrade(60_000).await;
    assert!(process_exists(reply.process_id) && process_exists(scene.first.id()));
    let mut client = scene.client().await;
    let after = client.version(LIMIT).await.unwrap();
    assert_ne!(after.started_at, before.started_at);
    assert_eq!((after.generation, after.http_port), (before.generation, before.http_port));
    // A connection that was open gets one more answer, and is told.
    let last = idle.get("/n").await;
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert_eq!(scene.open().await.get("/n").await.status, 200);
    echo(&mut socket, b"still there").await;
    scene.target.open_gate();
    assert_eq!(slow.reply().await.text(), "t");
    // What the earlier process carries, a drain of the new one waits for.
    let next = Target::start("next").await;
    let mut request = request_for(&next);
    (request.drain, request.tunnel_timeout_ms) = (DrainMode::Background, 60_000);
    client.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let short = DrainRequest { timeout_ms: 1000, tunnel_timeout_ms: 50 };
    client.drain(&name("shop"), &short, LIMIT).await.unwrap();
    assert_eq!(client.service(&name("shop"), LIMIT).await.unwrap().draining.len(), 1);
    drop(socket);
    soon(async {
        while !client.service(&name("shop"), LIMIT).await.unwrap().draining.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(scene.open().await.get("/n").await.text().starts_with("next"));
    let log = scene.end().await;
    assert!(!process_exists(reply.process_id), "{log}");
    assert!(log.contains("\"msg\":\"Handed over\""), "{log}");
}

#[tokio::test]
async fn streams_end_at_the_deadline_and_the_first_process_stays_until_the_last_ends() {
    let scene = Scene::start().await;
    let mut socket = websocket(&scene).await;
    let started = Instant::now();
    let second = scene.upgrade(300).await;
    echo(&mut socket, b"x").await;
    assert!(socket.is_closed().await);
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    let third = scene.upgrade(0).await;
    let fourth = scene.upgrade(0).await;
    soon(async { while process_exists(second.process_id) || process_exists(third.process_id) {} }).await;
    assert!(process_exists(fourth.process_id) && process_exists(scene.first.id()));
    assert_eq!(scene.open().await.get("/n").await.status, 200);
    let status = scene.client().await.service(&name("shop"), LIMIT).await.unwrap();
    assert_eq!(status.generation, 1);
    scene.end().await;
    assert!(!process_exists(fourth.process_id));
}

#[tokio::test]
async fn requests_that_wait_in_the_earlier_process_are_resumed_by_the_new_one() {
    let scene = Scene::start().await;
    let gate = |gate| GateRequest { gate, drain_timeout_ms: 1000, fence: None };
    let mut client = scene.client().await;
    client.set_gate(&name("shop"), &gate(Gate::Paused { max_pause_ms: 60_000 }), LIMIT).await.unwrap();
    let mut waiting = scene.open().await;
    waiting.send("GET /n HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
    scene.upgrade(60_000).await;
    // Longer than connections that merely wait for a request are kept.
    let patience = std::time::Duration::from_millis(1500);
    assert!(tokio::time::timeout(patience, waiting.reply()).await.is_err(), "it was answered");
    let mut client = scene.client().await;
    let status = client.service(&name("shop"), LIMIT).await.unwrap();
    assert_eq!(status.gate, Gate::Paused { max_pause_ms: 60_000 });
    // It goes where the new process sends requests by now.
    let next = Target::start("next").await;
    client.deploy(&name("shop"), &request_for(&next), LIMIT).await.unwrap();
    client.set_gate(&name("shop"), &gate(Gate::Open), LIMIT).await.unwrap();
    assert!(waiting.reply().await.text().starts_with("next"));
    scene.end().await;
}

#[tokio::test]
async fn where_the_new_process_does_not_come_up_the_earlier_one_goes_on() {
    let scene = Scene::start().await;
    let mut kept = scene.open().await;
    assert_eq!(kept.get("/n").await.status, 200);
    let garbage = scene.folder.path().join("garbage");
    fs_err::write(&garbage, "#!/bin/nothing").unwrap();
    for (executable, wanted) in [
        ("/nonexistent/freehold".to_owned(), "`/nonexistent/freehold` cannot be started"),
        ("/bin/false".to_owned(), "ended before it served (exit status: 1)"),
        (garbage.to_str().unwrap().to_owned(), "cannot be started"),
    ] {
        let request = UpgradeRequest { executable: Some(executable), drain_timeout_ms: 0 };
        let error = scene.client().await.upgrade(&request, LIMIT).await.unwrap_err();
        let ProxyError::Refused { code: ErrorCode::Upgrade, message, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(message.contains(wanted) && message.contains("goes on as it was"), "{message}");
    }
    let relative = UpgradeRequest { executable: Some("freehold".to_owned()), drain_timeout_ms: 0 };
    let error = scene.client().await.upgrade(&relative, LIMIT).await.unwrap_err();
    assert!(matches!(error, ProxyError::Refused { code: ErrorCode::Invalid, .. }), "{error:?}");
    // A deploy whose earlier targets stand by is not taken away from whoever watches it.
    let next = Target::start("next").await;
    let mut request = request_for(&next);
    (request.standby_ms, request.health) = (60_000, HealthGate::Trust);
    scene.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let request = UpgradeRequest { executable: None, drain_timeout_ms: 0 };
    let error = scene.client().await.upgrade(&request, LIMIT).await.unwrap_err();
    assert!(error.message().unwrap().contains("a deploy of `shop` is not final yet"), "{error:?}");
    let reply = kept.get("/n").await;
    assert_eq!((reply.status, reply.header("connection")), (200, None));
    scene.end().await;
}

#[tokio::test]
async fn a_proxy_inside_another_program_does_not_hand_over() {
    let rig = Rig::start();
    let request = UpgradeRequest { executable: None, drain_timeout_ms: 0 };
    let error = rig.client().await.upgrade(&request, LIMIT).await.unwrap_err();
    assert!(error.message().unwrap().contains("not started by its own command"), "{error:?}");
}

#[tokio::test]
async fn a_process_that_took_over_and_crashes_takes_the_first_one_with_it() {
    let scene = Scene::start().await;
    let mut socket = websocket(&scene).await;
    let reply = scene.upgrade(600_000).await;
    echo(&mut socket, b"x").await;
    let killed = std::process::Command::new("kill").args(["-KILL", &reply.process_id.to_string()]).status();
    assert!(killed.unwrap().success());
    // Whoever supervises the first one sees its end and starts it again.
    let (is_well, log) = soon(scene.first.wait()).await;
    assert!(!is_well && log.contains("The process that took over has ended"), "{log}");
}

#[tokio::test]
async fn certificates_and_the_keys_of_session_tickets_go_along() {
    let scene = Scene::start().await;
    let files = Files::new("first");
    let mut request = request_for(&scene.target);
    request.settings.tls = Some(files.tls(true));
    scene.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let port = soon(async {
        loop {
            let log = scene.first.log();
            let line = log.lines().find(|line| line.contains("Server started"));
            match line.and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
                Some(line) => return line["https"].as_str().unwrap().parse::<u16>().unwrap(),
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await;
    let connector = TlsConnector::from(Arc::new(client("first")));
    let agree = async || {
        let socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let server = ServerName::try_from("shop.example.com").unwrap();
        soon(connector.connect(server, socket)).await.unwrap()
    };
    let ask = "GET /n HTTP/1.1\r\nHost: shop.example.com\r\n\r\n";
    for (is_after, wanted) in [(false, HandshakeKind::Full), (true, HandshakeKind::Resumed)] {
        let mut stream = agree().await;
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(wanted));
        exchange(&mut stream, ask, "t  /n 0 0").await;
        if !is_after {
            scene.upgrade(1000).await;
        }
    }
    scene.end().await;
}

#[tokio::test]
async fn rates_and_passwords_go_along() {
    let scene = Scene::start().await;
    let file = scene.folder.path().join("users");
    // `htpasswd -nbB -C 4 ann secret`
    fs_err::write(&file, "ann:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n").unwrap();
    let mut request = request_for(&scene.target);
    request.settings.basic_auth_file = Some(file.display().to_string());
    request.settings.traffic = Some(serde_json::from_str(r#"{"client_rate":"1/1h:2"}"#).unwrap());
    scene.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let ask = async || {
        let mut connection = scene.open().await;
        connection
            .send(
                "GET /n HTTP/1.1\r\nHost: shop.example.com\r\nAuthorization: Basic YW5uOnNlY3JldA==\r\n\r\n",
            )
            .await;
        connection.reply().await.status
    };
    assert_eq!(ask().await, 200);
    scene.upgrade(0).await;
    assert_eq!([ask().await, ask().await], [200, 429]);
    scene.upgrade(0).await;
    assert_eq!(ask().await, 429);
    let log = scene.end().await;
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test]
async fn the_earlier_process_knows_which_targets_are_not_healthy() {
    let scene = Scene::start().await;
    let (well, ill) = (Target::start("well").await, Target::start("ill").await);
    ill.shared.health.store(500, std::sync::atomic::Ordering::SeqCst);
    let mut client = scene.client().await;
    let gate = |gate| GateRequest { gate, drain_timeout_ms: 1000, fence: None };
    client.set_gate(&name("shop"), &gate(Gate::Paused { max_pause_ms: 60_000 }), LIMIT).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut connection = scene.open().await;
        connection.send("GET /n HTTP/1.1\r\nHost: shop.example.com\r\n\r\n").await;
        assert_eq!(scene.open().await.get("/up").await.status, 200);
        waiting.push(connection);
    }
    scene.upgrade(60_000).await;
    let mut client = scene.client().await;
    let mut request = request_for(&well);
    request.targets.push(crate::rig::address(&ill.address()));
    request.health = HealthGate::Skip;
    // So seldom that nobody but the new process has found it out.
    request.settings.health_check.interval_ms = 600_000;
    client.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    soon(async {
        while client.service(&name("shop"), LIMIT).await.unwrap().targets[0].health != HealthState::Healthy {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    client.set_gate(&name("shop"), &gate(Gate::Open), LIMIT).await.unwrap();
    for mut connection in waiting {
        assert!(connection.reply().await.text().starts_with("well"));
    }
    scene.end().await;
}

#[tokio::test]
async fn an_order_that_is_going_on_is_begun_anew_at_once() {
    let (folder, target) = (tempfile::tempdir().unwrap(), Target::start("t").await);
    let (http, https) = (free_port(), free_port());
    let pebble = Pebble::start(Setup { http, https, validity: 365 * 24 * 60 * 60, external: false }).await;
    let front = RenewalFront::start(&pebble, None).await;
    pebble.names.say("shop.example.com", Says::Address([127, 0, 0, 1].into()));
    let first = Process::start_with(
        folder.path(),
        http,
        &[
            &format!("--https-port={https}"),
            &format!("--acme-directory={}", front.directory()),
            &format!("--acme-ca-file={}", pebble.authority_file().display()),
        ],
    );
    let mut request = request_for(&target);
    let acme = Acme { skip_name_check: true, ..Acme::default() };
    request.settings.tls = Some(tls(acme));
    // The proof is shown when the authority is asked to look for it.
    front.hold(Some("/chalZ/"));
    client_of(folder.path()).await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let asked = async |times| {
        soon(async {
            while front.count("/chalZ/") < times {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    };
    asked(1).await;
    let upgrade = UpgradeRequest { executable: None, drain_timeout_ms: 0 };
    client_of(folder.path()).await.upgrade(&upgrade, LIMIT).await.unwrap();
    asked(2).await;
    front.hold(None);
    let mut client = client_of(folder.path()).await;
    soon(async {
        while client.service(&name("shop"), LIMIT).await.unwrap().certificates[0].state
            != CertificateState::Valid
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(front.created("/sign-me-up"), 1, "one account");
    let log = first.end().await;
    assert_eq!(log.matches("Certificate ordered").count(), 2, "{log}");
    assert!(!log.contains("Certificate not issued"), "{log}");
}
