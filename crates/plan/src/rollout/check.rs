use freehold_model::{
    Architecture, CertificateAuthority, Diagnose, ErrorKind, HostName, ImageReference, ProxyRun,
    ProxyServiceName, ProxySettings, ReleaseVersion, Role, Tls,
};

use crate::images::images;
use crate::observed::{ObservedHost, ObservedProxy, ProxyMaker};
use crate::rollout::{ImageSource, ProxyBoot, RolloutRequest, namesake, roles_on};

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
    /// The kamal-proxy of a host lacks what a deploy needs.
    #[error(
        "the kamal-proxy on host `{host}` is too old: image `{image}`, and at least {LEAST_KAMAL_PROXY} is needed"
    )]
    OldProxy {
        /// The host.
        host: HostName,
        /// The proxy's image.
        image: String,
    },
    /// A setting that only Freehold's proxy has.
    #[error(
        "the kamal-proxy on host `{host}` orders certificates from Let's Encrypt only, and knows no clients by theirs"
    )]
    Authority {
        /// The host.
        host: HostName,
    },
    /// A key of the deploy file that only Freehold's proxy has.
    #[error("the kamal-proxy on host `{host}` has nothing like `proxy: {key}`")]
    OwnProxyOnly {
        /// The host.
        host: HostName,
        /// The key below `proxy`.
        key: &'static str,
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
    /// The proxy that runs is not to be reached by HTTPS.
    #[error("no port of host `{host}` leads to the proxy's port {HTTPS}, and the deploy file asks for HTTPS")]
    Closed {
        /// The host.
        host: HostName,
    },
    /// A release is tried, and visitors go there.
    #[error("version `{version}` is tried on host `{host}`, and visitors go there")]
    Canary {
        /// The host.
        host: HostName,
        /// The version.
        version: ReleaseVersion,
    },
    /// A release is tried, and whether visitors go there cannot be told.
    #[error(
        "version `{version}` is tried on host `{host}`, whose proxy does not run: it may send visitors there again"
    )]
    CanaryInDoubt {
        /// The host.
        host: HostName,
        /// The version.
        version: ReleaseVersion,
    },
    /// Another application has a host that this one is to have.
    #[error("the proxy on host `{host}` serves a host and path of `{service}` for `{holder}`")]
    Taken {
        /// The host.
        host: HostName,
        /// The service.
        service: ProxyServiceName,
        /// The one that has it.
        holder: ProxyServiceName,
    },
    /// The same application has it under another name.
    #[error(
        "the proxy on host `{host}` serves the application under another name: `{holder}` has a host and path of \
         `{service}`"
    )]
    Namesake {
        /// The host.
        host: HostName,
        /// The service.
        service: ProxyServiceName,
        /// The one that has it.
        holder: ProxyServiceName,
    },
    /// kamal-proxy cannot put one service in the place of another.
    #[error("the kamal-proxy on host `{host}` cannot put one service in the place of another without a gap")]
    KamalCannot {
        /// The host.
        host: HostName,
    },
    /// A name that follows from the project is too long or holds what Docker does not allow.
    #[error("cannot name the containers of the release")]
    Name(#[from] freehold_model::InvalidName),
}

/// What brings a proxy back that a canary was begun with.
pub(crate) const PROXY_DOWN_HELP: &str = "start it: `freehold proxy start`, or `freehold proxy boot` where its container is gone; it goes on with what it has stored";

/// What ends a canary, for whoever wants to do something else.
pub(crate) const CANARY_HELP: &str =
    "end it first: `freehold canary promote` lets it serve, `freehold canary abort` removes it";

fn list(architectures: &[Architecture]) -> String {
    architectures.iter().map(|architecture| architecture.as_str()).collect::<Vec<_>>().join(", ")
}

impl Diagnose for RolloutError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotObserved { .. } => ErrorKind::Bug,
            Self::Architecture { .. } | Self::Name(_) | Self::Taken { .. } => ErrorKind::Configuration,
            Self::OldProxy { .. }
            | Self::Authority { .. }
            | Self::OwnProxyOnly { .. }
            | Self::NoProxy { .. }
            | Self::NoImage { .. }
            | Self::Closed { .. }
            | Self::Namesake { .. }
            | Self::Canary { .. }
            | Self::CanaryInDoubt { .. }
            | Self::KamalCannot { .. } => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NotObserved { .. } => Vec::new(),
            Self::Architecture { actual, .. } => {
                vec![format!(
                    "set `builder: arch: {actual}` in the deploy file, or remove `arch` to follow the hosts"
                )]
            }
            Self::OldProxy { .. } => vec![
                "replace it by a newer one: `freehold proxy reboot`, or by Freehold's: `freehold adopt`"
                    .to_owned(),
            ],
            Self::Authority { .. } => {
                vec!["let Freehold's proxy take over: `freehold adopt`, or name neither authority, `fleet_key` nor `client_ca`".to_owned()]
            }
            Self::OwnProxyOnly { key, .. } => {
                vec![format!("let Freehold's proxy take over: `freehold adopt`, or remove `{key}`")]
            }
            Self::NoProxy { .. } => vec!["run `freehold deploy`, which starts it".to_owned()],
            Self::NoImage { .. } => vec!["run `freehold deploy` without `--skip-push`".to_owned()],
            Self::Closed { host } => vec![format!(
                "replace the proxy by one with today's ports: `freehold proxy reboot -h {host}`"
            )],
            Self::Taken { holder, .. } => vec![format!(
                "name another `proxy: host:`, or take that service out on the host: \
                 `docker exec kamal-proxy kamal-proxy remove {holder}`"
            )],
            Self::Namesake { .. } => vec![
                "put the new release in its place, without a gap: `freehold deploy --take-over`".to_owned(),
                "or keep both: name another `proxy: host:` for this one".to_owned(),
            ],
            Self::Canary { .. } => vec![CANARY_HELP.to_owned()],
            Self::CanaryInDoubt { .. } => vec![PROXY_DOWN_HELP.to_owned()],
            Self::KamalCannot { .. } => {
                vec!["let Freehold's proxy take its place first: `freehold adopt`".to_owned()]
            }
            Self::Name(_) => vec!["use a shorter service, role or version".to_owned()],
        }
    }
}

/// The least version of kamal-proxy that Kamal 2.12 works with.
pub(crate) const LEAST_KAMAL_PROXY: &str = "v0.9.2";

/// Says whether the tag of an image is that of a kamal-proxy before the least one. A tag that is no version is trusted.
pub(crate) fn is_too_old(image: &str) -> bool {
    let version = |text: &str| -> Option<Vec<u64>> {
        let numbers = text.strip_prefix('v').unwrap_or(text);
        numbers.split('.').map(|number| number.parse().ok()).collect()
    };
    let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
    match (version(tag), version(LEAST_KAMAL_PROXY)) {
        (Some(tag), Some(least)) => tag < least,
        _ => false,
    }
}

/// Says whether a role's certificates are ordered as kamal-proxy cannot, or its clients have to show theirs.
fn names_authority(role: &Role) -> bool {
    role.proxy.as_ref().is_some_and(|proxy| {
        let names = |tls: &Tls| matches!(tls, Tls::Automatic(it) if *it != CertificateAuthority::default());
        names(&proxy.tls) || proxy.clients.is_some()
    })
}

/// Checks that a host can take the release.
pub(crate) fn check_host(
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
    let mut proxies = roles_on(request.project, host).filter_map(|(role, _)| role.proxy.as_ref());
    let own_key = proxies.find_map(ProxySettings::own_proxy_only);
    let own_key = own_key.or_else(|| seen.proxy_run(request.project, host).own_proxy_only());
    match &seen.proxy {
        ObservedProxy::Running { maker: ProxyMaker::Kamal, image, .. }
        | ObservedProxy::Stopped { maker: ProxyMaker::Kamal, image }
            if needs_proxy && is_too_old(image) =>
        {
            Err(RolloutError::OldProxy { host: host.clone(), image: image.clone() })
        }
        ObservedProxy::Running { maker: ProxyMaker::Kamal, .. }
        | ObservedProxy::Stopped { maker: ProxyMaker::Kamal, .. }
            if roles_on(request.project, host).any(|(role, _)| names_authority(role)) =>
        {
            Err(RolloutError::Authority { host: host.clone() })
        }
        ObservedProxy::Running { maker: ProxyMaker::Kamal, .. }
        | ObservedProxy::Stopped { maker: ProxyMaker::Kamal, .. }
            if own_key.is_some() =>
        {
            Err(RolloutError::OwnProxyOnly { host: host.clone(), key: own_key.unwrap_or_default() })
        }
        ObservedProxy::Absent | ObservedProxy::Stopped { .. }
            if needs_proxy && request.proxy == ProxyBoot::Expect =>
        {
            Err(RolloutError::NoProxy { host: host.clone() })
        }
        _ => Ok(()),
    }?;
    check_ports(request, host, seen)?;
    namesake::check(request, host, seen)
}

/// The proxy's own port for HTTPS.
const HTTPS: u16 = 443;

/// Refuses HTTPS where no port of the host leads to the proxy's, although the next proxy there would have one: it was made
/// when nobody needed it.
fn check_ports(
    request: &RolloutRequest<'_>,
    host: &HostName,
    seen: &ObservedHost,
) -> Result<(), RolloutError> {
    let is_encrypted = |role: &Role| role.proxy.as_ref().is_some_and(|proxy| proxy.tls != Tls::Off);
    let run = seen.proxy_run(request.project, host);
    let is_closed = seen.proxy_ports.as_ref().is_some_and(|ports| !ports.contains(&HTTPS));
    if is_closed
        && publishes_https(&run)
        && roles_on(request.project, host).any(|(role, _)| is_encrypted(role))
    {
        return Err(RolloutError::Closed { host: host.clone() });
    }
    Ok(())
}

/// Says whether a port of the host leads to the proxy's for HTTPS.
fn publishes_https(run: &ProxyRun) -> bool {
    let inside = |port: &String| port.rsplit(':').next().map(|port| port.trim_end_matches("/tcp").to_owned());
    run.publish || run.options.publish.iter().any(|port| inside(port) == Some(HTTPS.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// kamal-compat §7.1 row 11: the text after the last colon is compared.
    #[test]
    fn versions_of_kamal_proxy_are_compared_by_their_numbers() {
        for old in ["basecamp/kamal-proxy:v0.9.1", "r.example.com:5000/proxy:v0.8.10", "x:0.9"] {
            assert!(is_too_old(old), "{old}");
        }
        for new in
            ["basecamp/kamal-proxy:v0.9.2", "x:v0.10.0", "x:v1", "x:latest", "r.example.com:5000/proxy", "x"]
        {
            assert!(!is_too_old(new), "{new}");
        }
    }
}
