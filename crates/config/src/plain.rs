//! The values of a deploy file as they stand in it, and how Ruby prints them.

mod print;

use std::fmt;

use serde_json::{Number, Value as Json};

use crate::yaml::{Node, ScalarKind, Value};

/// A value of the merged files, before anything is made of it.
#[derive(Clone, PartialEq)]
pub enum Plain {
    /// Nothing.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A whole number.
    Integer(i128),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
    /// A date or time, as it is written.
    Date(String),
    /// A symbol of Ruby, without its colon; never in a file, but in what Kamal prints.
    Symbol(String),
    /// A list.
    List(Vec<Plain>),
    /// Keys, texts or symbols, and their values, in their order.
    Map(Vec<(Plain, Plain)>),
}

impl Plain {
    /// Makes a text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Makes a list of texts.
    pub fn texts(texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }

    /// Makes a map whose keys are symbols.
    #[must_use]
    pub fn symbols<const N: usize>(entries: [(&str, Option<Self>); N]) -> Self {
        let entry =
            |(key, value): (&str, Option<Self>)| value.map(|value| (Self::Symbol(key.to_owned()), value));
        Self::Map(entries.into_iter().filter_map(entry).collect())
    }

    /// Returns the value of a key, if this is a map that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.iter().find(|(name, _)| name.key() == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Prints it as YAML, as Ruby does.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        print::document(self)
    }

    /// Makes JSON of it; symbols become texts.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Boolean(value) => Json::Bool(*value),
            // Readers of JSON know no larger ones.
            Self::Integer(value) => {
                i64::try_from(*value).map_or_else(|_| Json::String(value.to_string()), Json::from)
            }
            Self::Float(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
            Self::Text(text) | Self::Date(text) | Self::Symbol(text) => Json::String(text.clone()),
            Self::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Self::Map(entries) => {
                let entry = |(key, value): &(Self, Self)| (key.key().to_owned(), value.to_json());
                Json::Object(entries.iter().map(entry).collect())
            }
        }
    }

    pub(crate) fn of(node: &Node) -> Self {
        match &node.value {
            Value::List(items) => Self::List(items.iter().map(Self::of).collect()),
            Value::Map(entries) => Self::Map(
                entries.iter().map(|entry| (Self::text(&entry.key), Self::of(&entry.value))).collect(),
            ),
            Value::Scalar(scalar) => match &scalar.kind {
                ScalarKind::Null => Self::Null,
                ScalarKind::Boolean(value) => Self::Boolean(*value),
                ScalarKind::Integer(value) => Self::Integer(*value),
                ScalarKind::Float(value) => Self::Float(*value),
                ScalarKind::Date => Self::Date(scalar.raw.clone()),
                ScalarKind::Text(text) => Self::text(text),
            },
        }
    }

    fn key(&self) -> &str {
        match self {
            Self::Text(text) | Self::Symbol(text) => text,
            _ => "",
        }
    }
}

/// Passwords may stand in a deploy file.
impl fmt::Debug for Plain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Plain([redacted])")
    }
}
