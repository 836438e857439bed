use freehold_fleet::{Scope, observe};
use freehold_model::{Accessory, Diagnose, ErrorKind, HostName, Project};
use freehold_plan::Observed;

use crate::context::Context;
use crate::error::CommandError;
use crate::filter;
use crate::git::{self, Repository};
use crate::hook::{Hook, Hooks, Telling};
use crate::hosts::Hosts;
use crate::preflight::Building;
use crate::project::{self, Loaded};
use crate::secret;

/// A command that only looks: the project and its hosts, without the values of the application's secrets.
#[derive(Debug)]
pub(crate) struct Sight {
    pub(crate) loaded: Loaded,
    pub(crate) hosts: Hosts,
}

/// There is nothing to look at.
#[derive(Debug, thiserror::Error)]
#[error("the deploy file names no hosts")]
struct NoHosts;

impl Diagnose for NoHosts {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Configuration
    }
}

impl Sight {
    /// Reads the project and runs the hook that comes before the first connection.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn prepare(context: &Context) -> Result<Self, CommandError> {
        Self::of(context, |loaded| loaded.chosen.hosts()).await
    }

    /// The same for the hosts of accessories, too.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn of_everything(context: &Context) -> Result<Self, CommandError> {
        let names = |loaded: &Loaded| {
            let mut names = loaded.chosen.hosts();
            for accessory in loaded.whole.accessories.values() {
                for host in filter::accessory_hosts(&loaded.whole, accessory, &context.arguments) {
                    if !names.contains(&host) {
                        names.push(host);
                    }
                }
            }
            names
        };
        Self::of(context, names).await
    }

    /// The same for every host of the project, whatever the filters are, and for further ones.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn of_all_and(context: &Context, more: &[HostName]) -> Result<Self, CommandError> {
        let names = |loaded: &Loaded| {
            let mut names = loaded.whole.all_hosts();
            let others: Vec<HostName> = more.iter().filter(|host| !names.contains(host)).cloned().collect();
            names.extend(others);
            names
        };
        Self::of(context, names).await
    }

    /// The same for the host alone that keeps the deploy lock, whatever the filters are.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn of_lock(context: &Context) -> Result<Self, CommandError> {
        Self::of(context, |loaded| loaded.whole.all_hosts().into_iter().take(1).collect()).await
    }

    /// The same for the hosts that have anything behind the proxy.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn of_proxies(context: &Context) -> Result<Self, CommandError> {
        let names = |loaded: &Loaded| filter::proxy_hosts(&loaded.whole, &loaded.chosen, &context.arguments);
        Self::of(context, names).await
    }

    /// The same for the hosts of accessories.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn of_accessories(
        context: &Context,
        choose: impl FnOnce(&Project) -> Result<Vec<(Accessory, Vec<HostName>)>, CommandError>,
    ) -> Result<(Self, Vec<(Accessory, Vec<HostName>)>), CommandError> {
        let chosen = choose(&project::load(context).await?.whole)?;
        let mut names: Vec<HostName> = Vec::new();
        for host in chosen.iter().flat_map(|(_, hosts)| hosts) {
            if !names.contains(host) {
                names.push(host.clone());
            }
        }
        Ok((Self::of(context, |_| names.clone()).await?, chosen))
    }

    /// The same for the named hosts, whatever the filters are.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn of_hosts(
        context: &Context,
        names: impl Fn(&Loaded) -> Vec<HostName>,
    ) -> Result<Self, CommandError> {
        Self::of(context, names).await
    }

    async fn of(context: &Context, names: impl Fn(&Loaded) -> Vec<HostName>) -> Result<Self, CommandError> {
        let loaded = project::load(context).await?;
        let project = &loaded.chosen;
        // Keys for SSH are needed to look at all; a hook before the connection gets all secrets, as in Kamal.
        let keys = secret::values(context, project, &project.ssh.key_data).await?;
        let unknown = Telling { project, version: None, performer: "" };
        if Hooks::find(context, &unknown)?.has(Hook::PreConnect) {
            let (repository, author) = tokio::join!(Repository::look(context), git::author(context));
            let repository = repository?;
            let telling =
                Telling { project, version: repository.revision.as_deref(), performer: &author.email };
            let hooks = Hooks::find(context, &telling)?.with_secrets(context, project).await?;
            hooks.run(Hook::PreConnect).await?;
        }
        let hosts =
            Hosts::new(context, project, &names(&loaded), &keys, Building::default()).ok_or(NoHosts)?;
        Ok(Self { loaded, hosts })
    }

    /// Looks at every host.
    ///
    /// # Errors
    /// Every host that does not answer.
    pub(crate) async fn observe(&self) -> Result<Observed, CommandError> {
        Ok(observe(&self.hosts.world(None), &Scope { project: &self.loaded.chosen }).await?)
    }
}
