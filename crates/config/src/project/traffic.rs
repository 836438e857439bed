//! What `proxy` says of how requests are shared out, limited and changed.

use std::collections::BTreeMap;

use freehold_model::{
    Balance, HeaderChanges, HeaderField, Hsts, InvalidTraffic, Network, PassiveHealth, ProxyEdge, ProxyPort,
    Rate, Redirect, SecretName, Traffic, UpgradeToken,
};

use crate::field::{Field, Section};
use crate::report::{Finding, Report};

/// The longest span for which a target is left out: a day.
const MAX_PAUSE_SECONDS: u64 = 24 * 60 * 60;

/// Reads all of it; none where nothing is asked for.
pub(super) fn traffic(section: &Section<'_>, report: &mut Report) -> Option<Box<Traffic>> {
    let balance = section.get("balance").and_then(|field| parsed(&field, report, Balance::parse));
    let rates = section.get("rate_limit").and_then(|field| field.section("proxy/rate_limit", report));
    let mut rate = |key: &str| {
        let field = rates.as_ref()?.get(key)?;
        parsed(&field, report, Rate::parse)
    };
    let (client_rate, service_rate) = (rate("client"), rate("service"));
    let headers = section.get("headers").and_then(|field| field.section("proxy/headers", report));
    let headers = headers.map(|headers| Headers::read(&headers, report)).unwrap_or_default();
    let traffic = Traffic {
        upgrades: upgrades(section, report),
        balance: balance.unwrap_or_default(),
        passive_health: section.get("passive_health").and_then(|field| passive_health(&field, report)),
        client_rate,
        service_rate,
        allow: networks(section, "allow_ips", report),
        block: networks(section, "block_ips", report),
        trusted_proxies: networks(section, "trusted_proxies", report),
        redirects: section.get("redirects").map(|field| redirects(&field, report)).unwrap_or_default(),
        request_headers: headers.request,
        response_headers: headers.response,
        hsts: headers.hsts,
        security_headers: headers.security,
    };
    traffic.if_any()
}

/// The name of the secret with those who may come.
pub(super) fn basic_auth(section: &Section<'_>, report: &mut Report) -> Option<SecretName> {
    let field = section.get("basic_auth")?;
    let name = SecretName::parse(field.filled_text(report)?).ok();
    if name.is_none() {
        // What stands there may be the hash of a password.
        let finding = Finding::new(field.node.at.hidden(), &field.path, "this is not the name of a secret");
        report.mistake(finding.help("write the name, and lines of `htpasswd -nB USER` in `.kamal/secrets`"));
    }
    name
}

fn parsed<T>(
    field: &Field<'_>,
    report: &mut Report,
    parse: impl FnOnce(&str) -> Result<T, InvalidTraffic>,
) -> Option<T> {
    field.parsed(report, |text| parse(text).map_err(|error| (error.clone(), error.rule().to_owned())))
}

fn networks(section: &Section<'_>, key: &str, report: &mut Report) -> Vec<Network> {
    let items = section.get(key).and_then(|field| field.list(report)).unwrap_or_default();
    items.iter().filter_map(|item| parsed(item, report, Network::parse)).collect()
}

fn upgrades(section: &Section<'_>, report: &mut Report) -> Option<Vec<UpgradeToken>> {
    let items = section.get("upgrades")?.list(report)?;
    Some(items.iter().filter_map(|item| parsed(item, report, |text| UpgradeToken::parse(text))).collect())
}

/// `true`, `false`, or a map.
fn passive_health(field: &Field<'_>, report: &mut Report) -> Option<PassiveHealth> {
    match field.boolean_value() {
        Some(true) => return Some(PassiveHealth::default()),
        Some(false) => return None,
        None if !field.is_map() => {
            field.wrong_type("a boolean or a map", report);
            return None;
        }
        None => {}
    }
    let section = field.section("proxy/passive_health", report)?;
    let usual = PassiveHealth::default();
    let mut seconds = |key: &str| {
        let seconds = section.get(key).and_then(|field| field.integer(1..=MAX_PAUSE_SECONDS, report));
        seconds.map(|seconds| seconds * 1000)
    };
    let (pause_ms, max_pause_ms) = (seconds("pause"), seconds("max_pause"));
    let pause_ms = pause_ms.unwrap_or(usual.pause_ms);
    let failures = section.get("failures").and_then(|field| field.integer(1..=1000, report));
    let health = PassiveHealth {
        failures: failures.and_then(|failures| u32::try_from(failures).ok()).unwrap_or(usual.failures),
        pause_ms,
        max_pause_ms: max_pause_ms.unwrap_or(usual.max_pause_ms.max(pause_ms)),
    };
    if health.max_pause_ms < health.pause_ms {
        report.mistake(field.mistake("`max_pause` is shorter than `pause`"));
    }
    Some(health)
}

fn redirects(field: &Field<'_>, report: &mut Report) -> Vec<Redirect> {
    let mut found = Vec::new();
    for item in field.list(report).unwrap_or_default() {
        let Some(section) = item.section("proxy/redirects", report) else { continue };
        let mut text = |key: &str| match section.get(key) {
            Some(field) => field.filled_text(report),
            None => {
                report.mistake(item.mistake(format!("`{key}` is required")));
                None
            }
        };
        let (from, to) = (text("from"), text("to"));
        let mut flag = |key: &str| section.get(key).and_then(|field| field.boolean(report)).unwrap_or(false);
        let (permanent, keep_path) = (flag("permanent"), flag("keep_path"));
        let (Some(from), Some(to)) = (from, to) else { continue };
        let redirect = Redirect { from, to, permanent, keep_path };
        match redirect.check() {
            Ok(()) => found.push(redirect),
            Err(error) => report.mistake(item.mistake(error.to_string()).help(error.rule())),
        }
    }
    found
}

#[derive(Default)]
struct Headers {
    request: HeaderChanges,
    response: HeaderChanges,
    hsts: Option<Hsts>,
    security: bool,
}

impl Headers {
    fn read(section: &Section<'_>, report: &mut Report) -> Self {
        Self {
            request: section.get("request").map(|field| changes(&field, report)).unwrap_or_default(),
            response: section.get("response").map(|field| changes(&field, report)).unwrap_or_default(),
            hsts: section.get("hsts").and_then(|field| hsts(&field, report)),
            security: section.get("security").and_then(|field| field.boolean(report)).unwrap_or(false),
        }
    }
}

fn changes(field: &Field<'_>, report: &mut Report) -> HeaderChanges {
    let Some(section) = field.section("proxy/headers/changes", report) else {
        return HeaderChanges::default();
    };
    let mut set = BTreeMap::new();
    for (name, value) in section.map("set", report) {
        let Some(text) = value.text(report) else { continue };
        match HeaderField::parse(name) {
            Ok(name) => drop(set.insert(name, text)),
            Err(error) => report.mistake(value.mistake(error.to_string()).help(error.rule())),
        }
    }
    let names = section.get("remove").and_then(|field| field.list(report)).unwrap_or_default();
    let remove = names.iter().filter_map(|item| parsed(item, report, |text| HeaderField::parse(text)));
    let changes = HeaderChanges { set, remove: remove.collect() };
    if let Err(error) = changes.check() {
        report.mistake(field.mistake(error.to_string()).help(error.rule()));
    }
    changes
}

/// `true`, `false`, or a map.
fn hsts(field: &Field<'_>, report: &mut Report) -> Option<Hsts> {
    match field.boolean_value() {
        Some(true) => return Some(Hsts::default()),
        Some(false) => return None,
        None if !field.is_map() => {
            field.wrong_type("a boolean or a map", report);
            return None;
        }
        None => {}
    }
    let section = field.section("proxy/headers/hsts", report)?;
    let mut flag = |key: &str| section.get(key).and_then(|field| field.boolean(report)).unwrap_or(false);
    let (subdomains, preload) = (flag("subdomains"), flag("preload"));
    let max_age = section.get("max_age").and_then(|field| field.seconds(0, report));
    Some(Hsts { subdomains, preload, ..max_age.map_or_else(Hsts::default, Hsts::for_span) })
}

/// Reads how the proxy takes connections.
pub(super) fn edge(section: &Section<'_>, report: &mut Report) -> ProxyEdge {
    let most = section.get("max_client_connections");
    let most = most.and_then(|field| field.integer(0..=u64::from(u32::MAX), report));
    let mut ports = Vec::new();
    let protocol = section.get("proxy_protocol");
    for item in protocol.as_ref().and_then(|field| field.list(report)).unwrap_or_default() {
        ports.extend(item.choice(&[("http", ProxyPort::Http), ("https", ProxyPort::Https)], report));
    }
    let edge = ProxyEdge {
        trusted_proxies: networks(section, "trusted_proxies", report),
        proxy_protocol: ports,
        max_client_connections: most.and_then(|most| u32::try_from(most).ok()),
    };
    if let Some(field) =
        protocol.filter(|_| !edge.proxy_protocol.is_empty() && edge.trusted_proxies.is_empty())
    {
        let finding = field.mistake("without `trusted_proxies` anybody could tell any address");
        report.mistake(finding.help("name the networks of the proxies: `trusted_proxies: [10.0.0.0/8]`"));
    }
    edge
}
