//! A name server that says what a test wants.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// What the server says about a name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Says {
    Address(Ipv4Addr),
    NoSuchName,
    Unable,
}

/// A name server; it is gone when it is dropped.
#[derive(Debug)]
pub(crate) struct NameServer {
    pub(crate) port: u16,
    says: Arc<Mutex<BTreeMap<String, Says>>>,
    tasks: JoinSet<()>,
}

impl NameServer {
    pub(crate) async fn start(port: u16) -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", port)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let says = Arc::new(Mutex::new(BTreeMap::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(socket, Arc::clone(&says)));
        Self { port, says, tasks }
    }

    pub(crate) fn say(&self, name: &str, says: Says) {
        self.says.lock().insert(name.to_owned(), says);
    }

    pub(crate) async fn stop(mut self) -> u16 {
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
