//! `rollout`: targets that are tried with a part of the visitors.

use std::collections::BTreeMap;

use freehold_model::ProxyServiceName;
use freehold_wire::{
    CanaryRequest, HeaderMatch, InvalidAddress, Split, SplitRequest, TargetAddress, VerdictRule,
};

use super::arguments::{
    Rollout, RolloutDeployArguments, RolloutSetArguments, RolloutStopArguments, SocketArgument,
    VerdictArguments, list,
};
use super::request::{CALL_LIMIT, call, milliseconds};
use super::{CommandError, socket_path};
use crate::control::bounds;

type Environment = BTreeMap<String, String>;

pub(super) fn run(verb: &Rollout, environment: &Environment) -> Result<(), CommandError> {
    match verb {
        Rollout::Deploy(arguments) => deploy(arguments, environment),
        Rollout::Set(arguments) => {
            set(&arguments.service, Some(split(arguments)?), (&arguments.socket, environment))
        }
        Rollout::Promote(arguments) => promote(arguments, environment),
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
        .map_err(|error| error.unhealthy(None))
}

/// Reads addresses of targets.
pub(super) fn addresses(texts: &[String]) -> Result<Vec<TargetAddress>, InvalidAddress> {
    list(texts).iter().map(|text| TargetAddress::parse(text)).collect()
}

fn split(arguments: &RolloutSetArguments) -> Result<Split, CommandError> {
    let usage = |message: &str| CommandError::Usage { message: message.to_owned() };
    if arguments.percent.is_none() && arguments.list.is_none() && arguments.header.is_empty() {
        return Err(usage("at least one of the flags in the group [percent list] is required"));
    }
    let verdict = &arguments.verdict;
    let further = [
        ("--verdict-window", verdict.verdict_window.is_some()),
        ("--verdict-min-requests", verdict.verdict_min_requests.is_some()),
        ("--verdict-errors", verdict.verdict_errors.is_some()),
        ("--verdict-latency", verdict.verdict_latency.is_some()),
        ("--verdict-promote", verdict.verdict_promote.is_some()),
    ];
    if let Some((flag, _)) = further.into_iter().find(|(_, is_set)| *is_set && !verdict.verdict) {
        return Err(usage(&format!("`{flag}` can only be set with `--verdict`")));
    }
    let header = match arguments.header.split_once(':') {
        _ if arguments.header.is_empty() => None,
        Some((name, value)) => {
            Some(HeaderMatch { name: name.trim().to_owned(), value: Some(value.trim().to_owned()) })
        }
        None => Some(HeaderMatch { name: arguments.header.clone(), value: None }),
    };
    let split = Split {
        percentage: arguments.percent.unwrap_or(0),
        allow_list: list(arguments.list.as_deref().unwrap_or_default()),
        cookie: Some(arguments.cookie.clone()).filter(|name| !name.is_empty()),
        anonymous: arguments.anonymous,
        header,
        verdict: verdict.verdict.then(|| rule(verdict)),
    };
    bounds::split(&SplitRequest { split: Some(split.clone()), fence: None })
        .map_err(|error| CommandError::Usage { message: error.message })?;
    Ok(split)
}

fn rule(arguments: &VerdictArguments) -> VerdictRule {
    let usual = VerdictRule::default();
    VerdictRule {
        window_ms: arguments.verdict_window.map_or(usual.window_ms, milliseconds),
        min_requests: arguments.verdict_min_requests.unwrap_or(usual.min_requests),
        error_tolerance_permille: arguments.verdict_errors.unwrap_or(usual.error_tolerance_permille),
        latency_tolerance_percent: arguments.verdict_latency.unwrap_or(usual.latency_tolerance_percent),
        promote: arguments.verdict_promote.unwrap_or(usual.promote),
    }
}

fn promote(arguments: &RolloutStopArguments, environment: &Environment) -> Result<(), CommandError> {
    let path = socket_path(&arguments.socket, environment);
    let name = ProxyServiceName::parse(arguments.service.as_str())?;
    call(&path, async |mut client| client.promote(&name, None, CALL_LIMIT).await.map(drop))
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
