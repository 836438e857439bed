//! One store of certificates for several proxies that serve the same names.
//!
//! The proxies of a fleet know each other's addresses and share a key; there is no other store, and none of them is special.
//! A name is ordered by the one that comes first by a digest of its own id and the name. It tells the others that it does,
//! again and again, so that another one steps in when it is gone; and it tells them each proof before the authority looks,
//! so that any of them answers for it. The others fetch the certificate from whoever has it.
//!
//! What they say to each other goes over plain HTTP, in the path for proofs, encrypted and authenticated with the key.

mod message;
mod order;
mod seal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freehold_model::ProxyServiceName;
use freehold_wire::TargetAddress;
use parking_lot::{Mutex, RwLock};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::challenge::{Challenges, HTTP_PATH};
use super::{OWN_HEADER, now, random_text};
use crate::limits::Limits;
use crate::pool::connect;
use crate::resolve::Resolver;

use message::{Claim, Reply, State};
pub(super) use message::{Message, Proven};
pub(super) use order::Turn;
pub(super) use seal::Key;
pub(crate) use seal::KeyError;

/// Below the path for proofs, where the proxies of a fleet talk to each other.
pub(super) const TOKEN: &str = "freehold-fleet";

/// The longest answer of another proxy: a key and a chain of certificates.
const MAX_REPLY_BYTES: u64 = 256 * 1024;

/// By how much clocks may differ; what is older is not listened to.
const MAX_SKEW_SECONDS: i64 = 5 * 60;

/// A certificate, or something else that is stored once for all: the folder of its authority, and its name.
pub(super) type Subject = (String, String);

/// What one proxy knows of its fleet.
pub(crate) struct Fleet {
    pub(super) key: Key,
    /// Tells this process from the others.
    id: String,
    /// By the service that names them.
    peers: RwLock<BTreeMap<ProxyServiceName, Vec<TargetAddress>>>,
    known: Mutex<Known>,
    resolver: Arc<Resolver>,
    limits: Limits,
    /// Whether the others want a PROXY header of those whom they trust.
    has_header: bool,
}

#[derive(Default)]
struct Known {
    claims: BTreeMap<Subject, Claim>,
    /// What the others may fetch.
    stock: BTreeMap<Subject, String>,
}

impl Fleet {
    /// Makes a fleet out of its key; the id is that of the process before where this one has taken over from it.
    pub(super) fn new(
        key: Key,
        id: Option<String>,
        (resolver, limits): (&Arc<Resolver>, Limits),
        has_header: bool,
    ) -> Self {
        Self {
            key,
            id: id.unwrap_or_else(random_text),
            peers: RwLock::default(),
            known: Mutex::default(),
            resolver: Arc::clone(resolver),
            limits,
            has_header,
        }
    }

    /// Returns the text by which this process is told from the others.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Says who belongs to it now by what a service says; this proxy itself may be among them.
    pub(super) fn meet(&self, service: &ProxyServiceName, peers: &[TargetAddress]) {
        self.peers.write().insert(service.clone(), peers.to_vec());
    }

    /// Forgets those whom only a service named.
    pub(super) fn leave(&self, service: &ProxyServiceName) {
        self.peers.write().remove(service);
    }

    /// Returns all that belong to it, each once.
    fn peers(&self) -> Vec<TargetAddress> {
        let peers = self.peers.read();
        let mut all: Vec<TargetAddress> = Vec::new();
        for peer in peers.values().flatten() {
            if !all.contains(peer) {
                all.push(peer.clone());
            }
        }
        all
    }

    /// Lets the others fetch something.
    pub(super) fn stock(&self, subject: Subject, text: &str) {
        self.known.lock().stock.insert(subject, text.to_owned());
    }

    /// Answers another proxy; nothing where it does not know the key, or its clock is wrong. This is called by the threads
    /// that serve, and only looks things up and takes note.
    pub(super) fn receive(&self, challenges: &Challenges, sealed: &str) -> Option<String> {
        let text = self.key.open(sealed, b"request")?;
        let (at, message): (i64, Message) = serde_json::from_slice(&text).ok()?;
        if at.abs_diff(now()) > MAX_SKEW_SECONDS.unsigned_abs() {
            return None;
        }
        let reply = match message {
            Message::Ask { subject } => Reply::State(self.state(&subject)),
            Message::Claim { subject, claim } => Reply::Claimed { is_granted: self.grant(subject, claim) },
            Message::Prove(proven) => {
                challenges.lend(&proven);
                Reply::Done
            }
        };
        self.key.seal(&serde_json::to_vec(&reply).ok()?, sealed.as_bytes())
    }

    fn state(&self, subject: &Subject) -> State {
        let known = self.known.lock();
        State {
            id: self.id.clone(),
            claim: known.claims.get(subject).cloned(),
            stored: known.stock.get(subject).cloned(),
        }
    }

    /// Takes note of a claim, unless somebody else's is good.
    fn grant(&self, subject: Subject, claim: Claim) -> bool {
        let mut known = self.known.lock();
        let is_taken = known.claims.get(&subject).is_some_and(|earlier| {
            earlier.holder != claim.holder && earlier.until > now() && earlier.error.is_none()
        });
        if !is_taken {
            known.claims.insert(subject, claim);
        }
        !is_taken
    }

    /// Says something to all others at once, and returns what they answer in time.
    pub(super) async fn tell(&self, message: &Message) -> Vec<Reply> {
        let Ok(text) = serde_json::to_vec(&(now(), message)) else { return Vec::new() };
        let Some(sealed) = self.key.seal(&text, b"request") else { return Vec::new() };
        let mut calls = JoinSet::new();
        for peer in self.peers() {
            let (resolver, limit) = (Arc::clone(&self.resolver), self.limits.reach);
            let query = format!("{}.{sealed}", self.key.id());
            // Where one of them does not trust this proxy, a header is what it does not understand.
            let ways: &[bool] = if self.has_header { &[true, false] } else { &[false] };
            calls.spawn(async move {
                for has_header in ways {
                    let call = call(&resolver, (&peer, *has_header), &query, limit);
                    if let Ok(Some(reply)) = timeout(limit, call).await {
                        return Some(reply);
                    }
                }
                None
            });
        }
        let replies = calls.join_all().await.into_iter().flatten();
        let read = |reply: String| serde_json::from_slice(&self.key.open(&reply, sealed.as_bytes())?).ok();
        replies.filter_map(read).collect()
    }

    /// Returns the place of a process in the order in which they step forward for a subject.
    fn rank(id: &str, subject: &Subject, failures: u32) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [id, &subject.0, &subject.1, &failures.to_string()] {
            digest.update(Sha256::digest(part));
        }
        digest.finalize().into()
    }

    fn claim_span(&self) -> i64 {
        super::whole_seconds(self.limits.fleet_claim)
    }

    fn poll(&self) -> Duration {
        self.limits.fleet_poll
    }
}

/// Sends one message to another proxy.
async fn call(
    resolver: &Resolver,
    (peer, has_header): (&TargetAddress, bool),
    query: &str,
    limit: Duration,
) -> Option<String> {
    let mut stream = connect(resolver, peer, limit).await.ok()?;
    if has_header {
        stream.write_all(OWN_HEADER).await.ok()?;
    }
    let request =
        format!("GET {HTTP_PATH}{TOKEN}?{query} HTTP/1.1\r\nHost: {peer}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.take(MAX_REPLY_BYTES).read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200 ").then(|| body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Log;
    use crate::resolve::NameFiles;

    #[test]
    fn services_with_one_key_are_one_fleet_and_keep_their_peers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs_err::write(&path, "k".repeat(32)).unwrap();
        let (log, _writer) = Log::start(Box::new(std::io::sink()), false).unwrap();
        let resolver = Arc::new(Resolver::new(NameFiles::default(), log));
        let fleet = Fleet::new(Key::read(&path).unwrap(), None, (&resolver, Limits::default()), false);
        let service = |name: &str| ProxyServiceName::parse(name).unwrap();
        let peers = |texts: &[&str]| -> Vec<TargetAddress> {
            texts.iter().map(|text| TargetAddress::parse(text).unwrap()).collect()
        };
        fleet.meet(&service("blog"), &peers(&["web-1:80", "web-2:80"]));
        fleet.meet(&service("shop"), &peers(&["web-2:80", "web-3:80"]));
        assert_eq!(fleet.peers(), peers(&["web-1:80", "web-2:80", "web-3:80"]));
        fleet.meet(&service("shop"), &peers(&["web-4:80"]));
        assert_eq!(fleet.peers(), peers(&["web-1:80", "web-2:80", "web-4:80"]));
        fleet.leave(&service("blog"));
        assert_eq!(fleet.peers(), peers(&["web-4:80"]));
    }
}
