use freehold_docker::BuildCache;
use freehold_model::{Diagnose, ErrorKind};
use freehold_plan::{ImageSource, Namesakes, ProxyBoot};

use crate::change::{Build, Change};
use crate::command::plan;
use crate::context::Context;
use crate::error::CommandError;
use crate::guard::{self, short};
use crate::summary;

/// Build the application, bring it to every host, and switch the traffic to it.
///
/// The new release is started beside the old one on all hosts. Only when it is healthy everywhere do requests go to it;
/// then the old one finishes what it has begun and is stopped. If anything fails, every host goes back to the old
/// release.
///
/// The image is tagged with the git revision. Without `builder: context:` it is built from a clone of the last commit,
/// otherwise from the working tree.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold deploy\n  \
    freehold deploy -d staging\n  \
    freehold deploy --dry-run          # what would be done\n  \
    freehold deploy --version v1.2.0   # tag the image so")]
pub(crate) struct Args {
    #[command(flatten)]
    build: BuildArgs,

    /// Show what would be done, and do nothing; the same as `freehold plan`.
    #[arg(long, alias = "dry_run")]
    dry_run: bool,

    #[command(flatten)]
    namesakes: NamesakeArgs,
}

/// What becomes of the same application under other names.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct NamesakeArgs {
    /// Take the place of the same application under another name, as after a change of destination or role: its requests
    /// go to this release in the moment of the switch, and its containers are stopped.
    #[arg(long, alias = "take_over")]
    take_over: bool,
}

impl NamesakeArgs {
    pub(crate) fn namesakes(self) -> Namesakes {
        if self.take_over { Namesakes::GiveWay } else { Namesakes::Stay }
    }
}

/// How the image comes into being.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct BuildArgs {
    /// Do not build: the image of this version was built before.
    #[arg(short = 'P', long, alias = "skip_push")]
    pub(crate) skip_push: bool,

    /// Run every step of the build again.
    #[arg(long, alias = "no_cache", conflicts_with = "skip_push")]
    pub(crate) no_cache: bool,
}

impl BuildArgs {
    pub(crate) fn build(self) -> Build {
        match (self.skip_push, self.no_cache) {
            (true, _) => Build::No,
            (false, true) => Build::Yes(BuildCache::Ignore),
            (false, false) => Build::Yes(BuildCache::Use),
        }
    }

    pub(crate) fn image(self) -> ImageSource {
        if self.skip_push { ImageSource::Built } else { ImageSource::Build }
    }
}

/// A version is needed and there is none.
#[derive(Debug, thiserror::Error)]
#[error("there is no git revision to take as the version")]
pub(crate) struct NoVersion;

impl Diagnose for NoVersion {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn help(&self) -> Vec<String> {
        vec!["name the version: `--version VERSION`; see `freehold releases`".to_owned()]
    }
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let namesakes = arguments.namesakes.namesakes();
    if arguments.dry_run {
        return plan::show(context, (arguments.build, namesakes), plan::ExitCode::Done).await;
    }
    let mut change = Change::prepare(context, arguments.build.build()).await?;
    change.namesakes = namesakes;
    deploy(&change, arguments.build, ProxyBoot::Ensure).await
}

/// Deploys what was prepared and shows what became of it.
pub(crate) async fn deploy(
    change: &Change<'_>,
    build: BuildArgs,
    proxy: ProxyBoot,
) -> Result<(), CommandError> {
    let version = change.version_to_deploy()?;
    let done = change
        .carry_out(async |observed| {
            Box::pin(guard::keep_in_step(change)).await?;
            change.plan_rollout(observed, &version, build.image(), proxy).await
        })
        .await?;
    short::after(change, &short::of_roles(change.project())).await;
    let took = change.finish().await?;
    summary::show(change.context, change.project(), &done, took);
    Ok(())
}
