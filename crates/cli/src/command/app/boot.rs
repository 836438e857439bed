use freehold_model::{Diagnose, ErrorKind, Project, ReleaseVersion};
use freehold_plan::{ImageSource, Observed, ProxyBoot};

use crate::change::{Build, Change};
use crate::command::status;
use crate::context::Context;
use crate::error::CommandError;
use crate::summary;

/// Start the application anew from the image that the hosts have, with today's configuration and secrets.
///
/// It is a deploy without building and sending: the new containers take over from the running ones once they are
/// healthy. Without `--version` it is the version that serves.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  freehold app boot\n  freehold app boot --version v1.2.0")]
pub(crate) struct Args {}

/// There is nothing to start anew.
#[derive(Debug, thiserror::Error)]
#[error("no version of the application runs")]
struct NothingRuns;

impl Diagnose for NothingRuns {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn help(&self) -> Vec<String> {
        vec!["name one that the hosts have: `freehold app boot --version VERSION`, or deploy: `freehold deploy`".to_owned()]
    }
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare(context, Build::No).await?;
    crate::preflight::warn_of_unchecked(context, change.project());
    let done = change
        .carry_out(async |observed| {
            let version = match &change.version {
                Some(version) => version.clone(),
                None => serving(change.project(), observed).ok_or(NothingRuns)?,
            };
            change.plan_rollout(observed, &version, ImageSource::OnHosts, ProxyBoot::Expect).await
        })
        .await?;
    summary::show(context, change.project(), &done, context.process.clock.elapsed());
    Ok(())
}

/// Returns the version of the first container that serves, in the order of hosts and roles.
fn serving(project: &Project, observed: &Observed) -> Option<ReleaseVersion> {
    project.hosts().iter().find_map(|host| {
        let seen = observed.hosts.get(host)?;
        project.roles.keys().find_map(|role| {
            let container = seen.current(project, role)?;
            ReleaseVersion::parse(status::version(project, container)).ok()
        })
    })
}
