use freehold_model::{Diagnose, ErrorKind, Release};
use freehold_plan::{Action, Namesakes, Observed, OnFailure, Plan, ProxyBoot};
use serde::Serialize;

use crate::change::Change;
use crate::command::deploy::{BuildArgs, NamesakeArgs};
use crate::context::Context;
use crate::error::CommandError;
use crate::ui::{Line, Tone, headline, stage_name};

/// Show what a deploy would do, step by step, and do nothing.
///
/// It is the very plan that `freehold deploy` would execute now. Nothing is built, locked or changed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  freehold plan\n  freehold plan --exit-code   # exit with 10 if there are changes to make"
)]
pub(crate) struct Args {
    #[command(flatten)]
    build: BuildArgs,

    #[command(flatten)]
    namesakes: NamesakeArgs,

    /// Exit with 10 if the running release differs from what would be deployed, and with 0 if it does not.
    #[arg(long, alias = "exit_code")]
    exit_code: bool,
}

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitCode {
    /// That the plan was shown.
    Done,
    /// Whether there are changes to make.
    Changes,
}

/// There are changes to make.
#[derive(Debug, thiserror::Error)]
#[error("there are changes to make")]
pub(crate) struct PendingChanges;

impl Diagnose for PendingChanges {
    fn kind(&self) -> ErrorKind {
        ErrorKind::PendingChanges
    }

    fn is_in_result(&self) -> bool {
        true
    }
}

#[derive(Debug, Serialize)]
struct Planned<'a> {
    has_changes: bool,
    plan: &'a Plan,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let exit_code = if arguments.exit_code { ExitCode::Changes } else { ExitCode::Done };
    show(context, (arguments.build, arguments.namesakes.namesakes()), exit_code).await
}

/// Plans a deploy and shows the plan.
pub(crate) async fn show(
    context: &Context,
    (build, namesakes): (BuildArgs, Namesakes),
    exit_code: ExitCode,
) -> Result<(), CommandError> {
    let mut change = Change::prepare_without_record(context, build.build()).await?;
    change.namesakes = namesakes;
    let version = change.version_to_deploy()?;
    let observed = change.observe().await?;
    let plan = change.plan_rollout(&observed, &version, build.image(), ProxyBoot::Ensure).await?;
    let has_changes = has_changes(&plan, &observed);
    context.ui.close();
    context.ui.result(&lines(&plan, has_changes));
    context.ui.result_json(context.command, &Planned { has_changes, plan: &plan });
    if exit_code == ExitCode::Changes && has_changes { Err(PendingChanges.into()) } else { Ok(()) }
}

/// Says whether a host would get something else than it has: another version, configuration or secret.
fn has_changes(plan: &Plan, observed: &Observed) -> bool {
    plan.steps().any(|step| match &step.action {
        Action::RecordRelease { release, .. } => {
            let current = observed.hosts.get(&step.host).and_then(|host| host.releases.first());
            current.is_none_or(|current| !is_same(current, release))
        }
        _ => false,
    })
}

fn is_same(one: &Release, other: &Release) -> bool {
    let roles = |release: &Release| {
        release
            .roles
            .iter()
            .map(|(name, role)| (name.clone(), role.role.clone(), role.secrets.clone(), role.jobs.clone()))
            .collect::<Vec<_>>()
    };
    one.version == other.version && one.image == other.image && roles(one) == roles(other)
}

fn lines(plan: &Plan, has_changes: bool) -> Vec<Line> {
    let mut lines = vec![Line::new().add(Tone::Strong, headline(plan))];
    for stage in &plan.stages {
        lines.push(Line::new());
        let rule = match stage.on_failure {
            OnFailure::PutBack => "",
            OnFailure::GoOn => "  no way back from here: a failure is finished with `freehold resume`",
        };
        lines.push(Line::new().add(Tone::Busy, stage_name(stage.kind)).add(Tone::Faint, rule));
        for lane in &stage.lanes {
            for (number, step) in lane.steps.iter().enumerate() {
                let host = if number == 0 { lane.host.as_str() } else { "" };
                lines.push(
                    Line::new()
                        .plain("  ")
                        .plain(host)
                        .pad_to(20)
                        .add(Tone::Faint, format!("{:>3} ", step.id.to_string()))
                        .plain(step.action.to_string()),
                );
            }
        }
    }
    if !has_changes {
        lines.push(Line::new());
        lines.push(
            Line::new()
                .add(Tone::Faint, "the running release is the same: version, configuration and secrets"),
        );
    }
    lines
}
