use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use freehold_model::{
    AliasName, Boot, Builder, Canary, ConnectionSettings, Destination, HookSettings, HostName, ImageKey,
    OutputSettings, Project, ProjectImage, RegistryPlace, Repository, Role, RoleName, ServiceName,
    SshSettings, Timeouts,
};

use super::{
    accessory, boot, builder, canary, environment, firewall, image, logging, proxy_run, registry, schedule,
    servers, setting, ssh, trust,
};
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
    let registry = section.get("registry").and_then(|field| registry::read(&field, report));
    let place = registry.as_ref().map(|registry| &registry.place);
    let image = image::own(&section, service.as_ref(), place, report);
    require_destination(&section, destination, report);
    minimum_version(&section, report);
    // It has no effect, as with Kamal, but has to be text there as well.
    let _run_directory = section.get("run_directory").and_then(|field| field.text(report));
    let timeouts = timeouts(&section, report);
    let accessories = section.get("accessories");
    let primary_role = primary_role(&section, accessories.is_some(), report);
    let allow_empty_roles = section.get("allow_empty_roles").and_then(|field| field.boolean(report));
    let context = servers::Context {
        root: &section,
        service: service.as_ref(),
        destination,
        primary_role: primary_role.as_ref(),
        drain: timeouts.drain,
        allow_empty_roles: allow_empty_roles == Some(true),
        has_accessories: accessories.is_some(),
        environment: environment::root(section.get("env"), report),
    };
    let mut servers = servers::read(&context, report);
    let logging = logging::read(section.get("logging"), None, report);
    let context = accessory::Context {
        service: service.as_ref(),
        has_destination: destination.is_some(),
        servers: &servers,
        logging: &logging,
    };
    let accessories = accessories.map(|field| accessory::read(&field, &context, report)).unwrap_or_default();
    servers.proxy_runs.extend(accessories.proxy_runs);
    let proxy_runs = proxy_run::agreed_runs(&servers.proxy_runs, report);
    let roles = servers.roles;
    let builder = builder(&section, &roles, image.as_ref(), place, report);
    let jobs = section.get("cron");
    let jobs = jobs.map(|field| schedule::read(&field, &roles, primary_role.as_ref(), report));
    let context = firewall::Context { root: &section, roles: &roles, accessories: &accessories.all };
    let firewall = section.get("firewall").and_then(|field| firewall::read(&field, &context, report));
    let settings = Settings::read(&section, report);
    let verification = section.get("verify").and_then(|field| trust::verification(&field, report));
    let scan = section.get("scan").and_then(|field| trust::scan(&field, report));
    let image = image?;
    let images = images(&section, &image.repository, place, &builder, report);
    check_images(&section, &roles, &images, report);
    let mut project = Project {
        destination: destination.cloned(),
        digest: image.digest,
        images,
        primary_role: primary_role?,
        accessories: accessories.all,
        jobs: jobs.unwrap_or_default(),
        accessory_registries: accessories.registries,
        registry,
        builder,
        firewall,
        scan,
        verification,
        proxy_runs,
        timeouts,
        roles,
        ssh: settings.ssh,
        connections: settings.connections,
        canary: settings.canary,
        boot: settings.boot,
        retain_containers: settings.retain_containers,
        secrets_path: settings.secrets_path,
        hooks: settings.hooks,
        error_pages: settings.error_pages,
        output: settings.output,
        aliases: settings.aliases,
        ..Project::new(service?, image.repository)
    };
    if let Some(field) = section.get("addresses") {
        project.addresses = setting::addresses(&field, &project.all_hosts(), report);
    }
    Some(project)
}

/// The sections that depend on no other one.
struct Settings {
    ssh: SshSettings,
    connections: ConnectionSettings,
    canary: Canary,
    boot: Boot,
    retain_containers: NonZeroU32,
    secrets_path: PathBuf,
    hooks: HookSettings,
    error_pages: Option<PathBuf>,
    output: OutputSettings,
    aliases: BTreeMap<AliasName, Vec<String>>,
}

impl Settings {
    fn read(section: &Section<'_>, report: &mut Report) -> Self {
        let hooks_path = path(section, "hooks_path", ".kamal/hooks", report);
        let error_pages = section.get("error_pages_path").and_then(|field| field.filled_text(report));
        let connections = section.get("sshkit").map(|field| setting::connections(&field, report));
        let output = section.get("output").map(|field| setting::output(&field, report));
        let aliases = section.get("aliases").map(|field| setting::aliases(&field, report));
        Self {
            ssh: ssh::read(section.get("ssh"), report),
            connections: connections.unwrap_or_default(),
            canary: canary::read(section.get("canary"), report),
            boot: boot::read(section.get("boot"), report),
            retain_containers: retain_containers(section, report),
            secrets_path: path(section, "secrets_path", ".kamal/secrets", report),
            hooks: setting::hooks(section, hooks_path, report),
            error_pages: error_pages.map(PathBuf::from),
            output: output.unwrap_or_default(),
            aliases: aliases.unwrap_or_default(),
        }
    }
}

fn builder(
    section: &Section<'_>,
    roles: &BTreeMap<RoleName, Role>,
    image: Option<&image::OwnImage>,
    registry: Option<&RegistryPlace>,
    report: &mut Report,
) -> Builder {
    let hosts: Vec<&HostName> = roles.values().flat_map(|role| &role.hosts).map(|host| &host.name).collect();
    let image = image.map(|image| &image.repository);
    builder::read(section.get("builder"), &builder::Context { hosts: &hosts, image, registry }, report)
}

fn images(
    section: &Section<'_>,
    own: &Repository,
    registry: Option<&RegistryPlace>,
    builder: &Builder,
    report: &mut Report,
) -> BTreeMap<ImageKey, ProjectImage> {
    let field = section.get("images");
    field.map(|field| image::further(&field, own, registry, builder, report)).unwrap_or_default()
}

fn check_images(
    section: &Section<'_>,
    roles: &BTreeMap<RoleName, Role>,
    images: &BTreeMap<ImageKey, ProjectImage>,
    report: &mut Report,
) {
    let Some(servers) = section.get("servers") else { return };
    for (name, role) in roles {
        if let Some(image) = &role.image {
            image::check_role((name, image), images, &servers, report);
        }
    }
}

fn service(section: &Section<'_>, report: &mut Report) -> Option<ServiceName> {
    let Some(field) = section.get("service") else {
        let finding = Finding::new(Place::file(0), "", "missing required key `service`");
        report.mistake(finding.help("name the service: `service: my-app`"));
        return None;
    };
    field.parsed(report, |text| ServiceName::parse(text).map_err(|error| (error, String::new())))
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
fn primary_role(section: &Section<'_>, has_accessories: bool, report: &mut Report) -> Option<RoleName> {
    let set = section.get("primary_role");
    let name = match &set {
        Some(field) => {
            field.parsed(report, |text| RoleName::parse(text).map_err(|error| (error, String::new())))?
        }
        None => RoleName::web(),
    };
    let Some(servers) = section.get("servers").filter(|field| !field.node.is_null()) else {
        return has_accessories.then_some(name);
    };
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
    field.count(report).unwrap_or(default)
}

fn path(section: &Section<'_>, key: &str, default: &str, report: &mut Report) -> PathBuf {
    let text = section.get(key).and_then(|field| field.filled_text(report));
    PathBuf::from(text.unwrap_or_else(|| default.to_owned()))
}
