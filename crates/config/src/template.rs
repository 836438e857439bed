//! ERB, the part of it that needs no Ruby: `ENV` look-ups and comments.
//!
//! Anything else is a mistake that shows the expression; it is never copied into the YAML text as it stands.

mod expression;

use std::collections::BTreeMap;

use crate::report::{Finding, Report};
use crate::source::{Place, lines};
use expression::{Problem, evaluate};

/// A text after its expressions were replaced, with the way back to the places of the original.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    /// For each line of the text, the characters at which a piece begins.
    lines: Vec<Vec<Piece>>,
    /// The widths of the lines of the original, in characters.
    original: Vec<usize>,
}

/// Where the characters from `column` on come from. Columns count from 0 here, lines from 1.
#[derive(Debug, Clone, Copy)]
struct Piece {
    column: usize,
    from_line: usize,
    from_column: usize,
    /// Copied character by character, or put in the place of an expression.
    is_copied: bool,
}

impl Rendered {
    /// Returns where a stretch of the rendered text stands in the file.
    pub(crate) fn place(&self, file: usize, line: usize, column: usize, width: usize) -> Place {
        let pieces = self.lines.get(line.saturating_sub(1)).or(self.lines.last());
        let piece =
            pieces.and_then(|pieces| pieces.iter().rev().find(|piece| piece.column <= column).copied());
        let Some(piece) = piece else { return Place { file, line, column: column + 1, width } };
        let offset = if piece.is_copied { column - piece.column } else { 0 };
        let from_column = piece.from_column + offset;
        let length = self.original.get(piece.from_line.saturating_sub(1)).copied().unwrap_or_default();
        let width = width.min(length.saturating_sub(from_column)).max(1);
        Place { file, line: piece.from_line, column: from_column + 1, width }
    }
}

/// What expressions can ask for.
pub(crate) struct Scope<'a> {
    pub(crate) environment: &'a BTreeMap<String, String>,
    /// The value of `KAMAL_DESTINATION`.
    pub(crate) destination: Option<&'a str>,
}

impl Scope<'_> {
    fn variable(&self, name: &str) -> Option<&str> {
        if name == "KAMAL_DESTINATION" {
            return self.destination;
        }
        self.environment.get(name).map(String::as_str)
    }
}

/// Replaces the expressions of a text; none if one of them cannot be evaluated, which the report then says.
pub(crate) fn render(text: &str, file: usize, scope: &Scope<'_>, report: &mut Report) -> Option<Rendered> {
    let original = lines(text).iter().map(|line| line.chars().count()).collect();
    let mut output = Output { text: String::new(), lines: vec![Vec::new()], original, column: 0 };
    let mut cursor = Cursor { rest: text, line: 1, column: 0, is_comment: false };
    let mut is_complete = true;
    while let Some(at) = cursor.rest.find("<%") {
        let (before, _) = cursor.rest.split_at(at);
        let is_trimmed = cursor.rest.get(at..).is_some_and(|tail| tail.starts_with("<%-"));
        // `<%-` removes the blanks between the start of the line and itself.
        let kept = before.trim_end_matches([' ', '\t']);
        let keep_to = if is_trimmed && (kept.is_empty() || kept.ends_with('\n')) { kept.len() } else { at };
        output.copy(&mut cursor, keep_to);
        cursor.skip(at - keep_to);
        if cursor.rest.starts_with("<%%") {
            output.insert("<%", &cursor);
            cursor.skip(3);
        } else {
            match tag(&mut cursor, &mut output, file, scope) {
                Ok(()) => {}
                Err(Broken { finding, is_open }) => {
                    report.mistake(finding);
                    is_complete = false;
                    if is_open {
                        return None;
                    }
                }
            }
        }
    }
    let all = cursor.rest.len();
    output.copy(&mut cursor, all);
    is_complete.then(|| output.finish())
}

/// A tag that has no value.
struct Broken {
    finding: Finding,
    /// Whether the tag has no end either.
    is_open: bool,
}

/// Evaluates the tag at the cursor and steps over it.
fn tag(cursor: &mut Cursor<'_>, output: &mut Output, file: usize, scope: &Scope<'_>) -> Result<(), Broken> {
    let at = Place { file, line: cursor.line, column: cursor.column + 1, width: 2 };
    let Some(length) = cursor.rest.find("%>") else {
        let help = "close it with `%>`, or write `<%%` for a literal `<%`";
        let finding = Finding::new(at, "", "the template tag `<%` has no end").help(help);
        return Err(Broken { finding, is_open: true });
    };
    let inside = cursor.rest.get(2..length).unwrap_or_default();
    let trims_after = inside.ends_with('-');
    let inside = inside.strip_suffix('-').unwrap_or(inside);
    let first_line = inside.lines().next().unwrap_or_default();
    let is_one_line = first_line == inside;
    let end = if is_one_line { 2 + usize::from(trims_after) } else { 0 };
    let at = Place { width: 2 + first_line.chars().count() + end, ..at };
    // A line that YAML does not read cannot matter.
    let value = if (cursor.is_comment && is_one_line) || inside.starts_with('#') {
        Ok(String::new())
    } else if let Some(code) = inside.strip_prefix('=') {
        evaluate(code.trim(), scope)
    } else {
        Err(Problem::Unsupported(inside.trim_start_matches('-').trim().to_owned()))
    };
    if let Ok(value) = &value {
        output.insert(value, cursor);
    }
    cursor.skip(length + 2);
    if trims_after {
        let end = ["\r\n", "\n"].iter().find(|end| cursor.rest.starts_with(**end));
        cursor.skip(end.map_or(0, |end| end.len()));
    }
    let broken = |problem: Problem| Broken {
        finding: Finding::new(at, "", problem.message()).help(problem.help()),
        is_open: false,
    };
    value.map(|_| ()).map_err(broken)
}

/// The part of the original that was not looked at yet.
struct Cursor<'a> {
    rest: &'a str,
    line: usize,
    column: usize,
    /// Whether the line so far is a YAML comment.
    is_comment: bool,
}

impl<'a> Cursor<'a> {
    /// Steps over so many bytes and returns them.
    fn skip(&mut self, bytes: usize) -> &'a str {
        let (passed, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        let mut blank = self.column == 0 || self.is_comment;
        let mut previous = '\0';
        for character in passed.chars() {
            match character {
                '\n' if previous == '\r' => {}
                '\n' | '\r' => {
                    (self.line, self.column, self.is_comment, blank) = (self.line + 1, 0, false, true);
                }
                other => {
                    self.is_comment |= other == '#' && blank;
                    blank &= other.is_whitespace();
                    self.column += 1;
                }
            }
            previous = character;
        }
        passed
    }
}

/// The text that YAML will read.
struct Output {
    text: String,
    lines: Vec<Vec<Piece>>,
    original: Vec<usize>,
    column: usize,
}

impl Output {
    fn begin(&mut self, cursor: &Cursor<'_>, is_copied: bool) {
        let piece =
            Piece { column: self.column, from_line: cursor.line, from_column: cursor.column, is_copied };
        if let Some(line) = self.lines.last_mut() {
            line.push(piece);
        }
    }

    fn copy(&mut self, cursor: &mut Cursor<'_>, bytes: usize) {
        let mut left = bytes;
        while left > 0 {
            let part = cursor.rest.get(..left).unwrap_or(cursor.rest);
            let end = part.find(['\n', '\r']).map_or(part.len(), |end| {
                end + if part.get(end..).is_some_and(|tail| tail.starts_with("\r\n")) { 2 } else { 1 }
            });
            self.begin(cursor, true);
            let passed = cursor.skip(end);
            self.push(passed);
            left = left.saturating_sub(end.max(1));
        }
    }

    fn insert(&mut self, value: &str, cursor: &Cursor<'_>) {
        for part in value.split_inclusive('\n') {
            self.begin(cursor, false);
            self.push(part);
        }
    }

    fn push(&mut self, part: &str) {
        self.text.push_str(part);
        if part.ends_with(['\n', '\r']) {
            self.lines.push(Vec::new());
            self.column = 0;
        } else {
            self.column += part.chars().count();
        }
    }

    fn finish(self) -> Rendered {
        Rendered { text: self.text, lines: self.lines, original: self.original }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, environment: &[(&str, &str)]) -> Option<Rendered> {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut report = Report::default();
        let scope = Scope { environment: &environment, destination: Some("staging") };
        let rendered = render(text, 0, &scope, &mut report);
        assert_eq!(rendered.is_none(), report.has_mistakes());
        rendered
    }

    #[test]
    fn env_look_ups_are_replaced() {
        for (text, expected) in [
            ("a: <%= ENV[\"X\"] %>", "a: x y"),
            ("a: <%= ENV['X'] -%>\nb: 1", "a: x yb: 1"),
            ("a: <%= ENV.fetch('X') %>", "a: x y"),
            ("a: <%= ENV.fetch(\"NONE\", \"d\") %>", "a: d"),
            ("a: <%= ENV[\"NONE\"] || \"d\" %>", "a: d"),
            ("a: <%= ENV[\"EMPTY\"] || \"d\" %>", "a: "),
            ("a: <%= ENV[\"NONE\"] %>", "a: "),
            ("a: <%= ENV[\"KAMAL_DESTINATION\"] %>", "a: staging"),
            ("<%# note %>a: 1", "a: 1"),
            ("b: 1\n  <%# note -%>\na: 2", "b: 1\n  a: 2"),
            ("a: <%% b", "a: <% b"),
            ("# <%= anything.at_all %>\na: 1", "# \na: 1"),
        ] {
            let rendered = rendered(text, &[("X", "x y"), ("EMPTY", "")]).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(rendered.text, expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_a_mistake() {
        for text in [
            "<%= `id` %>",
            "<% if x %>",
            "<%= ENV.fetch(\"NONE\") %>",
            "a: <%= ENV[\"X\"]",
            "<%= ENV[\"X\"].strip %>",
        ] {
            assert!(rendered(text, &[("X", "1")]).is_none(), "{text}");
        }
    }

    #[test]
    fn places_lead_back_to_the_original() {
        let rendered = rendered("ä: <%= ENV['X'] %> z\r\nb: 2", &[("X", "long value")]).unwrap();
        assert_eq!(rendered.text, "ä: long value z\r\nb: 2");
        let at = |line, column| {
            let place = rendered.place(0, line, column, 1);
            (place.line, place.column)
        };
        assert_eq!(at(1, 0), (1, 1));
        assert_eq!(at(1, 5), (1, 4));
        assert_eq!(at(1, 14), (1, 20));
        assert_eq!(at(2, 3), (2, 4));
    }
}
