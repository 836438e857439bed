mod boot;
mod containers;
mod exec;
mod logs;
mod start;
mod stop;
mod version;

use crate::context::Context;
use crate::error::CommandError;

/// Work with the containers of the application.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Logs(logs::Args),
    Exec(exec::Args),
    Containers(containers::Args),
    Version(version::Args),
    Boot(boot::Args),
    Start(start::Args),
    Stop(stop::Args),
}

impl Args {
    /// Returns the command's words.
    pub(crate) fn name(&self) -> &'static str {
        match self.verb {
            Verb::Logs(_) => "app logs",
            Verb::Exec(_) => "app exec",
            Verb::Containers(_) => "app containers",
            Verb::Version(_) => "app version",
            Verb::Boot(_) => "app boot",
            Verb::Start(_) => "app start",
            Verb::Stop(_) => "app stop",
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    match arguments.verb {
        Verb::Logs(arguments) => logs::run(context, arguments).await,
        Verb::Exec(arguments) => exec::run(context, arguments).await,
        Verb::Containers(arguments) => context.until_stopped(containers::run(context, &arguments)).await,
        Verb::Version(arguments) => context.until_stopped(version::run(context, &arguments)).await,
        Verb::Boot(arguments) => boot::run(context, &arguments).await,
        Verb::Start(arguments) => start::run(context, &arguments).await,
        Verb::Stop(arguments) => stop::run(context, &arguments).await,
    }
}
