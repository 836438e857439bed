use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use freehold_model::{Diagnose, ErrorKind, HostName, InvalidName, JumpHost, SshConfigFiles, SshSettings};

use crate::environment::ClientEnvironment;
use algorithms::Algorithms;
use openssh::Lookup;
use options::Options;

pub use expand::ExpandError;

pub(crate) mod algorithms;
mod expand;
mod file;
mod hop;
mod openssh;
mod options;
pub(crate) mod pattern;

/// The way to a host: jump hosts, the nearest first, and then the host itself.
#[derive(Debug, Clone)]
pub struct Route {
    hops: Vec<Hop>,
}

/// One SSH connection of a [`Route`], with everything that OpenSSH's configuration and the deploy file say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The host as the deploy file or the jump names it.
    pub name: HostName,
    /// The name or address to connect to, after `HostName`.
    pub address: String,
    /// The port.
    pub port: u16,
    /// The user.
    pub user: String,
    /// A command that makes the connection in place of TCP; only the first hop can have one.
    pub proxy_command: Option<String>,
    /// Which addresses may be used.
    pub family: AddressFamily,
    /// How its key is checked.
    pub host_key: HostKeyPolicy,
    /// What we prove who we are with.
    pub identities: Identities,
    /// How long each of connecting, handshake and authentication, and opening a channel may take.
    pub connect_timeout: Duration,
    /// The pause after which silence is answered by a keep-alive message; three unanswered ones end the connection.
    pub keepalive: Duration,
    /// Whether the agent is forwarded to interactive sessions.
    pub forward_agent: bool,
    pub(crate) algorithms: Algorithms,
}

/// Which addresses of a host may be used (`AddressFamily`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressFamily {
    /// All.
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// How a host's key is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKeyPolicy {
    /// The name under which the key is known in place of the host's (`HostKeyAlias`).
    pub alias: Option<String>,
    /// The person's files; the first gets new keys.
    pub user_files: Vec<PathBuf>,
    /// The system's files.
    pub global_files: Vec<PathBuf>,
    /// A file of revoked keys, one a line.
    pub revoked_keys: Option<PathBuf>,
    /// What OpenSSH's configuration says of unknown keys.
    pub strict: StrictHostKeys,
    /// Whether names are stored hashed.
    pub hash_names: bool,
}

/// `StrictHostKeyChecking`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrictHostKeys {
    /// `ask`, the default: what [`FirstUse`](crate::FirstUse) says.
    Ask,
    /// `yes`: unknown keys are refused.
    Refuse,
    /// `accept-new` or `no`: unknown keys are stored. Changed keys are refused for `no` too.
    Accept,
}

/// What we prove who we are with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identities {
    /// Private key files, in the order in which they are tried; they need not exist.
    pub files: Vec<PathBuf>,
    /// Certificates beside those that stand next to a key file.
    pub certificates: Vec<PathBuf>,
    /// Whether the agent's other keys stay unused.
    pub only: bool,
    /// Whether the private keys given as text are used; they belong to the deploy file.
    pub key_data: bool,
    /// Whether the key files are tried before keys of the agent that are not among them.
    pub files_first: bool,
    /// The sockets of agents.
    pub agents: Vec<PathBuf>,
    /// Whether keys may be used.
    pub public_key: bool,
    /// Whether questions of the server may be answered by a person.
    pub keyboard_interactive: bool,
    /// Whether a password may be used.
    pub password: bool,
    /// Whether `none` is tried before all others (`PreferredAuthentications none,…`).
    pub none_first: bool,
}

impl Route {
    /// Finds the way to a host: OpenSSH's configuration, with the deploy file's settings above it.
    ///
    /// Where the deploy file is silent on the user or the port, OpenSSH's configuration decides, then `root` and 22.
    ///
    /// # Errors
    /// [`RouteError`] if the configuration cannot be read or holds what we do not support.
    pub async fn resolve(
        host: &HostName,
        settings: &SshSettings,
        environment: &ClientEnvironment,
    ) -> Result<Self, RouteError> {
        let resolver = Resolver { target: host, settings, environment };
        let hops = resolver.resolve().await?;
        Ok(Self { hops })
    }

    /// Returns the hops, the nearest first; the last one is the host.
    #[must_use]
    pub fn hops(&self) -> &[Hop] {
        &self.hops
    }
}

/// How deep jump hosts of jump hosts may go.
const JUMP_LIMIT: usize = 16;

struct Resolver<'a> {
    target: &'a HostName,
    settings: &'a SshSettings,
    environment: &'a ClientEnvironment,
}

impl Resolver<'_> {
    async fn resolve(&self) -> Result<Vec<Hop>, RouteError> {
        let settings = self.settings;
        let lookup = Lookup { name: self.target, user: settings.user.as_deref(), port: settings.port };
        let options = self.options(&lookup).await?;
        let mut hops = vec![self.hop(&lookup, &options, true)?];
        let mut jumps = settings.proxy.clone();
        let mut command = settings.proxy_command.clone().filter(|_| jumps.is_empty());
        let mut front = options;
        let mut front_user = jumps.is_empty();
        // Jumps of the deploy file go first; then those that the configuration wants for the nearest hop so far.
        loop {
            if hops.len() > JUMP_LIMIT {
                let names = hops.iter().map(|hop| hop.name.to_string()).collect::<Vec<_>>().join(" <- ");
                return Err(RouteError::TooManyJumps { host: self.target.to_string(), names });
            }
            let Some(jump) = jumps.pop() else {
                if command.is_none() && front_user {
                    command = front.set("proxycommand").map(str::to_owned);
                    if command.is_none() {
                        jumps = self.configured_jumps(&front)?;
                        if !jumps.is_empty() {
                            continue;
                        }
                    }
                }
                break;
            };
            let user = Some(jump.user.as_str()).filter(|user| !user.is_empty());
            let lookup = Lookup { name: &jump.host, user, port: jump.port };
            front = self.options(&lookup).await?;
            hops.insert(0, self.hop(&lookup, &front, false)?);
            front_user = true;
        }
        if let (Some(command), Some(first)) = (command, hops.first_mut()) {
            first.proxy_command = Some(self.expand_command(&command, first)?);
        }
        Ok(hops)
    }

    /// Reads `ProxyJump`, whose entries are silent on the user unless they name one.
    fn configured_jumps(&self, options: &Options) -> Result<Vec<JumpHost>, RouteError> {
        let Some(text) = options.set("proxyjump") else { return Ok(Vec::new()) };
        text.split(',').map(|entry| self.parse_jump(entry.trim())).collect()
    }

    fn parse_jump(&self, entry: &str) -> Result<JumpHost, RouteError> {
        let invalid = |reason: &'static str| RouteError::InvalidJump {
            host: self.target.to_string(),
            jump: entry.to_owned(),
            reason,
        };
        let text = entry.strip_prefix("ssh://").unwrap_or(entry).trim_end_matches('/');
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) => (user, place),
            None => ("", text),
        };
        let (name, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, rest)) => (name, rest.strip_prefix(':')),
            None => match place.split_once(':') {
                Some((name, port)) if !port.contains(':') => (name, Some(port)),
                _ => (place, None),
            },
        };
        let port = port.map(|port| port.parse::<u16>().map_err(|_| invalid("the port is not a number")));
        let host = HostName::parse(name).map_err(|source: InvalidName| invalid(source.rule()))?;
        Ok(JumpHost { user: user.to_owned(), host, port: port.transpose()? })
    }

    async fn options(&self, lookup: &Lookup<'_>) -> Result<Options, RouteError> {
        if let Some(user) = lookup.user {
            hop::check_user(user, lookup.name.as_str())?;
        }
        match &self.environment.ssh_program {
            Some(program) if self.settings.config != SshConfigFiles::Nothing => {
                let limit = self.settings.connect_timeout;
                openssh::resolve(program, lookup, &self.files(), self.environment, limit).await
            }
            _ => {
                let mut reader = file::Reader::new(lookup.name.as_str(), lookup.user, self.environment);
                for (file, directory) in self.files() {
                    reader.read(&file, &directory)?;
                }
                Ok(reader.finish())
            }
        }
    }

    /// Returns the configuration files in the order of their precedence, each with the folder of its includes.
    fn files(&self) -> Vec<(PathBuf, PathBuf)> {
        let personal = self.environment.home.as_ref().map(|home| home.join(".ssh"));
        match &self.settings.config {
            SshConfigFiles::Nothing => Vec::new(),
            SshConfigFiles::Files(files) => files
                .iter()
                .map(|file| {
                    let text = file.to_string_lossy();
                    let project = &self.environment.project_directory;
                    let file =
                        expand::path(&text, project, self.environment).unwrap_or_else(|_| file.clone());
                    (file, personal.clone().unwrap_or_else(|| project.clone()))
                })
                .collect(),
            SshConfigFiles::Default => {
                let project = self.environment.project_directory.join(".ssh");
                let system = Path::new("/etc/ssh");
                let mut files = Vec::new();
                files.extend(personal.map(|directory| (directory.join("config"), directory)));
                files.push((system.join("ssh_config"), system.to_owned()));
                files.push((project.join("config"), project));
                files
            }
        }
    }

    fn expand_command(&self, command: &str, hop: &Hop) -> Result<String, RouteError> {
        let key_name = hop.host_key.alias.as_deref().unwrap_or(hop.name.as_str());
        let values = expand::Tokens {
            address: &hop.address,
            name: hop.name.as_str(),
            port: hop.port,
            user: &hop.user,
            key_name,
        };
        expand::tokens(command, &values, self.environment).map_err(|source| RouteError::Expand {
            host: hop.name.to_string(),
            keyword: "ProxyCommand".to_owned(),
            source,
        })
    }
}

/// The way to a host cannot be found, because of OpenSSH's configuration or the deploy file.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RouteError {
    /// The OpenSSH client cannot be started.
    #[error("cannot run `{}` to resolve the ssh configuration of `{host}`", program.display())]
    Program {
        /// The host.
        host: String,
        /// The program.
        program: PathBuf,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// The OpenSSH client refuses the configuration.
    #[error("ssh cannot resolve its configuration of `{host}`: {message}")]
    ProgramFailed {
        /// The host.
        host: String,
        /// What it said, as far as it can be shown.
        message: String,
    },
    /// The OpenSSH client did not answer.
    #[error("ssh did not resolve its configuration of `{host}` within {} s", after.as_secs())]
    ProgramTimedOut {
        /// The host.
        host: String,
        /// The deadline.
        after: Duration,
    },
    /// A configuration file cannot be read.
    #[error("cannot read the ssh configuration")]
    Read(#[source] Arc<std::io::Error>),
    /// A configuration file is wrong.
    #[error("{}:{line}: {reason}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// Our own parser met a `Match` that only OpenSSH can decide.
    #[error("{}:{line}: `Match {criterion}` needs an `ssh` program to decide it", file.display())]
    UnsupportedMatch {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The criterion.
        criterion: String,
    },
    /// A value holds something that cannot be expanded.
    #[error("cannot expand `{keyword}` of `{host}`")]
    Expand {
        /// The host.
        host: String,
        /// The keyword.
        keyword: String,
        /// Why.
        source: ExpandError,
    },
    /// A value is none of those that its keyword takes.
    #[error("`{keyword} {value}` of `{host}` is not supported")]
    InvalidValue {
        /// The host.
        host: String,
        /// The keyword.
        keyword: &'static str,
        /// The value.
        value: String,
    },
    /// A user's name holds what a shell might interpret.
    #[error("`{user}` is not a user name for `{host}`")]
    InvalidUser {
        /// The host.
        host: String,
        /// The name.
        user: String,
    },
    /// An entry of `ProxyJump` is wrong.
    #[error("`{jump}` is not a jump host for `{host}`: {reason}")]
    InvalidJump {
        /// The host.
        host: String,
        /// The entry.
        jump: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Jump hosts lead to jump hosts without an end.
    #[error("too many jump hosts on the way to `{host}`: {names}")]
    TooManyJumps {
        /// The host.
        host: String,
        /// The names found so far.
        names: String,
    },
}

impl Diagnose for RouteError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Configuration
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Program { .. } | Self::ProgramFailed { .. } | Self::ProgramTimedOut { .. } => {
                vec!["try it by hand: `ssh -G HOST`".to_owned()]
            }
            Self::UnsupportedMatch { .. } => {
                vec!["install an OpenSSH client, or name other files under `ssh: config:`".to_owned()]
            }
            Self::TooManyJumps { .. } => vec!["look for a `ProxyJump` that leads back to itself".to_owned()],
            _ => Vec::new(),
        }
    }
}
