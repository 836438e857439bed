use std::fmt;

use freehold_model::{Diagnose, ErrorKind};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::source::{Place, Source, lines};

/// How many columns of a long line a snippet shows.
const SNIPPET_COLUMNS: usize = 100;

/// One thing that is wrong, or surprising, in a deploy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file's path as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// The keys down to the value, joined by `/`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, without a full stop.
    pub message: String,
    /// The line itself; none where there is nothing to show or it should not be shown.
    pub snippet: Option<Snippet>,
    /// What to write instead.
    pub help: Option<String>,
}

/// The line of a mistake, ready for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The text; tabs are blanks and control characters are replaced.
    pub text: String,
    /// How many columns of a terminal stand before the mistake.
    pub indent: usize,
    /// How many columns the mistake is wide, at least 1.
    pub width: usize,
}

impl Snippet {
    fn of_line(line: &str, column: usize, width: usize) -> Self {
        let shown: Vec<char> = line.chars().map(printable).collect();
        let start = column.saturating_sub(1).min(shown.len());
        let end = start.saturating_add(width).min(shown.len());
        // A long line is cut to a window that begins a little before the mistake.
        let from = if shown.len() > SNIPPET_COLUMNS { start.saturating_sub(SNIPPET_COLUMNS / 2) } else { 0 };
        let text =
            |range: std::ops::Range<usize>| shown.get(range).unwrap_or_default().iter().collect::<String>();
        let to = shown.len().min(from.saturating_add(SNIPPET_COLUMNS));
        let before = if from > 0 { "…" } else { "" };
        let after = if to < shown.len() { "…" } else { "" };
        Self {
            text: format!("{before}{}{after}", text(from..to)),
            indent: before.width() + text(from..start).width(),
            width: text(start..end.min(to)).width().max(1),
        }
    }
}

/// Keeps what a terminal shows in known columns: no tabs, no control or zero-width characters.
fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        other if other.width().is_none_or(|width| width == 0) => '\u{fffd}',
        other => other,
    }
}

impl Mistake {
    pub(crate) fn locate(
        place: Place,
        source: &Source<'_>,
        (key, message): (&str, &str),
        help: Option<&str>,
    ) -> Self {
        let snippet = lines(source.text)
            .get(place.line.saturating_sub(1))
            .filter(|_| place.width > 0)
            .map(|line| Snippet::of_line(line, place.column, place.width));
        let clean = |text: &str| text.chars().map(printable).collect::<String>();
        Self {
            file: source.path.to_owned(),
            line: place.line,
            column: place.column,
            key: clean(key),
            message: clean(message),
            snippet,
            help: help.map(clean),
        }
    }

    /// Returns the mistake as plain text of one to four lines, without a line break at the end.
    #[must_use]
    pub fn render(&self) -> String {
        let Self { file, line, column, key, message, snippet, help } = self;
        let separator = if key.is_empty() { "" } else { ": " };
        let mut lines = vec![format!("{file}:{line}:{column}: {key}{separator}{message}")];
        let gutter = line.to_string().len().max(4);
        if let Some(Snippet { text, indent, width }) = snippet {
            lines.push(format!("{line:>gutter$} | {text}"));
            lines.push(format!("{:gutter$} | {}{}", "", " ".repeat(*indent), "^".repeat(*width)));
        }
        if let Some(help) = help {
            lines.push(format!("{:gutter$} = help: {help}", ""));
        }
        lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
    }
}

/// Every mistake of a deploy file, ordered by file and position; there is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<Mistake>);

impl ConfigErrors {
    pub(crate) fn new(mistakes: Vec<Mistake>) -> Self {
        Self(mistakes)
    }

    /// Returns the mistakes.
    #[must_use]
    pub fn mistakes(&self) -> &[Mistake] {
        &self.0
    }

    /// Returns all mistakes as plain text, with an empty line between two.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.iter().map(Mistake::render).collect::<Vec<_>>().join("\n\n")
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.0.len() == 1 { "mistake" } else { "mistakes" };
        write!(formatter, "{} {noun} in the configuration\n\n{}", self.0.len(), self.render())
    }
}

impl std::error::Error for ConfigErrors {}

impl Diagnose for ConfigErrors {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Configuration
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_wide_characters() {
        let snippet = Snippet::of_line("a: 日本 x", 7, 1);
        assert_eq!((snippet.indent, snippet.width), (8, 1));
        let wide = Snippet::of_line("a: 日本 x", 4, 2);
        assert_eq!((wide.indent, wide.width), (3, 4));
    }

    #[test]
    fn a_long_line_is_cut_around_the_mistake() {
        let line = format!("{}bad{}", "x".repeat(500), "y".repeat(500));
        let snippet = Snippet::of_line(&line, 501, 3);
        assert_eq!(snippet.text.chars().skip(snippet.indent).take(3).collect::<String>(), "bad");
        assert!(snippet.text.width() <= SNIPPET_COLUMNS + 2);
    }

    #[test]
    fn control_characters_never_reach_a_terminal() {
        assert_eq!(Snippet::of_line("a\t\u{1b}[31m\u{200b}", 1, 1).text, "a \u{fffd}[31m\u{fffd}");
    }
}
