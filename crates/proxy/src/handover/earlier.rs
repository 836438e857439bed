//! The side of the process that is replaced.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use freehold_wire::{ErrorCode, ErrorReply, InFlight, UpgradeReply, UpgradeRequest};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper};
use tokio::net::unix::OwnedWriteHalf;
use tokio::task::spawn_blocking;
use tokio::time::{interval, timeout};

use super::following::follow;
use super::message::{Flights, FromEarlier, FromLater, Legacy, PROTOCOL, hear, say, tell};
use super::passing::Sockets;
use super::program::{Program, Role};
use super::signals::Signals;
use crate::control::{Control, bounds, chain, refusal};
use crate::runtime::Command;
use crate::table::Service;

/// How often the new process is told what is in flight here.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// The new process did not come up.
#[derive(Debug, thiserror::Error)]
enum SuccessionError {
    #[error("the sockets cannot be handed over")]
    Sockets { source: io::Error },
    #[error("`{path}` cannot be started", path = path.display())]
    Start { path: PathBuf, source: io::Error },
    #[error("the new process ended before it served ({status}); its log has the reason")]
    Ended { status: ExitStatus },
    #[error("the new process did not serve within {limit:?}")]
    Late { limit: Duration },
    #[error("the new process cannot take over: {reason}")]
    Refused { reason: String },
    #[error("the new process does not answer as it should")]
    Talk { source: io::Error },
}

/// That this process has handed over.
#[derive(Debug)]
pub(crate) struct Departure {
    child: Mutex<Child>,
    /// Whether it has said goodbye: how it ends after that tells nothing of who serves.
    pub(super) has_left: AtomicBool,
}

/// A new process that is ready.
struct Successor {
    child: Child,
    link: UnixStream,
    version: String,
}

impl Control {
    /// Hands over to a new process.
    ///
    /// # Cancel safety
    /// Dropped, it goes on: a client that leaves must not leave two processes behind.
    pub(crate) async fn upgrade(
        self: &Arc<Self>,
        request: UpgradeRequest,
    ) -> Result<UpgradeReply, ErrorReply> {
        let control = Arc::clone(self);
        let task = self.company.spawn(async move { control.succeed(&request).await });
        task.await.unwrap_or_else(|error| {
            Err(refusal(ErrorCode::Upgrade, format!("the hand-over panicked: {error}")))
        })
    }

    async fn succeed(self: &Arc<Self>, request: &UpgradeRequest) -> Result<UpgradeReply, ErrorReply> {
        let started = Instant::now();
        bounds::upgrade(request)?;
        let failed = |message: String| refusal(ErrorCode::Upgrade, message);
        let program = self.program.clone();
        let program =
            program.ok_or_else(|| failed("this proxy was not started by its own command".into()))?;
        let limit = self.hand_over_limit;
        let alone = timeout(limit, self.changes.write()).await;
        let _alone = alone.map_err(|_| failed(format!("a change was still going on after {limit:?}")))?;
        self.check_not_stopping()?;
        if let Some(service) = self.shared.load().1.services().find(|service| service.standby.is_some()) {
            let name = &service.name;
            return Err(failed(format!(
                "a deploy of `{name}` is not final yet: its earlier targets stand by"
            )));
        }
        let sockets = self.sockets.lock().as_ref().map(Sockets::try_clone).transpose();
        let sockets =
            sockets.map_err(|error| failed(format!("the sockets cannot be handed over: {error}")))?;
        let Some(sockets) = sockets else { return Err(failed("the proxy has handed over already".into())) };
        let executable =
            request.executable.as_ref().map_or_else(|| program.executable().to_owned(), PathBuf::from);
        self.log.info("Handing over", &[("executable", &executable.display())]);
        let legacy = self.legacy();
        let successor = spawn_blocking(move || start(&program, &executable, (&sockets, legacy), limit)).await;
        let successor = successor.map_err(|error| failed(format!("the hand-over panicked: {error}")))?;
        let successor = successor.map_err(|error| {
            let text = chain(&error);
            self.log.error("Not handed over", &[("error", &text)]);
            failed(format!("the proxy goes on as it was: {text}"))
        })?;
        let (version, process_id) = (successor.version.clone(), successor.child.id());
        self.depart(successor, Duration::from_millis(request.drain_timeout_ms))
            .await
            .map_err(|error| failed(format!("the proxy goes on as it was: {error}")))?;
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.log.info("Handed over", &[("process", &process_id), ("version", &version)]);
        Ok(UpgradeReply { version, process_id, elapsed_ms })
    }

    /// Returns all that a new process needs to know.
    fn legacy(&self) -> Legacy {
        let (_, table) = self.shared.load();
        let memory = |service: &Arc<Service>| Some((service.name.clone(), service.rules.as_ref()?.memory()));
        let (fleets, lent) = self.keeper.legacy();
        Legacy {
            protocol: PROTOCOL,
            state: self.state_now(),
            unhealthy: self.unhealthy(),
            tickets: self.tickets.keys(),
            memories: table.services().filter_map(memory).collect(),
            fleets,
            lent,
            hears_health: true,
        }
    }

    /// Leaves the serving to the new process.
    async fn depart(self: &Arc<Self>, mut successor: Successor, deadline: Duration) -> io::Result<()> {
        let told = match self.stopping.is_cancelled() {
            true => Err(io::Error::other("it is stopping")),
            false => tell(&successor.link, &FromEarlier::Go),
        };
        let told = told
            .and_then(|()| successor.link.set_nonblocking(true))
            .and_then(|()| tokio::net::UnixStream::from_std(successor.link));
        let link = match told {
            Ok(link) => link,
            Err(error) => {
                successor.child.kill().and_then(|()| successor.child.wait()).ok();
                return Err(error);
            }
        };
        // From here on there is no way back: the new process writes the state.
        self.sockets.lock().take();
        self.departure
            .set(Departure { child: Mutex::new(successor.child), has_left: AtomicBool::new(false) })
            .ok();
        self.threads.tell(Command::HandOver { deadline }).await;
        let (reader, writer) = link.into_split();
        let over = self.over.clone();
        self.company.spawn(over.clone().run_until_cancelled_owned(follow(Arc::clone(self), reader)));
        self.company.spawn(over.run_until_cancelled_owned(report(Arc::clone(self), writer)));
        self.stopping.cancel();
        Ok(())
    }

    /// Returns what is in flight here, and in the process before this one, by target.
    fn flights(&self) -> Flights {
        let mut flights = self.elsewhere.borrow().clone();
        let mut add = |address: String, open: InFlight| {
            let sum = flights.entry(address).or_default();
            sum.requests += open.requests;
            sum.tunnels += open.tunnels;
        };
        let (_, table) = self.shared.load();
        let current = table.services().flat_map(|service| service.generations().cloned().collect::<Vec<_>>());
        for generation in current.chain(self.ledger.lock().all_draining()) {
            let open = generation.in_flight();
            if open != InFlight::default() {
                // Which target of several it is at is not counted; each may be waited for.
                for address in generation.addresses().into_iter().chain(generation.read_addresses()) {
                    add(address.to_string(), open);
                }
            }
        }
        flights
    }
}

/// Starts a process and gives it everything; waits until it serves.
fn start(
    program: &Program,
    executable: &Path,
    (sockets, legacy): (&Sockets, Legacy),
    limit: Duration,
) -> Result<Successor, SuccessionError> {
    let sockets_error = |source| SuccessionError::Sockets { source };
    let (link, far) = UnixStream::pair().map_err(sockets_error)?;
    for timeout in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
        timeout(&link, Some(limit)).map_err(sockets_error)?;
    }
    // What the new process starts in turn, and leaves behind, comes back to the first one.
    set_child_subreaper(Some(getpid())).map_err(|error| sockets_error(error.into()))?;
    let mut command = program.command(executable, Role::Later);
    let child = command.stdin(Stdio::from(OwnedFd::from(far))).spawn();
    let mut child = child.map_err(|source| SuccessionError::Start { path: executable.to_owned(), source })?;
    // Its end of the link is the child's only.
    drop(command);
    let ready = sockets
        .send(&link)
        .and_then(|()| tell(&link, &FromEarlier::Begin(Box::new(legacy))))
        .and_then(|()| hear(&link));
    match ready {
        Ok(FromLater::Ready { version }) => Ok(Successor { child, link, version }),
        result => Err(give_up(&mut child, result, limit)),
    }
}

/// Ends a process that does not take over, and says why it does not.
fn give_up(child: &mut Child, result: io::Result<FromLater>, limit: Duration) -> SuccessionError {
    let error = match result {
        Ok(FromLater::Failed { reason }) => SuccessionError::Refused { reason },
        Ok(_) => SuccessionError::Talk { source: io::ErrorKind::InvalidData.into() },
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            SuccessionError::Late { limit }
        }
        Err(error) => match ended(child) {
            Some(status) => return SuccessionError::Ended { status },
            None => SuccessionError::Talk { source: error },
        },
    };
    // One that has ended meanwhile cannot be ended, and is waited for in any case.
    child.kill().ok();
    child.wait().ok();
    error
}

/// Returns how a process ended that has closed its side and is about to end.
fn ended(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + Duration::from_secs(1);
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(_) => return None,
        }
    }
    None
}

async fn report(control: Arc<Control>, mut writer: OwnedWriteHalf) {
    let (mut tick, mut last) = (interval(REPORT_INTERVAL), None);
    loop {
        tick.tick().await;
        let flights = control.flights();
        if last.as_ref() == Some(&flights) {
            continue;
        }
        if say(&mut writer, &FromEarlier::InFlight(flights.clone())).await.is_err() {
            return;
        }
        last = Some(flights);
    }
}

/// Stays until what this process has begun is over; says whether the new process still runs or has ended well.
pub(crate) async fn linger(
    control: &Arc<Control>,
    departure: &Departure,
    (signals, stop_deadline): (&mut Signals, Duration),
) -> bool {
    let threads = Arc::clone(control);
    let mut ended = spawn_blocking(move || threads.threads.join());
    let (mut tick, mut is_well) = (interval(REPORT_INTERVAL), true);
    loop {
        tokio::select! {
            _ = &mut ended => return is_well,
            _ = signals.next() => stop_both(control, departure, stop_deadline).await,
            _ = tick.tick(), if is_well => {
                let status = departure.child.lock().try_wait();
                let has_left = departure.has_left.load(Ordering::SeqCst);
                if let Ok(Some(status)) = status && !status.success() && !has_left {
                    // There is nobody who serves. The sooner this process ends, the sooner a new one is started.
                    control.log.error("The process that took over has ended", &[("status", &status)]);
                    control.threads.tell(Command::Stop { deadline: Duration::ZERO }).await;
                    is_well = false;
                }
            }
        }
    }
}

async fn stop_both(control: &Control, departure: &Departure, deadline: Duration) {
    let id = i32::try_from(departure.child.lock().id()).ok().and_then(Pid::from_raw);
    if let Some(id) = id {
        // One that has ended already needs no signal.
        kill_process(id, Signal::TERM).ok();
    }
    control.threads.tell(Command::Stop { deadline }).await;
}
