use freehold_plan::ProxyVerb;

use super::operation;
use crate::context::Context;
use crate::error::CommandError;

/// Start the proxy where there is none. A deploy does it by itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    operation::run(context, ProxyVerb::Boot, &["Booted proxy"]).await
}
