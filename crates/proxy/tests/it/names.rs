//! Targets that are known by name, and a name server that comes and goes.

use std::net::Ipv4Addr;

use freehold_proxy::NameFiles;
use freehold_wire::DeployRequest;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::client::{LIMIT, Reply, soon};
use crate::name_server::{NameServer, Says};
use crate::rig::{Rig, address, name, settings};
use crate::target::Target;

struct Scene {
    rig: Rig,
    target: Target,
    server: NameServer,
    _files: TempDir,
}

/// A service whose target is known as `web`, and has answered.
async fn scene() -> Scene {
    let (server, target) = (NameServer::start(0).await, Target::start("first").await);
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = files.path().join(name);
        fs_err::write(&path, text).unwrap();
        path
    };
    let rig = Rig::with_names(NameFiles {
        hosts: write("hosts", "127.0.0.9 other\n".to_owned()),
        servers: write("resolv.conf", format!("nameserver 127.0.0.1:{}\noptions ndots:0\n", server.port)),
        host_name: write("hostname", "proxy\n".to_owned()),
    });
    server.say("web", Says::Address(Ipv4Addr::LOCALHOST));
    let request =
        DeployRequest::new(vec![address(&format!("web:{}", target.port))], settings("shop.example.com"));
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    assert_eq!(ask(&rig).await.status, 200);
    Scene { rig, target, server, _files: files }
}

/// Asks so that a new connection to the target is made each time.
async fn ask(rig: &Rig) -> Reply {
    rig.open().await.get("/close").await
}

/// Asks until the log has a line.
async fn ask_until(rig: &Rig, line: &str, status: u16) {
    soon(async {
        while !rig.log.text().contains(line) {
            assert_eq!(ask(rig).await.status, status);
        }
    })
    .await;
}

async fn ask_until_status(rig: &Rig, status: u16) {
    soon(async { while ask(rig).await.status != status {} }).await;
}

#[tokio::test]
async fn targets_answer_while_the_name_server_is_away() {
    let Scene { rig, target, server, _files } = scene().await;
    let port = server.stop().await;
    ask_until(&rig, "Name server away", 200).await;
    assert_eq!(ask(&rig).await.status, 200);
    let server = NameServer::start(port).await;
    server.say("web", Says::Address(Ipv4Addr::LOCALHOST));
    ask_until(&rig, "Name server back", 200).await;
    drop((server, target));
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_gone_also_when_nobody_answers_any_more() {
    let Scene { rig, target, server, _files } = scene().await;
    server.say("web", Says::NoSuchName);
    ask_until_status(&rig, 502).await;
    server.stop().await;
    for _ in 0..3 {
        assert_eq!(ask(&rig).await.status, 502);
    }
    soon(async {
        let failed =
            || rig.log.requests().into_iter().filter(|line| line["status"] == 502).collect::<Vec<_>>();
        while failed().len() < 4 {
            tokio::task::yield_now().await;
        }
        assert!(failed().iter().all(|line| line["reason"] == "target_unresolvable"), "{:?}", failed());
    })
    .await;
    drop(target);
}

#[tokio::test]
async fn a_server_that_cannot_tell_counts_as_away_unless_it_knows_this_container() {
    let Scene { rig, target, server, _files } = scene().await;
    server.say("web", Says::Unable);
    ask_until(&rig, "Name server away", 200).await;
    server.say("proxy", Says::Address(Ipv4Addr::LOCALHOST));
    ask_until_status(&rig, 502).await;
    drop((server, target));
}

#[tokio::test]
async fn a_container_that_came_back_elsewhere_is_found_at_once() {
    let Scene { rig, target, server, _files } = scene().await;
    let port = target.port;
    target.stop().await;
    let listener = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let target = Target::on("second", listener);
    server.say("web", Says::Address(Ipv4Addr::new(127, 0, 0, 2)));
    assert_eq!(ask(&rig).await.status, 200);
    assert!(rig.open().await.get("/n").await.text().starts_with("second"));
    drop((server, target));
}
