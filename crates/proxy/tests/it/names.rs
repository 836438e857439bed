//! Targets that are known by name, and a name server that comes and goes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use freehold_proxy::NameFiles;
use freehold_wire::DeployRequest;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::client::{LIMIT, Reply, soon};
use crate::rig::{Rig, address, name, settings};
use crate::target::Target;

/// What the server says about a name.
#[derive(Debug, Clone, Copy)]
enum Says {
    Address(Ipv4Addr),
    NoSuchName,
    Unable,
}

/// A name server; it is gone when it is dropped.
#[derive(Debug)]
struct NameServer {
    port: u16,
    says: Arc<Mutex<BTreeMap<String, Says>>>,
    tasks: JoinSet<()>,
}

impl NameServer {
    async fn start(port: u16) -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", port)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let says = Arc::new(Mutex::new(BTreeMap::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(socket, Arc::clone(&says)));
        Self { port, says, tasks }
    }

    fn say(&self, name: &str, says: Says) {
        self.says.lock().insert(name.to_owned(), says);
    }

    async fn stop(mut self) -> u16 {
        self.tasks.shutdown().await;
        self.port
    }
}

async fn serve(socket: UdpSocket, says: Arc<Mutex<BTreeMap<String, Says>>>) {
    let mut message = [0; 512];
    loop {
        let (length, peer) = socket.recv_from(&mut message).await.unwrap();
        let question = &message[..length];
        let mut labels = Vec::new();
        let mut at = 12;
        while question[at] != 0 {
            let end = at + 1 + usize::from(question[at]);
            labels.push(String::from_utf8(question[at + 1..end].to_vec()).unwrap());
            at = end;
        }
        let is_for_ipv4 = question[at + 2] == 1;
        let answer = says.lock().get(&labels.join(".")).copied().unwrap_or(Says::Unable);
        let mut reply = question.to_vec();
        reply[2] = 0x81;
        reply[3] = match answer {
            Says::Address(_) => 0x80,
            Says::NoSuchName => 0x83,
            Says::Unable => 0x82,
        };
        if let Says::Address(ip) = answer
            && is_for_ipv4
        {
            reply[7] = 1;
            reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            reply.extend_from_slice(&ip.octets());
        }
        socket.send_to(&reply, peer).await.unwrap();
    }
}

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
