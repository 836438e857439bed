use freehold_plan::ProxyBoot;

use crate::change::Change;
use crate::command::deploy::{self, BuildArgs};
use crate::context::Context;
use crate::error::CommandError;

/// Deploy without making sure of the proxy first.
///
/// It must run on every host already, as it does after a first deploy.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  freehold redeploy\n  freehold redeploy --skip-push --version v1.2.0")]
pub(crate) struct Args {
    #[command(flatten)]
    build: BuildArgs,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare(context, arguments.build.build()).await?;
    deploy::deploy(&change, arguments.build, ProxyBoot::Expect).await
}
