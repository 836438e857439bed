use std::time::Duration;

use freehold_model::{Diagnose, ErrorKind, HostName, Project, ReleaseVersion};
use freehold_plan::{CanaryError, Observed, ObservedProxy, VerdictState};
use tokio::time::Instant;

use super::{Outcome, abort, check_whole, promote};
use crate::change::{Build, Change};
use crate::context::Context;
use crate::error::CommandError;
use crate::ui::{Line, Tone, short_version};

/// How often the proxies are asked.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What a verdict may take beyond its window: proxies look every few seconds, and begin anew when they start again.
const MARGIN: Duration = Duration::from_secs(60);

/// Wait until the proxies have decided about the release that is tried, and do what follows.
///
/// It is promoted when the proxies of all hosts find it as good as the one that serves, unless the deploy file says
/// `canary: {verdict: {promote: false}}`. It is removed as soon as one of them finds it worse, or saw too few requests: the
/// command ends with code 6 then. The lock is free while it waits; Ctrl-C leaves everything as it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// What the proxies have decided.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// Nothing yet, or not all of them.
    Pending,
    /// It is as good.
    Passed,
    /// One of them has given it up.
    GivenUp { host: HostName, why: String },
    /// They do not compare anything.
    NotCompared,
}

/// Why the wait was in vain.
#[derive(Debug, thiserror::Error)]
enum WaitError {
    /// It is worse.
    #[error("version `{version}` was given up by the proxy on host `{host}` and is removed: {why}")]
    GivenUp { version: ReleaseVersion, host: HostName, why: String },
    /// There is no verdict to wait for.
    #[error("the proxies do not compare the release that is tried with the one that serves")]
    NotCompared,
    /// None came.
    #[error("the proxies have not decided within {} s", limit.as_secs())]
    Undecided { limit: Duration },
}

impl Diagnose for WaitError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::GivenUp { .. } => ErrorKind::Unhealthy,
            Self::NotCompared | Self::Undecided { .. } => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::GivenUp { .. } => {
                vec!["all visitors are at the release that served before; see what it wrote and what it answered there"
                    .to_owned()]
            }
            Self::NotCompared | Self::Undecided { .. } => vec![
                "decide yourself: `freehold canary promote` or `freehold canary abort`; see `freehold canary status`"
                    .to_owned(),
            ],
        }
    }
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare(context, Build::No).await?;
    check_whole(&change)?;
    follow(&change).await
}

/// Waits for the decision, and does what follows.
pub(super) async fn follow(change: &Change<'_>) -> Result<(), CommandError> {
    let context = change.context;
    let rule = change.project().canary.verdict.clone().unwrap_or_default();
    let (decision, version) = context.until_stopped(decision(change, rule.window * 2 + MARGIN)).await?;
    match decision {
        Decision::Passed if rule.promote => promote::promote(change).await,
        Decision::Passed => {
            context.ui.close();
            let text = format!("{} is as good as what serves", short_version(version.as_str()));
            let next = "`freehold canary promote` lets it serve";
            context.ui.result(&[
                Line::new().add(Tone::Good, context.ui.done_mark()).plain(" ").plain(text),
                Line::new().plain("  ").add(Tone::Faint, next),
            ]);
            let hosts = change.project().hosts();
            let outcome = Outcome {
                service: change.project().service.to_string(),
                version: version.to_string(),
                hosts: hosts.iter().map(ToString::to_string).collect(),
                state: "passed",
                why: None,
                steps_done: 0,
                steps_already_done: 0,
            };
            context.ui.result_json(context.command, &outcome);
            Ok(())
        }
        Decision::GivenUp { host, why } => {
            abort::abort(change).await?;
            Err(WaitError::GivenUp { version, host, why }.into())
        }
        Decision::NotCompared => Err(WaitError::NotCompared.into()),
        Decision::Pending => Err(WaitError::Undecided { limit: rule.window * 2 + MARGIN }.into()),
    }
}

/// Asks the proxies until they have decided, or the time is over.
async fn decision(change: &Change<'_>, limit: Duration) -> Result<(Decision, ReleaseVersion), CommandError> {
    let deadline = Instant::now() + limit;
    loop {
        let observed = change.observe().await?;
        let (decision, version) = look(change.project(), &observed)?;
        if decision != Decision::Pending || Instant::now() >= deadline {
            return Ok((decision, version));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Says what the proxies of all hosts together have decided.
fn look(project: &Project, observed: &Observed) -> Result<(Decision, ReleaseVersion), CanaryError> {
    let hosts = project.hosts();
    let seen = || hosts.iter().filter_map(|host| Some((host, observed.hosts.get(host)?)));
    let version = seen().find_map(|(_, seen)| seen.canary.as_ref().map(|release| release.version.clone()));
    let version = version.ok_or_else(|| CanaryError::Nothing { service: project.stem() })?;
    let (mut is_pending, mut is_compared) = (false, true);
    for (host, seen) in seen() {
        if !matches!(seen.proxy, ObservedProxy::Running { .. }) {
            // It may be starting again, and then it goes on with what it has stored.
            is_pending = true;
            continue;
        }
        let recorded = seen.canary.iter().flat_map(|release| release.roles.values());
        for service in recorded.filter(|it| it.role.proxy.is_some()).map(|it| &it.role.proxy_service) {
            let canary = seen.canary_of(service);
            let verdict = canary.and_then(|canary| canary.verdict.as_ref());
            match verdict.map(|verdict| (verdict.state, &verdict.why)) {
                Some((VerdictState::Aborted, why)) => {
                    return Ok((Decision::GivenUp { host: host.clone(), why: why.clone() }, version));
                }
                _ if canary.is_none_or(|canary| canary.percent.is_none()) => {
                    let why = "its proxy sends nobody there any more".to_owned();
                    return Ok((Decision::GivenUp { host: host.clone(), why }, version));
                }
                Some((VerdictState::Watching, _)) => is_pending = true,
                Some((VerdictState::Passed, _)) => {}
                None => is_compared = false,
            }
        }
    }
    let decision = match (is_compared, is_pending) {
        (_, true) => Decision::Pending,
        (false, false) => Decision::NotCompared,
        (true, false) => Decision::Passed,
    };
    Ok((decision, version))
}
