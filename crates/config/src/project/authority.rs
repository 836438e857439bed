//! From whom certificates are ordered, and how it is shown that the names are ours.

use freehold_model::{
    CertificateAuthority, CertificateFleet, DnsUpdates, ExternalAccount, ProxyAcme, SecretName, Tls,
};

use crate::field::{Field, Section};
use crate::report::{Finding, Report};

/// The keys of `ssl` that are about orders.
pub(super) const KEYS: [&str; 5] =
    ["acme_directory", "acme_contact", "acme_name_check", "on_demand_url", "fleet_key"];

/// The name of a secret.
pub(super) fn secret(section: &Section<'_>, key: &str, report: &mut Report) -> Option<SecretName> {
    let field = section.get(key)?;
    let text = field.filled_text(report)?;
    let name = SecretName::parse(text).ok();
    if name.is_none() {
        let finding = Finding::new(field.node.at.hidden(), &field.path, "this is not the name of a secret");
        report.mistake(finding.help("write the name, and what it stands for in `.kamal/secrets`"));
    }
    name
}

/// Where certificates of a service are ordered. Who shares them is known once the hosts are.
pub(super) fn read(section: &Section<'_>, report: &mut Report) -> CertificateAuthority {
    let checks = section.get("acme_name_check").and_then(|field| field.boolean(report));
    let fleet = secret(section, "fleet_key", report)
        .map(|key| CertificateFleet { key: Some(key), peers: Vec::new() });
    CertificateAuthority {
        directory: directory(section, "acme_directory", report),
        contact: contact(section, "acme_contact", report),
        skip_name_check: checks == Some(false),
        on_demand_url: sound(
            section.get("on_demand_url"),
            is_question,
            ("a path of the service, or an `http` or `https` URL", "/certificates/allowed"),
            report,
        ),
        fleet,
    }
}

/// Checks that certificates are ordered for names that are known, or for whatever is asked for, and not for both.
pub(super) fn check_hosts(ssl: &Field<'_>, tls: &Tls, hosts: &[String], report: &mut Report) {
    let on_demand = matches!(tls, Tls::Automatic(CertificateAuthority { on_demand_url: Some(_), .. }));
    let (message, help) = match (on_demand, hosts.is_empty()) {
        (true, false) => (
            "certificates on demand are for a service that takes every host",
            "remove `host` and `hosts`, or `on_demand_url`",
        ),
        (false, true) => ("HTTPS needs a host", "name it: `proxy: {host: shop.example.com}`"),
        _ => return,
    };
    report.mistake(Finding::new(ssl.key_at, &ssl.path, message).help(help));
}

/// How the proxy of a host orders certificates, `proxy: run: acme`.
pub(super) fn of_proxy(section: &Section<'_>, report: &mut Report) -> Option<Box<ProxyAcme>> {
    let section = section.get("acme")?.section("proxy/run/acme", report)?;
    let roots = section.get("ca").and_then(|field| {
        let text = field.filled_text(report)?;
        if text.trim_start().starts_with("-----BEGIN CERTIFICATE-----") {
            return Some(text);
        }
        let finding = field.mistake("this is no text that begins with `-----BEGIN CERTIFICATE-----`");
        report.mistake(finding.help("write the PEM text itself: `ca: |`, and its lines below"));
        None
    });
    Some(Box::new(ProxyAcme {
        directory: directory(&section, "directory", report),
        contact: contact(&section, "contact", report),
        roots,
        account: section.get("eab").and_then(|field| account(&field, report)),
        dns: section.get("dns").and_then(|field| dns(&field, report)),
    }))
}

fn account(field: &Field<'_>, report: &mut Report) -> Option<ExternalAccount> {
    let section = field.section("proxy/run/acme/eab", report)?;
    require(field, &section, &["key_id", "hmac_key"], report);
    let key_id = word(&section, "key_id", report);
    let hmac_key = secret(&section, "hmac_key", report);
    Some(ExternalAccount { key_id: key_id?, hmac_key: hmac_key? })
}

fn dns(field: &Field<'_>, report: &mut Report) -> Option<DnsUpdates> {
    let section = field.section("proxy/run/acme/dns", report)?;
    require(field, &section, &["server", "key_name", "key"], report);
    let server = section.get("server").and_then(|field| {
        let text = field.filled_text(report)?;
        let server = with_port(&text);
        if server.is_none() {
            let finding = field.mistake(format!("`{text}` is not the address of a name server"));
            report.mistake(finding.help("write it as `ns1.example.com` or `ns1.example.com:53`"));
        }
        server
    });
    let key_name = word(&section, "key_name", report);
    // It is the only one; the key says so, so that nobody takes a key of another kind.
    let _algorithm = section.get("algorithm").and_then(|field| field.choice(&[("hmac-sha256", ())], report));
    let key = secret(&section, "key", report);
    Some(DnsUpdates { server: server?, key_name: key_name?, key: key? })
}

fn require(field: &Field<'_>, section: &Section<'_>, keys: &[&str], report: &mut Report) {
    for key in keys.iter().filter(|key| section.get(key).is_none()) {
        report.mistake(Finding::new(field.key_at, &field.path, format!("`{key}` is required")));
    }
}

/// `host` or `host:port`, with the usual port where there is none.
fn with_port(text: &str) -> Option<String> {
    let is_host = |host: &str| freehold_model::HostName::parse(host).is_ok() && !host.contains(':');
    let is_address = |host: &str| host.parse::<std::net::Ipv6Addr>().is_ok();
    match text.rsplit_once(':') {
        _ if is_host(text) => Some(format!("{text}:53")),
        _ if is_address(text) => Some(format!("[{text}]:53")),
        Some((host, port)) => {
            let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            let is_sound = inside.map_or_else(|| is_host(host), is_address);
            let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
            is_sound.then(|| format!("{host}:{port}"))
        }
        None => None,
    }
}

/// A text that is an argument of the proxy: without spaces.
fn word(section: &Section<'_>, key: &str, report: &mut Report) -> Option<String> {
    let field = section.get(key)?;
    let is_word = |text: &str| text.chars().all(|character| character.is_ascii_graphic());
    sound(Some(field), is_word, ("one word", "key-1"), report)
}

fn directory(section: &Section<'_>, key: &str, report: &mut Report) -> Option<String> {
    let is_directory = |text: &str| {
        let host = text.strip_prefix("https://").unwrap_or_default();
        !host.is_empty() && !host.starts_with('/') && !host.contains(char::is_whitespace)
    };
    let what =
        ("the `https` URL of a certificate authority's directory", "https://ca.example.com/acme/directory");
    sound(section.get(key), is_directory, what, report)
}

fn contact(section: &Section<'_>, key: &str, report: &mut Report) -> Option<String> {
    let is_address =
        |text: &str| text.contains('@') && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    sound(section.get(key), is_address, ("an e-mail address", "ops@example.com"), report)
}

/// What is asked before a certificate is ordered on demand, as the proxy takes it.
fn is_question(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let has_host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':', '?', '#']));
    let is_path = text.starts_with('/') && !text.starts_with("//");
    (has_host || is_path) && text.chars().all(|character| character.is_ascii_graphic())
}

fn sound(
    field: Option<Field<'_>>,
    is_sound: impl Fn(&str) -> bool,
    (what, example): (&str, &str),
    report: &mut Report,
) -> Option<String> {
    let field = field?;
    let text = field.filled_text(report)?;
    if is_sound(&text) {
        return Some(text);
    }
    let finding = field.mistake(format!("`{text}` is not {what}"));
    report.mistake(finding.help(format!("write it like `{example}`")));
    None
}
