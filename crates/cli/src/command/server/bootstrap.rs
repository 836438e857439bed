mod harden;

use freehold_plan::HardeningItem;
use serde::Serialize;

use crate::change::Change;
use crate::command::setup;
use crate::context::Context;
use crate::error::CommandError;
use crate::hook::Hook;
use crate::ui::{Line, Tone, counted_items};

/// Make the hosts ready: install Docker where it is missing, then run the hook `docker-setup`.
///
/// A host without Docker gets it from the packages of its own system (Debian, Ubuntu, Fedora; from Docker's repository on
/// the kin of Red Hat), which needs root or `sudo` without a password. A host that does not reach its package sources,
/// such as one in a private network, gets the packages through this computer. `freehold setup` does it too, and deploys.
///
/// `--harden` also looks at six things on every host, shows what it would change, and asks. What was changed by hand stays:
/// settings of others in Docker's file, a log limit of your own.
#[derive(Debug, clap::Args)]
#[command(after_help = "What --harden sees to:
  upgrades  security updates are installed by themselves
  ssh       keys and certificates only; taken back if a new connection does not succeed
  sysctl    settings of the kernel
  docker    a limit for the logs of containers, and live-restore
  swap      a swap file where there is little memory
  time      something sets the clock

Examples:
  freehold server bootstrap
  freehold server bootstrap --harden
  freehold server bootstrap --harden --without swap,ssh --yes")]
pub(crate) struct Args {
    /// Also harden the hosts, after a look at what would change.
    #[arg(long)]
    harden: bool,

    /// What to leave alone, separated by commas: upgrades, ssh, sysctl, docker, swap, time.
    #[arg(long, value_name = "ITEMS", value_delimiter = ',', requires = "harden", value_parser = item)]
    without: Vec<HardeningItem>,

    /// Do not ask before hardening.
    #[arg(short = 'y', long, requires = "harden")]
    yes: bool,
}

fn item(word: &str) -> Result<HardeningItem, String> {
    HardeningItem::parse(word).ok_or_else(|| {
        let words: Vec<&str> = HardeningItem::ALL.into_iter().map(HardeningItem::as_str).collect();
        format!("it is one of {}", words.join(", "))
    })
}

#[derive(Debug, Serialize)]
struct Ready {
    hosts: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hardened: Vec<harden::Hardened>,
}

pub(crate) async fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let change = Change::prepare_servers(context).await?;
    let work = async || -> Result<Vec<harden::Hardened>, CommandError> {
        setup::bootstrap(context, &change.hosts).await?;
        change.hooks.run(Hook::DockerSetup).await?;
        if !arguments.harden {
            return Ok(Vec::new());
        }
        let without = arguments.without.iter().copied().collect();
        harden::harden(context, &change.hosts, &without, arguments.yes).await
    };
    let hardened = change.with_lock(work).await?;
    context.ui.close();
    let hosts: Vec<String> = change.hosts.names().iter().map(ToString::to_string).collect();
    let text = format!(" {} ready", counted_items(hosts.len(), "host"));
    context.ui.result(&[Line::new().add(Tone::Good, context.ui.done_mark()).plain(text)]);
    context.ui.result_json(context.command, &Ready { hosts, hardened });
    Ok(())
}
