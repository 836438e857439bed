use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::PlainSecret;
use crate::{HostName, SecretName};

/// How hosts are reached by SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSettings {
    /// The user, or none if the file is silent: then OpenSSH's configuration decides, then `root`.
    pub user: Option<String>,
    /// The port, or none if the file is silent: then OpenSSH's configuration decides, then 22.
    pub port: Option<u16>,
    /// Jump hosts, the nearest first.
    pub proxy: Vec<JumpHost>,
    /// A command whose standard input and output are the connection; `%h`, `%p` and `%r` are replaced.
    pub proxy_command: Option<String>,
    /// Private key files.
    pub keys: Vec<PathBuf>,
    /// Secrets that hold private keys in PEM.
    pub key_data: Vec<SecretName>,
    /// Private keys in PEM that stand in the deploy file itself, a form that Kamal is about to drop.
    pub key_texts: Vec<PlainSecret>,
    /// Only the keys named here, no others of the agent.
    pub keys_only: bool,
    /// Which OpenSSH configuration files are read.
    pub config: SshConfigFiles,
    /// Whether the agent is forwarded to interactive sessions.
    pub forward_agent: bool,
    /// Seconds between keep-alive messages.
    pub keepalive: Duration,
    /// How long connecting, the handshake and authentication may take together.
    pub connect_timeout: Duration,
    /// From which level on messages of the SSH library are shown.
    pub log_level: SshLogLevel,
}

impl SshSettings {
    /// Says whether the deploy file names keys to log in with.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        !(self.keys.is_empty() && self.key_data.is_empty() && self.key_texts.is_empty())
    }
}

impl Default for SshSettings {
    fn default() -> Self {
        Self {
            user: None,
            port: None,
            proxy: Vec::new(),
            proxy_command: None,
            keys: Vec::new(),
            key_data: Vec::new(),
            key_texts: Vec::new(),
            keys_only: false,
            config: SshConfigFiles::Default,
            forward_agent: true,
            keepalive: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(20),
            log_level: SshLogLevel::Fatal,
        }
    }
}

/// Which OpenSSH client configuration is honoured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SshConfigFiles {
    /// The user's and the system's files.
    #[default]
    Default,
    /// None.
    Nothing,
    /// These files.
    Files(Vec<PathBuf>),
}

/// One hop on the way to a host: `[user@]host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JumpHost {
    /// The user; Kamal's default is `root`.
    pub user: String,
    /// The host.
    pub host: HostName,
    /// The port, or none for the configured one or 22.
    pub port: Option<u16>,
}

/// From which level on messages of the SSH library are shown, the most talkative first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SshLogLevel {
    /// Everything.
    Debug,
    /// What happens.
    Info,
    /// What is surprising.
    Warn,
    /// What went wrong.
    Error,
    /// Only what ends the connection, Kamal's default.
    #[default]
    Fatal,
}

/// How many connections are made at a time and how long they are kept (Kamal's `sshkit`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// How many connections are begun at the same time.
    pub max_concurrent_starts: NonZeroU32,
    /// How long an unused connection is kept open.
    pub pool_idle_timeout: Duration,
    /// How many times a name that did not resolve is looked up again.
    pub dns_retries: u32,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            max_concurrent_starts: NonZeroU32::MIN.saturating_add(29),
            pool_idle_timeout: Duration::from_secs(900),
            dns_retries: 3,
        }
    }
}
