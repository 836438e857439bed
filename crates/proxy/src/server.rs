//! The whole proxy: threads that serve, one that directs them, and an orderly end.

use std::io::{self, Write};
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use freehold_model::{Diagnose, ErrorKind};
use freehold_wire::KamalService;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::acme::{AcmeConfig, Keeper};
use crate::certificate::server_config;
use crate::control::{Control, Means, api, chain, restore};
use crate::edge::{Edge, EdgeConfig};
use crate::limits::Limits;
use crate::log::{Log, LogWriter};
use crate::metrics::{Metrics, serve};
use crate::resolve::{NameFiles, Resolver};
use crate::runtime::{Command, Listeners, Threads, listen};
use crate::state::{State, StateError, StateFile};
use crate::table::Shared;
use crate::worker::Start;

/// How a proxy is set up.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The address to listen on; every address where none is given.
    pub bind: Option<IpAddr>,
    /// The port for HTTP; 0 takes a free one.
    pub http_port: u16,
    /// The port for HTTPS; 0 takes a free one.
    pub https_port: u16,
    /// The port for metrics; none are counted where there is none, and 0 takes a free one.
    pub metrics_port: Option<u16>,
    /// How many threads serve, at least 1.
    pub threads: usize,
    /// Where the control socket is made.
    pub socket: PathBuf,
    /// The folder that holds the state.
    pub state_folder: PathBuf,
    /// Whether debug lines are logged.
    pub debug: bool,
    /// How long requests in flight may go on when the proxy stops.
    pub stop_deadline: Duration,
    /// How long it waits for clients and targets.
    pub limits: Limits,
    /// Where the targets' names are looked up.
    pub names: NameFiles,
    /// The folder for bodies that are held back and do not fit into memory.
    pub spill_folder: PathBuf,
    /// How connections are taken.
    pub edge: EdgeConfig,
    /// How certificates are ordered where a service says nothing else.
    pub acme: AcmeConfig,
}

/// The proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port cannot be listened on.
    #[error("listen tcp {address}")]
    Listen {
        /// Address and port.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The control socket cannot be made.
    #[error("cannot make the control socket `{path}`", path = path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The folder or file of the state cannot be used.
    #[error("cannot use the folder `{folder}` for the state", folder = folder.display())]
    State {
        /// Which folder.
        folder: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Encrypted connections cannot be set up.
    #[error("cannot set up encrypted connections")]
    Tls {
        /// Why not.
        source: rustls::Error,
    },
    /// Certificate authorities cannot be talked to.
    #[error("cannot set up the ordering of certificates")]
    Acme {
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system gives no thread or event loop.
    #[error("cannot start the threads")]
    Threads {
        /// Why not.
        source: io::Error,
    },
}

impl Diagnose for StartError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Threads { .. } | Self::Tls { .. } => ErrorKind::Failed,
            Self::Listen { .. } | Self::Socket { .. } | Self::State { .. } | Self::Acme { .. } => {
                ErrorKind::Configuration
            }
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Listen { .. } => vec!["find out who has the port: `ss -ltnp`".to_owned()],
            Self::Socket { .. } => vec!["choose another path with `--socket`".to_owned()],
            Self::State { .. } => vec!["choose another folder with `--state-dir`".to_owned()],
            Self::Acme { .. } => vec!["give a file with certificates in PEM to `--acme-ca-file`".to_owned()],
            Self::Threads { .. } | Self::Tls { .. } => Vec::new(),
        }
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Server {
    http_port: u16,
    https_port: u16,
    metrics_port: Option<u16>,
    stopping: CancellationToken,
    control: JoinHandle<()>,
    log: LogWriter,
}

/// Everything that the control thread needs to begin.
struct Parts {
    control: Arc<Control>,
    socket: std::os::unix::net::UnixListener,
    socket_path: PathBuf,
    own_uid: u32,
    stop_deadline: Duration,
    ports: (u16, u16),
    /// Where what is counted is read.
    metrics: Option<TcpListener>,
    limits: Limits,
}

/// Everything that is listened on, one listener for each thread.
struct Ports {
    plain: Vec<TcpListener>,
    encrypted: Vec<TcpListener>,
    metrics: Option<TcpListener>,
}

impl Ports {
    fn listen(config: &ServerConfig, threads: usize) -> Result<Self, StartError> {
        let listen_on = |port, threads| {
            listen(config.bind, port, threads)
                .map_err(|source| StartError::Listen { address: address_text(config.bind, port), source })
        };
        let metrics = config.metrics_port.map(|port| listen_on(port, 1)).transpose()?;
        Ok(Self {
            plain: listen_on(config.http_port, threads)?,
            encrypted: listen_on(config.https_port, threads)?,
            metrics: metrics.into_iter().flatten().next(),
        })
    }

    /// Returns the numbers, also of those that were free to choose.
    fn numbers(&self) -> (u16, u16, Option<u16>) {
        (
            port_of(&self.plain),
            port_of(&self.encrypted),
            self.metrics.as_ref().map(|listener| port_of([listener])),
        )
    }
}

impl Server {
    /// Starts a proxy. Services of an earlier run are served before this returns.
    ///
    /// # Errors
    /// [`StartError`], with the port, socket or folder that cannot be used.
    pub fn start(config: ServerConfig, output: Box<dyn Write + Send>) -> Result<Self, StartError> {
        let (log, writer) =
            Log::start(output, config.debug).map_err(|source| StartError::Threads { source })?;
        let resolver = Arc::new(Resolver::new(config.names.clone(), log.clone()));
        let certificates = config.state_folder.join("certs");
        let tools = (Arc::clone(&resolver), log.clone());
        let keeper = Keeper::new(config.acme.clone(), certificates, config.limits, tools)
            .map_err(|error| StartError::Acme { source: Box::new(error) })?;
        let state_error = |source: StateError| StartError::State {
            folder: config.state_folder.clone(),
            source: Box::new(source),
        };
        let state_file = StateFile::in_folder(&config.state_folder).map_err(state_error)?;
        let state = load(&state_file, &log).map_err(state_error)?;
        let threads = config.threads.max(1);
        let ports = Ports::listen(&config, threads)?;
        let (http_port, https_port, metrics_port) = ports.numbers();
        let (socket, own_uid) = make_socket(&config.socket)
            .map_err(|source| StartError::Socket { path: config.socket.clone(), source })?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| StartError::Threads { source })?;
        let metrics = ports.metrics.as_ref().map(|_| Arc::new(Metrics::new(threads)));
        let (table, ledger) = {
            let _inside = runtime.enter();
            let metrics = metrics.as_deref();
            let means =
                Means { thread_count: threads, resolver: &resolver, log: &log, keeper: &keeper, metrics };
            state.map_or_else(Default::default, |state| restore(state, &means))
        };
        let shared = Arc::new(Shared::default());
        shared.store(table);
        let challenges = keeper.challenges();
        let tls = server_config(Arc::clone(&shared), Arc::clone(&challenges))
            .map_err(|source| StartError::Tls { source })?;
        let start = Start {
            lane: 0,
            port: http_port,
            https_port,
            limits: config.limits,
            edge: Arc::new(Edge::new(config.edge)),
            shared: Arc::clone(&shared),
            resolver: Arc::clone(&resolver),
            spill_folder: config.spill_folder.into(),
            log: log.clone(),
            challenges,
            unrouted: metrics.as_ref().map(|metrics| metrics.service("")),
        };
        let starts = ports.plain.into_iter().zip(ports.encrypted).enumerate().map(|(lane, (http, https))| {
            (Start { lane, ..start.clone() }, Listeners { http, https, tls: Arc::clone(&tls) })
        });
        let stopping = CancellationToken::new();
        let control = Arc::new(Control {
            threads: Threads::start(starts.collect()).map_err(|source| StartError::Threads { source })?,
            shared,
            resolver,
            thread_count: threads,
            log,
            state_file,
            http_port,
            started_at: Timestamp::now().to_string(),
            stopping: stopping.clone(),
            tasks: TaskTracker::new(),
            ledger: Mutex::new(ledger),
            keeper: Arc::new(keeper),
            metrics: metrics.clone(),
        });
        let (socket_path, stop_deadline) = (config.socket, config.stop_deadline);
        let parts = Parts {
            control,
            socket,
            socket_path,
            own_uid,
            stop_deadline,
            ports: (http_port, https_port),
            metrics: ports.metrics,
            limits: config.limits,
        };
        let thread =
            std::thread::Builder::new().name("control".to_owned()).spawn(move || run(runtime, parts));
        let control = thread.map_err(|source| StartError::Threads { source })?;
        Ok(Self { http_port, https_port, metrics_port, stopping, control, log: writer })
    }

    /// Returns the port on which it takes HTTP requests.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Returns the port on which it takes HTTPS requests.
    #[must_use]
    pub fn https_port(&self) -> u16 {
        self.https_port
    }

    /// Returns the port on which what is counted can be read.
    #[must_use]
    pub fn metrics_port(&self) -> Option<u16> {
        self.metrics_port
    }

    /// Lets it stop: take nothing new, finish what is in flight, end what is left at the deadline.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Waits until it has stopped, by [`Server::stop`] or by a signal.
    pub fn join(self) {
        // A panic of the control thread was printed by it; the process ends either way.
        self.control.join().ok();
        self.log.join();
    }
}

/// Loads the state. A damaged file is reported and set aside; only one that may not be touched is a reason not to start.
fn load(file: &StateFile, log: &Log) -> Result<Option<State>, StateError> {
    let own = load_own(file, log)?;
    match file.load_kamal() {
        Ok(None) => Ok(own),
        Ok(Some(services)) => {
            let state = carry_over(own, &services, log);
            if state.services.len() < services.len() {
                keep_kamal(file, log);
            }
            Ok(Some(state))
        }
        Err(error) => {
            log.error("The state of kamal-proxy is not carried over", &[("error", &chain(&error))]);
            keep_kamal(file, log);
            Ok(own)
        }
    }
}

fn keep_kamal(file: &StateFile, log: &Log) {
    match file.keep_kamal() {
        Ok(path) => log.info("Kept a copy of the state of kamal-proxy", &[("path", &path.display())]),
        Err(error) => log.error("No copy of the state of kamal-proxy kept", &[("error", &chain(&error))]),
    }
}

/// Takes over what kamal-proxy served in our place. Our fencing numbers stay.
fn carry_over(own: Option<State>, services: &[KamalService], log: &Log) -> State {
    let (generation, fences) = own.map(|own| (own.generation, own.fences)).unwrap_or_default();
    let generation = generation + 1;
    let mut carried = Vec::new();
    for service in services {
        match service.snapshot(generation) {
            Ok(snapshot) => carried.push(snapshot),
            Err(error) => {
                let error = chain(&error);
                log.error(
                    "Service of kamal-proxy not carried over",
                    &[("service", &service.name), ("error", &error)],
                );
            }
        }
    }
    log.info("Carried over the state of kamal-proxy", &[("services", &carried.len())]);
    State::new(generation, fences, carried)
}

fn load_own(file: &StateFile, log: &Log) -> Result<Option<State>, StateError> {
    match file.load() {
        Ok(Some(state)) => {
            log.info("Restored saved state", &[("services", &state.services.len())]);
            Ok(Some(state))
        }
        Ok(None) => {
            log.info("No previous state to restore", &[]);
            Ok(None)
        }
        Err(error @ (StateError::Damaged { .. } | StateError::Format { .. })) => {
            log.error("Failed to decode saved state", &[("error", &chain(&error))]);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn address_text(bind: Option<IpAddr>, port: u16) -> String {
    bind.map_or_else(|| format!(":{port}"), |ip| std::net::SocketAddr::new(ip, port).to_string())
}

fn port_of<'l>(listeners: impl IntoIterator<Item = &'l TcpListener>) -> u16 {
    let address = listeners.into_iter().next().and_then(|listener| listener.local_addr().ok());
    address.map_or(0, |address| address.port())
}

/// Makes the control socket, in place of one that an earlier run left; returns also the user who owns it.
fn make_socket(path: &Path) -> io::Result<(std::os::unix::net::UnixListener, u32)> {
    match fs_err::symlink_metadata(path) {
        Ok(_) => fs_err::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if let Some(folder) = path.parent() {
        // An image made from scratch has no folder for temporary files.
        fs_err::create_dir_all(folder)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok((listener, fs_err::metadata(path)?.uid()))
}

/// The control thread from its begin to the end of the proxy.
fn run(runtime: Runtime, parts: Parts) {
    let Parts { control, socket, socket_path, own_uid, stop_deadline, ports, metrics, limits } = parts;
    let log = control.log.clone();
    runtime.block_on(async {
        let listener = match UnixListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => {
                log.error("The control socket cannot be used", &[("error", &error)]);
                return;
            }
        };
        log.info("Server started", &[("http", &ports.0), ("https", &ports.1)]);
        tokio::join!(
            api::serve(Arc::clone(&control), listener, own_uid),
            control.watch_certificates(limits.certificates),
            control.watch_trials(limits.verdicts),
            Arc::clone(&control.keeper).run(&control.shared, &control.stopping),
            serve_metrics(&control, metrics),
            await_signal(&control.stopping, &log)
        );
        log.info("Server stopping", &[]);
        control.threads.tell(Command::Stop { deadline: stop_deadline }).await;
        control.tasks.close();
        control.tasks.wait().await;
    });
    runtime.shutdown_background();
    // A new proxy may have put its own socket there; it is then unlinked under its feet, as kamal-proxy does.
    fs_err::remove_file(&socket_path).ok();
    control.threads.join();
    drop(control);
    log.info("Server stopped", &[]);
}

/// Answers with what is counted, if it is.
async fn serve_metrics(control: &Arc<Control>, listener: Option<TcpListener>) {
    let Some(listener) = listener else { return };
    let port = port_of([&listener]);
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => {
            control.log.info("Metrics enabled", &[("port", &port)]);
            serve::serve(Arc::clone(control), listener).await;
        }
        Err(error) => control.log.error("Metrics cannot be served", &[("error", &error)]),
    }
}

/// Waits for the wish to stop, from inside or by a signal.
async fn await_signal(stopping: &CancellationToken, log: &Log) {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    if let (Ok(mut terminate), Ok(mut interrupt)) = signals {
        tokio::select! {
            () = stopping.cancelled() => {}
            _ = terminate.recv() => log.info("Signal received", &[("signal", &"SIGTERM")]),
            _ = interrupt.recv() => log.info("Signal received", &[("signal", &"SIGINT")]),
        }
    } else {
        log.error("Signals cannot be received", &[]);
        stopping.cancelled().await;
    }
    stopping.cancel();
}
