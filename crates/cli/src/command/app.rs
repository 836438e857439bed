mod boot;
mod containers;
mod exec;
mod images;
mod live;
mod logs;
mod maintenance;
pub(in crate::command) mod remove;
mod stale_containers;
mod start;
mod stop;
mod version;

use freehold_plan::AppPart;

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
    /// List the containers of the application that run.
    Details(containers::Args),
    Images(images::Args),
    #[command(name = "stale_containers", alias = "stale-containers")]
    StaleContainers(stale_containers::Args),
    Version(version::Args),
    Boot(boot::Args),
    Start(start::Args),
    Stop(stop::Args),
    Maintenance(maintenance::Args),
    Live(live::Args),
    Remove(remove::Args),
    #[command(name = "remove_container", hide = true)]
    RemoveContainer(remove::VersionArgs),
    /// Remove the containers that do not run.
    #[command(name = "remove_containers", hide = true)]
    RemoveContainers,
    /// Remove the images that no container is made from.
    #[command(name = "remove_images", hide = true)]
    RemoveImages,
    /// Remove the application's folders.
    #[command(name = "remove_app_directories", hide = true)]
    RemoveAppDirectories,
}

impl Args {
    /// Returns the command's words.
    pub(crate) fn name(&self) -> &'static str {
        match self.verb {
            Verb::Logs(_) => "app logs",
            Verb::Exec(_) => "app exec",
            Verb::Containers(_) => "app containers",
            Verb::Details(_) => "app details",
            Verb::Images(_) => "app images",
            Verb::StaleContainers(_) => "app stale_containers",
            Verb::Version(_) => "app version",
            Verb::Boot(_) => "app boot",
            Verb::Start(_) => "app start",
            Verb::Stop(_) => "app stop",
            Verb::Maintenance(_) => "app maintenance",
            Verb::Live(_) => "app live",
            Verb::Remove(_) => "app remove",
            Verb::RemoveContainer(_) => "app remove_container",
            Verb::RemoveContainers => "app remove_containers",
            Verb::RemoveImages => "app remove_images",
            Verb::RemoveAppDirectories => "app remove_app_directories",
        }
    }
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    match arguments.verb {
        Verb::Logs(arguments) => logs::run(context, arguments).await,
        Verb::Exec(arguments) => exec::run(context, arguments).await,
        Verb::Containers(arguments) => {
            context.until_stopped(containers::run(context, containers::Which::All, &arguments)).await
        }
        Verb::Details(arguments) => {
            context.until_stopped(containers::run(context, containers::Which::Running, &arguments)).await
        }
        Verb::Images(arguments) => context.until_stopped(images::run(context, &arguments)).await,
        Verb::StaleContainers(arguments) => stale_containers::run(context, &arguments).await,
        Verb::Version(arguments) => context.until_stopped(version::run(context, &arguments)).await,
        Verb::Boot(arguments) => boot::run(context, &arguments).await,
        Verb::Start(arguments) => start::run(context, &arguments).await,
        Verb::Stop(arguments) => stop::run(context, &arguments).await,
        Verb::Maintenance(arguments) => maintenance::run(context, arguments).await,
        Verb::Live(arguments) => live::run(context, &arguments).await,
        Verb::Remove(arguments) => remove::run(context, &arguments).await,
        Verb::RemoveContainer(arguments) => remove::run_version(context, &arguments).await,
        Verb::RemoveContainers => remove::remove(context, &AppPart::Containers).await,
        Verb::RemoveImages => remove::remove(context, &AppPart::Images).await,
        Verb::RemoveAppDirectories => remove::remove(context, &AppPart::Directories).await,
    }
}
