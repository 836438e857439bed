//! `rollout`: targets that are tried with a part of the visitors.

use std::collections::BTreeMap;

use freehold_model::ProxyServiceName;
use freehold_wire::{CanaryRequest, InvalidAddress, Split, SplitRequest, TargetAddress};

use super::arguments::{Rollout, RolloutDeployArguments, RolloutSetArguments, SocketArgument, list};
use super::request::{CALL_LIMIT, call, milliseconds};
use super::{CommandError, socket_path};

type Environment = BTreeMap<String, String>;

pub(super) fn run(verb: &Rollout, environment: &Environment) -> Result<(), CommandError> {
    match verb {
        Rollout::Deploy(arguments) => deploy(arguments, environment),
        Rollout::Set(arguments) => {
            set(&arguments.service, Some(split(arguments)?), (&arguments.socket, environment))
        }
        Rollout::Stop(arguments) => set(&arguments.service, None, (&arguments.socket, environment)),
    }
}

fn deploy(arguments: &RolloutDeployArguments, environment: &Environment) -> Result<(), CommandError> {
    let path = socket_path(&arguments.socket, environment);
    let name = ProxyServiceName::parse(arguments.service.as_str())?;
    let request = CanaryRequest {
        targets: addresses(&arguments.target)?,
        read_targets: addresses(&arguments.read_target)?,
        deploy_timeout_ms: milliseconds(arguments.deploy_timeout),
        drain_timeout_ms: milliseconds(arguments.drain_timeout),
        fence: None,
    };
    let limit = arguments.deploy_timeout + arguments.drain_timeout + CALL_LIMIT;
    call(&path, async |mut client| client.install_canary(&name, &request, limit).await.map(drop))
}

/// Reads addresses of targets.
pub(super) fn addresses(texts: &[String]) -> Result<Vec<TargetAddress>, InvalidAddress> {
    list(texts).iter().map(|text| TargetAddress::parse(text)).collect()
}

fn split(arguments: &RolloutSetArguments) -> Result<Split, CommandError> {
    if arguments.percent.is_none() && arguments.list.is_none() {
        let message = "at least one of the flags in the group [percent list] is required".to_owned();
        return Err(CommandError::Usage { message });
    }
    let allow_list = list(arguments.list.as_deref().unwrap_or_default());
    Ok(Split { percentage: arguments.percent.unwrap_or(0), allow_list })
}

fn set(
    service: &str,
    split: Option<Split>,
    (socket, environment): (&SocketArgument, &Environment),
) -> Result<(), CommandError> {
    let path = socket_path(socket, environment);
    let name = ProxyServiceName::parse(service)?;
    let request = SplitRequest { split, fence: None };
    call(&path, async |mut client| client.split(&name, &request, CALL_LIMIT).await.map(drop))
}
