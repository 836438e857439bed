//! What the proxy speaks with containers, and how it compresses their answers.

use freehold_model::{Compression, TargetProtocol, TargetTls};

use crate::field::{Field, Section};
use crate::report::{Finding, Report};

pub(super) fn target_protocol(section: &Section<'_>, report: &mut Report) -> TargetProtocol {
    let names = [
        ("http1", TargetProtocol::Http1),
        ("h2c", TargetProtocol::H2c),
        ("h2", TargetProtocol::H2),
        ("https", TargetProtocol::Https),
    ];
    section.get("target_protocol").and_then(|field| field.choice(&names, report)).unwrap_or_default()
}

/// How containers are known that speak TLS. The proxy reaches them by names that Docker makes up, so the name in their
/// certificates has to be told.
pub(super) fn target_tls(
    section: &Section<'_>,
    protocol: TargetProtocol,
    report: &mut Report,
) -> Option<TargetTls> {
    let Some(field) = section.get("target_tls") else {
        if let Some(field) = section.get("target_protocol").filter(|_| protocol.is_encrypted()) {
            let message = "containers that speak TLS need `target_tls: server_name`";
            let help = "name what stands in their certificate, and who has signed it: \
                        `target_tls: {server_name: app.internal, ca: …}`";
            report.mistake(field.mistake(message).help(help));
        }
        return None;
    };
    let tls = field.section("proxy/target_tls", report)?;
    if !protocol.is_encrypted() {
        let finding = Finding::new(field.key_at, &field.path, "the containers do not speak TLS");
        report.mistake(finding.help("add `target_protocol: h2` or `https`, or remove this"));
    }
    let server_name = match tls.get("server_name") {
        Some(name) => name.filled_text(report).filter(|text| is_server_name(text, &name, report)),
        None => {
            report.mistake(Finding::new(field.key_at, &field.path, "`server_name` is required"));
            None
        }
    };
    Some(TargetTls { authorities: pem(&tls, "ca", "-----BEGIN CERTIFICATE-----", report), server_name })
}

fn is_server_name(text: &str, field: &Field<'_>, report: &mut Report) -> bool {
    let is_label = |label: &str| {
        (1..64).contains(&label.len()) && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    let is_name = text.len() < 254 && text.split('.').all(is_label);
    let fits = is_name || text.parse::<std::net::IpAddr>().is_ok();
    if !fits {
        report.mistake(field.mistake(format!("`{text}` is neither a host name nor an IP address")));
    }
    fits
}

/// Reads a text in PEM that stands in the file itself.
pub(super) fn pem(section: &Section<'_>, key: &str, begin: &str, report: &mut Report) -> Option<String> {
    let field = section.get(key)?;
    let text = field.filled_text(report)?;
    if text.trim_start().starts_with(begin) {
        return Some(text);
    }
    let finding =
        Finding::new(field.node.at, &field.path, format!("this is no text that begins with `{begin}`"));
    report.mistake(finding.help(format!("write the PEM text itself: `{key}: |`, and its lines below")));
    None
}

/// `true`, `false`, or a list of codings, the most wanted first.
pub(super) fn compression(section: &Section<'_>, report: &mut Report) -> Vec<Compression> {
    let Some(field) = section.get("compress") else { return Vec::new() };
    match field.boolean_value() {
        Some(true) => Compression::ALL.to_vec(),
        Some(false) => Vec::new(),
        None if field.is_list() => codings(&field, report),
        None => {
            field.wrong_type("a boolean or a list of `zstd`, `br` and `gzip`", report);
            Vec::new()
        }
    }
}

fn codings(field: &Field<'_>, report: &mut Report) -> Vec<Compression> {
    let names = [("zstd", Compression::Zstd), ("br", Compression::Br), ("gzip", Compression::Gzip)];
    let mut found = Vec::new();
    for item in field.list(report).unwrap_or_default() {
        match item.choice(&names, report) {
            Some(coding) if found.contains(&coding) => report.mistake(item.mistake("is there twice")),
            Some(coding) => found.push(coding),
            None => {}
        }
    }
    found
}
