use freehold_model::{Architecture, Diagnose, ErrorKind, HostName, ImageReference};

use crate::images::images;
use crate::observed::{ObservedHost, ObservedProxy};
use crate::rollout::{ImageSource, ProxyBoot, RolloutRequest, roles_on};

/// Why no rollout could be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RolloutError {
    /// A host was not observed.
    #[error("host `{host}` was not observed")]
    NotObserved {
        /// The host.
        host: HostName,
    },
    /// A host runs another architecture than the image is built for.
    #[error("host `{host}` is {actual}, but the image is built for {}", list(wanted))]
    Architecture {
        /// The host.
        host: HostName,
        /// Its architecture, as the engine reports it.
        actual: String,
        /// Those of the deploy file.
        wanted: Vec<Architecture>,
    },
    /// A proxy that is not ours runs on a host.
    #[error("host `{host}` runs a proxy that is not Freehold's: image `{image}`")]
    ForeignProxy {
        /// The host.
        host: HostName,
        /// The proxy's image.
        image: String,
    },
    /// The proxy does not run on a host although it was expected to.
    #[error("the proxy does not run on host `{host}`")]
    NoProxy {
        /// The host.
        host: HostName,
    },
    /// The image is not on a host although it was expected to be.
    #[error("image `{image}` is not on host `{host}`")]
    NoImage {
        /// The host.
        host: HostName,
        /// The image.
        image: ImageReference,
    },
    /// A name that follows from the project is too long or holds what Docker does not allow.
    #[error("cannot name the containers of the release")]
    Name(#[from] freehold_model::InvalidName),
}

fn list(architectures: &[Architecture]) -> String {
    architectures.iter().map(|architecture| architecture.as_str()).collect::<Vec<_>>().join(", ")
}

impl Diagnose for RolloutError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotObserved { .. } => ErrorKind::Bug,
            Self::Architecture { .. } | Self::Name(_) => ErrorKind::Configuration,
            Self::ForeignProxy { .. } | Self::NoProxy { .. } | Self::NoImage { .. } => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NotObserved { .. } => Vec::new(),
            Self::Architecture { actual, .. } => {
                vec![format!("set `builder: arch: {actual}` in the deploy file, or remove `arch` to follow the hosts")]
            }
            Self::ForeignProxy { .. } => vec![
                "remove it with `docker rm -f kamal-proxy` on that host if nothing else needs it; taking over a running \
                 kamal-proxy is not supported by this version of freehold"
                    .to_owned(),
            ],
            Self::NoProxy { .. } => vec!["run `freehold deploy`, which starts it".to_owned()],
            Self::NoImage { .. } => vec!["run `freehold deploy` without `--skip-push`".to_owned()],
            Self::Name(_) => vec!["use a shorter service, role or version".to_owned()],
        }
    }
}

/// Checks that a host can take the release.
pub(super) fn check_host(
    request: &RolloutRequest<'_>,
    host: &HostName,
    seen: &ObservedHost,
) -> Result<(), RolloutError> {
    let wanted = &request.project.builder.architectures;
    if !wanted.is_empty() && !seen.architecture.is_some_and(|actual| wanted.contains(&actual)) {
        return Err(RolloutError::Architecture {
            host: host.clone(),
            actual: seen.architecture.map_or_else(|| "of another architecture".to_owned(), |a| a.to_string()),
            wanted: wanted.clone(),
        });
    }
    if request.image == ImageSource::OnHosts {
        let roles = roles_on(request.project, host).map(|(role, _)| role);
        let missing = images(request.project, roles, &request.version)
            .into_iter()
            .find(|image| !seen.images.iter().any(|present| present.reference == image.reference));
        if let Some(image) = missing {
            return Err(RolloutError::NoImage { host: host.clone(), image: image.reference });
        }
    }
    let needs_proxy = roles_on(request.project, host).any(|(role, _)| role.proxy.is_some());
    match &seen.proxy {
        ObservedProxy::Running { is_freehold: false, image, .. }
        | ObservedProxy::Stopped { is_freehold: false, image }
            if needs_proxy =>
        {
            Err(RolloutError::ForeignProxy { host: host.clone(), image: image.clone() })
        }
        ObservedProxy::Absent | ObservedProxy::Stopped { .. }
            if needs_proxy && request.proxy == ProxyBoot::Expect =>
        {
            Err(RolloutError::NoProxy { host: host.clone() })
        }
        _ => Ok(()),
    }
}
