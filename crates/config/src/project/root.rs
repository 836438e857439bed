use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use freehold_model::{Destination, HostName, Project, Repository, RoleName, ServiceName, Timeouts};

use super::{boot, builder, environment, proxy, servers, ssh};
use crate::field::{Field, Section};
use crate::report::{Finding, Report};
use crate::source::Place;
use crate::yaml::Node;

/// The Kamal version whose files Freehold reads.
const KAMAL_VERSION: [u64; 3] = [2, 12, 0];

/// Checks the whole file and makes the project of it; none with at least one mistake in the report.
pub(super) fn project(
    root: &Node,
    destination: Option<&Destination>,
    report: &mut Report,
) -> Option<Project> {
    let field = Field::new(root, "");
    let section = field.section("", report)?;
    let service = service(&section, report);
    let image = image(&section, service.as_ref(), report);
    require_destination(&section, destination, report);
    minimum_version(&section, report);
    let primary_role = primary_role(&section, report);
    let timeouts = timeouts(&section, report);
    let allow_empty_roles = section.get("allow_empty_roles").and_then(|field| field.boolean(report));
    let context = servers::Context {
        root: &section,
        service: service.as_ref(),
        destination,
        primary_role: primary_role.as_ref(),
        drain: timeouts.drain,
        allow_empty_roles: allow_empty_roles == Some(true),
        environment: environment::root(section.get("env"), report),
    };
    let servers::Servers { roles, proxy_runs } = servers::read(&context, report);
    let hosts: Vec<&HostName> = roles.values().flat_map(|role| &role.hosts).map(|host| &host.name).collect();
    let builder = builder::read(section.get("builder"), &hosts, report);
    let mut project = Project::new(service?, image?);
    project.destination = destination.cloned();
    project.primary_role = primary_role?;
    project.builder = builder;
    project.ssh = ssh::read(section.get("ssh"), report);
    project.proxy_runs = proxy::agreed_runs(&proxy_runs, report);
    project.boot = boot::read(section.get("boot"), report);
    project.retain_containers = retain_containers(&section, report);
    project.timeouts = timeouts;
    project.secrets_path = path(&section, "secrets_path", ".kamal/secrets", report);
    project.hooks.path = path(&section, "hooks_path", ".kamal/hooks", report);
    project.roles = roles;
    Some(project)
}

fn service(section: &Section<'_>, report: &mut Report) -> Option<ServiceName> {
    let Some(field) = section.get("service") else {
        let finding = Finding::new(Place::file(0), "", "missing required key `service`");
        report.mistake(finding.help("name the service: `service: my-app`"));
        return None;
    };
    field.parsed(report, |text| ServiceName::parse(text).map_err(|error| (error, String::new())))
}

fn image(section: &Section<'_>, service: Option<&ServiceName>, report: &mut Report) -> Option<Repository> {
    let help = |text: &str| match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => {
            format!("write `image: {name}`; the tag is the version of the release")
        }
        _ => String::new(),
    };
    if let Some(field) = section.get("image") {
        return field.parsed(report, |text| Repository::parse(text).map_err(|error| (error, help(text))));
    }
    let service = service?;
    let image = Repository::parse(service.as_str());
    if image.is_err() {
        let message =
            format!("missing key `image`: the service's name `{service}` is not a valid image name");
        let at = section.get("service").map_or(Place::file(0), |field| field.node.at);
        let name = service.as_str().to_ascii_lowercase();
        report.mistake(
            Finding::new(at, "", message).help(format!("add `image: {}`", name.trim_matches(['-', '_']))),
        );
    }
    image.ok()
}

fn require_destination(section: &Section<'_>, destination: Option<&Destination>, report: &mut Report) {
    let Some(field) = section.get("require_destination") else { return };
    if field.boolean(report) == Some(true) && destination.is_none() {
        let finding = Finding::new(field.key_at, &field.path, "no destination was chosen");
        report.mistake(finding.help("choose one with `-d DESTINATION`"));
    }
}

fn minimum_version(section: &Section<'_>, report: &mut Report) {
    let Some(field) = section.get("minimum_version") else { return };
    let Some(text) = field.text(report) else { return };
    let parts: Option<Vec<u64>> = text.split('.').map(|part| part.parse().ok()).collect();
    let Some(mut parts) = parts else {
        let message = format!("`{text}` is not a version");
        report.mistake(field.mistake(message).help("write numbers with points: `2.0.0`"));
        return;
    };
    parts.resize(parts.len().max(3), 0);
    if parts.as_slice() > KAMAL_VERSION.as_slice() && parts.get(..3) != Some(&KAMAL_VERSION)
        || (parts.get(..3) == Some(&KAMAL_VERSION) && parts.iter().skip(3).any(|part| *part > 0))
    {
        let message =
            format!("the file needs Kamal {text}, this version of freehold does what Kamal 2.12.0 does");
        report.mistake(field.mistake(message));
    }
}

/// Returns the primary role's name, which must be that of a role of the file.
fn primary_role(section: &Section<'_>, report: &mut Report) -> Option<RoleName> {
    let set = section.get("primary_role");
    let name = match &set {
        Some(field) => {
            field.parsed(report, |text| RoleName::parse(text).map_err(|error| (error, String::new())))?
        }
        None => RoleName::parse("web").ok()?,
    };
    let servers = section.get("servers")?;
    let known: Vec<&str> = match servers.node.entries() {
        Some(entries) => entries.iter().map(|entry| entry.key.as_str()).collect(),
        None => vec!["web"],
    };
    if !known.is_empty() && !known.contains(&name.as_str()) {
        let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        let (at, path) = set.map_or((servers.key_at, "servers"), |field| (field.node.at, "primary_role"));
        let message = format!("the primary role `{name}` is not defined");
        let help = format!("set `primary_role` to one of the roles: {}", known.join(", "));
        report.mistake(Finding::new(at, path, message).help(help));
    }
    Some(name)
}

fn timeouts(section: &Section<'_>, report: &mut Report) -> Timeouts {
    let default = Timeouts::default();
    let mut seconds = |key: &str, least: u64, default: Duration| {
        section.get(key).and_then(|field| field.seconds(least, report)).unwrap_or(default)
    };
    Timeouts {
        deploy: seconds("deploy_timeout", 1, default.deploy),
        drain: seconds("drain_timeout", 0, default.drain),
        readiness_delay: seconds("readiness_delay", 0, default.readiness_delay),
        soak: seconds("soak", 0, default.soak),
    }
}

fn retain_containers(section: &Section<'_>, report: &mut Report) -> NonZeroU32 {
    let default = NonZeroU32::new(5).unwrap_or(NonZeroU32::MIN);
    let Some(field) = section.get("retain_containers") else { return default };
    let count = field.integer(1..=u64::from(u32::MAX), report);
    count.and_then(|count| u32::try_from(count).ok()).and_then(NonZeroU32::new).unwrap_or(default)
}

fn path(section: &Section<'_>, key: &str, default: &str, report: &mut Report) -> PathBuf {
    let text = section.get(key).and_then(|field| field.filled_text(report));
    PathBuf::from(text.unwrap_or_else(|| default.to_owned()))
}
