use freehold_plan::ProxyVerb;

use super::operation;
use crate::context::Context;
use crate::error::CommandError;

/// Stop the proxies and start the same containers again.
///
/// Connections are refused for a moment; `freehold proxy reboot` replaces them without.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    operation::run(context, ProxyVerb::Restart, &["Stopped proxy", "Started proxy"]).await
}
