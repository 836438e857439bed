use freehold_plan::ProxyVerb;

use super::operation;
use crate::context::Context;
use crate::error::CommandError;

/// Start the proxies that were stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    operation::run(context, ProxyVerb::Start, &["Started proxy"]).await
}
