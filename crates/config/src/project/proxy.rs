use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use freehold_model::{HealthCheck, HostName, ProxyRun, ProxySettings};

use crate::field::{Field, Section};
use crate::report::{Finding, Report};
use crate::source::Place;
use crate::yaml::{Node, merge};

/// How a role is served, and its settings for the proxy's container with their place.
pub(super) struct RoleProxy {
    pub(super) settings: ProxySettings,
    pub(super) run: Option<(Place, ProxyRun)>,
}

/// Reports the mistakes of the root's `proxy`.
pub(super) fn check_root(field: &Field<'_>, report: &mut Report) {
    if let Some(section) = field.section("proxy", report) {
        settings(&section, report);
        run(&section, report);
    }
}

/// Returns how the proxy serves a role, or none if it takes no requests.
///
/// The primary role takes requests unless its `proxy` is `false`; another one only if its `proxy` is `true` or a map.
pub(super) fn of_role(
    root: Option<Field<'_>>,
    role: Option<Field<'_>>,
    is_primary: bool,
    report: &mut Report,
) -> Option<RoleProxy> {
    let is_on = match &role {
        None => is_primary,
        Some(field) if field.is_map() => true,
        Some(field) if field.is_boolean() => field.boolean_value() == Some(true),
        Some(field) => {
            field.wrong_type("a boolean or a map", report);
            false
        }
    };
    if !is_on {
        return None;
    }
    let base = root.filter(Field::is_map).map_or_else(
        || (Node::empty_map(Place::file(0)), "proxy".to_owned()),
        |field| (field.node.clone(), field.path),
    );
    let (node, path) = match role.filter(Field::is_map) {
        // `merge` looks at keys below its arguments, so the maps are merged under their name.
        Some(field) => (merge_named(base.0, field.node.clone()), field.path),
        None => base,
    };
    let section = Field::new(&node, path).section("proxy", report)?;
    Some(RoleProxy { settings: settings(&section, report), run: run(&section, report) })
}

fn merge_named(base: Node, over: Node) -> Node {
    let wrap = |node: Node| {
        let at = node.at;
        let entry = crate::yaml::Entry { key: "proxy".to_owned(), key_at: at, value: node };
        Node { at, value: crate::yaml::Value::Map(vec![entry]) }
    };
    let at = over.at;
    let merged = merge(wrap(base), wrap(over));
    merged.get("proxy").map_or_else(|| Node::empty_map(at), |entry| entry.value.clone())
}

fn settings(section: &Section<'_>, report: &mut Report) -> ProxySettings {
    let seconds =
        |key: &str, report: &mut Report| section.get(key).and_then(|field| field.seconds(1, report));
    let flag = |key: &str, report: &mut Report| section.get(key).and_then(|field| field.boolean(report));
    if let Some(field) = section.get("buffering") {
        // It has no values but those that the check of its keys lets through.
        let _: Option<Section<'_>> = field.section("proxy/buffering", report);
    }
    ProxySettings {
        hosts: hosts(section, report),
        app_port: section.get("app_port").and_then(|field| field.port(report)).unwrap_or(80),
        health_check: health_check(section, report),
        response_timeout: seconds("response_timeout", report).unwrap_or(Duration::from_secs(30)),
        path_prefixes: path_prefixes(section, report),
        strip_path_prefix: flag("strip_path_prefix", report).unwrap_or(true),
        // kamal-proxy keeps them unless it serves HTTPS itself, which this version does not.
        forward_headers: flag("forward_headers", report).unwrap_or(true),
        ..ProxySettings::default()
    }
}

fn hosts(section: &Section<'_>, report: &mut Report) -> Vec<String> {
    let one = section.get("host");
    let several = section.get("hosts");
    if let (Some(_), Some(several)) = (&one, &several) {
        let message = "`host` and `hosts` cannot stand together";
        report.mistake(
            Finding::new(several.key_at, &several.path, message).help("put all names under `hosts`"),
        );
    }
    let mut found: Vec<String> = Vec::new();
    let listed = several.map(|field| field.texts(report)).unwrap_or_default();
    let joined = one.and_then(|field| field.filled_text(report).map(|text| (field, text)));
    let joined = joined.into_iter().flat_map(|(field, text)| {
        text.split(',').map(|host| (field.clone(), host.trim().to_owned())).collect::<Vec<_>>()
    });
    for (field, host) in joined.chain(listed) {
        if !is_route_host(&host) {
            let finding = field.mistake(format!("`{host}` is not a host name"));
            report.mistake(finding.help("write a name without scheme, port and path: `shop.example.com`"));
        } else if !found.contains(&host) {
            found.push(host);
        }
    }
    found
}

/// A DNS name, where the first label may be `*`.
fn is_route_host(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let is_address = host.parse::<IpAddr>().is_ok();
    is_address || (!name.contains(':') && freehold_model::HostName::parse(name).is_ok())
}

fn path_prefixes(section: &Section<'_>, report: &mut Report) -> Vec<String> {
    // `path_prefixes` wins where both stand, as in Kamal; the other one is checked all the same.
    let one =
        section.get("path_prefix").and_then(|field| field.filled_text(report).map(|text| (field, text)));
    let one: Vec<_> = one
        .into_iter()
        .flat_map(|(field, text)| {
            text.split(',').map(|part| (field.clone(), part.to_owned())).collect::<Vec<_>>()
        })
        .collect();
    let several = section.get("path_prefixes").map(|field| field.texts(report));
    for (field, prefix) in one.iter().chain(several.iter().flatten()) {
        if prefix.contains(|c: char| c.is_whitespace() || c.is_control() || c == '?' || c == '#') {
            report.mistake(field.mistake(format!("`{prefix}` is not the path of a URL")));
        }
    }
    // kamal-proxy adds the slash where it is missing and drops it at the end.
    let normal = |prefix: &str| format!("/{}", prefix.trim_matches('/'));
    let mut found: Vec<String> = Vec::new();
    for (_, prefix) in several.unwrap_or(one) {
        let prefix = normal(&prefix);
        if !found.contains(&prefix) {
            found.push(prefix);
        }
    }
    if found == ["/"] { Vec::new() } else { found }
}

fn health_check(section: &Section<'_>, report: &mut Report) -> HealthCheck {
    let default = HealthCheck::default();
    let section = section.get("healthcheck").and_then(|field| field.section("proxy/healthcheck", report));
    let Some(section) = section else { return default };
    let path = section.get("path").and_then(|field| {
        let path = field.filled_text(report)?;
        if !path.starts_with('/') || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let finding = field.mistake(format!("`{path}` is not the path of a URL"));
            report.mistake(finding.help("start it with `/`"));
        }
        Some(path)
    });
    HealthCheck {
        path: path.unwrap_or(default.path),
        interval: section
            .get("interval")
            .and_then(|field| field.seconds(1, report))
            .unwrap_or(default.interval),
        timeout: section.get("timeout").and_then(|field| field.seconds(1, report)).unwrap_or(default.timeout),
    }
}

fn run(section: &Section<'_>, report: &mut Report) -> Option<(Place, ProxyRun)> {
    let field = section.get("run")?;
    let section = field.section("proxy/run", report)?;
    let default = ProxyRun::default();
    let publish = section.get("publish").and_then(|field| field.boolean(report)).unwrap_or(true);
    if !publish {
        for field in ["http_port", "https_port", "bind_ips"].iter().filter_map(|key| section.get(key)) {
            let message = "cannot be set when `publish` is false";
            report.mistake(Finding::new(field.key_at, &field.path, message).help("remove one of the two"));
        }
    }
    let port = |key: &str, report: &mut Report| section.get(key).and_then(|field| field.port(report));
    let http_port = port("http_port", report).unwrap_or(default.http_port);
    let https_port = port("https_port", report).unwrap_or(default.https_port);
    if http_port == https_port {
        report.mistake(section.field().mistake(format!("HTTP and HTTPS cannot share the port {http_port}")));
    }
    let log_max_size = section.get("log_max_size").and_then(|field| log_size(&field, report));
    let run = ProxyRun {
        http_port,
        https_port,
        publish,
        bind_addresses: section.get("bind_ips").map(|field| addresses(&field, report)).unwrap_or_default(),
        log_max_size: log_max_size.unwrap_or(default.log_max_size),
        debug: section.get("debug").and_then(|field| field.boolean(report)).unwrap_or(default.debug),
        ..default
    };
    Some((field.key_at, run))
}

fn log_size(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let text = field.text(report)?;
    match crate::quantity::parse_size(&text) {
        Err(error) if !text.is_empty() => {
            report
                .mistake(field.mistake(error.to_string()).help(format!("write it like {}", error.example())));
            None
        }
        _ => Some(text),
    }
}

fn addresses(field: &Field<'_>, report: &mut Report) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for (item, text) in field.texts(report) {
        match text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => found.push(address),
            Err(_) => report.mistake(item.mistake(format!("`{text}` is not an IP address"))),
        }
    }
    found
}

/// The settings of the proxy's container that a role or an accessory asks for.
pub(super) struct WantedRun {
    /// The keys down to it.
    pub(super) path: String,
    pub(super) hosts: Vec<HostName>,
    pub(super) at: Place,
    pub(super) run: ProxyRun,
}

/// Returns the settings of the proxy's container on each host, on which all that run there must agree.
pub(super) fn agreed_runs(wanted: &[WantedRun], report: &mut Report) -> BTreeMap<HostName, ProxyRun> {
    let mut agreed: BTreeMap<HostName, (&str, &ProxyRun)> = BTreeMap::new();
    for WantedRun { path, hosts, at, run } in wanted {
        for host in hosts {
            let (first, known) = *agreed.entry(host.clone()).or_insert((path, run));
            if run != known {
                let message =
                    format!("`{first}` and `{path}` want different settings of the proxy of `{host}`");
                let finding = Finding::new(*at, format!("{path}/proxy/run"), message);
                report.mistake(finding.help("set `proxy: {run: …}` once, at the root"));
            }
        }
    }
    agreed.into_iter().map(|(host, (_, run))| (host, run.clone())).collect()
}
