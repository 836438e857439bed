//! The text that YAML will read, with the way back to the template.

use crate::source::{Place, lines};

/// A text after its template ran.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    /// For each line of the text, the characters at which a piece begins.
    lines: Vec<Vec<Piece>>,
    /// The widths of the lines of the template, in characters.
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

/// A text in the making.
#[derive(Debug)]
pub(super) struct Output {
    text: String,
    lines: Vec<Vec<Piece>>,
    original: Vec<usize>,
    column: usize,
}

impl Output {
    pub(super) fn new(template: &str) -> Self {
        let original = lines(template).iter().map(|line| line.chars().count()).collect();
        Self { text: String::new(), lines: vec![Vec::new()], original, column: 0 }
    }

    /// Takes the text of another program that ran the template: a line is where the template has the same one.
    pub(super) fn foreign(template: &str, text: &str) -> Rendered {
        let mut output = Self::new(template);
        let originals = lines(template);
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let bare = line.trim_end_matches(['\n', '\r']);
            let same = originals.iter().skip(at).position(|original| *original == bare);
            if let Some(same) = same.filter(|_| !bare.trim().is_empty()) {
                at += same;
                output.copy(line, at + 1, 0);
            } else {
                output.insert(line, at + 1, 0);
            }
        }
        output.finish()
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    fn begin(&mut self, from_line: usize, from_column: usize, is_copied: bool) {
        let piece = Piece { column: self.column, from_line, from_column, is_copied };
        if let Some(line) = self.lines.last_mut() {
            line.push(piece);
        }
    }

    /// Copies a text that stands at a place of the template.
    pub(super) fn copy(&mut self, text: &str, line: usize, column: usize) {
        let (mut rest, mut line, mut column) = (text, line, column);
        while !rest.is_empty() {
            let end = rest.find(['\n', '\r']).map_or(rest.len(), |end| {
                end + if rest.get(end..).is_some_and(|tail| tail.starts_with("\r\n")) { 2 } else { 1 }
            });
            let (part, tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
            self.begin(line, column, true);
            self.push(part);
            (rest, line, column) = (tail, line + 1, 0);
        }
    }

    /// Puts a value in the place of the tag that stands there.
    pub(super) fn insert(&mut self, value: &str, line: usize, column: usize) {
        for part in value.split_inclusive('\n') {
            self.begin(line, column, false);
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

    pub(super) fn finish(self) -> Rendered {
        Rendered { text: self.text, lines: self.lines, original: self.original }
    }
}
