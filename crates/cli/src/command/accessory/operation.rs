use std::collections::BTreeMap;

use freehold_docker::RegistryCredentials;
use freehold_fleet::{Host, Stock};
use freehold_model::{
    Accessory, Credential, Diagnose, ErrorKind, FileContent, HostName, Project, Registry, RegistryPlace,
    SecretName, SecretValues,
};
use freehold_plan::{AccessoryRequest, AccessoryVerb, ObservedAccessories, Plan, accessory};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::change::{Change, Done};
use crate::context::Context;
use crate::error::{CommandError, FileError};
use crate::hosts::Hosts;
use crate::ui::{Line, Tone, counted_items, span};

/// Why nothing becomes of an accessory.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnknownAccessory {
    /// The deploy file has no accessory of that name.
    #[error("there is no accessory `{name}`")]
    Name { name: String, known: Vec<String> },
    /// The filters leave no host.
    #[error("no host of accessory `{name}` matches the options `--hosts`, `--roles` or `--primary`")]
    Hosts { name: String },
    /// The deploy file has none at all.
    #[error("the deploy file has no accessories")]
    Nothing,
}

impl Diagnose for UnknownAccessory {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Name { known, .. } if !known.is_empty() => {
                vec![format!("there are: {}, and `all`", known.join(", "))]
            }
            _ => Vec::new(),
        }
    }
}

/// Accessories, each with the hosts that a command is about.
pub(super) type Chosen = Vec<(Accessory, Vec<HostName>)>;

/// Chooses accessories by name or `all`, and their hosts by the filters.
///
/// # Errors
/// [`UnknownAccessory`].
pub(super) fn choose(context: &Context, project: &Project, name: &str) -> Result<Chosen, UnknownAccessory> {
    if project.accessories.is_empty() {
        return Err(UnknownAccessory::Nothing);
    }
    let wanted: Vec<&Accessory> = project
        .accessories
        .values()
        .filter(|accessory| name == "all" || accessory.name.as_str() == name)
        .collect();
    if wanted.is_empty() {
        let known = project.accessories.keys().map(ToString::to_string).collect();
        return Err(UnknownAccessory::Name { name: name.to_owned(), known });
    }
    let chosen: Chosen = wanted
        .into_iter()
        .map(|accessory| {
            (accessory.clone(), crate::filter::accessory_hosts(project, accessory, &context.arguments))
        })
        .filter(|(_, hosts)| !hosts.is_empty())
        .collect();
    if chosen.is_empty() { Err(UnknownAccessory::Hosts { name: name.to_owned() }) } else { Ok(chosen) }
}

/// Something that becomes of accessories, ready to begin.
pub(super) struct Operation<'a> {
    change: Change<'a>,
    chosen: Chosen,
    verb: AccessoryVerb,
    files: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct Outcome {
    accessories: Vec<String>,
    hosts: Vec<String>,
    steps_done: usize,
    steps_already_done: usize,
}

pub(super) async fn run(context: &Context, name: &str, verb: AccessoryVerb) -> Result<(), CommandError> {
    Operation::prepare(context, name, verb).await?.carry_out().await
}

/// The accessories of a project that is set up.
pub(crate) struct Setup<'a>(Operation<'a>);

impl<'a> Setup<'a> {
    /// Reads and checks everything on this machine. None without accessories on the chosen hosts.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(crate) async fn prepare(
        context: &'a Context,
        project: &Project,
    ) -> Result<Option<Self>, CommandError> {
        if choose(context, project, "all").is_err() {
            return Ok(None);
        }
        Ok(Some(Self(Operation::prepare(context, "all", AccessoryVerb::Boot).await?)))
    }

    /// Returns their hosts.
    pub(crate) fn hosts(&self) -> &Hosts {
        &self.0.change.hosts
    }

    /// Boots those that have no container yet.
    ///
    /// # Errors
    /// What went wrong.
    pub(crate) async fn boot(&self) -> Result<(), CommandError> {
        self.0.change.carry_out(async |_| self.0.plan().await).await.map(drop)
    }
}

impl<'a> Operation<'a> {
    /// Reads and checks everything on this machine.
    ///
    /// # Errors
    /// What is wrong; no host was asked anything yet.
    pub(super) async fn prepare(
        context: &'a Context,
        name: &str,
        verb: AccessoryVerb,
    ) -> Result<Self, CommandError> {
        let choice = |project: &Project| Ok(choose(context, project, name)?);
        let (mut change, chosen) = Change::prepare_accessories(context, choice).await?;
        let mut files = BTreeMap::new();
        if matches!(verb, AccessoryVerb::Boot | AccessoryVerb::Reboot) {
            let accessories: Vec<&Accessory> = chosen.iter().map(|(accessory, _)| accessory).collect();
            let stock = stock(context, change.project(), &accessories, &change.secrets)?;
            files = fingerprints(&stock);
            change.hosts.lay_in(stock);
        }
        change.act = Some(act(verb, &chosen));
        Ok(Self { change, chosen, verb, files })
    }

    /// Names the accessories and hosts for a person.
    pub(super) fn title(&self) -> String {
        let each = self.chosen.iter().map(|(accessory, hosts)| {
            let hosts: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
            format!("accessory `{}` on {}", accessory.name, hosts.join(", "))
        });
        each.collect::<Vec<_>>().join(" and ")
    }

    /// Does it.
    ///
    /// # Errors
    /// What went wrong.
    pub(super) async fn carry_out(&self) -> Result<(), CommandError> {
        let done = self.change.carry_out(async |_| self.plan().await).await?;
        self.show(&done);
        Ok(())
    }

    async fn plan(&self) -> Result<Plan, CommandError> {
        let seen = observe(&self.change.hosts, &self.chosen).await?;
        let request = AccessoryRequest {
            project: &self.change.loaded.whole,
            accessories: self.chosen.iter().map(|(accessory, hosts)| (accessory, hosts.clone())).collect(),
            verb: self.verb,
            id: self.change.release_id(),
            random: self.change.context.process.seed,
            proxies: self
                .change
                .hosts
                .each(|host| async move { host.proxy_maker().await })
                .await?
                .into_iter()
                .collect(),
            files: &self.files,
        };
        Ok(accessory(&request, &seen)?)
    }

    fn show(&self, done: &Done) {
        let context = self.change.context;
        context.ui.close();
        let names: Vec<String> =
            self.chosen.iter().map(|(accessory, _)| accessory.name.to_string()).collect();
        let state = match self.verb {
            AccessoryVerb::Stop => "stopped",
            AccessoryVerb::Remove => "removed",
            _ => "running",
        };
        let verb = if names.len() == 1 { "is" } else { "are" };
        let text = format!(
            "{} {verb} {state} on {} ({})",
            names.join(", "),
            counted_items(done.plan.hosts.len(), "host"),
            span(done.report.elapsed)
        );
        context.ui.result(&[Line::new().add(Tone::Good, context.ui.done_mark()).plain(" ").plain(text)]);
        let outcome = Outcome {
            accessories: names,
            hosts: done.plan.hosts.iter().map(ToString::to_string).collect(),
            steps_done: done.report.done,
            steps_already_done: done.report.already_done,
        };
        context.ui.result_json(context.command, &outcome);
    }
}

/// Looks at the containers of accessories on their hosts.
pub(super) async fn observe(
    hosts: &Hosts,
    chosen: &[(Accessory, Vec<HostName>)],
) -> Result<ObservedAccessories, CommandError> {
    let seen = hosts
        .each(|host| {
            let on_host: Vec<Accessory> = chosen
                .iter()
                .filter(|(_, hosts)| hosts.contains(host.name()))
                .map(|(accessory, _)| accessory.clone())
                .collect();
            async move { host.look_at_accessories(&on_host.iter().collect::<Vec<_>>()).await }
        })
        .await?;
    Ok(seen.into_iter().collect())
}

/// Kamal's words for the audit log.
fn act(verb: AccessoryVerb, chosen: &Chosen) -> String {
    let names: Vec<&str> = chosen.iter().map(|(accessory, _)| accessory.name.as_str()).collect();
    let word = match verb {
        AccessoryVerb::Boot => "Booted",
        AccessoryVerb::Reboot => "Rebooted",
        AccessoryVerb::Start => "Started",
        AccessoryVerb::Stop => "Stopped",
        AccessoryVerb::Restart => "Restarted",
        AccessoryVerb::Remove => "Removed",
    };
    format!("{word} {} accessory", names.join(", "))
}

/// Reads the local files of accessories, and takes the logins of their registries from the secrets.
///
/// # Errors
/// A file that cannot be read or rendered, or a secret without a value.
fn stock(
    context: &Context,
    project: &Project,
    accessories: &[&Accessory],
    secrets: &SecretValues,
) -> Result<Stock, CommandError> {
    let mut stock = Stock::default();
    for accessory in accessories {
        for file in &accessory.files {
            if file.content == FileContent::Template {
                return Err(TemplateFile { path: file.local.clone() }.into());
            }
            let path = context.process.directory.join(&file.local);
            let content = fs_err::read(&path).map_err(|source| FileError {
                operation: format!("read a file of accessory `{}`", accessory.name),
                source,
            })?;
            stock.files.insert(accessory.file_path(file), content);
        }
        let registry = project.accessory_registries.get(&accessory.name).or(project.registry.as_ref());
        if let Some(login) = registry.and_then(|registry| login(accessory, registry, secrets)) {
            stock.logins.insert(accessory.name.clone(), login);
        }
    }
    Ok(stock)
}

/// A file of an accessory that only Ruby can render.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` is a template, which accessories cannot have yet")]
struct TemplateFile {
    path: String,
}

impl Diagnose for TemplateFile {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Configuration
    }

    fn help(&self) -> Vec<String> {
        vec!["render it yourself and name the result, without `.erb`".to_owned()]
    }
}

/// Returns the login of the registry that an accessory's image is in; another registry is not told the password.
fn login(accessory: &Accessory, registry: &Registry, secrets: &SecretValues) -> Option<RegistryCredentials> {
    let server = match &registry.place {
        RegistryPlace::DockerHub => None,
        RegistryPlace::Server(server) => Some(server.to_string()),
        RegistryPlace::Local { .. } => return None,
    };
    let repository = accessory.image.repository.as_str();
    let in_front = repository.split_once('/').map(|(first, _)| first);
    let named = in_front.filter(|first| first.contains(['.', ':']) || *first == "localhost");
    if named != server.as_deref() {
        return None;
    }
    let credentials = registry.credentials.as_ref()?;
    let value = |credential: &Credential| -> Option<SecretString> {
        match credential {
            Credential::Plain(text) => Some(text.value().clone()),
            Credential::Secret(name) => secrets.value(name).cloned(),
        }
    };
    Some(RegistryCredentials {
        server,
        username: value(&credentials.username)?.expose_secret().to_owned(),
        password: value(&credentials.password)?,
    })
}

/// Returns the secrets that accessories need.
pub(crate) fn needed(project: &Project, accessories: &[&Accessory]) -> Vec<SecretName> {
    let own = accessories.iter().flat_map(|accessory| accessory.environment.secret.values().cloned());
    let registries = accessories.iter().filter_map(|accessory| {
        project.accessory_registries.get(&accessory.name).or(project.registry.as_ref())
    });
    let mut names: Vec<SecretName> = own
        .chain(registries.flat_map(Registry::secret_names))
        .chain(project.ssh.key_data.iter().cloned())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn fingerprints(stock: &Stock) -> BTreeMap<String, String> {
    let print = |content: &Vec<u8>| {
        let digest = Sha256::digest(content);
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    stock.files.iter().map(|(path, content)| (path.clone(), print(content))).collect()
}
