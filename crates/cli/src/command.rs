//! One file per command: its arguments, whose doc comments are the help, and `run`.

pub(crate) mod abort;
pub(crate) mod accessory;
pub(crate) mod adopt;
pub(crate) mod app;
pub(crate) mod audit;
pub(crate) mod build;
pub(crate) mod canary;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod cron;
pub(crate) mod deploy;
pub(crate) mod docs;
pub(crate) mod doctor;
pub(crate) mod firewall;
pub(crate) mod help;
pub(crate) mod init;
pub(crate) mod lock;
pub(crate) mod plan;
pub(crate) mod proxy;
pub(crate) mod prune;
pub(crate) mod redeploy;
pub(crate) mod reference;
pub(crate) mod registry;
pub(crate) mod releases;
pub(crate) mod remove;
pub(crate) mod resume;
pub(crate) mod rollback;
pub(crate) mod secrets;
pub(crate) mod server;
pub(crate) mod setup;
pub(crate) mod status;
pub(crate) mod tunnel;
pub(crate) mod upgrade;
pub(crate) mod version;

use crate::arguments::Command;
use crate::context::Context;
use crate::error::CommandError;

impl Command {
    /// Returns the command's words.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Setup(_) => "setup",
            Self::Deploy(_) => "deploy",
            Self::Redeploy(_) => "redeploy",
            Self::Plan(_) => "plan",
            Self::Rollback(_) => "rollback",
            Self::Releases(_) => "releases",
            Self::Status(_) => "status",
            Self::Canary(arguments) => arguments.name(),
            Self::App(arguments) => arguments.name(),
            Self::Accessory(arguments) => arguments.name(),
            Self::Cron(arguments) => arguments.name(),
            Self::Lock(arguments) => arguments.name(),
            Self::Audit(_) => "audit",
            Self::Config(_) => "config",
            Self::Build(arguments) => arguments.name(),
            Self::Registry(arguments) => arguments.name(),
            Self::Secrets(arguments) => arguments.name(),
            Self::Server(arguments) => arguments.name(),
            Self::Tunnel(_) => "tunnel",
            Self::Doctor(_) => "doctor",
            Self::Firewall(arguments) => arguments.name(),
            Self::Adopt(_) => "adopt",
            Self::Proxy(arguments) => arguments.name(),
            Self::Prune(arguments) => arguments.name(),
            Self::Resume(_) => "resume",
            Self::Abort(_) => "abort",
            Self::Remove(_) => "remove",
            Self::Version(_) => "version",
            Self::Docs(_) => "docs",
            Self::Upgrade(_) => "upgrade",
            Self::Completion(_) => "completion",
            Self::Reference(_) => "reference",
        }
    }

    /// Does the command.
    pub(crate) async fn run(self, context: &Context) -> Result<(), CommandError> {
        match self {
            Self::Init(arguments) => init::run(context, &arguments),
            Self::Setup(arguments) => setup::run(context, &arguments).await,
            Self::Deploy(arguments) => deploy::run(context, &arguments).await,
            Self::Redeploy(arguments) => redeploy::run(context, &arguments).await,
            Self::Plan(arguments) => context.until_stopped(plan::run(context, &arguments)).await,
            Self::Rollback(arguments) => rollback::run(context, arguments).await,
            Self::Releases(arguments) => context.until_stopped(releases::run(context, &arguments)).await,
            Self::Status(arguments) => context.until_stopped(status::run(context, &arguments)).await,
            Self::Canary(arguments) => Box::pin(canary::run(context, arguments)).await,
            Self::App(arguments) => app::run(context, arguments).await,
            Self::Accessory(arguments) => accessory::run(context, arguments).await,
            Self::Cron(arguments) => Box::pin(cron::run(context, arguments)).await,
            Self::Lock(arguments) => context.until_stopped(lock::run(context, arguments)).await,
            Self::Audit(arguments) => context.until_stopped(audit::run(context, &arguments)).await,
            Self::Config(arguments) => context.until_stopped(config::run(context, &arguments)).await,
            Self::Build(arguments) => build::run(context, arguments).await,
            Self::Registry(arguments) => registry::run(context, arguments).await,
            Self::Secrets(arguments) => secrets::run(context, arguments).await,
            Self::Server(arguments) => server::run(context, arguments).await,
            Self::Doctor(arguments) => {
                context.until_stopped(Box::pin(doctor::run(context, &arguments))).await
            }
            Self::Tunnel(arguments) => Box::pin(tunnel::run(context, &arguments)).await,
            Self::Firewall(arguments) => Box::pin(firewall::run(context, arguments)).await,
            Self::Adopt(arguments) => Box::pin(adopt::run(context, &arguments)).await,
            Self::Proxy(arguments) => Box::pin(proxy::run(context, arguments)).await,
            Self::Prune(arguments) => prune::run(context, &arguments).await,
            Self::Resume(arguments) => resume::run(context, &arguments).await,
            Self::Abort(arguments) => abort::run(context, &arguments).await,
            Self::Remove(arguments) => remove::run(context, &arguments).await,
            Self::Docs(arguments) => docs::run(context, &arguments),
            Self::Upgrade(arguments) => upgrade::run(&arguments),
            Self::Version(arguments) => version::run(context, &arguments),
            Self::Completion(arguments) => completion::run(context, &arguments),
            Self::Reference(arguments) => reference::run(context, &arguments),
        }
    }
}
