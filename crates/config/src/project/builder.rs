use std::path::PathBuf;

use freehold_model::{Architecture, BuildPlace, Builder, HostName, SecretName};

use crate::field::Field;
use crate::reference::nearest;
use crate::report::{Finding, Report};

/// Reads `builder`; `hosts` are those that may build.
pub(super) fn read(field: Option<Field<'_>>, hosts: &[&HostName], report: &mut Report) -> Builder {
    let mut builder = Builder::default();
    let Some(section) = field.and_then(|field| field.section("builder", report)) else { return builder };
    let mut text = |key: &str| section.get(key).and_then(|field| field.filled_text(report));
    builder.context = text("context").map(PathBuf::from);
    builder.dockerfile = text("dockerfile").map_or(builder.dockerfile, PathBuf::from);
    builder.target = text("target");
    builder.architectures =
        section.get("arch").map(|field| architectures(&field, report)).unwrap_or_default();
    for (name, value) in section.get("args").map(|field| field.map(report)).unwrap_or_default() {
        builder.args.extend(value.text(report).map(|text| (name.to_owned(), text)));
    }
    builder.secrets = section.get("secrets").map(|field| secret_names(&field, report)).unwrap_or_default();
    builder.on = section.get("on").and_then(|field| place(&field, hosts, report)).unwrap_or_default();
    builder
}

fn architectures(field: &Field<'_>, report: &mut Report) -> Vec<Architecture> {
    let names = if field.is_list() {
        field.texts(report)
    } else if field.is_map() {
        field.wrong_type("a string or a list", report);
        Vec::new()
    } else {
        field.filled_text(report).map(|text| (field.clone(), text)).into_iter().collect()
    };
    let mut found = Vec::new();
    for (item, name) in names {
        match Architecture::from_name(&name) {
            Some(architecture) if found.contains(&architecture) => {
                report.mistake(item.mistake(format!("the architecture `{name}` is listed twice")));
            }
            Some(architecture) => found.push(architecture),
            None => {
                let finding = item.mistake(format!("freehold does not run on the architecture `{name}`"));
                report.mistake(finding.help("write `amd64` or `arm64`"));
            }
        }
    }
    found
}

/// Reads a list of the names of secrets. A text that is no name may be a secret itself and is not repeated.
pub(super) fn secret_names(field: &Field<'_>, report: &mut Report) -> Vec<SecretName> {
    let mut names = Vec::new();
    for (item, text) in field.texts(report) {
        match SecretName::parse(text) {
            Ok(name) => names.push(name),
            Err(_) => {
                let finding =
                    Finding::new(item.node.at.hidden(), &item.path, "this is not the name of a secret");
                report.mistake(finding.help("write the name, and the value in `.kamal/secrets`"));
            }
        }
    }
    names
}

fn place(field: &Field<'_>, hosts: &[&HostName], report: &mut Report) -> Option<BuildPlace> {
    let text = field.filled_text(report)?;
    if text == "local" {
        return Some(BuildPlace::Local);
    }
    let host = hosts.iter().find(|host| host.as_str() == text);
    if host.is_none() {
        let finding = field.mistake(format!("`{text}` is not a host of the project"));
        let names = hosts.iter().map(|host| host.as_str()).chain(["local"]);
        report.mistake(match nearest(&text, names) {
            Some(near) => finding.help(format!("did you mean `{near}`?")),
            None => finding.help("write `local`, or a host that is listed under `servers`"),
        });
    }
    host.map(|host| BuildPlace::Host((*host).clone()))
}
