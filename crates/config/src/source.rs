use std::collections::BTreeMap;

use freehold_model::Destination;

use crate::template::Surroundings;

/// One file: its path as a person knows it, and its text.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The path, shown in mistakes; nothing is read from it.
    pub path: &'a str,
    /// The whole text.
    pub text: &'a str,
}

/// Everything that decides about a project.
#[derive(Debug, Clone)]
pub struct Sources<'a> {
    /// The deploy file.
    pub base: Source<'a>,
    /// The chosen destination with its file, which is merged over the deploy file.
    pub destination: Option<(Destination, Source<'a>)>,
    /// The variables that templates see; `KAMAL_DESTINATION` is always the destination, whatever stands here.
    pub environment: &'a BTreeMap<String, String>,
    /// What templates may reach beyond that.
    pub surroundings: &'a dyn Surroundings,
}

/// A stretch of one line of one file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// 0 is the deploy file, 1 the destination's file.
    pub(crate) file: usize,
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// In characters; 0 shows no snippet.
    pub(crate) width: usize,
}

impl Place {
    /// The file as a whole, for what is missing from it.
    pub(crate) const fn file(file: usize) -> Self {
        Self { file, line: 1, column: 1, width: 0 }
    }

    /// The same place without a snippet, for lines that may hold what nobody should see.
    pub(crate) const fn hidden(self) -> Self {
        Self { width: 0, ..self }
    }
}

/// Splits a text into its lines as YAML counts them: at `\n`, `\r\n` and `\r`.
pub(crate) fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\n', '\r']) {
        let (line, tail) = rest.split_at(at);
        lines.push(line);
        rest = tail.strip_prefix("\r\n").unwrap_or_else(|| tail.get(1..).unwrap_or_default());
    }
    lines.push(rest);
    lines
}
