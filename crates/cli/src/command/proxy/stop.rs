use freehold_plan::ProxyVerb;

use super::operation;
use crate::context::Context;
use crate::error::CommandError;

/// Stop the proxies. No request is answered until `freehold proxy start`.
///
/// To show visitors a page meanwhile: `freehold app maintenance`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    operation::run(context, ProxyVerb::Stop, &["Stopped proxy"]).await
}
