//! Commands about what stands beside the application: proxies and accessories.

use std::collections::BTreeMap;
use std::sync::Arc;

use freehold_model::{Accessory, Author, HostName, Project, SecretValues};
use freehold_plan::Namesakes;

use crate::change::Change;
use crate::change::error::ChangeError;
use crate::command;
use crate::context::Context;
use crate::docker_login;
use crate::error::CommandError;
use crate::git::{self, Repository};
use crate::hook::{Hook, Hooks, Telling};
use crate::hosts::Hosts;
use crate::preflight::Building;
use crate::project::{self, Loaded};
use crate::record;
use crate::secret;

/// What was read and checked on this machine.
struct Read {
    loaded: Loaded,
    hosts: Hosts,
    hooks: Arc<Hooks>,
    secrets: SecretValues,
    author: Author,
    repository: Repository,
}

impl<'a> Change<'a> {
    /// The same for a command that is about the proxies of hosts: with all hosts that have one, also those of accessories.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn prepare_proxies(context: &'a Context) -> Result<(Self, Vec<HostName>), CommandError> {
        let loaded = project::load(context).await?;
        let proxies = crate::filter::proxy_hosts(&loaded.whole, &loaded.chosen, &context.arguments);
        if proxies.is_empty() {
            return Err(ChangeError::NoProxies.into());
        }
        let repository = Repository::look(context).await?;
        let author = git::author(context).await;
        let project = &loaded.whole;
        let secrets = secret::values(context, project, &command::proxy::needed(project)).await?;
        let telling = Telling { project, version: repository.revision.as_deref(), performer: &author.email };
        let hooks = Arc::new(Hooks::find(context, &telling)?.with_secrets(context, project).await?);
        let mut names: Vec<HostName> = project.all_hosts().into_iter().take(1).collect();
        names.extend(proxies.iter().filter(|host| !names.contains(host)).cloned().collect::<Vec<_>>());
        let hosts = Hosts::new(context, project, &names, &secrets, Building::default())
            .ok_or(ChangeError::NoHosts)?;
        hooks.run(Hook::PreConnect).await?;
        let read = Read { loaded, hosts, hooks, secrets, author, repository };
        let change = Self::without_release(context, read);
        Ok((change, proxies))
    }

    /// The same for a command that is about accessories: with their hosts, and without the secrets of the application.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn prepare_accessories(
        context: &'a Context,
        choose: impl FnOnce(&Project) -> Result<Vec<(Accessory, Vec<HostName>)>, CommandError>,
    ) -> Result<(Self, Vec<(Accessory, Vec<HostName>)>), CommandError> {
        let mut loaded = project::load(context).await?;
        if let Err(error) = docker_login::fill(context, &mut loaded.whole).await {
            context.ui.warn(format!("registries are used without a login: {error}"));
        }
        let chosen = choose(&loaded.whole)?;
        let (repository, author) = tokio::join!(Repository::look(context), git::author(context));
        let repository = repository?;
        let project = &loaded.whole;
        record::begin(context, project, repository.revision.as_deref(), &author)?;
        let accessories: Vec<&Accessory> = chosen.iter().map(|(accessory, _)| accessory).collect();
        let needed = command::accessory::needed(project, &accessories);
        let secrets = secret::values(context, project, &needed).await?;
        let telling = Telling { project, version: repository.revision.as_deref(), performer: &author.email };
        let hooks = Arc::new(Hooks::find(context, &telling)?.with_secrets(context, project).await?);
        let mut names: Vec<HostName> = project.all_hosts().into_iter().take(1).collect();
        for host in chosen.iter().flat_map(|(_, hosts)| hosts) {
            if !names.contains(host) {
                names.push(host.clone());
            }
        }
        let hosts = Hosts::new(context, project, &names, &secrets, Building::default())
            .ok_or(ChangeError::NoHosts)?;
        hooks.run(Hook::PreConnect).await?;
        let read = Read { loaded, hosts, hooks, secrets, author, repository };
        let change = Self::without_release(context, read);
        Ok((change, chosen))
    }

    /// Something that is no release of the application.
    fn without_release(context: &'a Context, read: Read) -> Self {
        let Read { loaded, hosts, hooks, secrets, author, repository } = read;
        Self {
            context,
            loaded,
            hosts,
            hooks,
            secrets,
            author,
            repository,
            version: None,
            error_pages: BTreeMap::new(),
            acts: Vec::new(),
            namesakes: Namesakes::Stay,
        }
    }
}
