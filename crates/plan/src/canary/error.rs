use freehold_model::{Diagnose, ErrorKind, HostName, ReleaseVersion, RoleName};

use crate::rollout::{PROXY_DOWN_HELP, RolloutError};

/// Why a canary cannot be begun or ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanaryError {
    /// No role takes requests.
    #[error("no role of `{service}` is behind the proxy")]
    NoProxy {
        /// The service.
        service: String,
    },
    /// The proxy of a host is a kamal-proxy.
    #[error("the proxy on host `{host}` is a kamal-proxy, which compares nothing")]
    KamalProxy {
        /// The host.
        host: HostName,
    },
    /// The proxy of a host does not serve a role.
    #[error(
        "the proxy on host `{host}` does not serve role `{role}`: there is nothing to try a release beside"
    )]
    NotServed {
        /// The host.
        host: HostName,
        /// The role.
        role: RoleName,
    },
    /// The version serves.
    #[error("version `{version}` serves already on host `{host}`")]
    AlreadyLive {
        /// The host.
        host: HostName,
        /// The version.
        version: ReleaseVersion,
    },
    /// One is tried already.
    #[error("version `{version}` is tried on host `{host}` already")]
    UnderWay {
        /// The host.
        host: HostName,
        /// The version that is tried.
        version: ReleaseVersion,
    },
    /// None is tried.
    #[error("no release of `{service}` is tried")]
    Nothing {
        /// The service.
        service: String,
    },
    /// A host has no canary, or another one.
    #[error("host `{host}` does not try version `{version}`, which other hosts do")]
    Elsewhere {
        /// The host.
        host: HostName,
        /// The version.
        version: ReleaseVersion,
    },
    /// A container of the canary is gone.
    #[error("host `{host}` has no container of role `{role}` of the release that is tried")]
    NoContainer {
        /// The host.
        host: HostName,
        /// The role.
        role: RoleName,
    },
    /// A proxy found it worse.
    #[error("the proxy on host `{host}` has given the release up: {why}")]
    GivenUp {
        /// The host.
        host: HostName,
        /// Why.
        why: String,
    },
    /// The proxy of a host does not run, and may send visitors there again.
    #[error(
        "the proxy on host `{host}` does not run: whether it sends visitors to version `{version}` cannot be told or changed"
    )]
    ProxyDown {
        /// The host.
        host: HostName,
        /// The version.
        version: ReleaseVersion,
    },
    /// A host cannot take the release.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
}

impl Diagnose for CanaryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoProxy { .. } => ErrorKind::Configuration,
            Self::Rollout(error) => error.kind(),
            _ => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NoProxy { .. } => vec!["give a role `proxy: true`".to_owned()],
            Self::KamalProxy { .. } => vec!["let Freehold's proxy take over: `freehold adopt`".to_owned()],
            Self::NotServed { .. } => {
                vec!["deploy the first release, or what is new on the host: `freehold deploy`".to_owned()]
            }
            Self::AlreadyLive { .. } => vec!["try another one: `--version VERSION`".to_owned()],
            Self::UnderWay { .. } => vec![
                "see `freehold canary status`; `freehold canary promote` or `freehold canary abort` ends it"
                    .to_owned(),
            ],
            Self::Nothing { .. } => vec!["begin with `freehold canary start`".to_owned()],
            Self::Elsewhere { .. } | Self::NoContainer { .. } => {
                vec!["end it, and start again: `freehold canary abort`".to_owned()]
            }
            Self::GivenUp { .. } => vec![
                "remove it: `freehold canary abort`".to_owned(),
                "or let it serve all the same: `freehold deploy --skip-push --version VERSION`".to_owned(),
            ],
            Self::ProxyDown { .. } => vec![PROXY_DOWN_HELP.to_owned()],
            Self::Rollout(error) => error.help(),
        }
    }
}
