use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use freehold_model::{
    AssetPath, Destination, HostName, ProxyServiceName, Role, RoleHost, RoleName, ServiceName,
};

use super::environment::{self, RootEnvironment};
use super::{container, image, logging, proxy, proxy_run};
use crate::container_option;
use crate::field::{Field, Section};
use crate::report::{Finding, Report};
use crate::source::Place;
use crate::yaml::Value;

/// What the roles take from the rest of the file.
pub(super) struct Context<'a> {
    pub(super) root: &'a Section<'a>,
    pub(super) service: Option<&'a ServiceName>,
    pub(super) destination: Option<&'a Destination>,
    pub(super) primary_role: Option<&'a RoleName>,
    pub(super) drain: Duration,
    pub(super) allow_empty_roles: bool,
    pub(super) has_accessories: bool,
    pub(super) environment: RootEnvironment,
}

/// The roles, and the settings of the proxy's container that each proxied one asks for.
#[derive(Default)]
pub(super) struct Servers {
    pub(super) roles: BTreeMap<RoleName, Role>,
    pub(super) proxy_runs: Vec<proxy_run::WantedRun>,
    /// The hosts of roles with their tags.
    pub(super) tags: Vec<(HostName, Vec<String>)>,
}

/// Reads `servers`: the list of one role, or a map of roles.
pub(super) fn read(context: &Context<'_>, report: &mut Report) -> Servers {
    let mut servers = Servers::default();
    // The root's own mistakes are told under the root's keys, also if no role takes requests.
    let root_proxy = context.root.get("proxy");
    if let Some(field) = &root_proxy {
        proxy::check_root(field, report);
    }
    let Some(field) = context.root.get("servers").filter(|field| !field.node.is_null()) else {
        if !context.has_accessories {
            let finding = Finding::new(Place::file(0), "", "missing required key `servers`");
            report.mistake(finding.help("list the hosts: `servers: [192.0.2.10]`"));
        }
        return servers;
    };
    if field.is_list() {
        if let Ok(name) = RoleName::parse("web") {
            add(&name, &field, context, report, &mut servers);
        }
        return servers;
    }
    if !field.is_map() {
        field.wrong_type("a list or a map", report);
        return servers;
    }
    for (key, role) in field.map(report) {
        match RoleName::parse(key) {
            Ok(name) => add(&name, &role, context, report, &mut servers),
            Err(error) => report.mistake(Finding::new(role.key_at, &role.path, error.to_string())),
        }
    }
    report_shared_routes(&field, &servers.roles, report);
    report_shared_certificates(&field, &servers.roles, report);
    if field.node.entries().is_some_and(<[_]>::is_empty) {
        report.mistake(field.mistake("no role is defined").help("list the hosts: `servers: [192.0.2.10]`"));
    }
    servers
}

/// Two roles cannot have one route on one host: the proxy would not know whose request it is.
fn report_shared_routes(field: &Field<'_>, roles: &BTreeMap<RoleName, Role>, report: &mut Report) {
    let routes = |role: &Role| {
        let proxy = role.proxy.as_ref()?;
        let any = |list: &[String]| if list.is_empty() { vec![String::new()] } else { list.to_vec() };
        let prefixes = any(&proxy.path_prefixes);
        let route =
            |host: &String| prefixes.iter().map(|prefix| format!("{host}{prefix}")).collect::<Vec<_>>();
        Some(any(&proxy.hosts).iter().flat_map(route).collect::<Vec<_>>())
    };
    let mut known: Vec<(&Role, Vec<String>)> = Vec::new();
    for (role, routes) in roles.values().filter_map(|role| Some((role, routes(role)?))) {
        for (other, others) in &known {
            let host = role.hosts.iter().find(|host| other.hosts.iter().any(|known| known.name == host.name));
            let route = routes.iter().find(|route| others.contains(route));
            let (Some(host), Some(route)) = (host, route) else { continue };
            let what = if route.is_empty() {
                "all requests".to_owned()
            } else {
                format!("the requests for `{route}`")
            };
            let message =
                format!("the roles `{}` and `{}` both take {what} on `{}`", other.name, role.name, host.name);
            let at = field.node.get(role.name.as_str()).map_or(field.key_at, |entry| entry.key_at);
            let finding = Finding::new(at, format!("servers/{}", role.name), message);
            report.mistake(finding.help("give one of them another `proxy: {host: …}` or `path_prefix`"));
        }
        known.push((role, routes));
    }
}

/// Two roles on different hosts cannot both answer for a name: only one of them gets its certificate.
fn report_shared_certificates(field: &Field<'_>, roles: &BTreeMap<RoleName, Role>, report: &mut Report) {
    let mut known: Vec<(&String, &RoleName)> = Vec::new();
    for role in roles.values() {
        let Some(proxy) = role.proxy.as_ref().filter(|proxy| !proxy.tls.is_off()) else { continue };
        for host in &proxy.hosts {
            if let Some((_, other)) = known.iter().find(|(name, _)| *name == host) {
                let at = field.node.get(role.name.as_str()).map_or(field.key_at, |entry| entry.key_at);
                let message =
                    format!("the roles `{other}` and `{}` both serve HTTPS for `{host}`", role.name);
                let finding = Finding::new(at, format!("servers/{}", role.name), message);
                report.mistake(finding.help("give one of them another `proxy: {host: …}`"));
            }
            known.push((host, &role.name));
        }
    }
}

fn add(
    name: &RoleName,
    field: &Field<'_>,
    context: &Context<'_>,
    report: &mut Report,
    servers: &mut Servers,
) {
    let section = match &field.node.value {
        Value::List(_) => None,
        Value::Map(_) => match field.section("servers/ROLE", report) {
            Some(section) => Some(section),
            None => return,
        },
        Value::Scalar(_) => return field.wrong_type("a list or a map", report),
    };
    let get = |key: &str| section.as_ref().and_then(|section| section.get(key));
    let hosts = match &section {
        None => hosts(field, &context.environment, report),
        Some(section) => {
            section.get("hosts").map(|field| hosts(&field, &context.environment, report)).unwrap_or_default()
        }
    };
    let listed = match &section {
        None => Some(field.clone()),
        Some(section) => section.get("hosts"),
    };
    if listed.is_none_or(|field| field.is_empty_list()) {
        report_empty(name, field, context, report);
    }
    let role_environment = get("env").map(|field| environment::layer(&field, report)).unwrap_or_default();
    let is_primary = context.primary_role == Some(name);
    let mut proxy = proxy::of_role(context.root.get("proxy"), get("proxy"), is_primary, report);
    if let Some((at, run)) = proxy.as_ref().and_then(|proxy| proxy.run.clone()) {
        let hosts = hosts.iter().map(|host| host.name.clone()).collect();
        servers.proxy_runs.push(proxy_run::WantedRun { path: field.path.clone(), hosts, at, run });
    }
    if let Some(proxy) = &mut proxy {
        let names: Vec<HostName> = hosts.iter().map(|host| host.name.clone()).collect();
        proxy::check_certificate(field, proxy, &names, report);
    }
    let proxy = proxy.map(|proxy| proxy.settings);
    servers.tags.extend(hosts.iter().map(|host| (host.name.clone(), host.tags.clone())));
    let hosts = hosts
        .into_iter()
        .map(|host| RoleHost {
            environment: context.environment.of_host(&role_environment, &host.tags),
            name: host.name,
        })
        .collect();
    let stop_timeout = get("stop_timeout").or_else(|| context.root.get("stop_timeout"));
    let stop_timeout = stop_timeout.and_then(|field| field.seconds(0, report));
    let command = get("cmd").and_then(|field| container::command(&field, report));
    let options = get("options").map(|field| container_option::read(&field, report)).unwrap_or_default();
    let logging = logging::read(context.root.get("logging"), get("logging"), report);
    let volumes =
        context.root.get("volumes").map(|field| container::volumes(&field, report)).unwrap_or_default();
    let layers: Vec<Field<'_>> = context.root.get("labels").into_iter().chain(get("labels")).collect();
    let labels = container::labels(&layers, report);
    let Some(proxy_service) = proxy_service(name, context, field, report) else { return };
    let role = Role {
        hosts,
        command,
        volumes,
        labels,
        options,
        logging,
        // Kamal stops a role without the proxy with its drain time-out, one with the proxy with Docker's default.
        stop_timeout: stop_timeout.or((proxy.is_none()).then_some(context.drain)),
        asset_path: asset_path(context, get("asset_path"), proxy.is_some(), report),
        replicas: get("replicas").and_then(|field| field.count(report)).unwrap_or(NonZeroU32::MIN),
        release_command: get("release_command").and_then(|field| container::command(&field, report)),
        image: get("image").and_then(|field| image::of_role(&field, report)),
        proxy,
        ..Role::new(name.clone(), proxy_service)
    };
    servers.roles.insert(name.clone(), role);
}

/// `PATH` or `PATH:OPTIONS`; only roles behind the proxy bridge their assets.
fn asset_path(
    context: &Context<'_>,
    own: Option<Field<'_>>,
    has_proxy: bool,
    report: &mut Report,
) -> Option<AssetPath> {
    if let Some(field) = own.as_ref().filter(|_| !has_proxy) {
        let message = "`asset_path` has no effect in a role that takes no requests";
        report.warn(Finding::new(field.key_at, &field.path, message).help("remove it"));
    }
    let field = own.or_else(|| context.root.get("asset_path"))?;
    let text = field.filled_text(report)?;
    let (path, options) = text.split_once(':').map_or((text.as_str(), None), |(path, options)| {
        (path, Some(options.to_owned()).filter(|options| !options.is_empty()))
    });
    if !path.starts_with('/') || path.trim_matches('/').is_empty() {
        let finding = field.mistake(format!("`{path}` is not an absolute path"));
        report.mistake(finding.help("write the folder in the container: `/rails/public/assets`"));
        return None;
    }
    has_proxy.then(|| AssetPath { path: path.to_owned(), options })
}

fn report_empty(name: &RoleName, field: &Field<'_>, context: &Context<'_>, report: &mut Report) {
    if context.primary_role == Some(name) {
        report.mistake(Finding::new(
            field.key_at,
            &field.path,
            format!("the primary role `{name}` has no hosts"),
        ));
    } else if !context.allow_empty_roles {
        let finding = Finding::new(field.key_at, &field.path, format!("the role `{name}` has no hosts"));
        report.mistake(finding.help("list its hosts, or set `allow_empty_roles: true`"));
    }
}

fn proxy_service(
    name: &RoleName,
    context: &Context<'_>,
    field: &Field<'_>,
    report: &mut Report,
) -> Option<ProxyServiceName> {
    let service = context.service?;
    let text = match context.destination {
        Some(destination) => format!("{service}-{name}-{destination}"),
        None => format!("{service}-{name}"),
    };
    let parsed = ProxyServiceName::parse(text);
    if let Err(error) = &parsed {
        report.mistake(Finding::new(field.key_at, &field.path, error.to_string()));
    }
    parsed.ok()
}

/// One host with its tags.
struct Host {
    name: HostName,
    tags: Vec<String>,
}

fn hosts(field: &Field<'_>, known: &RootEnvironment, report: &mut Report) -> Vec<Host> {
    let mut found: Vec<Host> = Vec::new();
    for item in field.list(report).unwrap_or_default() {
        let host = match &item.node.value {
            Value::Map(_) => tagged_host(&item, known, report),
            Value::List(_) => {
                item.wrong_type("a string or a map", report);
                None
            }
            Value::Scalar(_) => {
                let name = item.text(report).and_then(|text| host_name(&text, &item, report));
                name.map(|name| Host { name, tags: Vec::new() })
            }
        };
        let Some(host) = host else { continue };
        if found.iter().any(|other| other.name == host.name) {
            report.warn(
                item.mistake(format!("the host `{}` is listed twice", host.name))
                    .help("remove one of the two"),
            );
            continue;
        }
        found.push(host);
    }
    found
}

/// `HOST: TAG` or `HOST: [TAG, TAG]`.
fn tagged_host(item: &Field<'_>, known: &RootEnvironment, report: &mut Report) -> Option<Host> {
    let entries = item.map(report);
    let [(name, tags)] = entries.as_slice() else {
        let finding = item.mistake("one host with its tags is expected here");
        report.mistake(finding.help("give each host a `-` of its own: `- HOST: TAG`"));
        return None;
    };
    let name = host_name(name, item, report);
    let tags = match &tags.node.value {
        Value::List(_) => tags.texts(report),
        Value::Scalar(scalar) if scalar.as_text().is_some() => {
            tags.filled_text(report).map(|tag| (tags.clone(), tag)).into_iter().collect()
        }
        _ => {
            tags.wrong_type("a string or a list", report);
            Vec::new()
        }
    };
    for (field, tag) in tags.iter().filter(|(_, tag)| !known.has_tag(tag)) {
        report.warn(field.mistake(format!("`env/tags` has no tag `{tag}`")));
    }
    let tags = tags.into_iter().map(|(_, tag)| tag).collect();
    name.map(|name| Host { name, tags })
}

pub(super) fn host_name(text: &str, item: &Field<'_>, report: &mut Report) -> Option<HostName> {
    // `HostName` takes `8080`, but nobody means a host by it.
    let is_number = text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty();
    match HostName::parse(text) {
        Ok(name) if !is_number => Some(name),
        Ok(_) => {
            report.mistake(item.mistake(format!("the number `{text}` is not a host")));
            None
        }
        Err(error) => {
            let help = match text.split_once('@') {
                Some((user, host)) => format!("write `{host}` here and `ssh: {{user: {user}}}`"),
                None => error.rule().to_owned(),
            };
            report.mistake(item.mistake(format!("`{text}` is not a host")).help(help));
            None
        }
    }
}
