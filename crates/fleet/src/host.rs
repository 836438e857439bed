use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_model::{Diagnose, ErrorKind, Evidence, HostName, Project, SecretValues};
use freehold_plan::{ObservedHost, Plan, Step};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::event::Progress;
use crate::journal::{JournalEntry, StoredJournal};

/// What a fleet needs of one host. The real one is [`crate::EngineHost`]; the fake one is in `freehold-testkit`.
///
/// Every method has its own deadline. A method that fails with [`HostError::Lost`] may be called again: the host is
/// connected to anew then.
#[async_trait]
pub trait Host: Send + Sync {
    /// Returns the host's name as in the deploy file.
    fn name(&self) -> &HostName;

    /// Looks at everything that a plan depends on. Changes nothing.
    ///
    /// # Errors
    /// [`HostError`] when the host or its engine does not answer.
    async fn observe(&self, scope: &Scope<'_>) -> Result<ObservedHost, HostError>;

    /// Does a step, or finds that it is done.
    ///
    /// # Errors
    /// [`StepError`] with what went wrong and why.
    ///
    /// # Cancel safety
    /// Not cancel safe: a step is ended by `context.stop`, which makes it return early, never by dropping it.
    async fn perform(&self, step: &Step, context: &StepContext<'_>) -> Result<Outcome, StepError>;

    /// Undoes a step, whether it was done, half done or not done at all. Undoing twice does nothing the second time.
    ///
    /// # Errors
    /// [`StepError`] with what went wrong and why.
    async fn undo(&self, step: &Step, context: &StepContext<'_>) -> Result<(), StepError>;

    /// Tries to take the deploy lock of a service, once.
    ///
    /// A lock whose holder is certainly gone (it expired, or its process has died on this very machine) is taken over:
    /// the fencing number grows, and the sessions of the old holder on this host are ended.
    ///
    /// # Errors
    /// [`HostError`] when the host does not answer.
    async fn acquire_lease(&self, request: &LeaseRequest) -> Result<LeaseAttempt, HostError>;

    /// Says that the holder is alive. Returns whether the lock is still ours.
    ///
    /// # Errors
    /// [`HostError`] when the host does not answer.
    async fn renew_lease(&self, token: &LeaseToken) -> Result<bool, HostError>;

    /// Gives the lock back. Does nothing if it is no longer ours.
    ///
    /// # Errors
    /// [`HostError`] when the host does not answer.
    async fn release_lease(&self, token: &LeaseToken) -> Result<(), HostError>;

    /// Raises this host's fencing number to that of the token and ends the sessions of earlier holders.
    ///
    /// # Errors
    /// [`HostError::Fenced`] when the host has seen a greater number.
    async fn raise_fence(&self, token: &LeaseToken) -> Result<(), HostError>;

    /// Returns the greatest fencing number that this host has seen for the service, 0 if it has seen none.
    ///
    /// # Errors
    /// [`HostError`] when the host does not answer.
    async fn read_fence(&self, stem: &str) -> Result<u64, HostError>;

    /// Begins the journal of a rollout: stores the plan, if given, and an empty journal, and syncs it to disk.
    ///
    /// # Errors
    /// [`HostError::Fenced`] when the lock is no longer ours.
    async fn begin_journal(&self, token: &LeaseToken, plan: Option<&Plan>) -> Result<(), HostError>;

    /// Appends lines to the journal, all or none.
    ///
    /// # Errors
    /// [`HostError::Fenced`] when the lock is no longer ours; nothing is appended then.
    async fn append_journal(&self, token: &LeaseToken, entries: &[JournalEntry]) -> Result<(), HostError>;

    /// Reads the journal that an unfinished rollout left, if there is one.
    ///
    /// # Errors
    /// [`HostError`] when the host does not answer or the journal cannot be understood.
    async fn read_journal(&self, stem: &str) -> Result<Option<StoredJournal>, HostError>;

    /// Ends the journal: the rollout is finished or undone on this host.
    ///
    /// # Errors
    /// [`HostError::Fenced`] when the lock is no longer ours.
    async fn end_journal(&self, token: &LeaseToken) -> Result<(), HostError>;

    /// Appends lines to the audit file that Kamal and Freehold share.
    ///
    /// # Errors
    /// [`HostError`] when the host does not answer.
    async fn append_audit(&self, stem: &str, messages: &[String]) -> Result<(), HostError>;
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The project.
    pub project: &'a Project,
}

/// What a step needs beside itself.
pub struct StepContext<'a> {
    /// The lock under which it runs; the host refuses a step of an outdated one.
    pub lease: &'a LeaseToken,
    /// Values of the secrets that the plan names.
    pub secrets: &'a SecretValues,
    /// Takes the progress of the step.
    pub progress: &'a (dyn Fn(Progress) + Send + Sync),
    /// Ends waits early.
    pub stop: &'a CancellationToken,
}

impl StepContext<'_> {
    /// Returns what work with images needs of it.
    #[must_use]
    pub fn work(&self) -> Work<'_> {
        Work { stem: &self.lease.stem, secrets: self.secrets, progress: self.progress, stop: self.stop }
    }
}

/// What building and moving images needs: no lock, because nothing that serves changes.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// The stem of the service and its destination: what waits on a host for them goes by it.
    pub stem: &'a str,
    /// Values of the secrets that builds may mount.
    pub secrets: &'a SecretValues,
    /// Takes its progress.
    pub progress: &'a (dyn Fn(Progress) + Send + Sync),
    /// Ends it early.
    pub stop: &'a CancellationToken,
}

impl fmt::Debug for Work<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Work").finish_non_exhaustive()
    }
}

impl fmt::Debug for StepContext<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StepContext").field("lease", &self.lease).finish_non_exhaustive()
    }
}

/// How a step that succeeded ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It changed something; the note says what is worth saying.
    Done(Option<String>),
    /// There was nothing to change.
    AlreadyDone,
}

/// Who asks for a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// `SERVICE` or `SERVICE-DESTINATION`.
    pub stem: String,
    /// The person, as git names them.
    pub performer: String,
    /// The version that is deployed, if one is.
    pub version: Option<String>,
    /// Why: `Automatic deploy lock`, or the text of `lock acquire -m`.
    pub message: String,
    /// The process.
    pub holder: Holder,
    /// After how long without a sign of life the lock may be taken over; none for `lock acquire`, which never expires.
    pub time_to_live: Option<Duration>,
}

/// A process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// The machine's name.
    pub machine: String,
    /// An identifier of the machine's present boot, to know a process again.
    pub boot: String,
    /// The process.
    pub pid: u32,
    /// When it began, in the kernel's ticks, to know it from a later one of the same number.
    pub started: u64,
}

/// A lock that is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseToken {
    /// `SERVICE` or `SERVICE-DESTINATION`.
    pub stem: String,
    /// The fencing number: greater than that of every earlier holder.
    pub fence: u64,
}

/// What became of a try to take a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseAttempt {
    /// It is ours.
    Acquired {
        /// The proof.
        token: LeaseToken,
        /// Whether it was taken from a holder that is gone.
        taken_over: bool,
    },
    /// It is another's.
    Held(LeaseHeld),
}

/// A lock that is another's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseHeld {
    /// What the lock file says, as Kamal and Freehold write it.
    pub details: String,
    /// The process, if Freehold took it.
    pub holder: Option<Holder>,
    /// The time until it may be taken over; none if it never expires (a person's lock, or Kamal's).
    pub expires_in: Option<Duration>,
}

/// Why a host did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HostError {
    /// No session could be opened.
    #[error("cannot open a session to host `{host}`")]
    Connect {
        /// The host.
        host: HostName,
        /// The cause.
        #[source]
        source: Arc<dyn Diagnose + Send + Sync>,
    },
    /// The session broke.
    #[error("lost the connection to host `{host}` while trying to {operation}")]
    Lost {
        /// The host.
        host: HostName,
        /// What was tried.
        operation: String,
        /// The cause.
        #[source]
        source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
    /// Another client has taken the lock over.
    #[error("host `{host}` refuses: another client has taken over the deploy lock")]
    Fenced {
        /// The host.
        host: HostName,
    },
    /// A command of ours on the host failed.
    #[error("cannot {operation} on host `{host}`: {message}")]
    Refused {
        /// The host.
        host: HostName,
        /// What was tried.
        operation: String,
        /// What the host said, one line.
        message: String,
    },
    /// A command of ours on the host failed because there is no space for its files.
    #[error("cannot {operation} on host `{host}`: its disk is full")]
    DiskFull {
        /// The host.
        host: HostName,
        /// What was tried.
        operation: String,
    },
    /// The engine failed.
    #[error("cannot {operation} on host `{host}`")]
    Engine {
        /// The host.
        host: HostName,
        /// What was tried.
        operation: String,
        /// The cause.
        #[source]
        source: Arc<dyn Diagnose + Send + Sync>,
    },
    /// Ports below a number are root's, and the engine is not root.
    #[error(
        "the engine of host `{host}` is rootless and may publish no port below {first_free}: not port {port}"
    )]
    PrivilegedPort {
        /// The host.
        host: HostName,
        /// The port that was to be published.
        port: u16,
        /// The first one that it may publish.
        first_free: u16,
        /// What the engine said.
        #[source]
        source: Arc<dyn Diagnose + Send + Sync>,
    },
    /// A stored file cannot be understood.
    #[error("cannot understand `{path}` on host `{host}`: {message}")]
    Stored {
        /// The host.
        host: HostName,
        /// The file, relative to the login directory.
        path: String,
        /// What is wrong with it.
        message: String,
    },
}

impl Diagnose for HostError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect { source, .. } => source.kind(),
            Self::Lost { .. } => ErrorKind::Unreachable,
            Self::Fenced { .. } => ErrorKind::Locked,
            Self::Engine { source, .. } => source.kind(),
            Self::Refused { .. }
            | Self::DiskFull { .. }
            | Self::PrivilegedPort { .. }
            | Self::Stored { .. } => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Connect { source, .. } | Self::Engine { source, .. } => source.help(),
            Self::Lost { host, .. } => vec![format!("try it by hand: `ssh {host} true`")],
            Self::Fenced { .. } => vec!["see who deploys now: `freehold lock status`".to_owned()],
            Self::DiskFull { host, .. } => {
                vec![format!("free some space: `ssh {host} 'df -h; docker system df'` shows what takes it")]
            }
            Self::PrivilegedPort { host, port, .. } => vec![
                "give the proxy other ports: `proxy: {run: {http_port: 8080, https_port: 8443}}`".to_owned(),
                format!(
                    "or let everybody have them: `net.ipv4.ip_unprivileged_port_start = {port}` in a file of \
                     /etc/sysctl.d on {host}, then `sysctl --system` as root"
                ),
            ],
            Self::Stored { host, path, .. } => vec![format!(
                "move it aside if it is of no use any more: `ssh {host} mv {path} {path}.aside`"
            )],
            Self::Refused { .. } => Vec::new(),
        }
    }
}

/// Why a step did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StepError {
    /// The host did not do it.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The new release is not healthy.
    #[error("{}", .0.summary)]
    Unhealthy(Box<Explanation>),
    /// A release command did not end well.
    #[error("{}", .0.summary)]
    ReleaseCommand(Box<Explanation>),
    /// The image could not be built or sent.
    #[error("cannot {operation}")]
    Image {
        /// What was tried: `build image app:1`.
        operation: String,
        /// The cause.
        #[source]
        source: Arc<dyn Diagnose + Send + Sync>,
    },
    /// The proxy refused.
    #[error("the proxy on host `{host}` cannot {operation}")]
    Proxy {
        /// The host.
        host: HostName,
        /// What was tried.
        operation: String,
        /// The cause.
        #[source]
        source: Arc<dyn Diagnose + Send + Sync>,
    },
    /// A secret that the plan names has no value.
    #[error("secret `{name}` has no value")]
    Secret {
        /// The secret.
        name: String,
    },
    /// A hook of the project failed.
    #[error(transparent)]
    Hook(Arc<dyn Diagnose + Send + Sync>),
    /// The run was stopped.
    #[error("stopped")]
    Stopped,
}

impl Diagnose for StepError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Host(error) => error.kind(),
            Self::Unhealthy(_) => ErrorKind::Unhealthy,
            Self::ReleaseCommand(_) => ErrorKind::Failed,
            Self::Image { source, .. } | Self::Proxy { source, .. } => source.kind(),
            Self::Secret { .. } => ErrorKind::Configuration,
            Self::Hook(source) => source.kind(),
            Self::Stopped => ErrorKind::Interrupted,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Host(error) => error.help(),
            Self::Unhealthy(explanation) | Self::ReleaseCommand(explanation) => explanation.help.clone(),
            Self::Image { source, .. } | Self::Proxy { source, .. } => source.help(),
            Self::Secret { name } => vec![format!("define `{name}` in the secrets file")],
            Self::Hook(source) => source.help(),
            Self::Stopped => Vec::new(),
        }
    }

    fn evidence(&self) -> Vec<Evidence> {
        match self {
            Self::Unhealthy(explanation) | Self::ReleaseCommand(explanation) => explanation.evidence(),
            Self::Image { source, .. } | Self::Proxy { source, .. } | Self::Hook(source) => source.evidence(),
            Self::Host(_) | Self::Secret { .. } | Self::Stopped => Vec::new(),
        }
    }
}

/// Why a release is not healthy: the cause first, then the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The host.
    pub host: HostName,
    /// The container.
    pub container: String,
    /// The cause in one line: `container app-web-3f2a on host web-1 was killed for memory`.
    pub summary: String,
    /// What was seen: answers of the health check, listening ports, exit code. One line each.
    pub evidence: Vec<String>,
    /// The container's last log lines, as they came.
    pub log: Vec<String>,
    /// What to try.
    pub help: Vec<String>,
}

impl Explanation {
    /// Returns what supports the cause: what was seen, then the end of the log.
    #[must_use]
    pub fn evidence(&self) -> Vec<Evidence> {
        let seen = Evidence { title: "what was seen".to_owned(), lines: self.evidence.clone() };
        let title = format!("last lines of the log of `{}` on host `{}`", self.container, self.host);
        vec![seen, Evidence { title, lines: self.log.clone() }]
    }
}
