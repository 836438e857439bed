use std::net::IpAddr;

use freehold_model::{
    Buffering, CertificateAuthority, ClientAuthorities, HealthCheck, HostName, LoggedHeaders, ProxyRun,
    ProxySettings, Tls,
};

use super::authority::{self, secret};
use super::proxy_content::{compression, pem, target_protocol, target_tls};
use super::proxy_run::run;
use super::traffic;
use crate::field::{Field, Section};
use crate::report::{Finding, Report};
use crate::source::Place;
use crate::yaml::{Node, merge};

/// How a role is served, and its settings for the proxy's container with their place.
pub(super) struct RoleProxy {
    pub(super) settings: ProxySettings,
    pub(super) run: Option<(Place, ProxyRun)>,
}

/// Reads the `proxy` of an accessory, which inherits nothing.
pub(super) fn of_accessory(field: &Field<'_>, hosts: &[HostName], report: &mut Report) -> Option<RoleProxy> {
    let section = field.section("proxy", report)?;
    let mut proxy = RoleProxy { settings: settings(&section, report), run: run(&section, report) };
    check_certificate(field, &mut proxy, hosts, report);
    Some(proxy)
}

/// Several hosts cannot all prove to a certificate authority that a name is theirs, unless they share what is ordered.
pub(super) fn check_certificate(
    field: &Field<'_>,
    proxy: &mut RoleProxy,
    hosts: &[HostName],
    report: &mut Report,
) {
    let port = proxy.run.as_ref().map_or(ProxyRun::default().http_port, |(_, run)| run.http_port);
    let Tls::Automatic(authority) = &mut proxy.settings.tls else { return };
    if let Some(fleet) = &mut authority.fleet {
        fleet.peers = hosts.iter().map(|host| format!("{host}:{port}")).collect();
        return;
    }
    let hosts = hosts.len();
    if hosts > 1 {
        let message = format!("an automatic certificate needs a single host, and here are {hosts}");
        let help = "let the hosts share their certificates: `ssl: {fleet_key: …}`, the name of a secret; or give the \
            certificate yourself: `ssl: {certificate_pem: …, private_key_pem: …}`, or end HTTPS at a load balancer";
        report.mistake(Finding::new(field.key_at, &field.path, message).help(help));
    }
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
    let default = ProxySettings::default();
    let mut flag = |key: &str, default: bool| {
        section.get(key).and_then(|field| field.boolean(report)).unwrap_or(default)
    };
    let strip_path_prefix = flag("strip_path_prefix", default.strip_path_prefix);
    let redirect_to_https = flag("ssl_redirect", default.redirect_to_https);
    let tls = section.get("ssl").map(|field| tls(&field, report)).unwrap_or_default();
    let hosts = hosts(section, report);
    if let Some(field) = section.get("ssl").filter(|_| !tls.is_off()) {
        authority::check_hosts(&field, &tls, &hosts, report);
    }
    let forward_headers = section.get("forward_headers").and_then(|field| field.boolean(report));
    let response_timeout = section.get("response_timeout").and_then(|field| field.seconds(1, report));
    let target_protocol = target_protocol(section, report);
    let target_tls = target_tls(section, target_protocol, report);
    ProxySettings {
        hosts,
        app_port: section.get("app_port").and_then(|field| field.port(report)).unwrap_or(default.app_port),
        health_check: HealthCheck {
            protocol: target_protocol,
            tls: target_tls.clone(),
            ..health_check(section, report)
        },
        response_timeout: response_timeout.unwrap_or(default.response_timeout),
        path_prefixes: path_prefixes(section, report),
        strip_path_prefix,
        // kamal-proxy keeps them unless it serves HTTPS itself.
        forward_headers: forward_headers.unwrap_or(tls.is_off()),
        buffering: buffering(section, report),
        tls,
        redirect_to_https,
        clients: clients(section, redirect_to_https, report),
        logged_headers: logged_headers(section, report),
        target_protocol,
        target_tls,
        compression: compression(section, report),
        traffic: traffic::traffic(section, report),
        basic_auth: traffic::basic_auth(section, report),
    }
}

/// `true`, `false`, or a map with the secrets of a certificate of one's own.
fn tls(field: &Field<'_>, report: &mut Report) -> Tls {
    match field.boolean_value() {
        Some(true) => return Tls::Automatic(CertificateAuthority::default()),
        Some(false) => return Tls::Off,
        None if !field.is_map() => {
            field.wrong_type("a boolean or a map", report);
            return Tls::Off;
        }
        None => {}
    }
    let Some(section) = field.section("proxy/ssl", report) else { return Tls::Off };
    let keys = ["certificate_pem", "private_key_pem"];
    let present: Vec<&str> = keys.into_iter().filter(|key| section.get(key).is_some()).collect();
    if let [present] = present.as_slice() {
        let missing = keys.iter().find(|key| *key != present).copied().unwrap_or_default();
        let message = format!("`{missing}` is required where `{present}` is set");
        report.mistake(Finding::new(field.key_at, &field.path, message));
        return Tls::Off;
    }
    let pair = (secret(&section, "certificate_pem", report), secret(&section, "private_key_pem", report));
    let authority = authority::read(&section, report);
    match pair {
        (Some(certificate), Some(private_key)) => {
            for field in authority::KEYS.iter().filter_map(|key| section.get(key)) {
                let message = "nothing is ordered where the certificate is given";
                report
                    .mistake(Finding::new(field.key_at, &field.path, message).help("remove one of the two"));
            }
            Tls::Custom { certificate, private_key }
        }
        _ if present.is_empty() => Tls::Automatic(authority),
        _ => Tls::Off,
    }
}

/// Whose clients are served.
fn clients(section: &Section<'_>, redirects: bool, report: &mut Report) -> Option<ClientAuthorities> {
    let ssl = section.get("ssl").filter(Field::is_map)?.section("proxy/ssl", report)?;
    let certificates = pem(&ssl, "client_ca", "-----BEGIN CERTIFICATE-----", report);
    let revoked = pem(&ssl, "client_crl", "-----BEGIN X509 CRL-----", report);
    let is_optional = ssl.get("client_optional").and_then(|field| field.boolean(report));
    if let Some(field) = ssl.get("client_ca").filter(|_| !redirects) {
        let message = "clients can show certificates only where HTTP is redirected to HTTPS";
        report.mistake(Finding::new(field.key_at, &field.path, message).help("remove `ssl_redirect: false`"));
    }
    if ssl.get("client_ca").is_none() {
        for field in ["client_crl", "client_optional"].iter().filter_map(|key| ssl.get(key)) {
            let finding = Finding::new(field.key_at, &field.path, "this needs `client_ca`");
            report.mistake(finding.help("add the certificates of the authorities whose clients are served"));
        }
    }
    Some(ClientAuthorities {
        certificates: certificates?,
        revoked,
        is_optional: is_optional.unwrap_or(false),
    })
}

fn buffering(section: &Section<'_>, report: &mut Report) -> Buffering {
    let default = Buffering::default();
    let section = section.get("buffering").and_then(|field| field.section("proxy/buffering", report));
    let Some(section) = section else { return default };
    let flag = |key: &str, report: &mut Report| section.get(key).and_then(|field| field.boolean(report));
    // Zero is kamal-proxy's word for no limit.
    let mut bytes = |key: &str| {
        let bytes = section.get(key).and_then(|field| field.integer(0..=i64::MAX.unsigned_abs(), report));
        bytes.filter(|bytes| *bytes > 0)
    };
    Buffering {
        memory_bytes: bytes("memory"),
        max_request_body_bytes: bytes("max_request_body"),
        max_response_body_bytes: bytes("max_response_body"),
        requests: flag("requests", report).unwrap_or(default.requests),
        responses: flag("responses", report).unwrap_or(default.responses),
    }
}

fn logged_headers(section: &Section<'_>, report: &mut Report) -> LoggedHeaders {
    let mut headers = LoggedHeaders::default();
    let section = section.get("logging").and_then(|field| field.section("proxy/logging", report));
    let Some(section) = section else { return headers };
    let mut names = |key: &str| {
        let mut found = Vec::new();
        for (item, text) in section.get(key)?.texts(report) {
            let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if text.chars().all(is_token) {
                found.push(text);
            } else {
                report.mistake(item.mistake(format!("`{text}` is not the name of a header")));
            }
        }
        Some(found)
    };
    if let Some(names) = names("request_headers") {
        headers.request = names;
    }
    headers.response = names("response_headers").unwrap_or_default();
    headers
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
        ..default
    }
}
