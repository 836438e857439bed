mod boot;
mod details;
mod directories;
mod exec;
mod logs;
mod operation;
mod pull_image;
mod reboot;
mod remove;
mod remove_container;
mod remove_image;
mod remove_service_directory;
mod restart;
mod start;
mod stock;
mod stop;
mod upload;

use crate::context::Context;
use crate::error::CommandError;

/// Work with the long-lived containers beside the application: databases, caches.
///
/// A deploy never touches them. NAME is the accessory's name in the deploy file, or `all`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Boot(boot::Args),
    #[command(visible_alias = "upgrade")]
    Reboot(reboot::Args),
    Start(start::Args),
    Stop(stop::Args),
    Restart(restart::Args),
    Details(details::Args),
    Exec(exec::Args),
    Logs(logs::Args),
    Remove(remove::Args),
    #[command(hide = true)]
    Upload(upload::Args),
    #[command(hide = true)]
    Directories(directories::Args),
    #[command(name = "pull_image", hide = true)]
    PullImage(pull_image::Args),
    #[command(name = "remove_container", hide = true)]
    RemoveContainer(remove_container::Args),
    #[command(name = "remove_image", hide = true)]
    RemoveImage(remove_image::Args),
    #[command(name = "remove_service_directory", hide = true)]
    RemoveServiceDirectory(remove_service_directory::Args),
}

impl Args {
    /// Returns the command's words.
    pub(crate) fn name(&self) -> &'static str {
        match self.verb {
            Verb::Boot(_) => "accessory boot",
            Verb::Reboot(_) => "accessory reboot",
            Verb::Start(_) => "accessory start",
            Verb::Stop(_) => "accessory stop",
            Verb::Restart(_) => "accessory restart",
            Verb::Details(_) => "accessory details",
            Verb::Exec(_) => "accessory exec",
            Verb::Logs(_) => "accessory logs",
            Verb::Remove(_) => "accessory remove",
            Verb::Upload(_) => "accessory upload",
            Verb::Directories(_) => "accessory directories",
            Verb::PullImage(_) => "accessory pull_image",
            Verb::RemoveContainer(_) => "accessory remove_container",
            Verb::RemoveImage(_) => "accessory remove_image",
            Verb::RemoveServiceDirectory(_) => "accessory remove_service_directory",
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    match arguments.verb {
        Verb::Boot(arguments) => boot::run(context, &arguments).await,
        Verb::Reboot(arguments) => reboot::run(context, &arguments).await,
        Verb::Start(arguments) => start::run(context, &arguments).await,
        Verb::Stop(arguments) => stop::run(context, &arguments).await,
        Verb::Restart(arguments) => restart::run(context, &arguments).await,
        Verb::Details(arguments) => context.until_stopped(details::run(context, &arguments)).await,
        Verb::Exec(arguments) => exec::run(context, arguments).await,
        Verb::Logs(arguments) => logs::run(context, arguments).await,
        Verb::Remove(arguments) => remove::run(context, &arguments).await,
        Verb::Upload(arguments) => upload::run(context, &arguments).await,
        Verb::Directories(arguments) => directories::run(context, &arguments).await,
        Verb::PullImage(arguments) => pull_image::run(context, &arguments).await,
        Verb::RemoveContainer(arguments) => remove_container::run(context, &arguments).await,
        Verb::RemoveImage(arguments) => remove_image::run(context, &arguments).await,
        Verb::RemoveServiceDirectory(arguments) => remove_service_directory::run(context, &arguments).await,
    }
}

pub(crate) use details::{AccessoryStatus, look, table};
pub(crate) use operation::{Setup, all};
pub(crate) use stock::needed;
