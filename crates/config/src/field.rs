//! Checked access to the tree: every look-up that does not fit its type becomes a mistake.

use crate::reference::{Support, keys_of, nearest};
use crate::report::{Finding, Report};
use crate::source::Place;
use crate::yaml::{Entry, Node, ScalarKind, Value, shorten};

/// The longest span of time in seconds that a key takes: ten years.
const MAX_SECONDS: u64 = 315_360_000;

/// A value with the keys that lead to it.
#[derive(Debug, Clone)]
pub(crate) struct Field<'a> {
    pub(crate) node: &'a Node,
    /// The place of the key, for what is wrong with the key itself.
    pub(crate) key_at: Place,
    /// The keys joined by `/`, as Kamal writes them; empty for the root.
    pub(crate) path: String,
}

/// A map whose keys are those of one section of the reference.
#[derive(Debug, Clone)]
pub(crate) struct Section<'a> {
    field: Field<'a>,
    entries: &'a [Entry],
}

impl<'a> Field<'a> {
    pub(crate) fn new(node: &'a Node, path: impl Into<String>) -> Self {
        Self { node, key_at: node.at, path: path.into() }
    }

    fn child(&self, entry: &'a Entry) -> Self {
        Self { node: &entry.value, key_at: entry.key_at, path: join(&self.path, &entry.key) }
    }

    pub(crate) fn is_boolean(&self) -> bool {
        self.boolean_value().is_some()
    }

    pub(crate) fn boolean_value(&self) -> Option<bool> {
        match &self.node.value {
            Value::Scalar(scalar) => match scalar.kind {
                ScalarKind::Boolean(value) => Some(value),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    pub(crate) fn is_empty_list(&self) -> bool {
        matches!(&self.node.value, Value::List(items) if items.is_empty())
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// Makes a mistake about the value.
    pub(crate) fn mistake(&self, message: impl Into<String>) -> Finding {
        Finding::new(self.node.at, &self.path, message)
    }

    /// Reports that the value has another type.
    pub(crate) fn wrong_type(&self, expected: &str, report: &mut Report) {
        let finding = self.mistake(format!("should be {expected}, not {}", self.node.describe()));
        report.mistake(match self.node.is_null() {
            true => finding.help("remove it; null does not stand for the default"),
            false => finding,
        });
    }

    /// Reads a string; numbers and booleans are taken as Ruby prints them.
    pub(crate) fn text(&self, report: &mut Report) -> Option<String> {
        let scalar = match &self.node.value {
            Value::Scalar(scalar) => scalar,
            _ => {
                self.wrong_type("a string", report);
                return None;
            }
        };
        let Some(text) = scalar.as_text() else {
            self.wrong_type("a string", report);
            return None;
        };
        if !matches!(scalar.kind, ScalarKind::Text(_)) && text != scalar.raw {
            let message =
                format!("`{}` without quotes is read as `{}`", shorten(&scalar.raw), shorten(&text));
            report.warn(
                self.mistake(message)
                    .help(format!("write `\"{}\"` if the text is meant", shorten(&scalar.raw))),
            );
        }
        Some(text)
    }

    /// Reads a string that is not blank.
    pub(crate) fn filled_text(&self, report: &mut Report) -> Option<String> {
        let text = self.text(report)?;
        if text.trim().is_empty() {
            report.mistake(self.mistake("should not be empty"));
            return None;
        }
        Some(text)
    }

    /// Reads a string and makes something of it.
    pub(crate) fn parsed<T, E: std::fmt::Display>(
        &self,
        report: &mut Report,
        parse: impl FnOnce(&str) -> Result<T, (E, String)>,
    ) -> Option<T> {
        let text = self.text(report)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err((error, help)) => {
                let finding = self.mistake(error.to_string());
                report.mistake(if help.is_empty() { finding } else { finding.help(help) });
                None
            }
        }
    }

    pub(crate) fn integer(&self, range: std::ops::RangeInclusive<u64>, report: &mut Report) -> Option<u64> {
        let Value::Scalar(scalar) = &self.node.value else {
            self.wrong_type("an integer", report);
            return None;
        };
        let ScalarKind::Integer(value) = scalar.kind else {
            let finding = self.mistake(format!("should be an integer, not {}", scalar.describe()));
            let is_text = matches!(scalar.kind, ScalarKind::Text(_));
            report.mistake(match as_integer(&scalar.raw).filter(|_| is_text) {
                Some(number) => finding.help(format!("write it without a unit or quotes: `{number}`")),
                None => finding,
            });
            return None;
        };
        let plain = scalar.raw.replace(['_', '+'], "");
        if plain != value.to_string() {
            report.warn(
                self.mistake(format!("`{}` is read as `{value}`", scalar.raw))
                    .help(format!("write `{value}`")),
            );
        }
        let found = u64::try_from(value).ok().filter(|value| range.contains(value));
        if found.is_none() {
            let (limit, bound) = match u64::try_from(value) {
                Ok(value) if value > *range.end() => ("at most", range.end()),
                _ => ("at least", range.start()),
            };
            report.mistake(self.mistake(format!("should be {limit} {bound}, not `{value}`")));
        }
        found
    }

    /// Returns a number that is written as text, `"22"`.
    pub(crate) fn quoted_number(&self) -> Option<u64> {
        match &self.node.value {
            Value::Scalar(scalar) => match &scalar.kind {
                ScalarKind::Text(text) => text.parse().ok(),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn port(&self, report: &mut Report) -> Option<u16> {
        self.integer(1..=65535, report).and_then(|port| u16::try_from(port).ok())
    }

    /// Reads whole seconds, at least so many.
    pub(crate) fn seconds(&self, least: u64, report: &mut Report) -> Option<std::time::Duration> {
        self.integer(least..=MAX_SECONDS, report).map(std::time::Duration::from_secs)
    }

    /// Reads a number from 1 on.
    pub(crate) fn count(&self, report: &mut Report) -> Option<std::num::NonZeroU32> {
        let count = self.integer(1..=u64::from(u32::MAX), report);
        count.and_then(|count| u32::try_from(count).ok()).and_then(std::num::NonZeroU32::new)
    }

    /// Reads one of a few words.
    pub(crate) fn choice<T: Copy>(&self, values: &[(&str, T)], report: &mut Report) -> Option<T> {
        let text = self.filled_text(report)?;
        let found = values.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let names = values.iter().map(|(name, _)| *name).filter(|name| !name.starts_with(':'));
            let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
            let finding = self.mistake(format!("`{}` is not possible here", shorten(&text)));
            report.mistake(finding.help(format!("write {}", names.join(", or "))));
        }
        found
    }

    pub(crate) fn boolean(&self, report: &mut Report) -> Option<bool> {
        let value = self.boolean_value();
        if value.is_none() {
            self.wrong_type("a boolean", report);
        }
        value
    }

    /// Reads a list; none and a mistake if it is something else.
    pub(crate) fn list(&self, report: &mut Report) -> Option<Vec<Field<'a>>> {
        let Value::List(items) = &self.node.value else {
            self.wrong_type("a list", report);
            return None;
        };
        let item = |(index, node)| Field::new(node, join(&self.path, &format!("{index}")));
        Some(items.iter().enumerate().map(item).collect())
    }

    /// Reads a list of strings.
    pub(crate) fn texts(&self, report: &mut Report) -> Vec<(Field<'a>, String)> {
        let items = self.list(report).unwrap_or_default();
        items.into_iter().filter_map(|item| item.filled_text(report).map(|text| (item, text))).collect()
    }

    /// Reads a map whose keys are free.
    pub(crate) fn map(&self, report: &mut Report) -> Vec<(&'a str, Field<'a>)> {
        let Some(entries) = self.node.entries() else {
            self.wrong_type("a map", report);
            return Vec::new();
        };
        entries.iter().map(|entry| (entry.key.as_str(), self.child(entry))).collect()
    }

    /// Reads a map with the keys of a section; unknown and unsupported ones are mistakes.
    pub(crate) fn section(&self, section: &str, report: &mut Report) -> Option<Section<'a>> {
        let Some(entries) = self.node.entries() else {
            self.wrong_type("a map", report);
            return None;
        };
        for entry in entries {
            check_key(section, &self.child(entry), &entry.key, report);
        }
        Some(Section { field: self.clone(), entries })
    }

    /// Reads a map as [`Field::section`] does, but unknown keys are only surprising: Kamal does not look at them.
    pub(crate) fn section_with_strangers(&self, section: &str, report: &mut Report) -> Option<Section<'a>> {
        let entries = self.node.entries()?;
        for entry in entries.iter().filter(|entry| keys_of(section).all(|key| key.name != entry.key)) {
            let field = self.child(entry);
            let finding = unknown_key(section, &field, &entry.key);
            report.warn(finding);
        }
        Some(Section { field: self.clone(), entries })
    }
}

impl<'a> Section<'a> {
    /// Returns the value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<Field<'a>> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| self.field.child(entry))
    }

    /// Returns the values of a map whose keys are free.
    pub(crate) fn map(&self, key: &str, report: &mut Report) -> Vec<(&'a str, Field<'a>)> {
        self.get(key).map(|field| field.map(report)).unwrap_or_default()
    }

    /// The map itself.
    pub(crate) fn field(&self) -> &Field<'a> {
        &self.field
    }
}

fn check_key(section: &str, field: &Field<'_>, name: &str, report: &mut Report) {
    let is_extension = section.is_empty() && name.starts_with("x-");
    let Some(key) = keys_of(section).find(|key| key.name == name) else {
        if !is_extension {
            report.mistake(unknown_key(section, field, name));
        }
        return;
    };
    if let Support::NoEffect { help } = key.support {
        let message = format!("`{name}` has no effect");
        report.warn(Finding::new(field.key_at, &field.path, message).help(help));
    }
}

fn unknown_key(section: &str, field: &Field<'_>, name: &str) -> Finding {
    let finding = Finding::new(field.key_at, &field.path, format!("unknown key `{}`", shorten(name)));
    if let Some(near) = nearest(name, keys_of(section).map(|key| key.name)) {
        return finding.help(format!("did you mean `{near}`?"));
    }
    if section == "env" {
        return finding.help("beside `clear`, `secret` and `tags`, variables go under `clear`");
    }
    // The usual reason otherwise: one level of indentation too few or too many.
    let elsewhere = |key: &&crate::reference::Key| key.name == name && key.section != section;
    match crate::reference::KEYS.iter().find(elsewhere) {
        Some(key) if key.section.is_empty() => {
            finding.help(format!("`{name}` is a key of the root of the file"))
        }
        Some(key) => finding.help(format!("`{name}` is a key of `{}`", key.section)),
        None => match nearest(name, crate::reference::KEYS.iter().map(|key| key.name)) {
            Some(near) => finding.help(format!("did you mean `{near}`, a key of another section?")),
            None => finding,
        },
    }
}

/// What a text most likely means as an integer: `"30"`, or `1m30s` in seconds.
fn as_integer(text: &str) -> Option<u64> {
    let seconds = || crate::quantity::parse_duration(text).ok().filter(|time| time.subsec_nanos() == 0);
    text.parse().ok().or_else(|| seconds().filter(|_| text.ends_with('s')).map(|time| time.as_secs()))
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}/{key}") }
}
