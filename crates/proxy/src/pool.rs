//! Connections to targets: made, kept for the next request, thrown away when in doubt.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, Instant};

use freehold_wire::{Reason, TargetAddress};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http2::links::Links;
use crate::link::{TargetSocket, TargetStream};
use crate::resolve::Resolver;
use crate::runtime::keepalive;

/// How many unused connections to one target a thread keeps.
const MAX_IDLE: usize = 100;

/// How long an unused connection is kept.
const MAX_IDLE_TIME: Duration = Duration::from_secs(60);

/// How long an unused connection may have been idle to be taken for a request that cannot be repeated. Servers close
/// idle connections after a few seconds, and a request that meets the closing is lost.
const MAX_IDLE_TIME_ONCE: Duration = Duration::from_secs(1);

/// A connection to a target.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: TargetStream,
    /// Whether it has carried a request before, so that the target may be closing it.
    pub(crate) reused: bool,
}

#[derive(Debug)]
struct Idle {
    stream: TargetSocket,
    since: Instant,
}

/// One thread's unused connections, by target.
#[derive(Debug, Default)]
pub(crate) struct TargetPool {
    /// Connections to targets that speak HTTP/2; they are never taken out as a whole.
    pub(crate) links: Links,
    idle: RefCell<BTreeMap<u64, Vec<Idle>>>,
}

impl TargetPool {
    /// Takes the connection out that was used last, if one is alive.
    pub(crate) async fn take(&self, target: u64, repeatable: bool) -> Option<Link> {
        let limit = if repeatable { MAX_IDLE_TIME } else { MAX_IDLE_TIME_ONCE };
        loop {
            let idle = self.idle.borrow_mut().get_mut(&target)?.pop()?;
            if idle.since.elapsed() > limit {
                // Those below it have been idle for even longer.
                continue;
            }
            if is_quiet(idle.stream.tcp()).await && (repeatable || is_open(idle.stream.tcp())) {
                return Some(Link { stream: TargetStream::Http1(idle.stream), reused: true });
            }
        }
    }

    /// Keeps a connection on which a whole answer was read and nothing more.
    pub(crate) fn put(&self, target: u64, stream: TargetStream) {
        let TargetStream::Http1(mut stream) = stream else { return };
        if !stream.is_drained() {
            return;
        }
        let mut pool = self.idle.borrow_mut();
        let idle = pool.entry(target).or_default();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { stream, since: Instant::now() });
        }
    }

    /// Closes the connections to targets that are not used any more.
    pub(crate) fn keep_only(&self, is_used: impl Fn(u64) -> bool) {
        self.idle.borrow_mut().retain(|target, _| is_used(*target));
        self.links.keep_only(is_used);
    }

    /// Closes connections that were not used for long.
    pub(crate) fn sweep(&self) {
        self.idle.borrow_mut().retain(|_, idle| {
            idle.retain(|idle| idle.since.elapsed() <= MAX_IDLE_TIME);
            !idle.is_empty()
        });
        self.links.sweep();
    }
}

/// Says whether an unused connection is open and nothing came on it; costs no system call where nothing did.
async fn is_quiet(stream: &TcpStream) -> bool {
    poll_fn(|context| match stream.poll_read_ready(context) {
        Poll::Pending => Poll::Ready(true),
        Poll::Ready(Err(_)) => Poll::Ready(false),
        Poll::Ready(Ok(())) => {
            let seen = stream.try_read(&mut [0]);
            Poll::Ready(seen.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock))
        }
    })
    .await
}

/// Asks the system whether an unused connection is open and nothing came on it. The event loop may not know yet of an end
/// that came a moment ago; for a request that cannot be repeated that is worth a system call.
fn is_open(stream: &TcpStream) -> bool {
    let seen = SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
    seen.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Connects to a target.
pub(crate) async fn connect(
    resolver: &Resolver,
    address: &TargetAddress,
    limit: Duration,
) -> Result<TcpStream, Reason> {
    match timeout(limit, connect_by_name(resolver, address)).await {
        Ok(result) => result,
        Err(_) => Err(Reason::TargetConnectTimeout),
    }
}

async fn connect_by_name(resolver: &Resolver, address: &TargetAddress) -> Result<TcpStream, Reason> {
    let found = resolver.find(address).await.map_err(|_| Reason::TargetUnresolvable)?;
    match connect_any(&found.addresses).await {
        Err(reason) if found.is_reused => {
            // The container may have come back with another address meanwhile.
            match resolver.find_anew(address).await {
                Ok(anew) if anew.addresses != found.addresses => connect_any(&anew.addresses).await,
                Ok(_) => Err(reason),
                Err(_) => Err(Reason::TargetUnresolvable),
            }
        }
        result => result,
    }
}

async fn connect_any(addresses: &[SocketAddr]) -> Result<TcpStream, Reason> {
    let mut failure = Reason::TargetUnresolvable;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Without it a small request waits for the acknowledgement of the one before.
                stream.set_nodelay(true).map_err(|_| Reason::TargetUnreachable)?;
                let keepalive = SockRef::from(&stream).set_tcp_keepalive(&keepalive());
                keepalive.map_err(|_| Reason::TargetUnreachable)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => failure = Reason::TargetRefused,
            Err(_) => failure = Reason::TargetUnreachable,
        }
    }
    Err(failure)
}
