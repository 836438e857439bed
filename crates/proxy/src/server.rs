//! The whole proxy: threads that serve, one that directs them, and an orderly end.

mod begin;
mod load;

use std::io::{self, Write};
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use freehold_model::{Diagnose, ErrorKind};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{RwLock, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::acme::{AcmeConfig, Keeper, ProxyHeaders, public_connector};
use crate::certificate::server_config;
use crate::control::{Control, api};
use crate::edge::{Edge, EdgeConfig};
use crate::handover::{Inheritance, Link, Program, Signals, Sockets, accompany, linger, supervise};
use crate::limits::Limits;
use crate::log::{Log, LogWriter};
use crate::metrics::{Metrics, serve};
use crate::resolve::{NameFiles, Resolver};
use crate::runtime::{Command, Listeners, Threads};
use crate::spool::SpillBudget;
use crate::state::{StateError, StateFile};
use crate::table::Shared;
use crate::ticket::Tickets;
use crate::trace::{Exporter, TraceConfig, Tracer};
use crate::worker::Start;

use begin::Beginning;

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
    /// How many bytes of such bodies may be in that folder at a time.
    pub spill_limit: u64,
    /// How connections are taken.
    pub edge: EdgeConfig,
    /// How certificates are ordered where a service says nothing else.
    pub acme: AcmeConfig,
    /// Where traces go, if any are made.
    pub traces: Option<TraceConfig>,
    /// How this process was started; none where no other can be started in its place.
    pub program: Option<Program>,
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
    /// What an earlier process was to hand over cannot be used.
    #[error("cannot take over from the earlier process")]
    TakeOver {
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
            Self::Threads { .. } | Self::Tls { .. } | Self::TakeOver { .. } => ErrorKind::Failed,
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
            Self::Threads { .. } | Self::Tls { .. } | Self::TakeOver { .. } => Vec::new(),
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
    control: JoinHandle<Ended>,
    log: LogWriter,
}

/// How a proxy ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// Another process serves in its place.
    HandedOver {
        /// The exit code of the last of those after it, where this was the first one and has waited for them.
        code: u8,
    },
    /// It had handed over to a process that has ended.
    Deserted,
    /// The earlier process did not hand over after all.
    Refused,
}

/// Everything that the control thread needs to begin.
struct Parts {
    control: Arc<Control>,
    sockets: Sockets,
    socket_path: PathBuf,
    own_uid: u32,
    stop_deadline: Duration,
    ports: (u16, u16),
    limits: Limits,
    /// The way to the process before this one.
    link: Option<Link>,
    exporter: Option<Exporter>,
}

fn state_error(config: &ServerConfig, source: StateError) -> StartError {
    StartError::State { folder: config.state_folder.clone(), source: Box::new(source) }
}

impl Server {
    /// Starts a proxy. Services of an earlier run are served before this returns.
    ///
    /// # Errors
    /// [`StartError`], with the port, socket or folder that cannot be used.
    pub fn start(config: ServerConfig, output: Box<dyn Write + Send>) -> Result<Self, StartError> {
        Self::begin(config, output, None)
    }

    /// Starts a proxy in the place of the process at the other end of standard input, which is told where that fails.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn take_over(config: ServerConfig, output: Box<dyn Write + Send>) -> Result<Self, StartError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| StartError::TakeOver { source };
        let inheritance =
            Inheritance::receive(config.limits.hand_over).map_err(|error| failed(Box::new(error)))?;
        let reporter = inheritance.reporter().map_err(|error| failed(Box::new(error)))?;
        let started = Self::begin(config, output, Some(inheritance));
        if let Err(error) = &started {
            reporter.fail(error);
        }
        started
    }

    fn begin(
        config: ServerConfig,
        output: Box<dyn Write + Send>,
        inheritance: Option<Inheritance>,
    ) -> Result<Self, StartError> {
        let threads_error = |source| StartError::Threads { source };
        let (log, writer) = Log::start(output, config.debug).map_err(threads_error)?;
        let resolver = Arc::new(Resolver::new(config.names.clone(), log.clone()));
        let keeper = keeper(&config, (Arc::clone(&resolver), log.clone()))?;
        let state_file =
            StateFile::in_folder(&config.state_folder).map_err(|error| state_error(&config, error))?;
        let beginning = match inheritance {
            Some(inheritance) => Beginning::inherited(&config, inheritance)?,
            None => Beginning::anew(&config, &state_file, &log)?,
        };
        let Beginning { sockets, own_uid, state, heritage, tickets, link } = beginning;
        heritage.hand_to(&keeper);
        let tickets = Arc::new(Tickets::new(&tickets));
        let ports = (port_of(&sockets.plain), port_of(&sockets.encrypted));
        let metrics_port = sockets.metrics.as_ref().map(|listener| port_of([listener]));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(threads_error)?;
        // One thread for each listener: on one that nobody looks at, connections would wait for ever.
        let thread_count = sockets.plain.len();
        let metrics = sockets.metrics.as_ref().map(|_| Arc::new(Metrics::new(thread_count)));
        let shared = Arc::new(Shared::default());
        let (signals, (table, ledger)) = {
            let _inside = runtime.enter();
            let signals = Signals::new().map_err(threads_error)?;
            let tools = (&resolver, &log, &keeper, &shared);
            (signals, heritage.restored(state, (thread_count, metrics.as_deref()), tools))
        };
        shared.store(table);
        let (spill_budget, edge) =
            (Arc::new(SpillBudget::new(config.spill_limit)), Arc::new(Edge::new(config.edge.clone())));
        let (tracer, exporter) = trace(&config, (&resolver, &log))?.unzip();
        let start = Start {
            lane: 0,
            port: ports.0,
            https_port: ports.1,
            limits: config.limits,
            edge: Arc::clone(&edge),
            shared: Arc::clone(&shared),
            resolver: Arc::clone(&resolver),
            spill_folder: config.spill_folder.into(),
            spill_budget: Arc::clone(&spill_budget),
            log: log.clone(),
            challenges: keeper.challenges(),
            unrouted: metrics.as_ref().map(|metrics| metrics.service("")),
            tracer: tracer.clone(),
        };
        let (threads, stopping) =
            (serve_on(&sockets, start, Arc::clone(&tickets))?, CancellationToken::new());
        let control = Arc::new(Control {
            threads,
            shared,
            resolver,
            thread_count,
            log,
            state_file,
            http_port: ports.0,
            started_at: Timestamp::now().to_string(),
            stopping: stopping.clone(),
            tasks: TaskTracker::new(),
            ledger: Mutex::new(ledger),
            keeper: Arc::new(keeper),
            metrics,
            edge,
            spill_budget,
            traces: tracer.map(|tracer| tracer.counts()),
            tickets,
            changes: RwLock::new(()),
            program: config.program,
            hand_over_limit: config.limits.hand_over,
            sockets: Mutex::new(Some(sockets.try_clone().map_err(threads_error)?)),
            departure: OnceLock::new(),
            company: TaskTracker::new(),
            over: CancellationToken::new(),
            changed: watch::Sender::new(None),
            elsewhere: watch::Sender::default(),
        });
        let (socket_path, stop_deadline, limits) = (config.socket, config.stop_deadline, config.limits);
        let parts =
            Parts { control, sockets, socket_path, own_uid, stop_deadline, ports, limits, link, exporter };
        let control = spawn_control(runtime, signals, parts).map_err(threads_error)?;
        Ok(Self { http_port: ports.0, https_port: ports.1, metrics_port, stopping, control, log: writer })
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

    /// Waits until it has stopped, by [`Server::stop`] or by a signal, or has handed over and ended what it had begun.
    pub fn join(self) -> Ended {
        // A panic of the control thread was printed by it; the process ends either way.
        let ended = self.control.join().unwrap_or(Ended::Stopped);
        self.log.join();
        ended
    }
}

fn address_text(bind: Option<IpAddr>, port: u16) -> String {
    bind.map_or_else(|| format!(":{port}"), |ip| std::net::SocketAddr::new(ip, port).to_string())
}

fn port_of<'l>(listeners: impl IntoIterator<Item = &'l TcpListener>) -> u16 {
    let address = listeners.into_iter().next().and_then(|listener| listener.local_addr().ok());
    address.map_or(0, |address| address.port())
}

fn keeper(config: &ServerConfig, tools: (Arc<Resolver>, Log)) -> Result<Keeper, StartError> {
    let certificates = config.state_folder.join("certs");
    let EdgeConfig { proxy_protocol_http: http, proxy_protocol_https: https, .. } = config.edge;
    Keeper::new(config.acme.clone(), certificates, config.limits, tools, ProxyHeaders { http, https })
        .map_err(|error| StartError::Acme { source: Box::new(error) })
}

/// Starts the threads that serve, each with descriptors of its own.
fn serve_on(sockets: &Sockets, start: Start, tickets: Arc<Tickets>) -> Result<Threads, StartError> {
    let tls = server_config(Arc::clone(&start.shared), Arc::clone(&start.challenges), tickets)
        .map_err(|source| StartError::Tls { source })?;
    let threads_error = |source| StartError::Threads { source };
    let Sockets { plain, encrypted, .. } = sockets.try_clone().map_err(threads_error)?;
    let starts = plain.into_iter().zip(encrypted).enumerate().map(|(lane, (http, https))| {
        (Start { lane, ..start.clone() }, Listeners { http, https, tls: Arc::clone(&tls) })
    });
    Threads::start(starts.collect()).map_err(threads_error)
}

fn spawn_control(runtime: Runtime, signals: Signals, parts: Parts) -> io::Result<JoinHandle<Ended>> {
    std::thread::Builder::new().name("control".to_owned()).spawn(move || run(runtime, signals, parts))
}

/// The control thread from its begin to the end of the proxy.
fn run(runtime: Runtime, mut signals: Signals, parts: Parts) -> Ended {
    let (socket_path, is_first) = (parts.socket_path.clone(), parts.link.is_none());
    let control = Arc::clone(&parts.control);
    let ended = runtime.block_on(direct(parts, &mut signals));
    if ended == Ended::Stopped {
        // A new proxy may have put its own socket there; it is then unlinked under its feet, as kamal-proxy does.
        fs_err::remove_file(&socket_path).ok();
    }
    control.threads.join();
    let log = control.log.clone();
    // What it holds is not needed by a process that only waits.
    drop(control);
    log.info("Server stopped", &[]);
    let ended = match ended {
        Ended::HandedOver { .. } if is_first => match runtime.block_on(supervise(&mut signals)) {
            Ok(code) => Ended::HandedOver { code },
            Err(error) => {
                log.error("Those that took over cannot be waited for", &[("error", &error)]);
                Ended::Deserted
            }
        },
        ended => ended,
    };
    runtime.shutdown_background();
    ended
}

/// Directs everything until the proxy ends, and says how it does.
async fn direct(parts: Parts, signals: &mut Signals) -> Ended {
    let Parts { control, sockets, socket_path: _, own_uid, stop_deadline, ports, limits, link, exporter } =
        parts;
    let log = control.log.clone();
    if let Some(link) = &link
        && let Err(error) = link.take_over(limits.hand_over)
    {
        log.error("Not taken over", &[("error", &error)]);
        control.sockets.lock().take();
        control.threads.tell(Command::Stop { deadline: Duration::ZERO }).await;
        return Ended::Refused;
    }
    let Sockets { plain, encrypted, metrics, control: socket } = sockets;
    // The threads have descriptors of their own.
    drop((plain, encrypted));
    let listener = match UnixListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            log.error("The control socket cannot be used", &[("error", &error)]);
            return Ended::Stopped;
        }
    };
    log.info("Server started", &[("http", &ports.0), ("https", &ports.1)]);
    tokio::join!(
        api::serve(Arc::clone(&control), listener, own_uid),
        control.watch_certificates(limits.certificates),
        control.watch_trials(limits.verdicts),
        Arc::clone(&control.keeper).run(&control.shared, &control.stopping),
        serve_metrics(&control, metrics),
        accompany(Arc::clone(&control), link),
        export(&control.stopping, exporter),
        await_signal(&control.stopping, (signals, &log))
    );
    log.info("Server stopping", &[]);
    let ended = match control.departure.get() {
        Some(departure) if linger(&control, departure, (signals, stop_deadline)).await => {
            Ended::HandedOver { code: 0 }
        }
        Some(_) => Ended::Deserted,
        None => {
            control.sockets.lock().take();
            control.threads.tell(Command::Stop { deadline: stop_deadline }).await;
            Ended::Stopped
        }
    };
    control.over.cancel();
    for tasks in [&control.tasks, &control.company] {
        tasks.close();
        tasks.wait().await;
    }
    ended
}

/// Makes what traces are made and sent with, if they are.
fn trace(
    config: &ServerConfig,
    (resolver, log): (&Arc<Resolver>, &Log),
) -> Result<Option<(Arc<Tracer>, Exporter)>, StartError> {
    let Some(traces) = &config.traces else { return Ok(None) };
    let tls = public_connector(config.acme.roots.as_deref())
        .map_err(|error| StartError::Acme { source: Box::new(error) })?;
    let (tracer, queue) = Tracer::new(traces.per_million);
    let (counts, resolver, log) = (tracer.counts(), Arc::clone(resolver), log.clone());
    let exporter = Exporter { config: traces.clone(), queue, counts, resolver, tls, log };
    Ok(Some((Arc::new(tracer), exporter)))
}

async fn export(stopping: &CancellationToken, exporter: Option<Exporter>) {
    if let Some(exporter) = exporter {
        exporter.run(stopping).await;
    }
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
async fn await_signal(stopping: &CancellationToken, (signals, log): (&mut Signals, &Log)) {
    tokio::select! {
        () = stopping.cancelled() => {}
        name = signals.next() => log.info("Signal received", &[("signal", &name)]),
    }
    stopping.cancel();
}
