//! The table of every key of the deploy file, and what is written from it.

mod markdown;
mod page;
mod schema;
mod table;

pub use markdown::reference_markdown;
pub use page::{docs, docs_pages};
pub use schema::json_schema;
pub(crate) use table::KEYS;

/// One key of one section.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// The keys down to the section, joined by `/`; empty for the root.
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What an absent key means; empty for nothing.
    pub(crate) default: &'static str,
    /// One sentence.
    pub(crate) doc: &'static str,
    /// A value in YAML that differs from the default; empty for sections.
    pub(crate) example: &'static str,
    pub(crate) support: Support,
}

/// What may stand at a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Boolean,
    /// A map from any text to text.
    TextMap,
    /// A map with the keys of a section.
    Section(&'static str),
    List(&'static Kind),
    /// A list of hosts, each with or without tags.
    Hosts,
    /// A map from names to something.
    MapOf(&'static Kind),
    Either(&'static [Kind]),
    Anything,
}

/// Whether a key acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    Full,
    /// Kamal accepts the key; here nothing depends on it, which a warning says.
    NoEffect {
        help: &'static str,
    },
}

impl Kind {
    /// Returns the name for a person: `string`, `list of strings`, `boolean or map`.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Text => "string".to_owned(),
            Self::Integer => "integer".to_owned(),
            Self::Boolean => "boolean".to_owned(),
            Self::TextMap => "map of strings".to_owned(),
            Self::Section(_) => "map".to_owned(),
            Self::List(item) => format!("list of {}", item.plural()),
            Self::MapOf(item) => format!("map of {}", item.plural()),
            Self::Either(kinds) => kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" or "),
            Self::Hosts => "list of hosts".to_owned(),
            Self::Anything => "anything".to_owned(),
        }
    }

    fn plural(self) -> String {
        match self {
            Self::Either(kinds) => kinds.iter().map(|kind| kind.plural()).collect::<Vec<_>>().join(" or "),
            Self::Anything => "anything".to_owned(),
            Self::Hosts => "lists of hosts".to_owned(),
            one => format!("{}s", one.name()),
        }
    }
}

/// Returns the keys of a section in the order of the table.
pub(crate) fn keys_of(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section)
}

/// Returns the name nearest to a word, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    names
        .map(|name| (distance(word, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// The edit distance (Levenshtein, a swap of neighbours counts 1), with `-` and `_` the same.
fn distance(one: &str, other: &str) -> usize {
    let letters =
        |text: &str| text.chars().take(64).map(|c| if c == '-' { '_' } else { c }).collect::<Vec<_>>();
    let (one, other) = (letters(one), letters(other));
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&row, j) + usize::from(a != b)).min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let is_swap = i > 0 && j > 0 && one.get(i - 1) == Some(b) && other.get(j - 1) == Some(a);
            if is_swap {
                best = best.min(at(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{table::SECTIONS, *};

    #[test]
    fn the_nearest_name_is_found() {
        let names = ["service", "servers", "proxy", "healthcheck", "app_port"];
        for (word, expected) in [
            ("sevice", Some("service")),
            ("app-port", Some("app_port")),
            ("helthcheck", Some("healthcheck")),
            ("porxy", Some("proxy")),
            ("banana", None),
        ] {
            assert_eq!(nearest(word, names.into_iter()), expected, "{word}");
        }
    }

    #[test]
    fn the_table_names_each_key_once_and_each_section() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(SECTIONS.iter().any(|section| section.name == key.section), "{}", key.section);
            let same = KEYS.iter().position(|other| (other.section, other.name) == (key.section, key.name));
            assert_eq!(same, Some(index), "{}/{}", key.section, key.name);
            assert!(key.doc.ends_with('.'), "{}/{}", key.section, key.name);
        }
    }
}
