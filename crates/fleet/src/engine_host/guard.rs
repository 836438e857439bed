use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freehold_docker::{ContainerScope, PublishedPort};
use freehold_model::{Diagnose, ErrorKind, HostName, PortProtocol};
use freehold_plan::GuardPolicy;
use tokio::time::Instant;

use crate::engine_host::guard_scripts::Loading;
use crate::engine_host::link::open_shell;
use crate::engine_host::shell::ShellOutput;
use crate::engine_host::{EngineHost, guard_scripts, guard_state};
use crate::host::HostError;

pub use guard_state::{GuardMeans, GuardState, HostSocket, LoadedGuard};

/// How long a script of the guard may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// A change of a host's guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardChange {
    /// The project, `SERVICE` or `SERVICE-DESTINATION`.
    pub stem: String,
    /// What the project wants to be let in; none takes its policy away.
    pub policy: Option<GuardPolicy>,
    /// The table of all projects of the host together.
    pub ruleset: String,
    /// After how long the change undoes itself unless it is confirmed.
    pub undo_after: Duration,
    /// The digest of what was stored on the host when the change was made: [`GuardState::digest`].
    pub surveyed: String,
}

/// A port that a container publishes on its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedBy {
    /// The protocol.
    pub protocol: PortProtocol,
    /// The ports, and the address of the host: unspecified for all.
    pub port: PublishedPort,
    /// The container's name.
    pub container: String,
}

/// What became of a change that could not be confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardUndo {
    /// The host has again what it had before.
    Undone,
    /// What it had before could not be loaded.
    Stuck,
    /// It was confirmed and stored, but not all that belongs to it was done.
    Kept,
    /// It is not known; the timer goes on.
    Unknown,
}

/// Why a host's guard is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum GuardFailure {
    /// The host did not do it.
    #[error(transparent)]
    Host(#[from] HostError),
    /// We are not root there.
    #[error("the guard of host `{host}` needs root")]
    NoRoot {
        /// The host.
        host: HostName,
    },
    /// Another change waits for its confirmation.
    #[error("another change of the guard of host `{host}` waits for its confirmation")]
    Busy {
        /// The host.
        host: HostName,
    },
    /// What is stored on the host changed since it was looked at.
    #[error("the guard of host `{host}` was changed meanwhile, by another project or by hand")]
    Moved {
        /// The host.
        host: HostName,
    },
    /// No token can be made.
    #[error("the change of the guard of host `{host}` cannot be named")]
    Token {
        /// The host.
        host: HostName,
        /// Why.
        source: std::io::Error,
    },
    /// A new connection did not get through.
    #[error("host `{host}` let no new SSH connection in under the new rules: {}", outcome(*undo, *undo_after))]
    LockedOut {
        /// The host.
        host: HostName,
        /// What became of the rules.
        undo: GuardUndo,
        /// When they undo themselves otherwise.
        undo_after: Duration,
        /// What became of the connection.
        #[source]
        source: Arc<dyn Diagnose + Send + Sync>,
    },
    /// The timer ran out before the confirmation.
    #[error("the new rules of host `{host}` undid themselves before they were confirmed")]
    TooLate {
        /// The host.
        host: HostName,
    },
    /// The policy cannot be written.
    #[error("the policy for host `{host}` cannot be written")]
    Policy {
        /// The host.
        host: HostName,
        /// Why.
        source: serde_json::Error,
    },
}

fn outcome(undo: GuardUndo, undo_after: Duration) -> String {
    match undo {
        GuardUndo::Undone => "they are undone".to_owned(),
        GuardUndo::Stuck => "the table before could not be loaded again, so that they hold".to_owned(),
        GuardUndo::Kept => "they were stored all the same, and hold".to_owned(),
        GuardUndo::Unknown => {
            format!(
                "whether they are undone is not known; they undo themselves within {} s",
                undo_after.as_secs()
            )
        }
    }
}

impl Diagnose for GuardFailure {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Host(error) => error.kind(),
            Self::NoRoot { .. } => ErrorKind::NotPermitted,
            Self::Busy { .. } | Self::Moved { .. } => ErrorKind::Locked,
            Self::LockedOut { .. } | Self::TooLate { .. } | Self::Token { .. } => ErrorKind::Failed,
            Self::Policy { .. } => ErrorKind::Bug,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Host(error) => error.help(),
            Self::NoRoot { .. } => {
                vec!["log in as root, or let the user run `sudo` without a password".to_owned()]
            }
            Self::Busy { .. } => vec!["it ends by itself; try again in a minute".to_owned()],
            Self::Moved { .. } => vec!["nothing was changed; try again".to_owned()],
            Self::LockedOut { undo: GuardUndo::Stuck, .. } => {
                vec!["log in by the console of the host and run `nft delete table inet freehold`".to_owned()]
            }
            Self::LockedOut { .. } => {
                vec!["add where you come from to `firewall: {ssh: […]}`, or leave `ssh` out".to_owned()]
            }
            Self::TooLate { .. } => vec!["give it more time: `--undo-after 120`".to_owned()],
            Self::Policy { .. } | Self::Token { .. } => Vec::new(),
        }
    }
}

/// The guard of a host: a table of nftables of our own, the unit that loads it at boot, and what is stored for both.
impl EngineHost {
    /// Looks at the guard, at the networks and at what listens. Changes nothing.
    ///
    /// # Errors
    /// [`HostError`] when the host does not answer or has no `ip`.
    pub async fn guard_state(&self) -> Result<GuardState, HostError> {
        let script = guard_scripts::as_root_if_possible(guard_scripts::LOOK);
        let output = self.plain_script("look at the guard", &script).await?;
        Ok(guard_state::parse(&output.stdout))
    }

    /// Says whether the host has a guard, of this project or another. Costs no request on an open connection.
    ///
    /// # Errors
    /// [`HostError`] when the host cannot be reached.
    pub async fn has_guard(&self) -> Result<bool, HostError> {
        Ok(self.link().await?.has_guard)
    }

    /// Returns which containers publish which ports on the host.
    ///
    /// # Errors
    /// [`HostError`] when the engine does not answer.
    pub async fn published_ports(&self) -> Result<Vec<PublishedBy>, HostError> {
        let link = self.link().await?;
        let error = |error| self.engine_error("list containers", error);
        let all =
            link.engine.list_containers(ContainerScope::Running, &BTreeMap::new()).await.map_err(error)?;
        let mut found = Vec::new();
        for container in all {
            let details = link.engine.inspect_container(container.id.as_str()).await.map_err(error)?;
            let Some(details) = details else { continue };
            let tcp = details.published.into_iter().map(|port| (PortProtocol::Tcp, port));
            let udp = details.published_udp.into_iter().map(|port| (PortProtocol::Udp, port));
            let by = |(protocol, port)| PublishedBy { protocol, port, container: container.name.clone() };
            found.extend(tcp.chain(udp).map(by));
        }
        Ok(found)
    }

    /// Installs nftables from the system's own packages, through this computer where the host does not reach them.
    ///
    /// # Errors
    /// [`GuardFailure`] with the last line of what failed.
    ///
    /// # Cancel safety
    /// The installation may go on.
    pub async fn install_nftables(&self) -> Result<(), GuardFailure> {
        self.install("install nftables", "fetch_lists\nfetch nftables\n").await.map(drop)?;
        Ok(())
    }

    /// Loads a table, makes sure by a new connection of the same path that the host can still be reached, and only then
    /// stores it for the next boot. A change that is not confirmed undoes itself, also when this process has died.
    ///
    /// # Errors
    /// [`GuardFailure`]; the table before is loaded again then, or will be when the timer runs out.
    ///
    /// # Cancel safety
    /// A change that was not confirmed undoes itself.
    pub async fn change_guard(&self, change: &GuardChange) -> Result<(), GuardFailure> {
        let policy = change.policy.as_ref().map(serde_json::to_string).transpose();
        let policy = policy.map_err(|source| GuardFailure::Policy { host: self.name.clone(), source })?;
        let operation = "load the guard";
        let token = self.token()?;
        let loading = Loading {
            token: &token,
            surveyed: &change.surveyed,
            ruleset: &change.ruleset,
            undo_after: change.undo_after,
        };
        let output = self.script(operation, &guard_scripts::load(&loading)).await?;
        self.checked(operation, &output)?;
        let confirmation = guard_scripts::confirm(&token, &change.stem, policy.as_deref());
        match self.by_new_connection(&confirmation, change.undo_after).await {
            Ok(output) => self.checked("confirm the guard", &output),
            Err(source) => {
                // The old connection goes on under the new rules, so that nobody has to wait for the timer.
                let undo = guard_scripts::undo(&token);
                let output = tokio::time::timeout(DEADLINE, self.script("undo the guard", &undo)).await;
                let word = match &output {
                    Ok(Ok(output)) if output.code == 0 => output.stdout.trim(),
                    _ => "",
                };
                let undo = match word {
                    // The confirmation came through, and only its answer did not.
                    "confirmed" => return Ok(()),
                    "undone" => GuardUndo::Undone,
                    "stuck" => GuardUndo::Stuck,
                    "stored" => GuardUndo::Kept,
                    _ => GuardUndo::Unknown,
                };
                let (host, undo_after) = (self.name.clone(), change.undo_after);
                Err(GuardFailure::LockedOut { host, undo, undo_after, source })
            }
        }
    }

    /// Takes the guard off the host, with all that was stored for it, if that is still what was seen.
    ///
    /// # Errors
    /// [`GuardFailure`] with what the host said.
    pub async fn remove_guard(&self, surveyed: &str) -> Result<(), GuardFailure> {
        let operation = "remove the guard";
        let script = guard_scripts::remove(&self.token()?, surveyed);
        let output = self.script(operation, &script).await?;
        self.checked(operation, &output)
    }

    /// Names a change, so that a timer or a client that comes late touches no other.
    fn token(&self) -> Result<String, GuardFailure> {
        let mut random = [0_u8; 8];
        let error = |source| GuardFailure::Token { host: self.name.clone(), source };
        getrandom::fill(&mut random).map_err(std::io::Error::other).map_err(error)?;
        Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Runs a script over a connection that is made for it.
    async fn by_new_connection(
        &self,
        script: &str,
        limit: Duration,
    ) -> Result<ShellOutput, Arc<dyn Diagnose + Send + Sync>> {
        let begun = Instant::now();
        let lost = |source: Option<Arc<dyn std::error::Error + Send + Sync>>| {
            let operation = "confirm the guard by a new connection".to_owned();
            Arc::new(HostError::Lost { host: self.name.clone(), operation, source })
                as Arc<dyn Diagnose + Send + Sync>
        };
        let link = self.link().await.map_err(|error| Arc::new(error) as Arc<dyn Diagnose + Send + Sync>)?;
        let connect = tokio::time::timeout(limit, link.connection.dedicated());
        let connection = connect.await.map_err(|_| lost(None))??;
        let shell = tokio::time::timeout(DEADLINE, open_shell(&connection)).await.map_err(|_| lost(None))?;
        let shell = shell.map_err(|error| lost(Some(Arc::new(error))))?;
        let output = shell.run(script, DEADLINE).await.map_err(|error| lost(Some(Arc::new(error))))?;
        tracing::debug!(host = %self.name, code = output.code, took = ?begun.elapsed(), "a new connection got through");
        Ok(output)
    }

    fn checked(&self, operation: &str, output: &ShellOutput) -> Result<(), GuardFailure> {
        let host = self.name.clone();
        match output.code {
            0 => Ok(()),
            guard_scripts::NO_ROOT => Err(GuardFailure::NoRoot { host }),
            guard_scripts::BUSY => Err(GuardFailure::Busy { host }),
            guard_scripts::MOVED => Err(GuardFailure::Moved { host }),
            guard_scripts::TOO_LATE => Err(GuardFailure::TooLate { host }),
            _ => Err(self.refused(operation, output).into()),
        }
    }
}
