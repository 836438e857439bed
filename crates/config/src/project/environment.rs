use std::collections::BTreeMap;

use freehold_model::{EnvName, Environment, SecretName};

use crate::field::Field;
use crate::report::{Finding, Report};

/// One layer of the environment, before layers are merged.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    clear: BTreeMap<EnvName, String>,
    secret: BTreeMap<EnvName, SecretName>,
}

impl Layer {
    /// Makes the environment of a container of it: clear beats secret, whatever the layers.
    pub(super) fn into_environment(mut self) -> Environment {
        self.secret.retain(|name, _| !self.clear.contains_key(name));
        Environment { clear: self.clear, secret: self.secret }
    }
}

/// The root's layer, and one for each tag.
#[derive(Debug, Default)]
pub(super) struct RootEnvironment {
    base: Layer,
    tags: BTreeMap<String, Layer>,
}

impl RootEnvironment {
    /// Merges the layers that apply to a host: root, role, then each of its tags (kamal-compat §4).
    pub(super) fn of_host(&self, role: &Layer, tags: &[String]) -> Environment {
        let tagged = tags.iter().filter_map(|tag| self.tags.get(tag));
        let mut merged = Layer::default();
        for layer in [&self.base, role].into_iter().chain(tagged) {
            merged.clear.extend(layer.clear.clone());
            merged.secret.extend(layer.secret.clone());
        }
        merged.into_environment()
    }

    pub(super) fn has_tag(&self, tag: &str) -> bool {
        self.tags.contains_key(tag)
    }
}

/// Reads the root's `env`, the only one with tags.
pub(super) fn root(field: Option<Field<'_>>, report: &mut Report) -> RootEnvironment {
    let Some(field) = field else { return RootEnvironment::default() };
    let base = read(&field, TagsAllowed::Yes, report);
    let mut tags = BTreeMap::new();
    if let Some(entry) = field.node.get("tags") {
        let path = format!("{}/tags", field.path);
        for (name, tag) in Field::new(&entry.value, path).map(report) {
            tags.insert(name.to_owned(), layer(&tag, report));
        }
    }
    RootEnvironment { base, tags }
}

/// Reads the `env` of a role or a tag.
pub(super) fn layer(field: &Field<'_>, report: &mut Report) -> Layer {
    read(field, TagsAllowed::No, report)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TagsAllowed {
    Yes,
    No,
}

fn read(field: &Field<'_>, tags: TagsAllowed, report: &mut Report) -> Layer {
    let is_full = ["clear", "secret", "tags"].iter().any(|key| field.node.get(key).is_some());
    if !is_full {
        return Layer { clear: clear(field, report), secret: BTreeMap::new() };
    }
    let Some(section) = field.section("env", report) else { return Layer::default() };
    if let Some(field) = section.get("tags").filter(|_| tags == TagsAllowed::No) {
        let finding = Finding::new(field.key_at, &field.path, "tags are only allowed in the root `env`");
        report.mistake(finding);
    }
    Layer {
        clear: section.get("clear").map(|field| clear(&field, report)).unwrap_or_default(),
        secret: section.get("secret").map(|field| secret(&field, report)).unwrap_or_default(),
    }
}

fn clear(field: &Field<'_>, report: &mut Report) -> BTreeMap<EnvName, String> {
    let mut variables = BTreeMap::new();
    for (name, value) in field.map(report) {
        let name = EnvName::parse(name);
        if let Err(error) = &name {
            report.mistake(Finding::new(value.key_at, &value.path, error.to_string()));
        }
        let Some(text) = value.text(report) else { continue };
        if text.contains('\0') {
            report.mistake(value.mistake("a variable cannot hold the character NUL"));
        }
        variables.extend(name.ok().map(|name| (name, text)));
    }
    variables
}

/// `NAME`, or `NAME:SECRET` for a variable that is called otherwise than the secret.
fn secret(field: &Field<'_>, report: &mut Report) -> BTreeMap<EnvName, SecretName> {
    let mut variables = BTreeMap::new();
    if !field.is_list() {
        let message =
            format!("should be a list, not {}", if field.is_map() { "a map" } else { "a single value" });
        let finding = Finding::new(field.node.at.hidden(), &field.path, message);
        report.mistake(finding.help("list names, and write the values in `.kamal/secrets`"));
        return variables;
    }
    for (item, text) in field.texts(report) {
        let (variable, secret) = text.split_once(':').unwrap_or((&text, &text));
        match (EnvName::parse(variable), SecretName::parse(secret)) {
            (Ok(variable), Ok(secret)) => {
                variables.insert(variable, secret);
            }
            // The text itself may be a secret that was written here by mistake, so it is not repeated.
            _ => {
                let finding =
                    Finding::new(item.node.at.hidden(), &item.path, "this is not the name of a secret");
                report.mistake(
                    finding.help("write `NAME` or `VARIABLE:NAME`, and the value in `.kamal/secrets`"),
                );
            }
        }
    }
    variables
}
