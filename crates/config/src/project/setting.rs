//! The small sections: aliases, hooks, output, connections.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use freehold_model::{AliasName, ConnectionSettings, HookOutput, HookSettings, HostName, OutputSettings};

use crate::field::{Field, Section};
use crate::report::{Finding, Report};
use crate::shell_word::split_literal_words;

/// Kamal's top-level commands, which no alias may hide.
const COMMANDS: [&str; 22] = [
    "accessory",
    "app",
    "audit",
    "build",
    "config",
    "deploy",
    "details",
    "docs",
    "help",
    "init",
    "lock",
    "proxy",
    "prune",
    "redeploy",
    "registry",
    "remove",
    "rollback",
    "secrets",
    "server",
    "setup",
    "upgrade",
    "version",
];

/// Reads `aliases`.
pub(super) fn aliases(field: &Field<'_>, report: &mut Report) -> BTreeMap<AliasName, Vec<String>> {
    let mut aliases = BTreeMap::new();
    for (key, field) in field.map(report) {
        let name = AliasName::parse(key);
        if let Err(error) = &name {
            report.mistake(Finding::new(field.key_at, &field.path, error.to_string()));
        }
        if COMMANDS.contains(&key) {
            let message = format!("`{key}` is the name of a command");
            report.mistake(Finding::new(field.key_at, &field.path, message).help("call the alias otherwise"));
        }
        let Some(text) = field.filled_text(report) else { continue };
        match split_literal_words(&text) {
            Ok(words) => aliases.extend(name.ok().map(|name| (name, words))),
            Err(error) => report.mistake(field.mistake(error.to_string())),
        }
    }
    aliases
}

/// Reads `addresses`, whose keys have to be hosts of the file.
pub(super) fn addresses(
    field: &Field<'_>,
    known: &[HostName],
    report: &mut Report,
) -> BTreeMap<HostName, IpAddr> {
    let mut addresses = BTreeMap::new();
    for (key, field) in field.map(report) {
        let host = known.iter().find(|host| host.as_str() == key);
        if host.is_none() {
            let message = format!("`{key}` is not a host of this file");
            let names: Vec<&str> = known.iter().map(HostName::as_str).collect();
            let help = format!("the hosts are: {}", names.join(", "));
            report.mistake(Finding::new(field.key_at, &field.path, message).help(help));
        }
        let Some(text) = field.filled_text(report) else { continue };
        match text.parse::<IpAddr>() {
            Ok(address) => addresses.extend(host.map(|host| (host.clone(), address))),
            Err(_) => {
                let message = format!("`{text}` is not an IP address");
                report.mistake(field.mistake(message).help("write one such as `10.0.0.11` or `fd00::11`"));
            }
        }
    }
    addresses
}

/// Reads `hooks_path` and `hooks_output`.
pub(super) fn hooks(root: &Section<'_>, path: PathBuf, report: &mut Report) -> HookSettings {
    let mut hooks = HookSettings { path, ..HookSettings::default() };
    let Some(field) = root.get("hooks_output") else { return hooks };
    if field.is_map() {
        for (name, field) in field.map(report) {
            let output = hook_output(&field, report);
            hooks.output_of.extend(output.map(|output| (name.to_owned(), output)));
        }
    } else if field.is_list() || field.node.is_null() {
        field.wrong_type("a string or a map", report);
    } else {
        hooks.output = hook_output(&field, report);
    }
    hooks
}

fn hook_output(field: &Field<'_>, report: &mut Report) -> Option<HookOutput> {
    let values = [
        ("quiet", HookOutput::Quiet),
        ("verbose", HookOutput::Verbose),
        // Ruby's symbols in quotes.
        (":quiet", HookOutput::Quiet),
        (":verbose", HookOutput::Verbose),
    ];
    field.choice(&values, report)
}

/// Reads `output`.
pub(super) fn output(field: &Field<'_>, report: &mut Report) -> OutputSettings {
    let mut output = OutputSettings::default();
    let Some(section) = field.section("output", report) else { return output };
    if let Some(field) = section.get("file") {
        output.file = required(&field, "output/file", "path", report).map(|(_, text)| PathBuf::from(text));
    }
    if let Some(field) = section.get("otel") {
        let endpoint = required(&field, "output/otel", "endpoint", report);
        output.otel = endpoint.and_then(|(field, text)| url(&field, text, report));
    }
    output
}

fn required<'a>(
    field: &Field<'a>,
    name: &str,
    key: &str,
    report: &mut Report,
) -> Option<(Field<'a>, String)> {
    let section = field.section(name, report)?;
    let Some(value) = section.get(key) else {
        let message = format!("missing required key `{key}`");
        report.mistake(Finding::new(field.key_at, &field.path, message));
        return None;
    };
    value.filled_text(report).map(|text| (value, text))
}

fn url(field: &Field<'_>, text: String, report: &mut Report) -> Option<String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    if rest.is_none_or(|rest| rest.is_empty() || rest.contains(char::is_whitespace)) {
        let finding = field.mistake(format!("`{text}` is not the URL of a collector"));
        report.mistake(finding.help("write it like `http://localhost:4318`"));
        return None;
    }
    Some(text.trim_end_matches('/').to_owned())
}

/// Reads `sshkit`.
pub(super) fn connections(field: &Field<'_>, report: &mut Report) -> ConnectionSettings {
    let default = ConnectionSettings::default();
    let Some(section) = field.section("sshkit", report) else { return default };
    let starts = section.get("max_concurrent_starts").and_then(|field| field.count(report));
    let idle = section.get("pool_idle_timeout").and_then(|field| field.seconds(0, report));
    let retries = section.get("dns_retries").and_then(|field| field.integer(0..=100, report));
    ConnectionSettings {
        max_concurrent_starts: starts.unwrap_or(default.max_concurrent_starts),
        pool_idle_timeout: idle.unwrap_or(default.pool_idle_timeout),
        dns_retries: retries.and_then(|count| u32::try_from(count).ok()).unwrap_or(default.dns_retries),
    }
}
