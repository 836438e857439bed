use freehold_model::{Diagnose, ErrorKind, HostName};

/// Why a change cannot begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChangeError {
    /// The project has no hosts.
    #[error("the deploy file names no hosts")]
    NoHosts,
    /// Nothing is behind a proxy.
    #[error("no chosen host has anything behind the proxy")]
    NoProxies,
    /// A rollout of all hosts is unfinished.
    #[error("a rollout that includes host `{host}` was cut off, and `--hosts` leaves that host out")]
    Unfinished { host: HostName },
}

impl Diagnose for ChangeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoHosts | Self::NoProxies => ErrorKind::Configuration,
            Self::Unfinished { .. } => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NoHosts => vec!["name them under `servers:`".to_owned()],
            Self::NoProxies => vec!["give a role `proxy: true`, or an accessory `proxy:`".to_owned()],
            Self::Unfinished { .. } => {
                vec!["first, without `--hosts`: `freehold resume` or `freehold abort`".to_owned()]
            }
        }
    }
}
