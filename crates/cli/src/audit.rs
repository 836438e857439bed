//! The audit log that Kamal and Freehold share on every host.

use std::collections::BTreeSet;
use std::sync::Arc;

use freehold_fleet::{EngineHost, Host};
use freehold_model::{HostName, Project, RoleName};
use freehold_plan::{Action, Plan, PlanKind, Step, Subject};
use tokio::task::JoinSet;

use crate::context::Context;

/// Something that was done on hosts, for the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Act {
    /// Its hosts; none is all those of the plan.
    pub(crate) hosts: Option<Vec<HostName>>,
    /// Kamal's words for it, where Kamal has any.
    pub(crate) text: String,
}

impl Act {
    /// Something that was done on every host of the plan.
    pub(crate) fn everywhere(text: impl Into<String>) -> Self {
        Self { hosts: None, text: text.into() }
    }
}

/// Begins a line as Kamal does: when, who, and of which destination.
pub(crate) fn line(context: &Context, project: &Project, performer: &str, act: &str) -> String {
    let time = context.now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let destination = project.destination.as_ref().map(|name| format!(" [{name}]")).unwrap_or_default();
    // A file of lines must stay one.
    format!("[{time}] [{performer}]{destination} {act}").replace(['\n', '\r'], " ")
}

/// Says in Kamal's words what a plan did on a host, in Kamal's order. What is about a role begins with its name in
/// brackets.
pub(crate) fn acts(project: &Project, plan: &Plan, given: &[Act], host: &HostName) -> Vec<String> {
    if !given.is_empty() {
        let is_meant = |act: &&Act| act.hosts.as_ref().is_none_or(|hosts| hosts.contains(host));
        return given.iter().filter(is_meant).map(|act| act.text.clone()).collect();
    }
    let steps: Vec<&Action> =
        plan.steps().filter(|step| step.host == *host).map(|step| &step.action).collect();
    match plan.kind {
        PlanKind::Deploy | PlanKind::Rollback | PlanKind::CanaryPromote => release(project, plan, &steps),
        PlanKind::Start => of_roles(project, plan, host, |version| format!("Started app version {version}")),
        PlanKind::Stop => of_roles(project, plan, host, |_| "Stopped app".to_owned()),
        _ => vec![headline(plan)],
    }
}

/// Says in a few words what a plan is for.
pub(crate) fn headline(plan: &Plan) -> String {
    let version = plan.version.as_ref().map(ToString::to_string).unwrap_or_default();
    match plan.kind {
        PlanKind::Deploy => format!("Booted app version {version}"),
        PlanKind::Rollback => format!("Rolled back to app version {version}"),
        PlanKind::Start => "Started app".to_owned(),
        PlanKind::Stop => "Stopped app".to_owned(),
        PlanKind::Prune => "Pruned containers and images".to_owned(),
        PlanKind::Remove => "Removed app".to_owned(),
        PlanKind::Maintenance => "Began maintenance".to_owned(),
        PlanKind::Live => "Ended maintenance".to_owned(),
        PlanKind::Proxy => "Rebooted proxy".to_owned(),
        PlanKind::CanaryStart => format!("Started canary of version {version}"),
        PlanKind::CanaryPromote => format!("Promoted canary of version {version}"),
        PlanKind::CanaryAbort => format!("Removed canary of version {version}"),
        PlanKind::Accessory => "Changed accessories".to_owned(),
    }
}

/// What a release did on a host.
fn release(project: &Project, plan: &Plan, steps: &[&Action]) -> Vec<String> {
    let version = plan.version.as_ref().map(ToString::to_string).unwrap_or_default();
    let has = |is: fn(&Action) -> bool| steps.iter().any(|action| is(action));
    let mut acts = Vec::new();
    if has(|action| matches!(action, Action::DeliverImage { .. } | Action::PullImage { .. })) {
        acts.push(format!("Pulled image with version {version}"));
    }
    for action in steps {
        if let Action::RenameContainer { from, to } = action
            && let Some((role, old)) = role_of(project, from.as_str())
            && let Some((_, new)) = role_of(project, to.as_str())
        {
            acts.push(format!("[{role}] Renaming container {old} to {new}"));
        }
    }
    for action in steps {
        let Action::RecordRelease { release, .. } = action else { continue };
        acts.extend(release.roles.keys().map(|role| format!("[{role}] Booted app version {version}")));
        acts.push(format!("Tagging {} as the latest image", release.image));
    }
    let is_old = |action: &Action| match action {
        Action::RemoveContainer { container } => !container.as_str().contains("-exec-"),
        _ => false,
    };
    if has(is_old) {
        acts.push("Pruned containers".to_owned());
    }
    if has(|action| matches!(action, Action::RemoveImage { .. } | Action::RemoveUnnamedImages { .. })) {
        acts.push("Pruned images".to_owned());
    }
    acts
}

/// What was done with each role of a host.
fn of_roles(project: &Project, plan: &Plan, host: &HostName, say: impl Fn(&str) -> String) -> Vec<String> {
    let on_host = |step: &&Step| step.host == *host;
    let mut seen = BTreeSet::new();
    let mut acts = Vec::new();
    for step in plan.steps().filter(on_host) {
        let (Action::StopContainer { subject: Subject::Role(role), container, .. }
        | Action::AwaitHealthy { subject: Subject::Role(role), container, .. }) = &step.action
        else {
            continue;
        };
        if seen.insert(role) {
            let version = role_of(project, container.as_str()).map_or("", |(_, version)| version);
            acts.push(format!("[{role}] {}", say(version)));
        }
    }
    acts
}

/// Returns the role and version in the name of a container.
fn role_of<'a>(project: &'a Project, container: &'a str) -> Option<(&'a RoleName, &'a str)> {
    project.roles.keys().find_map(|role| {
        let version = container.strip_prefix(&project.role_prefix(role))?.strip_prefix('-')?;
        // A role `web` is no beginning of a role `web-eu`.
        let is_longer = |other: &RoleName| {
            other.as_str().len() > role.as_str().len()
                && container.starts_with(&format!("{}-", project.role_prefix(other)))
        };
        (!project.roles.keys().any(is_longer)).then_some((role, version))
    })
}

/// Writes down what is done on hosts by a command that is no plan. A host whose audit file cannot be written does it
/// all the same.
pub(crate) async fn write_down(
    context: &Context,
    project: &Project,
    performer: &str,
    acts: impl IntoIterator<Item = (Arc<EngineHost>, String)>,
) {
    let mut writes = JoinSet::new();
    for (host, act) in acts {
        let (line, stem) = (line(context, project, performer, &act), project.stem());
        writes.spawn(async move { (host.name().clone(), host.append_audit(&stem, &[line]).await) });
    }
    for (host, written) in writes.join_all().await {
        if let Err(error) = written {
            tracing::debug!(%host, %error, "the audit log could not be written");
        }
    }
}
