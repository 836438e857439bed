use freehold_plan::ProxyVerb;

use super::operation;
use crate::context::Context;
use crate::error::CommandError;

/// Let the proxies hand over to this build of Freehold, each in its container.
///
/// No connection is refused, and none that is open is ended: the earlier process ends what it has begun, WebSockets and
/// streams included, for as long as `drain_timeout` says. A change of `proxy: run:` needs `freehold proxy reboot`. Kamal's
/// command of this name goes from Kamal 1 to Kamal 2, which Freehold does not do.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    operation::run(context, ProxyVerb::Upgrade, &["Upgraded proxy"]).await
}
