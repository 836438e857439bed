use freehold_model::{
    Credential, PlainSecret, Registry, RegistryCredentials, RegistryPlace, RegistryServer, SecretName,
};

use crate::field::{Field, Section};
use crate::report::{Finding, Report};
use crate::yaml::{ScalarKind, Value};

/// Reads `registry`, the root's or that of an accessory.
pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<Registry> {
    let section = field.section("registry", report)?;
    let place = match section.get("server") {
        None => RegistryPlace::DockerHub,
        Some(server) => place(&server, report)?,
    };
    let is_local = matches!(place, RegistryPlace::Local { .. });
    let uses_docker_login = match section.get("credentials") {
        Some(field) => docker_login(&field, &section, is_local, report)?,
        None => false,
    };
    if uses_docker_login {
        return Some(Registry { place, credentials: None, uses_docker_login });
    }
    let username = credential(&section, "username", is_local, report);
    let password = credential(&section, "password", is_local, report);
    let credentials = match (username, password) {
        (Some(username), Some(password)) => Some(RegistryCredentials { username, password }),
        _ if is_local => None,
        _ => return None,
    };
    Some(Registry { place, credentials, uses_docker_login })
}

/// Reads `credentials`, of which there is one kind beside name and password.
fn docker_login(
    field: &Field<'_>,
    section: &Section<'_>,
    is_local: bool,
    report: &mut Report,
) -> Option<bool> {
    let found = field.choice(&[("docker", true)], report)?;
    if is_local {
        report.mistake(Finding::new(
            field.key_at,
            &field.path,
            "the registry of this machine needs no login",
        ));
        return None;
    }
    for key in ["username", "password"].into_iter().filter_map(|key| section.get(key)) {
        let message = "Docker's own login takes the place of user and password";
        report.mistake(Finding::new(key.key_at, &key.path, message).help("remove it, or `credentials`"));
    }
    Some(found)
}

fn place(field: &Field<'_>, report: &mut Report) -> Option<RegistryPlace> {
    let text = field.filled_text(report)?;
    if let Some(port) = text.strip_prefix("localhost:") {
        let port = port.parse().ok().filter(|port: &u16| *port > 0);
        if port.is_none() {
            let finding = field.mistake(format!("`{text}` has no port from 1 to 65535"));
            report.mistake(finding.help("write `localhost:5555` for a registry on this machine"));
        }
        return port.map(|port| RegistryPlace::Local { port });
    }
    let server = RegistryServer::parse(text.as_str());
    if let Err(error) = &server {
        let bare = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest).trim_end_matches('/');
        let help = match RegistryServer::parse(bare) {
            Ok(server) => format!("write `{server}`"),
            Err(_) => error.rule().to_owned(),
        };
        report.mistake(field.mistake(format!("`{text}` is not the server of a registry")).help(help));
    }
    server.ok().map(RegistryPlace::Server)
}

/// Reads a text, or a list with the name of one secret. A value may be a password, so it is never repeated.
fn credential(
    section: &Section<'_>,
    key: &str,
    is_optional: bool,
    report: &mut Report,
) -> Option<Credential> {
    let Some(field) = section.get(key) else {
        if !is_optional {
            let path = format!("{}/{key}", section.field().path);
            let finding = Finding::new(section.field().key_at, path, format!("`{key}` is required"));
            report.mistake(finding.help(format!("write `{key}: [NAME_OF_A_SECRET]`")));
        }
        return None;
    };
    let wrong = |message: &str| {
        Finding::new(field.node.at.hidden(), &field.path, message)
            .help("write the name of a secret in brackets: `[NAME]`")
    };
    match &field.node.value {
        Value::Scalar(scalar) => match &scalar.kind {
            ScalarKind::Text(text) if !text.trim().is_empty() => {
                return Some(Credential::Plain(PlainSecret::new(text.as_str())));
            }
            ScalarKind::Text(_) | ScalarKind::Null => report.mistake(wrong("should not be empty")),
            _ => report.mistake(wrong(
                "should be a string or a list with one string, not a number, boolean or date; quote it",
            )),
        },
        Value::List(items) => {
            let name = match items.as_slice() {
                [item] => match &item.value {
                    Value::Scalar(scalar) => scalar.as_text().and_then(|text| SecretName::parse(text).ok()),
                    _ => None,
                },
                _ => {
                    report.mistake(wrong("should be a string or a list with one string"));
                    return None;
                }
            };
            if name.is_none() {
                report.mistake(wrong("this is not the name of a secret"));
            }
            return name.map(Credential::Secret);
        }
        Value::Map(_) => report.mistake(wrong("should be a string or a list with one string, not a map")),
    }
    None
}
