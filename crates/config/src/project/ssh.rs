use std::path::PathBuf;

use freehold_model::{HostName, JumpHost, PlainSecret, SecretName, SshConfigFiles, SshLogLevel, SshSettings};

use crate::field::{Field, Section};
use crate::report::{Finding, Report};
use crate::yaml::Value;

/// Reads `ssh`.
pub(super) fn read(field: Option<Field<'_>>, report: &mut Report) -> SshSettings {
    let default = SshSettings::default();
    let Some(section) = field.and_then(|field| field.section("ssh", report)) else { return default };
    let mut flag = |key: &str, default: bool| {
        section.get(key).and_then(|field| field.boolean(report)).unwrap_or(default)
    };
    let (keys_only, forward_agent) =
        (flag("keys_only", default.keys_only), flag("forward_agent", default.forward_agent));
    let (key_data, key_texts) = section.get("key_data").map(|field| keys(&field, report)).unwrap_or_default();
    let log_level = section.get("log_level").and_then(|field| field.choice(&LOG_LEVELS, report));
    SshSettings {
        log_level: log_level.unwrap_or(default.log_level),
        key_data,
        key_texts,
        keys_only,
        forward_agent,
        user: section.get("user").and_then(|field| user(&field, report)),
        port: section.get("port").and_then(|field| port(&field, report)),
        proxy: section.get("proxy").map(|field| jump_hosts(&field, report)).unwrap_or_default(),
        proxy_command: section.get("proxy_command").and_then(|field| field.filled_text(report)),
        keys: paths(&section, "keys", report),
        config: section.get("config").map(|field| config(&field, report)).unwrap_or_default(),
        ..default
    }
}

const LOG_LEVELS: [(&str, SshLogLevel); 5] = [
    ("debug", SshLogLevel::Debug),
    ("info", SshLogLevel::Info),
    ("warn", SshLogLevel::Warn),
    ("error", SshLogLevel::Error),
    ("fatal", SshLogLevel::Fatal),
];

/// Reads `key_data`: names of secrets, or the keys themselves, which Kamal still takes.
fn keys(field: &Field<'_>, report: &mut Report) -> (Vec<SecretName>, Vec<PlainSecret>) {
    let (mut names, mut texts) = (Vec::new(), Vec::new());
    for item in field.list(report).unwrap_or_default() {
        let hidden = |message: &str| Finding::new(item.node.at.hidden(), &item.path, message);
        let text = match &item.node.value {
            Value::Scalar(scalar) => scalar.as_text().unwrap_or_default(),
            _ => String::new(),
        };
        if let Ok(name) = SecretName::parse(text.as_str()) {
            names.push(name);
        } else if text.trim_start().starts_with("-----BEGIN ") {
            let help = "put the key into a secret, and write the secret's name here";
            report.warn(hidden("a private key stands in the deploy file").help(help));
            texts.push(PlainSecret::new(text));
        } else {
            let help = "write the name, and the key in `.kamal/secrets`";
            report.mistake(hidden("this is not the name of a secret").help(help));
        }
    }
    (names, texts)
}

fn user(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let user = field.filled_text(report)?;
    if is_user(&user) {
        return Some(user);
    }
    report.mistake(field.mistake(format!("`{user}` is not a login name")));
    None
}

/// A name that no program takes for an option.
fn is_user(user: &str) -> bool {
    !user.is_empty()
        && !user.starts_with('-')
        && !user.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Kamal takes a port as a number or as text.
fn port(field: &Field<'_>, report: &mut Report) -> Option<u16> {
    if let Some(port) = field.quoted_number() {
        let port = u16::try_from(port).ok().filter(|port| *port > 0);
        if port.is_none() {
            report.mistake(field.mistake("should be from 1 to 65535"));
        }
        return port;
    }
    field.port(report)
}

fn paths(section: &Section<'_>, key: &str, report: &mut Report) -> Vec<PathBuf> {
    let texts = section.get(key).map(|field| field.texts(report)).unwrap_or_default();
    texts.into_iter().map(|(_, text)| PathBuf::from(text)).collect()
}

fn config(field: &Field<'_>, report: &mut Report) -> SshConfigFiles {
    if let Some(value) = field.boolean_value() {
        return if value { SshConfigFiles::Default } else { SshConfigFiles::Nothing };
    }
    if field.is_list() {
        return SshConfigFiles::Files(field.texts(report).into_iter().map(|(_, text)| text.into()).collect());
    }
    if field.is_map() || field.node.is_null() {
        field.wrong_type("a boolean, a string or a list", report);
        return SshConfigFiles::Default;
    }
    let path = field.filled_text(report);
    path.map_or(SshConfigFiles::Default, |path| SshConfigFiles::Files(vec![path.into()]))
}

/// `[user@]host[:port][,more]`, in OpenSSH's order: the nearest hop first.
fn jump_hosts(field: &Field<'_>, report: &mut Report) -> Vec<JumpHost> {
    let Some(text) = field.filled_text(report) else { return Vec::new() };
    let mut hops = Vec::new();
    for part in text.split(',') {
        match jump_host(part.trim()) {
            Some(hop) => hops.push(hop),
            None => {
                let finding = field.mistake(format!("`{}` is not a jump host", part.trim()));
                report.mistake(finding.help("write `[user@]host[:port]`, several with commas"));
            }
        }
    }
    hops
}

fn jump_host(text: &str) -> Option<JumpHost> {
    let (user, address) = text.rsplit_once('@').unwrap_or(("root", text));
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':')?)),
        None if address.matches(':').count() > 1 => (address, None),
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|port: &u16| *port > 0)?),
        None => None,
    };
    is_user(user).then_some(())?;
    Some(JumpHost { user: user.to_owned(), host: HostName::parse(host).ok()?, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_hosts_have_defaults_and_addresses() {
        let read = |text: &str| jump_host(text).map(|hop| (hop.user, hop.host.to_string(), hop.port));
        assert_eq!(read("bastion"), Some(("root".into(), "bastion".into(), None)));
        assert_eq!(read("me@b.example.com:2222"), Some(("me".into(), "b.example.com".into(), Some(2222))));
        assert_eq!(read("me@[fe80::1]:22"), Some(("me".into(), "fe80::1".into(), Some(22))));
        assert_eq!(read("fe80::1"), Some(("root".into(), "fe80::1".into(), None)));
        for bad in ["", "@host", "-o@host", "host:0", "host:x", "a b"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
