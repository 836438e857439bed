use clap::ValueEnum;
use freehold_docker::BuildCache;

use super::images;
use crate::change::{Build, Change};
use crate::context::Context;
use crate::error::CommandError;

/// Build the images and push them to the registry; no host is needed for it.
///
/// Without `registry:` the image stays on the engine that built it, from where `deploy --skip-push` takes it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) build: BuildArgs,

    /// Where the image goes.
    #[arg(long, value_name = "PLACE", default_value = "registry")]
    output: Output,
}

/// How images are built.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct BuildArgs {
    /// Run every step of the build again.
    #[arg(long, alias = "no_cache")]
    no_cache: bool,
}

impl BuildArgs {
    pub(super) fn cache(self) -> BuildCache {
        if self.no_cache { BuildCache::Ignore } else { BuildCache::Use }
    }
}

/// Where an image goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    // No doc comments: they would be listed at length in the help.
    Registry,
    Docker,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let cache = arguments.build.cache();
    let build = if arguments.output == Output::Docker { Build::Here(cache) } else { Build::Only(cache) };
    let change = Change::prepare_images(context, build).await?;
    let built = images::all(&change, &change.version_to_deploy()?)?;
    context.until_stopped(images::push(&change, &built)).await?;
    let is_pushed = change.project().registry.is_some();
    images::show(&change, &built, if is_pushed { "is pushed" } else { "is built" }, Vec::new());
    Ok(())
}
