use std::collections::BTreeMap;

use freehold_fleet::Host;
use freehold_model::{Accessory, Diagnose, ErrorKind, FirewallPorts, HostName, Project};
use freehold_plan::{AccessoryRequest, AccessoryStep, AccessoryVerb, ObservedAccessories, Plan, accessory};
use serde::Serialize;

use super::stock;
use crate::audit::Act;
use crate::change::{Change, Done};
use crate::context::Context;
use crate::error::CommandError;
use crate::guard::short;
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
pub(crate) type Chosen = Vec<(Accessory, Vec<HostName>)>;

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

/// Returns every accessory with the hosts that the filters leave; those without any are left out.
pub(crate) fn all(context: &Context, project: &Project) -> Chosen {
    choose(context, project, "all").unwrap_or_default()
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
        if all(context, project).is_empty() {
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
        self.0.change.carry_out(async |_| self.0.plan().await).await?;
        self.0.try_ports().await;
        Ok(())
    }
}

/// Says whether an accessory may get another image, or its first.
fn runs_an_image(verb: AccessoryVerb) -> bool {
    matches!(
        verb,
        AccessoryVerb::Boot | AccessoryVerb::Reboot | AccessoryVerb::Only(AccessoryStep::PullImage)
    )
}

/// Says what `verify` and `scan` are not about, so that nobody takes it for checked.
fn warn_of_unchecked(context: &Context, project: &Project) {
    let keys = match (project.verification.is_some(), project.scan.is_some()) {
        (true, true) => "`verify` and `scan` are",
        (true, false) => "`verify` is",
        (false, true) => "`scan` is",
        (false, false) => return,
    };
    context.ui.warn(format!("{keys} about the service's images: those of accessories are not checked"));
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
        if takes_from_here(verb) {
            let accessories: Vec<&Accessory> = chosen.iter().map(|(accessory, _)| accessory).collect();
            let stock = stock::take(context, &change.loaded.whole, &accessories, &change.secrets).await?;
            files = stock::fingerprints(&stock);
            change.hosts.lay_in(stock);
        }
        if runs_an_image(verb) {
            warn_of_unchecked(context, &change.loaded.whole);
        }
        change.acts = acts(verb, &chosen);
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
        self.try_ports().await;
        self.show(&done);
        Ok(())
    }

    /// Tries from this computer whether the ports of what was started are open to those only who should have them.
    async fn try_ports(&self) {
        if !matches!(self.verb, AccessoryVerb::Boot | AccessoryVerb::Reboot) {
            return;
        }
        let mut concerned = short::Concerned::new();
        for (accessory, hosts) in &self.chosen {
            let texts = accessory.publish.iter().chain(&accessory.options.publish);
            let ports: Vec<FirewallPorts> = texts.filter_map(|text| short::opened(text)).collect();
            for host in hosts.iter().filter(|_| !ports.is_empty()) {
                concerned.entry(host.clone()).or_default().extend(ports.iter().copied());
            }
        }
        short::after(&self.change, &concerned).await;
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
        let text = format!(
            "{} on {} ({})",
            state(self.verb, &names),
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

/// Says whether a verb needs files of this machine or logins.
fn takes_from_here(verb: AccessoryVerb) -> bool {
    match verb {
        AccessoryVerb::Boot | AccessoryVerb::Reboot => true,
        AccessoryVerb::Only(step) => matches!(step, AccessoryStep::Upload | AccessoryStep::PullImage),
        _ => false,
    }
}

/// Says in what state accessories are when all went well.
fn state(verb: AccessoryVerb, names: &[String]) -> String {
    let joined = names.join(", ");
    let (is, are) = if names.len() == 1 { ("is", "") } else { ("are", "s") };
    match verb {
        AccessoryVerb::Boot | AccessoryVerb::Reboot | AccessoryVerb::Start | AccessoryVerb::Restart => {
            format!("{joined} {is} running")
        }
        AccessoryVerb::Stop => format!("{joined} {is} stopped"),
        AccessoryVerb::Remove => format!("{joined} {is} removed"),
        AccessoryVerb::Only(step) => match step {
            AccessoryStep::Upload => format!("the files of {joined} are up to date"),
            AccessoryStep::Directories => format!("the directories of {joined} are there"),
            AccessoryStep::PullImage => format!("the image{are} of {joined} {is} up to date"),
            AccessoryStep::RemoveContainer => {
                format!("the container{are} of {joined} {is} gone unless running")
            }
            AccessoryStep::RemoveImage => format!("the image{are} of {joined} {is} gone"),
            AccessoryStep::RemoveServiceDirectory => format!("the folder{are} of {joined} {is} gone"),
        },
    }
}

/// Kamal's words for the audit log, by accessory.
fn acts(verb: AccessoryVerb, chosen: &Chosen) -> Vec<Act> {
    let of = |(accessory, hosts): &(Accessory, Vec<HostName>)| {
        let hosts = hosts.clone();
        words(verb)
            .into_iter()
            .map(move |(begin, end)| {
                let text = format!("{begin} {} accessory{end}", accessory.name);
                Act { hosts: Some(hosts.clone()), text }
            })
            .collect::<Vec<_>>()
    };
    chosen.iter().flat_map(of).collect()
}

/// What stands before and after `NAME accessory`, for each thing that becomes of it.
fn words(verb: AccessoryVerb) -> Vec<(&'static str, &'static str)> {
    let (booted, stopped, started) = (("Booted", ""), ("Stopped", ""), ("Started", ""));
    let (pulled, container, image) = (("Pull", " image"), ("Remove", " container"), ("Removed", " image"));
    match verb {
        AccessoryVerb::Boot => vec![booted],
        AccessoryVerb::Reboot => vec![pulled, stopped, container, booted],
        AccessoryVerb::Start => vec![started],
        AccessoryVerb::Stop => vec![stopped],
        AccessoryVerb::Restart => vec![stopped, started],
        AccessoryVerb::Remove => vec![stopped, container, image],
        AccessoryVerb::Only(step) => vec![match step {
            AccessoryStep::Upload => ("Uploaded", " files"),
            AccessoryStep::Directories => ("Made", " directories"),
            AccessoryStep::PullImage => pulled,
            AccessoryStep::RemoveContainer => container,
            AccessoryStep::RemoveImage => image,
            AccessoryStep::RemoveServiceDirectory => ("Removed", " directory"),
        }],
    }
}
