//! `accessories`: the long-lived containers beside the service.

use std::collections::BTreeMap;

use freehold_model::{
    Accessory, AccessoryName, ContainerName, HostName, Logging, Registry, RemoteImage, RoleName, ServiceName,
};

use super::accessory_file;
use super::container::{command, labels, volumes};
use super::environment;
use super::proxy;
use super::proxy_run::WantedRun;
use super::registry;
use super::servers::{Servers, host_name};
use crate::container_option;
use crate::docker_flag;
use crate::field::{Field, Section};
use crate::report::{Finding, Report};

/// What accessories take from the rest of the file.
pub(super) struct Context<'a> {
    pub(super) service: Option<&'a ServiceName>,
    pub(super) has_destination: bool,
    pub(super) servers: &'a Servers,
    pub(super) logging: &'a Logging,
}

/// The accessories, with those of their registries that are not the root's.
#[derive(Default)]
pub(super) struct Accessories {
    pub(super) all: BTreeMap<AccessoryName, Accessory>,
    pub(super) registries: BTreeMap<AccessoryName, Registry>,
    pub(super) proxy_runs: Vec<WantedRun>,
}

/// Reads `accessories`.
pub(super) fn read(field: &Field<'_>, context: &Context<'_>, report: &mut Report) -> Accessories {
    let mut found = Accessories::default();
    for (key, field) in field.map(report) {
        match AccessoryName::parse(key) {
            Ok(name) => add(name, &field, context, &mut found, report),
            Err(error) => report.mistake(Finding::new(field.key_at, &field.path, error.to_string())),
        }
    }
    report_shared_names(field, &found.all, report);
    found
}

fn add(
    name: AccessoryName,
    field: &Field<'_>,
    context: &Context<'_>,
    found: &mut Accessories,
    report: &mut Report,
) {
    let Some(section) = field.section("accessories/NAME", report) else { return };
    let registry = section.get("registry").and_then(|field| registry::read(&field, report));
    let image = image(&section, registry.as_ref(), report);
    let container = container(&name, &section, context, report);
    let hosts = hosts(&section, context.servers, report);
    let layer = section.get("env").map(|field| environment::layer(&field, report)).unwrap_or_default();
    let proxy = section.get("proxy").and_then(|field| proxy::of_accessory(&field, &hosts, report));
    if let Some((at, run)) = proxy.as_ref().and_then(|proxy| proxy.run.clone()) {
        found.proxy_runs.push(WantedRun { path: field.path.clone(), hosts: hosts.clone(), at, run });
    }
    let get = |key: &str| section.get(key);
    let publish = get("port").and_then(|field| publish(&field, report));
    let command = get("cmd").and_then(|field| command(&field, report));
    let files = get("files").map(|field| accessory_file::files(&field, report));
    let directories = get("directories").map(|field| accessory_file::directories(&field, report));
    let volumes = get("volumes").map(|field| volumes(&field, report));
    let labels = labels(get("labels").as_slice(), report);
    let options = get("options").map(|field| container_option::read(&field, report));
    let network = get("network").and_then(|field| field.filled_text(report));
    let (Some(image), Some(container)) = (image, container) else { return };
    let accessory = Accessory {
        name: name.clone(),
        container,
        image,
        hosts,
        publish,
        command,
        environment: layer.into_environment(),
        files: files.unwrap_or_default(),
        directories: directories.unwrap_or_default(),
        volumes: volumes.unwrap_or_default(),
        labels,
        options: options.unwrap_or_default(),
        logging: context.logging.clone(),
        network: network.unwrap_or_else(|| "kamal".to_owned()),
        proxy: proxy.map(|proxy| proxy.settings),
    };
    found.registries.extend(registry.map(|registry| (name.clone(), registry)));
    found.all.insert(name, accessory);
}

fn image(section: &Section<'_>, registry: Option<&Registry>, report: &mut Report) -> Option<RemoteImage> {
    let Some(field) = section.get("image") else {
        let finding =
            Finding::new(section.field().key_at, &section.field().path, "missing required key `image`");
        report.mistake(finding.help("name the image: `image: postgres:17`"));
        return None;
    };
    let prefix = registry.and_then(|registry| registry.place.prefix());
    field.parsed(report, |text| {
        let text = prefix.map_or_else(|| text.to_owned(), |prefix| format!("{prefix}/{text}"));
        RemoteImage::parse(&text).map_err(|error| (error, String::new()))
    })
}

fn container(
    name: &AccessoryName,
    section: &Section<'_>,
    context: &Context<'_>,
    report: &mut Report,
) -> Option<ContainerName> {
    if let Some(field) = section.get("service") {
        return field
            .parsed(report, |text| ContainerName::parse(text).map_err(|error| (error, String::new())));
    }
    let text = format!("{}-{name}", context.service?);
    if context.has_destination {
        let message = format!("the destination is not part of the container's name `{text}`");
        let finding = Finding::new(section.field().key_at, &section.field().path, message);
        report.warn(finding.help(
            "two destinations on one host share it and its data, unless `service` names it in each of them",
        ));
    }
    let parsed = ContainerName::parse(text);
    if let Err(error) = &parsed {
        report.mistake(Finding::new(section.field().key_at, &section.field().path, error.to_string()));
    }
    parsed.ok()
}

const HOST_KEYS: [&str; 6] = ["host", "hosts", "role", "roles", "tag", "tags"];

/// Reads where it runs: exactly one of six keys.
fn hosts(section: &Section<'_>, servers: &Servers, report: &mut Report) -> Vec<HostName> {
    let given: Vec<(&str, Field<'_>)> =
        HOST_KEYS.iter().filter_map(|key| section.get(key).map(|field| (*key, field))).collect();
    let [(key, field)] = given.as_slice() else {
        let at = given.get(1).map_or(section.field().key_at, |(_, field)| field.key_at);
        let message = "one of `host`, `hosts`, `role`, `roles`, `tag` and `tags` says where it runs";
        let help = if given.is_empty() { "add one of them" } else { "keep one of them" };
        report.mistake(Finding::new(at, &section.field().path, message).help(help));
        return Vec::new();
    };
    let names = if key.ends_with('s') {
        field.texts(report)
    } else {
        field.filled_text(report).map(|text| (field.clone(), text)).into_iter().collect()
    };
    let mut found: Vec<HostName> = Vec::new();
    for (item, text) in &names {
        let hosts = match key.trim_end_matches('s') {
            "host" => host_name(text, item, report).into_iter().collect(),
            "role" => of_role(text, item, servers, report),
            _ => of_tag(text, item, servers, report),
        };
        for host in hosts {
            if !found.contains(&host) {
                found.push(host);
            }
        }
    }
    if names.is_empty() && field.is_empty_list() {
        report.mistake(field.mistake("should not be empty"));
    }
    found
}

fn of_role(text: &str, item: &Field<'_>, servers: &Servers, report: &mut Report) -> Vec<HostName> {
    let role = RoleName::parse(text).ok().and_then(|name| servers.roles.get(&name));
    let Some(role) = role else {
        let finding = item.mistake(format!("unknown role `{text}`"));
        let known: Vec<String> = servers.roles.keys().map(|name| format!("`{name}`")).collect();
        report.mistake(finding.help(format!("the roles are {}", known.join(", "))));
        return Vec::new();
    };
    role.hosts.iter().map(|host| host.name.clone()).collect()
}

fn of_tag(text: &str, item: &Field<'_>, servers: &Servers, report: &mut Report) -> Vec<HostName> {
    let tagged = servers.tags.iter().filter(|(_, tags)| tags.iter().any(|tag| tag == text));
    let hosts: Vec<HostName> = tagged.map(|(host, _)| host.clone()).collect();
    if hosts.is_empty() {
        let finding = item.mistake(format!("no host has the tag `{text}`"));
        report.mistake(finding.help("tags stand behind hosts: `servers: [{192.0.2.1: TAG}]`"));
    }
    hosts
}

/// `N` is `N:N`; anything else is as Docker reads it.
fn publish(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let text = field.filled_text(report)?;
    let text = if text.contains(':') { text } else { format!("{text}:{text}") };
    match docker_flag::published_port(&text) {
        Ok(port) => {
            // Without an address the port is open on every interface, past most firewalls.
            if port.split(':').count() < 3 && !port.contains('[') {
                let message = format!("`{port}` is open to everyone who reaches the host, past its firewall");
                let help = format!("write `127.0.0.1:{port}`, or the host's private address in front");
                report.warn(field.mistake(message).help(help));
            }
            Some(port)
        }
        Err(problem) => {
            report.mistake(field.mistake(problem.message).help(problem.help));
            None
        }
    }
}

/// Two containers of one name cannot be on one host.
fn report_shared_names(
    field: &Field<'_>,
    accessories: &BTreeMap<AccessoryName, Accessory>,
    report: &mut Report,
) {
    let mut known: Vec<&Accessory> = Vec::new();
    for accessory in accessories.values() {
        let other = known.iter().find(|other| {
            other.container == accessory.container
                && other.hosts.iter().any(|host| accessory.hosts.contains(host))
        });
        if let Some(other) = other {
            let at = field.node.get(accessory.name.as_str()).map_or(field.key_at, |entry| entry.key_at);
            let message = format!(
                "the accessories `{}` and `{}` are both called `{}`",
                other.name, accessory.name, accessory.container
            );
            let finding = Finding::new(at, format!("accessories/{}", accessory.name), message);
            report.mistake(finding.help("give one of them another `service`"));
        }
        known.push(accessory);
    }
}
