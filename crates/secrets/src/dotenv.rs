//! The grammar of secrets files: that of the Ruby library `dotenv` 3, which Kamal uses (kamal-compat §11.2).
//!
//! The library is one regular expression applied over and over; what it backtracks into is followed here to the
//! letter, because files were written by trial until they worked.

use secrecy::zeroize::Zeroizing;

/// One definition, in the order of the file.
pub(crate) struct Definition {
    /// The line of the key, from 1.
    pub(crate) line: usize,
    pub(crate) key: String,
    pub(crate) is_export: bool,
    /// None if nothing stands after the key or its separator.
    pub(crate) value: Option<Value>,
}

/// A value without its quotes; escapes and substitutions are still to be done.
pub(crate) struct Value {
    pub(crate) text: Zeroizing<String>,
    pub(crate) quote: Quote,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quote {
    Single,
    Double,
    Bare,
}

/// What a file holds.
pub(crate) struct File {
    pub(crate) definitions: Vec<Definition>,
    /// The lines that are neither definition, comment nor blank. The library passes them over.
    pub(crate) ignored: Vec<usize>,
}

/// Reads a file.
pub(crate) fn parse(text: &str) -> File {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = Zeroizing::new(text.replace("\r\n", "\n").replace('\r', "\n"));
    let mut file = File { definitions: Vec::new(), ignored: Vec::new() };
    let mut line = 1;
    let mut rest: &str = &text;
    while !rest.is_empty() {
        let passed = match definition(rest) {
            Some(Match { key_at, length, mut definition }) => {
                definition.line = line + breaks(rest.get(..key_at).unwrap_or_default());
                file.definitions.push(definition);
                length
            }
            None => {
                let end = rest.find('\n').unwrap_or(rest.len());
                let first = rest.get(..end).unwrap_or_default().trim_start();
                if !first.is_empty() && !first.starts_with('#') {
                    file.ignored.push(line);
                }
                end
            }
        };
        // A match ends at the end of a line.
        let next = (passed + 1).min(rest.len());
        line += breaks(rest.get(..next).unwrap_or_default());
        rest = rest.get(next..).unwrap_or_default();
    }
    file
}

fn breaks(text: &str) -> usize {
    text.matches('\n').count()
}

struct Match {
    /// Where the key begins, in bytes.
    key_at: usize,
    /// Where the match ends: at a line break or the end of the text.
    length: usize,
    definition: Definition,
}

/// Matches one definition that begins at the start of a line, blank lines before it included.
fn definition(text: &str) -> Option<Match> {
    let start = text.len() - text.trim_start_matches(is_blank).len();
    let begin = text.get(start..)?;
    let exported = begin.strip_prefix("export").and_then(|rest| {
        let trimmed = rest.trim_start_matches(is_blank);
        (trimmed.len() < rest.len()).then(|| text.len() - trimmed.len())
    });
    // `export = 5` defines the key `export`.
    exported.and_then(|key_at| assignment(text, key_at, true)).or_else(|| assignment(text, start, false))
}

fn assignment(text: &str, key_at: usize, is_export: bool) -> Option<Match> {
    let begin = text.get(key_at..)?;
    let key_length =
        begin.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).unwrap_or(begin.len());
    let key = begin.get(..key_length).filter(|key| !key.is_empty())?;
    let after_key = key_at + key_length;
    let (value, length) = match separator(text, after_key) {
        Some(at) => value(text, at)?,
        None => (None, line_end(text, after_key)?),
    };
    let definition = Definition { line: 0, key: key.to_owned(), is_export, value };
    Some(Match { key_at, length, definition })
}

/// Returns where the value may begin, after `=` or `: `.
fn separator(text: &str, at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let trimmed = rest.trim_start_matches(is_blank);
    if trimmed.starts_with('=') {
        return Some(text.len() - trimmed.len() + 1);
    }
    rest.strip_prefix(':').filter(|rest| rest.starts_with(is_blank)).map(|_| at + 2)
}

/// Reads the value that begins at a place, and returns where its line ends.
fn value(text: &str, at: usize) -> Option<(Option<Value>, usize)> {
    let rest = text.get(at..)?;
    let trimmed = rest.trim_start_matches(is_blank);
    let open = text.len() - trimmed.len();
    for quote in ['\'', '"'] {
        if !trimmed.starts_with(quote) {
            continue;
        }
        for close in closing_quotes(trimmed, quote) {
            if let Some(end) = line_end(text, open + close + 1) {
                return Some((Some(unquote(trimmed.get(..=close)?)), end));
            }
        }
    }
    let bare = rest.get(..rest.find(['#', '\n']).unwrap_or(rest.len()))?;
    let value = (!bare.is_empty()).then(|| unquote(bare));
    Some((value, line_end(text, at + bare.len())?))
}

/// Returns where a quoted text may end, in the order in which the regular expression tries: first at the first quote
/// without a backslash before it, then at those with one, from the last to the first.
fn closing_quotes(text: &str, quote: char) -> Vec<usize> {
    let mut escaped = Vec::new();
    let mut previous = quote;
    for (at, character) in text.char_indices().skip(1) {
        if character == quote {
            if previous != '\\' {
                escaped.push(at);
                break;
            }
            escaped.push(at);
        }
        previous = character;
    }
    escaped.reverse();
    escaped
}

/// Returns the end of the line if nothing but blanks and a comment stand before it; blank lines may be passed.
fn line_end(text: &str, at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let blanks = rest.len() - rest.trim_start_matches(is_blank).len();
    let after = rest.get(blanks..)?;
    if after.is_empty() {
        return Some(text.len());
    }
    if after.starts_with('#') {
        return Some(at + blanks + after.find('\n').unwrap_or(after.len()));
    }
    rest.get(..blanks)?.rfind('\n').map(|line_break| at + line_break)
}

/// Removes the quotes around a whole value.
fn unquote(text: &str) -> Value {
    let text = text.trim_matches(is_blank);
    let inside = |quote| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let (text, quote) = match (inside('\''), inside('"')) {
        (Some(text), _) => (text, Quote::Single),
        (None, Some(text)) => (text, Quote::Double),
        (None, None) => (text, Quote::Bare),
    };
    Value { text: Zeroizing::new(text.to_owned()), quote }
}

/// Ruby's `\s`.
fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, Option<String>, Quote)> {
        parse(text)
            .definitions
            .into_iter()
            .map(|definition| {
                let quote = definition.value.as_ref().map_or(Quote::Bare, |value| value.quote);
                (definition.line, definition.key, definition.value.map(|value| value.text.to_string()), quote)
            })
            .collect()
    }

    fn one(text: &str) -> Option<String> {
        let found = pairs(text);
        assert_eq!(found.len(), 1, "{text}");
        found[0].2.clone()
    }

    #[test]
    fn values_are_those_of_dotenv() {
        for (text, value) in [
            ("A=plain value # trailing", Some("plain value")),
            ("A = spaced  ", Some("spaced")),
            ("export A=x", Some("x")),
            ("A: yaml", Some("yaml")),
            ("A=", None),
            ("A", None),
            ("A=a\"b\"c", Some("a\"b\"c")),
            ("A='it''s'", Some("it''s")),
            ("A=a#b", Some("a")),
            ("A='a#b' # c", Some("a#b")),
            ("A=\"x\ny\"", Some("x\ny")),
            ("A='x\\'", Some("x\\")),
            ("A=\"x\\\"y\"", Some("x\\\"y")),
            ("A=\n'next line'", Some("next line")),
            ("A='open", Some("'open")),
            ("A='a' b", Some("'a' b")),
            ("A=\"", Some("\"")),
            ("  A=x", Some("x")),
            ("export = 5", Some("5")),
            ("\u{feff}A=x\r\n", Some("x")),
        ] {
            assert_eq!(one(text).as_deref(), value, "{text:?}");
        }
    }

    #[test]
    fn lines_that_do_not_parse_are_passed_over() {
        let file = parse("# comment\n\nA=1\nnot a line\nA:no-blank\n=x\nB=2\n  - x\n");
        let keys: Vec<_> =
            file.definitions.iter().map(|definition| (definition.line, definition.key.as_str())).collect();
        assert_eq!(keys, [(3, "A"), (7, "B")]);
        assert_eq!(file.ignored, [4, 5, 6, 8]);
    }

    #[test]
    fn lines_are_counted_through_quoted_values() {
        let found = pairs("\n\nA=\"1\n2\n3\"\n# x\nB='b'\nC=\n\nD=d");
        let lines: Vec<_> = found.iter().map(|(line, key, ..)| (*line, key.as_str())).collect();
        assert_eq!(lines, [(3, "A"), (7, "B"), (8, "C"), (10, "D")]);
        assert_eq!(found[1].3, Quote::Single);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(?s)[A-Z=:'\"\\\\ \n#$()é.]{0,60}") {
            let file = parse(&text);
            prop_assert!(file.definitions.iter().all(|definition| !definition.key.is_empty()));
        }

        #[test]
        fn single_quotes_keep_anything(value in "(?s)[^'\\\\]{0,40}") {
            let text = format!("A='{}'", value);
            prop_assert_eq!(one(&text), Some(value.replace("\r\n", "\n").replace('\r', "\n")));
        }
    }
}
