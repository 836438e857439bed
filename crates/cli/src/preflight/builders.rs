//! Which machine builds, and with what.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::sync::Arc;

use freehold_docker::{Deadlines, Engine, UnixSocket};
use freehold_model::{
    Architecture, BuildPlace, Builder, Diagnose, ErrorKind, HostName, Project, RegistryPlace,
};
use freehold_plan::{BuildTool, build_tool, expand_variables};

use crate::context::Context;
use crate::error::CommandError;
use crate::hosts;

/// A machine that only builds, reached by SSH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteBuilder {
    pub(crate) host: HostName,
    pub(crate) user: Option<String>,
    pub(crate) port: Option<u16>,
}

/// Why a builder cannot be used.
#[derive(Debug, thiserror::Error)]
enum BuilderError {
    /// The address is not one of SSH.
    #[error("the remote builder `{address}` is not reached by SSH")]
    NotSsh { address: String },
    /// The address is not understood.
    #[error("`{address}` is not the address of a machine that is reached by SSH")]
    Address { address: String },
    /// A key file stands where an agent is needed.
    #[error("`builder: ssh:` names `{path}`, which is not the socket of an SSH agent")]
    NoAgent { path: String },
    /// The variable of the agent is not set.
    #[error("`builder: ssh:` needs an SSH agent, and none runs")]
    NoAgentRuns,
}

impl Diagnose for BuilderError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Configuration
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NotSsh { .. } | Self::Address { .. } => {
                vec!["write it as `builder: remote: ssh://user@host` or `ssh://user@host:port`".to_owned()]
            }
            Self::NoAgent { .. } | Self::NoAgentRuns => vec![
                "let an agent hold the key: `eval \"$(ssh-agent)\" && ssh-add`, and write \
                 `builder: ssh: default=$SSH_AUTH_SOCK`"
                    .to_owned(),
            ],
        }
    }
}

impl RemoteBuilder {
    fn parse(address: &str) -> Result<Self, BuilderError> {
        let rest = address
            .strip_prefix("ssh://")
            .ok_or_else(|| BuilderError::NotSsh { address: address.to_owned() })?;
        let wrong = || BuilderError::Address { address: address.to_owned() };
        let place = rest.trim_end_matches('/');
        let (user, place) = match place.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, place),
        };
        let (host, port) = match place.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = port.map(|port| port.parse().map_err(|_| wrong())).transpose()?;
        Ok(Self { host: HostName::parse(host).map_err(|_| wrong())?, user, port })
    }
}

/// Decides which machine builds each image, and returns those that are no hosts.
///
/// # Errors
/// An address of a builder that cannot be used.
pub(crate) async fn settle(
    context: &Context,
    project: &mut Project,
) -> Result<Vec<RemoteBuilder>, CommandError> {
    let is_remote = |builder: &Builder| builder.remote.is_some();
    if !is_remote(&project.builder) && !project.images.values().any(|image| is_remote(&image.builder)) {
        return Ok(Vec::new());
    }
    let local = local_architecture(context).await;
    let uses_local_registry = uses_local_registry(project);
    let mut remotes: Vec<RemoteBuilder> = Vec::new();
    let images = project.images.values_mut().map(|image| &mut image.builder);
    for builder in std::iter::once(&mut project.builder).chain(images) {
        let BuildTool::RemoteEngine(address) = build_tool(builder, uses_local_registry, local) else {
            continue;
        };
        let remote = RemoteBuilder::parse(&address)?;
        builder.on = BuildPlace::Host(remote.host.clone());
        if !remotes.contains(&remote) {
            remotes.push(remote);
        }
    }
    Ok(remotes)
}

/// Decides what builds an image.
pub(crate) async fn tool(context: &Context, project: &Project, builder: &Builder) -> BuildTool {
    let local = match builder.remote {
        Some(_) => local_architecture(context).await,
        None => None,
    };
    build_tool(builder, uses_local_registry(project), local)
}

fn uses_local_registry(project: &Project) -> bool {
    let place = project.registry.as_ref().map(|registry| &registry.place);
    matches!(place, Some(RegistryPlace::Local { .. }))
}

/// Asks this machine's engine; one that does not answer builds nothing.
async fn local_architecture(context: &Context) -> Option<Architecture> {
    let dial = Arc::new(UnixSocket::new(hosts::engine_socket(context)));
    let info = Engine::over(dial, Deadlines::default()).info().await;
    let info = info.inspect_err(|error| tracing::debug!(%error, "this machine's engine does not answer"));
    info.ok()?.architecture
}

/// Reads `builder: ssh:` as `docker buildx build --ssh` does: `default`, `default=SOCKET`, `ID=SOCKET`.
///
/// # Errors
/// There is no agent.
pub(super) fn ssh_agents(
    context: &Context,
    builder: &Builder,
) -> Result<BTreeMap<String, PathBuf>, CommandError> {
    let Some(text) = &builder.ssh else { return Ok(BTreeMap::new()) };
    let text = expand_variables(text, context.environment());
    let (id, path) = match text.split_once('=') {
        Some((id, path)) => (id, Some(path).filter(|path| !path.is_empty())),
        None => (text.as_str(), context.environment().get("SSH_AUTH_SOCK").map(String::as_str)),
    };
    let path = path.ok_or(BuilderError::NoAgentRuns)?;
    let socket = context.process.directory.join(path);
    let is_socket = fs_err::metadata(&socket).is_ok_and(|metadata| metadata.file_type().is_socket());
    if !is_socket {
        return Err(BuilderError::NoAgent { path: path.to_owned() }.into());
    }
    Ok(BTreeMap::from([(id.to_owned(), socket)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_builders_are_those_of_docker_contexts() {
        let parse = |address: &str| {
            let remote = RemoteBuilder::parse(address).expect("an address");
            (remote.host.to_string(), remote.user, remote.port)
        };
        let ann = || Some("ann".to_owned());
        assert_eq!(parse("ssh://ann@build-1:2222"), ("build-1".to_owned(), ann(), Some(2222)));
        assert_eq!(parse("ssh://build-1/"), ("build-1".to_owned(), None, None));
        assert_eq!(parse("ssh://ann@10.0.0.7"), ("10.0.0.7".to_owned(), ann(), None));
        for bad in ["tcp://build-1:2376", "ssh://", "ssh://build-1:x", "unix:///run/docker.sock"] {
            assert!(RemoteBuilder::parse(bad).is_err(), "{bad}");
        }
    }
}
