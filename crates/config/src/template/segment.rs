//! A template as a row of texts and tags.

/// A stretch of a template. Lines count from 1, columns from 0, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) kind: Kind<'a>,
}

/// What a stretch of a template is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// Copied as it stands.
    Text(&'a str),
    /// `<%%`: a `<%` that is meant.
    Opening,
    /// `<%= … %>`. The width is that of the tag in its first line.
    Value { code: &'a str, width: usize },
    /// `<% … %>`.
    Code { code: &'a str, width: usize },
}

/// Where a tag begins that has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unclosed {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Splits a template as ERB does with the trim mode `-`.
pub(super) fn segments(text: &str) -> (Vec<Segment<'_>>, Option<Unclosed>) {
    let mut cursor = Cursor { rest: text, line: 1, column: 0, is_comment: false };
    let mut found = Vec::new();
    while let Some(at) = cursor.rest.find("<%") {
        let (before, tail) = cursor.rest.split_at(at);
        // `<%-` removes the blanks between the start of the line and itself.
        let kept = before.trim_end_matches([' ', '\t']);
        let is_at_start = if kept.is_empty() { cursor.column == 0 } else { kept.ends_with('\n') };
        let keep_to = if tail.starts_with("<%-") && is_at_start { kept.len() } else { at };
        cursor.copy(keep_to, &mut found);
        cursor.skip(at - keep_to);
        if tail.starts_with("<%%") {
            found.push(cursor.segment(Kind::Opening));
            cursor.skip(3);
            continue;
        }
        let Some(length) = tail.find("%>") else {
            return (found, Some(Unclosed { line: cursor.line, column: cursor.column }));
        };
        found.extend(tag(&mut cursor, length));
    }
    let all = cursor.rest.len();
    cursor.copy(all, &mut found);
    (found, None)
}

/// Steps over the tag at the cursor, whose `%>` is so many bytes away.
fn tag<'a>(cursor: &mut Cursor<'a>, length: usize) -> Option<Segment<'a>> {
    let inside = cursor.rest.get(2..length).unwrap_or_default();
    let trims_after = inside.ends_with('-');
    let code = inside.strip_suffix('-').unwrap_or(inside);
    let first_line = inside.lines().next().unwrap_or_default();
    let is_one_line = first_line == inside;
    let width = 2 + first_line.chars().count() + if is_one_line { 2 } else { 0 };
    let kind = if code.starts_with('#') {
        None
    } else if let Some(code) = code.strip_prefix('=') {
        // A line that YAML does not read cannot matter, and generated files have values there that cannot be had.
        (!(cursor.is_comment && is_one_line)).then_some(Kind::Value { code, width })
    } else {
        Some(Kind::Code { code: code.strip_prefix('-').unwrap_or(code), width })
    };
    let segment = kind.map(|kind| cursor.segment(kind));
    cursor.skip(length + 2);
    if trims_after {
        let end = ["\r\n", "\n"].iter().find(|end| cursor.rest.starts_with(**end));
        cursor.skip(end.map_or(0, |end| end.len()));
    }
    segment
}

/// The part of a template that was not looked at yet.
struct Cursor<'a> {
    rest: &'a str,
    line: usize,
    column: usize,
    /// Whether the line so far is a YAML comment.
    is_comment: bool,
}

impl<'a> Cursor<'a> {
    fn segment(&self, kind: Kind<'a>) -> Segment<'a> {
        Segment { line: self.line, column: self.column, kind }
    }

    fn copy(&mut self, bytes: usize, found: &mut Vec<Segment<'a>>) {
        let text = self.rest.get(..bytes).unwrap_or_default();
        if !text.is_empty() {
            found.push(self.segment(Kind::Text(text)));
        }
        self.skip(bytes);
    }

    /// Steps over so many bytes.
    fn skip(&mut self, bytes: usize) {
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
    }
}
