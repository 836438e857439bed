use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use freehold_docker::{Deadlines, Engine, EngineError};
use freehold_model::{Diagnose, ErrorKind};
use freehold_wire::ProxyClient;
use freehold_wire::agent::AgentClient;

use crate::engine_host::connection::Connection;
use crate::engine_host::scripts::{self, SCRIPT_DEADLINE};
use crate::engine_host::shell::{HostShell, ShellOutput};
use crate::engine_host::{EngineHost, Reach};
use crate::event::{Event, milliseconds};
use crate::host::HostError;

/// A disk with less than this counts as full: our largest file is a plan, and file systems keep some blocks back.
const FULL_BELOW_KILOBYTES: u64 = 64;

/// Everything that is open to a host at one time.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) shell: HostShell,
    pub(super) engine: Engine,
    /// The engine's socket on the host.
    socket: PathBuf,
    /// The login directory, absolute.
    pub(super) home: String,
    /// Whether the host had a guard when the link was opened.
    pub(super) has_guard: bool,
    /// Whether a delivery that broke off had left a neighbour's key when the link was opened.
    pub(super) has_left_key: bool,
    /// The process on the host that carries our SSH connection, if there is one.
    pub(super) session_pid: Option<u32>,
    pub(super) proxy: tokio::sync::Mutex<Option<ProxyClient>>,
    pub(super) agent: tokio::sync::Mutex<Option<AgentClient>>,
    /// Another login was refused. With a code that counts once each further one would be, too, and a host that sees many such
    /// bans where they come from.
    pub(super) lets_in_once: AtomicBool,
    broken: AtomicBool,
}

impl Link {
    fn is_usable(&self) -> bool {
        self.connection.is_open() && !self.broken.load(Ordering::Relaxed)
    }

    /// Returns an engine over a connection of its own, for streams without an end: on a shared SSH connection one
    /// channel that is not read stalls all others.
    pub(super) async fn dedicated_engine(&self) -> Result<Engine, Arc<dyn Diagnose + Send + Sync>> {
        let connection = self.connection.dedicated().await?;
        Ok(Engine::over(connection.dial(&self.socket), Deadlines::default()))
    }

    /// Returns the path of the engine's socket on the host.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Makes the next call open a new link.
    pub(super) fn give_up(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }
}

struct Greeting {
    home: String,
    parent: Option<u32>,
    docker_host: Option<PathBuf>,
    context: Option<PathBuf>,
    sockets: Vec<PathBuf>,
    has_guard: bool,
    has_left_key: bool,
}

impl Greeting {
    fn parse(text: &str) -> Self {
        let mut greeting = Self {
            home: String::new(),
            parent: None,
            docker_host: None,
            context: None,
            sockets: Vec::new(),
            has_guard: false,
            has_left_key: false,
        };
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match name {
                "home" => value.clone_into(&mut greeting.home),
                "parent" => greeting.parent = value.parse().ok(),
                "docker_host" => greeting.docker_host = value.strip_prefix("unix://").map(PathBuf::from),
                // The context `default` is what counts without one.
                "context" => {
                    let place = value.split_once(' ').filter(|(name, _)| *name != "default");
                    let socket = place.and_then(|(_, place)| place.strip_prefix("unix://"));
                    greeting.context = socket.map(PathBuf::from);
                }
                "neighbour" => greeting.has_left_key = value == "left",
                "guard" => greeting.has_guard = value == "yes",
                "socket" => greeting.sockets.push(PathBuf::from(value)),
                _ => {}
            }
        }
        greeting
    }

    fn socket(&self) -> PathBuf {
        self.docker_host
            .clone()
            .or_else(|| self.context.clone())
            .or_else(|| self.sockets.first().cloned())
            .unwrap_or_else(|| PathBuf::from("/var/run/docker.sock"))
    }
}

impl EngineHost {
    /// Returns the open link, opening one if there is none or it broke.
    pub(super) async fn link(&self) -> Result<Arc<Link>, HostError> {
        let open = async {
            let started = Instant::now();
            self.watch.event(Event::Connecting { host: self.name.clone() });
            let link = self.open_link().await?;
            self.watch.event(Event::Connected {
                host: self.name.clone(),
                authentication: link.connection.authentication(),
                elapsed_ms: milliseconds(started.elapsed()),
            });
            Ok(link)
        };
        self.link.get(Link::is_usable, open).await
    }

    /// Returns the open link, or one over a connection that is there already.
    pub(super) async fn link_over(&self, connection: Connection) -> Result<Arc<Link>, HostError> {
        self.link.get(Link::is_usable, self.build_link(connection)).await
    }

    async fn open_link(&self) -> Result<Link, HostError> {
        let connection = Connection::open(&self.name, &self.reach)
            .await
            .map_err(|source| HostError::Connect { host: self.name.clone(), source })?;
        self.build_link(connection).await
    }

    async fn build_link(&self, connection: Connection) -> Result<Link, HostError> {
        let lost = |source: std::io::Error| HostError::Lost {
            host: self.name.clone(),
            operation: "start a shell".to_owned(),
            source: Some(Arc::new(source)),
        };
        let shell = open_shell(&connection).await.map_err(lost)?;
        let greeting =
            shell.run(scripts::GREETING, SCRIPT_DEADLINE).await.map_err(|error| HostError::Lost {
                host: self.name.clone(),
                operation: "start a shell".to_owned(),
                source: Some(Arc::new(error)),
            })?;
        let greeting = Greeting::parse(&greeting.stdout);
        let socket = match &connection {
            Connection::Local { socket, .. } => socket.clone(),
            Connection::Ssh(_) => greeting.socket(),
        };
        let engine = Engine::over(connection.dial(&socket), Deadlines::default());
        let session_pid = matches!(connection, Connection::Ssh(_)).then_some(greeting.parent).flatten();
        Ok(Link {
            connection,
            shell,
            engine,
            socket,
            home: greeting.home,
            has_guard: greeting.has_guard,
            has_left_key: greeting.has_left_key,
            session_pid,
            proxy: tokio::sync::Mutex::new(None),
            agent: tokio::sync::Mutex::new(None),
            lets_in_once: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        })
    }

    /// Runs a script whose failure is an error.
    pub(super) async fn plain_script(&self, operation: &str, script: &str) -> Result<ShellOutput, HostError> {
        let output = self.script(operation, script).await?;
        if output.code == 0 { Ok(output) } else { Err(self.failed(operation, &output).await) }
    }

    /// Runs a script that checks the lock.
    pub(super) async fn fenced_script(
        &self,
        operation: &str,
        script: &str,
    ) -> Result<ShellOutput, HostError> {
        let output = self.script(operation, script).await?;
        match output.code {
            0 => Ok(output),
            scripts::FENCED => Err(HostError::Fenced { host: self.name.clone() }),
            _ => Err(self.failed(operation, &output).await),
        }
    }

    /// Says why a script failed. Shells and their commands have many words for a full disk, so the disk itself is asked.
    pub(super) async fn failed(&self, operation: &str, output: &ShellOutput) -> HostError {
        let free = self.script("ask for the free space", scripts::READ_FREE_KILOBYTES).await;
        let free = free.ok().and_then(|answer| answer.stdout.trim().parse::<u64>().ok());
        match free {
            Some(0..FULL_BELOW_KILOBYTES) => {
                HostError::DiskFull { host: self.name.clone(), operation: operation.to_owned() }
            }
            _ => self.refused(operation, output),
        }
    }

    /// Runs a script, whatever its exit code.
    pub(super) async fn script(&self, operation: &str, script: &str) -> Result<ShellOutput, HostError> {
        let link = self.link().await?;
        let begun = Instant::now();
        let output = link.shell.run(script, SCRIPT_DEADLINE).await.map_err(|error| {
            link.give_up();
            HostError::Lost {
                host: self.name.clone(),
                operation: operation.to_owned(),
                source: Some(Arc::new(error)),
            }
        })?;
        tracing::debug!(host = %self.name, operation, code = output.code, took = ?begun.elapsed(), "a script ran");
        Ok(output)
    }

    /// Runs a script that may take long, whatever its exit code, in a shell of its own: that of the link has to stay free
    /// for the lease's sign of life.
    pub(super) async fn long_script(
        &self,
        operation: &str,
        script: &str,
        limit: Duration,
    ) -> Result<ShellOutput, HostError> {
        let lost = |source: Arc<dyn std::error::Error + Send + Sync>| HostError::Lost {
            host: self.name.clone(),
            operation: operation.to_owned(),
            source: Some(source),
        };
        let link = self.link().await?;
        let shell = open_shell(&link.connection).await.map_err(|error| lost(Arc::new(error)))?;
        shell.run(script, limit).await.map_err(|error| lost(Arc::new(error)))
    }

    pub(super) fn refused(&self, operation: &str, output: &ShellOutput) -> HostError {
        let message = output.stderr.lines().rev().find(|line| !line.trim().is_empty()).map_or_else(
            || format!("the script ended with code {}", output.code),
            |line| line.trim().to_owned(),
        );
        HostError::Refused { host: self.name.clone(), operation: operation.to_owned(), message }
    }

    /// Says what an engine's error means for the host.
    pub(super) fn engine_error(&self, operation: &str, error: EngineError) -> HostError {
        let operation = operation.to_owned();
        let is_remote = matches!(self.reach, Reach::Ssh(_));
        if is_remote && error.kind() == ErrorKind::Unreachable {
            HostError::Lost { host: self.name.clone(), operation, source: Some(Arc::new(error)) }
        } else {
            HostError::Engine { host: self.name.clone(), operation, source: Arc::new(error) }
        }
    }
}

/// Starts a shell of its own.
pub(super) async fn open_shell(connection: &Connection) -> std::io::Result<HostShell> {
    let streams = connection.open_shell().await?;
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    Ok(HostShell::new(streams, format!("freehold-{:032x}", u128::from_le_bytes(random))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_socket_is_the_one_that_the_docker_command_would_use() {
        let socket = |text: &str| Greeting::parse(text).socket().display().to_string();
        let sockets = "socket=/run/user/1000/docker.sock\nsocket=/var/run/docker.sock\n";
        let context = "context=own unix:///home/ann/own.sock\n";
        let variable = "docker_host=unix:///home/ann/said.sock\n";
        assert_eq!(socket(&[sockets, context, variable].concat()), "/home/ann/said.sock");
        assert_eq!(socket(&["docker_host=\n", context, sockets].concat()), "/home/ann/own.sock");
        let default = "context=default unix:///var/run/docker.sock\n";
        assert_eq!(socket(&[default, sockets].concat()), "/run/user/1000/docker.sock");
        assert_eq!(socket("home=/root\n"), "/var/run/docker.sock");
    }
}
