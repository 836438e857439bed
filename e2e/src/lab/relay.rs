use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::LabError;

/// What a relay does with the bytes that pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Behaviour {
    delay: Duration,
    is_frozen: bool,
    is_refusing: bool,
    /// The connections of an earlier generation are cut.
    generation: u64,
}

/// A TCP relay in front of one port of a host, which can delay, freeze and cut what passes.
///
/// It gives tests latency (the kernel may have no netem) and connections that break at a chosen moment.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    behaviour: watch::Sender<Behaviour>,
    counters: Arc<Counters>,
    _accept: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    bytes: AtomicU64,
    turns: AtomicU64,
    /// Every connection is cut when `bytes` reaches this; 0 for never.
    cut_at: AtomicU64,
}

impl Relay {
    /// Listens on a free port of 127.0.0.1 and passes every connection on to the target.
    ///
    /// # Errors
    /// [`LabError::File`] when no port is free.
    pub async fn start(target: impl Into<SocketAddr>) -> Result<Self, LabError> {
        let target = target.into();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let calm = Behaviour { delay: Duration::ZERO, is_frozen: false, is_refusing: false, generation: 0 };
        let (behaviour, seen) = watch::channel(calm);
        let counters = Arc::<Counters>::default();
        let mut accept = JoinSet::new();
        accept.spawn(accept_all(listener, target, seen, behaviour.clone(), Arc::clone(&counters)));
        Ok(Self { address, behaviour, counters, _accept: accept })
    }

    /// Returns where the relay listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds every byte back for a time in each direction; a round trip takes twice as long.
    pub fn delay(&self, one_way: Duration) {
        self.behaviour.send_modify(|behaviour| behaviour.delay = one_way);
    }

    /// Passes nothing on from now on, without closing anything.
    pub fn freeze(&self) {
        self.behaviour.send_modify(|behaviour| behaviour.is_frozen = true);
    }

    /// Undoes [`Relay::freeze`].
    pub fn thaw(&self) {
        self.behaviour.send_modify(|behaviour| behaviour.is_frozen = false);
    }

    /// Closes every connection that is open.
    pub fn cut(&self) {
        self.behaviour.send_modify(|behaviour| behaviour.generation += 1);
    }

    /// Closes every new connection at once, until [`Relay::admit`].
    pub fn refuse(&self) {
        self.behaviour.send_modify(|behaviour| behaviour.is_refusing = true);
    }

    /// Undoes [`Relay::refuse`].
    pub fn admit(&self) {
        self.behaviour.send_modify(|behaviour| behaviour.is_refusing = false);
    }

    /// Cuts every connection once, when so many more bytes have passed in both directions together.
    pub fn cut_after(&self, bytes: u64) {
        let at = self.counters.bytes.load(Ordering::SeqCst) + bytes.max(1);
        self.counters.cut_at.store(at, Ordering::SeqCst);
    }

    /// Says whether a cut that [`Relay::cut_after`] asked for is still to come.
    #[must_use]
    pub fn will_cut(&self) -> bool {
        self.counters.cut_at.load(Ordering::SeqCst) != 0
    }

    /// Returns how many bytes have passed in both directions together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.counters.bytes.load(Ordering::SeqCst)
    }

    /// Returns how often a connection's client began to speak after its server had: at most that many round trips.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.counters.turns.load(Ordering::SeqCst)
    }

    /// Returns how many connections were accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::SeqCst)
    }
}

async fn accept_all(
    listener: TcpListener,
    target: SocketAddr,
    seen: watch::Receiver<Behaviour>,
    behaviour: watch::Sender<Behaviour>,
    counters: Arc<Counters>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        counters.connections.fetch_add(1, Ordering::SeqCst);
        if seen.borrow().is_refusing {
            continue;
        }
        let pass = Pass { seen: seen.clone(), behaviour: behaviour.clone(), counters: Arc::clone(&counters) };
        connections.spawn(pass.connection(client, target));
    }
}

/// What one connection needs of the relay.
#[derive(Clone)]
struct Pass {
    seen: watch::Receiver<Behaviour>,
    behaviour: watch::Sender<Behaviour>,
    counters: Arc<Counters>,
}

impl Pass {
    async fn connection(self, client: TcpStream, target: SocketAddr) {
        let mut seen = self.seen.clone();
        let generation = seen.borrow().generation;
        let relay = async {
            let Ok(server) = TcpStream::connect(target).await else { return };
            client.set_nodelay(true).ok();
            server.set_nodelay(true).ok();
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            let server_spoke = AtomicBool::new(true);
            let there = self.clone().direction(client_read, server_write, || {
                if server_spoke.swap(false, Ordering::SeqCst) {
                    self.counters.turns.fetch_add(1, Ordering::SeqCst);
                }
            });
            let back = self
                .clone()
                .direction(server_read, client_write, || server_spoke.store(true, Ordering::SeqCst));
            tokio::join!(there, back);
        };
        tokio::select! {
            () = relay => {}
            _ = seen.wait_for(|now| now.generation != generation) => {}
        }
    }

    async fn direction(self, mut from: OwnedReadHalf, to: OwnedWriteHalf, spoken: impl Fn()) {
        let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
        let read = async {
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(count @ 1..) = from.read(&mut buffer).await {
                spoken();
                let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                if sender.send((Instant::now(), bytes)).await.is_err() {
                    break;
                }
            }
            drop(sender);
        };
        tokio::join!(read, self.write(receiver, to));
    }

    async fn write(mut self, mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf) {
        while let Some((arrived, bytes)) = chunks.recv().await {
            let delay = self.seen.borrow().delay;
            tokio::time::sleep_until(arrived + delay).await;
            if self.seen.wait_for(|now| !now.is_frozen).await.is_err() || to.write_all(&bytes).await.is_err()
            {
                return;
            }
            self.count(bytes.len());
        }
        to.shutdown().await.ok();
    }

    fn count(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let total = self.counters.bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        let cut_at = self.counters.cut_at.load(Ordering::SeqCst);
        let is_first = || self.counters.cut_at.swap(0, Ordering::SeqCst) != 0;
        if cut_at != 0 && total >= cut_at && is_first() {
            self.behaviour.send_modify(|behaviour| behaviour.generation += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await.ok();
                });
            }
        });
        (address, tasks)
    }

    async fn round_trip(stream: &mut TcpStream) -> std::io::Result<Duration> {
        let start = Instant::now();
        stream.write_all(b"ping").await?;
        stream.read_exact(&mut [0; 4]).await?;
        Ok(start.elapsed())
    }

    #[tokio::test]
    async fn delays_each_direction() {
        let (target, _echo) = echo().await;
        let relay = Relay::start(target).await.unwrap();
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        relay.delay(Duration::from_millis(30));
        let turns = relay.turns();
        let time = round_trip(&mut stream).await.unwrap();
        assert_eq!(relay.turns(), turns + 1);
        assert!(time >= Duration::from_millis(60), "{time:?}");
    }

    #[tokio::test]
    async fn freezes_and_thaws() {
        let (target, _echo) = echo().await;
        let relay = Relay::start(target).await.unwrap();
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        round_trip(&mut stream).await.unwrap();
        relay.freeze();
        let frozen = tokio::time::timeout(Duration::from_millis(100), round_trip(&mut stream)).await;
        assert!(frozen.is_err());
        relay.thaw();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        round_trip(&mut stream).await.unwrap();
    }

    #[tokio::test]
    async fn cuts_open_connections_after_some_bytes_and_admits_new_ones() {
        let (target, _echo) = echo().await;
        let relay = Relay::start(target).await.unwrap();
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        round_trip(&mut stream).await.unwrap();
        relay.cut_after(20);
        let mut trips = 0;
        while round_trip(&mut stream).await.is_ok() {
            trips += 1;
            assert!(trips < 10, "the connection was not cut");
        }
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        round_trip(&mut stream).await.unwrap();
        relay.refuse();
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        assert!(round_trip(&mut stream).await.is_err());
    }
}
