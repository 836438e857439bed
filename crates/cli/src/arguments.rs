use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use freehold_fleet::Waiting;

use crate::command;

/// Deploys an application from its Dockerfile to your own servers, without a dropped request.
///
/// Freehold builds the image, sends each host only the layers that it lacks, starts the new release beside the old one,
/// waits until it is healthy on every host, and only then switches the traffic. If anything fails on any host, every
/// host goes back to what it served before.
#[derive(Debug, Parser)]
#[command(
    name = "freehold",
    bin_name = "freehold",
    disable_help_flag = true,
    disable_version_flag = true,
    subcommand_required = true,
    arg_required_else_help = true,
    infer_subcommands = true,
    max_term_width = 100,
    after_help = "Start with `freehold init`, then `freehold setup`.\n\
                  `freehold help COMMAND` tells more of a command; so does `--help` after it."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// The deploy file.
    #[arg(
        short,
        long,
        alias = "config_file",
        value_name = "FILE",
        default_value = "config/deploy.yml",
        global = true
    )]
    pub(crate) config_file: PathBuf,

    /// The destination: `staging` merges config/deploy.staging.yml over the deploy file.
    #[arg(short, long, value_name = "NAME", global = true)]
    pub(crate) destination: Option<String>,

    /// Only these hosts, separated by commas; `*`, `?` and `[a-z]` match.
    #[arg(short = 'h', long, value_name = "HOSTS", value_delimiter = ',', global = true)]
    pub(crate) hosts: Vec<String>,

    /// Only these roles, separated by commas; `*`, `?` and `[a-z]` match.
    #[arg(short, long, value_name = "ROLES", value_delimiter = ',', global = true)]
    pub(crate) roles: Vec<String>,

    /// Only the primary host: the first of the primary role.
    #[arg(short, long, global = true)]
    pub(crate) primary: bool,

    /// The application's version to act on, instead of the git revision.
    #[arg(long, value_name = "VERSION", global = true)]
    pub(crate) version: Option<String>,

    /// Do not run the hooks in .kamal/hooks.
    #[arg(short = 'H', long, alias = "skip_hooks", global = true)]
    pub(crate) skip_hooks: bool,

    /// When another deploy holds the lock, wait instead of failing.
    #[arg(long, alias = "lock_wait", global = true)]
    pub(crate) lock_wait: bool,

    /// How long to wait for the lock, in seconds.
    #[arg(
        long,
        alias = "lock_wait_timeout",
        value_name = "SECONDS",
        default_value = "900",
        value_parser = seconds,
        global = true
    )]
    pub(crate) lock_wait_timeout: Duration,

    /// How many seconds to pause between two looks at the lock; less than one second unless it is given.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, global = true)]
    pub(crate) lock_wait_interval: Option<Duration>,

    /// What to do with a host whose SSH key was never seen: ask on a terminal, otherwise refuse.
    #[arg(long, alias = "host_key", value_name = "ANSWER", global = true)]
    pub(crate) host_key: Option<HostKeyAnswer>,

    /// Print one JSON object as the result, and progress as one JSON event per line on standard error.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// No colours; the variable NO_COLOR does the same.
    #[arg(long, alias = "no_color", global = true)]
    pub(crate) no_color: bool,

    /// Show every step, the whole build and what Freehold decides.
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,

    /// Show errors and results only.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Print help.
    #[arg(long, action = ArgAction::HelpShort, global = true)]
    help: Option<bool>,
}

impl GlobalArgs {
    /// Says whether a lock that is another's is waited for.
    pub(crate) fn waiting(&self) -> Waiting {
        let limit = self.lock_wait_timeout;
        match (self.lock_wait, self.lock_wait_interval) {
            (false, _) => Waiting::No,
            (true, Some(interval)) if !interval.is_zero() => Waiting::Steadily { limit, interval },
            (true, _) => Waiting::Until(limit),
        }
    }
}

/// What to do with a host whose key was never seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HostKeyAnswer {
    // No doc comments: they would be listed at length in the help of every command.
    Ask,
    Accept,
    Refuse,
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

/// What to do. The help lists them by [`GROUPS`].
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(command::init::Args),
    Setup(command::setup::Args),
    Deploy(command::deploy::Args),
    Redeploy(command::redeploy::Args),
    Plan(command::plan::Args),
    Rollback(command::rollback::Args),
    Releases(command::releases::Args),
    #[command(visible_alias = "details")]
    Status(command::status::Args),
    Canary(command::canary::Args),
    App(command::app::Args),
    Accessory(command::accessory::Args),
    Proxy(command::proxy::Args),
    Cron(command::cron::Args),
    Adopt(command::adopt::Args),
    Lock(command::lock::Args),
    Audit(command::audit::Args),
    Config(command::config::Args),
    Build(command::build::Args),
    Registry(command::registry::Args),
    Secrets(command::secrets::Args),
    Server(command::server::Args),
    Tunnel(command::tunnel::Args),
    Doctor(command::doctor::Args),
    Firewall(command::firewall::Args),
    Prune(command::prune::Args),
    Resume(command::resume::Args),
    Abort(command::abort::Args),
    Remove(command::remove::Args),
    Docs(command::docs::Args),
    #[command(hide = true)]
    Upgrade(command::upgrade::Args),
    Version(command::version::Args),
    Completion(command::completion::Args),
    #[command(hide = true)]
    Reference(command::reference::Args),
}

/// The commands as the help groups them.
pub(crate) const GROUPS: [(&str, &[&str]); 4] = [
    ("Deploy", &["init", "setup", "deploy", "redeploy", "build", "plan", "canary", "rollback", "adopt"]),
    (
        "Look",
        &[
            "status",
            "doctor",
            "releases",
            "config",
            "audit",
            "lock",
            "app",
            "accessory",
            "cron",
            "proxy",
            "secrets",
            "registry",
            "server",
            "tunnel",
            "firewall",
        ],
    ),
    ("Repair", &["resume", "abort", "prune", "remove"]),
    ("Freehold itself", &["docs", "version", "completion", "help"]),
];
