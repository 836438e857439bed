//! The threads that serve: each with its own listener, event loop and connections.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::dropped::Dropped;
use crate::edge::{TooMany, read_header};
use crate::serve::{Caller, serve};
use crate::watch::{Phase, SWEEP_INTERVAL};
use crate::worker::{Leaving, Start, Worker};

/// How many connections the system may hold for a thread that has not accepted them.
const BACKLOG: i32 = 1024;

/// How long a connection that waits for its next request may go on to wait after a hand-over. Closed at once, it might
/// meet a request that is on its way; this one is answered, and the client told that the connection ends.
const GRACE: Duration = Duration::from_secs(1);

/// What a thread can be told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Command {
    /// Interrupt what goes on in a phase at a generation of targets.
    Cut { phase: Phase, generation: u64 },
    /// Take nothing new, and end after what is in flight or after a deadline.
    Stop { deadline: Duration },
    /// Leave everything new to the process that has the same listeners, and end after what is in flight or after a deadline.
    HandOver { deadline: Duration },
}

/// The threads, as the one who directs them sees them.
#[derive(Debug)]
pub(crate) struct Threads {
    commands: Vec<Sender<Command>>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

/// What one thread listens on.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) http: TcpListener,
    pub(crate) https: TcpListener,
    /// How encrypted connections are accepted.
    pub(crate) tls: Arc<ServerConfig>,
}

/// Makes one listener for each thread, all on one port.
///
/// # Errors
/// Where the port is taken, also by another proxy that would share it.
pub(crate) fn listen(bind: Option<IpAddr>, port: u16, threads: usize) -> io::Result<Vec<TcpListener>> {
    let any = SocketAddr::from(([0u16; 8], port));
    let address = match bind {
        Some(ip) => SocketAddr::new(ip, port),
        // Where the system has no IPv6, the address that means every address is another one.
        None if open(any, false).is_err_and(|error| error.kind() != io::ErrorKind::AddrInUse) => {
            SocketAddr::from(([0u8; 4], port))
        }
        None => any,
    };
    // Sockets that share their port also share it with another process of this user. One that does not tells.
    let probe = open(address, false)?;
    let address = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    let mut listeners = Vec::new();
    for _ in 0..threads {
        let socket = open(address, true)?;
        socket.listen(BACKLOG)?;
        listeners.push(socket.into());
    }
    Ok(listeners)
}

fn open(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != IpAddr::from([0u16; 8]))?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    // What is accepted inherits it: a client that has vanished is found out, also in a tunnel without a deadline.
    socket.set_tcp_keepalive(&keepalive())?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The probing of silent connections, at both sides.
pub(crate) fn keepalive() -> TcpKeepalive {
    let interval = Duration::from_secs(15);
    TcpKeepalive::new().with_time(interval).with_interval(interval)
}

impl Threads {
    /// Starts a thread for each listener.
    ///
    /// # Errors
    /// Where the system gives no thread or event loop.
    pub(crate) fn start(starts: Vec<(Start, Listeners)>) -> io::Result<Self> {
        let mut threads = Self { commands: Vec::new(), handles: Mutex::default() };
        for (start, listeners) in starts {
            let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
            let (sender, receiver) = channel(64);
            let name = format!("serve-{}", start.lane);
            let body = move || run(runtime, start, listeners, receiver);
            threads.handles.get_mut().push(std::thread::Builder::new().name(name).spawn(body)?);
            threads.commands.push(sender);
        }
        Ok(threads)
    }

    /// Tells every thread the same.
    ///
    /// # Cancel safety
    /// Dropped half-way, some threads were told.
    pub(crate) async fn tell(&self, command: Command) {
        for thread in &self.commands {
            // A thread that is gone has nothing left to do.
            thread.send(command).await.ok();
        }
    }

    /// Waits for all threads to end.
    pub(crate) fn join(&self) {
        let handles = std::mem::take(&mut *self.handles.lock());
        for handle in handles {
            // The panic was printed by the thread; its connections are gone either way.
            handle.join().ok();
        }
    }
}

fn run(runtime: Runtime, start: Start, listeners: Listeners, commands: Receiver<Command>) {
    let worker = Rc::new(Worker::new(start));
    let local = LocalSet::new();
    local.block_on(&runtime, accept(Rc::clone(&worker), listeners, commands));
    worker.flush_log();
    drop(local);
    // A resolver that hangs must not keep the process from ending.
    runtime.shutdown_background();
}

async fn accept(worker: Rc<Worker>, listeners: Listeners, mut commands: Receiver<Command>) {
    let plain = tokio::net::TcpListener::from_std(listeners.http);
    let encrypted = tokio::net::TcpListener::from_std(listeners.https);
    let (Ok(plain), Ok(encrypted)) = (plain, encrypted) else {
        worker.log_panic("the listener cannot be used");
        return;
    };
    let tls = listeners.tls;
    let mut connections = JoinSet::new();
    let mut sweep = interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (deadline, leaving) = loop {
        tokio::select! {
            accepted = plain.accept() => match accepted {
                Ok((client, peer)) => begin(&worker, &mut connections, (client, peer), None),
                // Out of descriptors: those in use must be given back first.
                Err(_) => sleep(Duration::from_millis(20)).await,
            },
            accepted = encrypted.accept() => match accepted {
                Ok(accepted) => begin(&worker, &mut connections, accepted, Some(Arc::clone(&tls))),
                Err(_) => sleep(Duration::from_millis(20)).await,
            },
            command = commands.recv() => match command {
                Some(Command::Cut { phase, generation }) => worker.watches.cut(phase, generation),
                Some(Command::Stop { deadline }) => break (deadline, Leaving::Now),
                Some(Command::HandOver { deadline }) => break (deadline, Leaving::Soon),
                None => break (Duration::ZERO, Leaving::Now),
            },
            _ = sweep.tick() => tick(&worker),
            Some(ended) = connections.join_next() => report(&worker, ended),
        }
    };
    // Connections that the system has accepted for us would be reset with the listener, unless another process has it, too.
    while leaving == Leaving::Now
        && let Ok(Ok(accepted)) = timeout(Duration::ZERO, plain.accept()).await
    {
        begin(&worker, &mut connections, accepted, None);
    }
    while leaving == Leaving::Now
        && let Ok(Ok(accepted)) = timeout(Duration::ZERO, encrypted.accept()).await
    {
        begin(&worker, &mut connections, accepted, Some(Arc::clone(&tls)));
    }
    drop((plain, encrypted));
    worker.quit(leaving);
    drain(&worker, &mut connections, (deadline, &mut commands)).await;
}

fn begin(
    worker: &Rc<Worker>,
    connections: &mut JoinSet<()>,
    (client, peer): (TcpStream, SocketAddr),
    tls: Option<Arc<ServerConfig>>,
) {
    // A client that is gone already takes no option.
    client.set_nodelay(true).ok();
    if worker.edge.expects_header(peer.ip(), tls.is_some()) {
        connections.spawn_local(serve_told(Rc::clone(worker), client, peer, tls));
        return;
    }
    match worker.edge.count(peer.ip()) {
        Ok(counted) => {
            let caller = Caller { address: peer, counted };
            connections.spawn_local(serve(Rc::clone(worker), client, caller, tls));
        }
        Err(TooMany) => worker.drop_connection(&peer, Dropped::TooManyConnections, &[]),
    }
}

/// Serves a connection whose client a proxy in front of this one tells first.
async fn serve_told(
    worker: Rc<Worker>,
    mut client: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
) {
    let told = timeout(worker.limits.handshake, Box::pin(read_header(&mut client, peer))).await;
    match told.ok().flatten().map(|told| (told, worker.edge.count(told.ip()))) {
        None => worker.drop_connection(&peer, Dropped::NoProxyHeader, &[]),
        Some((told, Err(TooMany))) => worker.drop_connection(&told, Dropped::TooManyConnections, &[]),
        // In a box, since a future that is made here would be kept twice.
        Some((address, Ok(counted))) => {
            Box::pin(serve(worker, client, Caller { address, counted }, tls)).await;
        }
    }
}

/// Lets connections end by themselves until the deadline, then ends them.
async fn drain(
    worker: &Rc<Worker>,
    connections: &mut JoinSet<()>,
    (deadline, commands): (Duration, &mut Receiver<Command>),
) {
    let mut sweep = interval(SWEEP_INTERVAL);
    let mut end = pin!(sleep(deadline));
    let mut grace = pin!(sleep(GRACE));
    let mut is_directed = true;
    loop {
        tokio::select! {
            _ = sweep.tick() => tick(worker),
            ended = connections.join_next() => match ended {
                Some(ended) => report(worker, ended),
                None => return,
            },
            command = commands.recv(), if is_directed => match command {
                Some(Command::Cut { phase, generation }) => worker.watches.cut(phase, generation),
                Some(Command::Stop { deadline } | Command::HandOver { deadline }) => {
                    let sooner = end.deadline().min(tokio::time::Instant::now() + deadline);
                    end.as_mut().reset(sooner);
                }
                None => is_directed = false,
            },
            () = &mut grace, if worker.leaving() == Leaving::Soon => worker.quit(Leaving::Now),
            () = &mut end => break,
        }
    }
    worker.watches.cut_all();
    // Time to say so to the clients; what does not end is dropped with the thread.
    let all = async { while connections.join_next().await.is_some() {} };
    timeout(Duration::from_millis(500), all).await.ok();
}

fn tick(worker: &Worker) {
    worker.watches.sweep(Instant::now());
    worker.targets.sweep();
    // Connections to targets that another generation has replaced are closed although no request comes.
    worker.table();
    worker.flush_log();
}

fn report(worker: &Worker, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        worker.log_panic(&error.to_string());
    }
}
