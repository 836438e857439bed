mod boot;
mod boot_config;
mod details;
mod list;
mod logs;
mod operation;
mod reboot;
mod remove;
mod restart;
mod start;
mod stop;
mod upgrade;

pub(crate) use operation::{Outcome, names};
pub(crate) use reboot::ask;

use freehold_model::{Project, Registry, SecretName};

use crate::context::Context;
use crate::error::CommandError;

/// The verbs of the proxy itself, which this executable has, too.
const ON_A_HOST: &str = "On a host, in the proxy's own container or with `--socket PATH`, these speak with the proxy that runs:
  serve    Serves traffic in the foreground (also `run`)
  deploy   Installs a service's targets once they are healthy
  rollout  Tries other targets with a part of the visitors: deploy, set, promote, stop
  pause    Lets the requests to a service wait
  stop     Refuses the requests to a service, with a message
  resume   Lets the requests to a service go to its targets again
  list     Lists the services, with health and certificates (also `ls`)
  remove   Removes a service (also `rm`)
  upgrade  Hands over to a new process, without a refused connection

Each of them has a `--help` of its own: `freehold proxy deploy --help`, `freehold proxy stop --socket PATH --help`.";

/// Work with the proxies of the hosts: the containers that take the requests.
///
/// On a host, in the proxy's own container, `freehold proxy` is the proxy itself.
#[derive(Debug, clap::Args)]
#[command(after_help = ON_A_HOST)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Boot(boot::Args),
    Reboot(reboot::Args),
    Start(start::Args),
    Stop(stop::Args),
    Restart(restart::Args),
    Details(details::Args),
    #[command(alias = "ls")]
    List(list::Args),
    Logs(logs::Args),
    Remove(remove::Args),
    #[command(name = "boot_config", alias = "boot-config")]
    BootConfig(boot_config::Args),
    Upgrade(upgrade::Args),
}

impl Args {
    /// Returns the command's words.
    pub(crate) fn name(&self) -> &'static str {
        match &self.verb {
            Verb::Boot(_) => "proxy boot",
            Verb::Reboot(_) => "proxy reboot",
            Verb::Start(_) => "proxy start",
            Verb::Stop(_) => "proxy stop",
            Verb::Restart(_) => "proxy restart",
            Verb::Details(_) => "proxy details",
            Verb::List(_) => "proxy list",
            Verb::Logs(_) => "proxy logs",
            Verb::Remove(_) => "proxy remove",
            Verb::BootConfig(arguments) => arguments.name(),
            Verb::Upgrade(_) => "proxy upgrade",
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
        Verb::Logs(arguments) => logs::run(context, arguments).await,
        Verb::Remove(arguments) => remove::run(context, &arguments).await,
        Verb::BootConfig(arguments) => boot_config::run(context, arguments).await,
        Verb::Upgrade(arguments) => upgrade::run(context, &arguments).await,
        Verb::List(arguments) => context.until_stopped(list::run(context, &arguments)).await,
    }
}

/// Returns the secrets that a command on proxies needs: a registry's, where a kamal-proxy is pulled, what certificates are
/// ordered with, and keys for SSH.
pub(crate) fn needed(project: &Project) -> Vec<SecretName> {
    let registries = project.registry.iter().flat_map(Registry::secret_names);
    let keys = project.ssh.key_data.iter().cloned();
    registries.chain(project.proxy_secret_names()).chain(keys).collect()
}
