//! A YAML text as a tree whose every key and value knows its place.

mod build;
mod merge;
mod scalar;

pub(crate) use build::build;
pub(crate) use merge::merge;
pub(crate) use scalar::{Scalar, ScalarKind, print_float, shorten};

use crate::source::Place;

/// A value with its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: Place,
    pub(crate) value: Value,
}

/// What a value can be.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    /// Keys are unique and in the order of the file. A key is always the text that was written, also where YAML 1.1
    /// would make a boolean or number of it (`on`, `NO`): a variable called `NO` is called `NO`.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: Place,
    pub(crate) value: Node,
}

impl Node {
    pub(crate) fn empty_map(at: Place) -> Self {
        Self { at, value: Value::Map(Vec::new()) }
    }

    pub(crate) fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|entry| entry.key == key)
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(Scalar { kind: ScalarKind::Null, .. }))
    }

    /// Says what the value is, for "…, not a list".
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
            Value::Scalar(scalar) => scalar.describe(),
        }
    }
}
