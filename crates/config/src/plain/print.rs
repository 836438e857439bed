//! YAML as Ruby's Psych writes it, so that scripts that read what `kamal config` prints go on working.

use super::Plain;
use crate::yaml::{Scalar, ScalarKind, print_float};

pub(super) fn document(value: &Plain) -> String {
    let mut text = "---".to_owned();
    match value {
        Plain::Map(entries) if !entries.is_empty() => {
            text.push('\n');
            map(&mut text, entries, 0, 0);
        }
        Plain::List(items) if !items.is_empty() => {
            text.push('\n');
            list(&mut text, items, 0, 0);
        }
        other => scalar_line(&mut text, other, 0),
    }
    text
}

/// Writes a map; its first line is indented by `first`, as it may stand behind a dash.
fn map(text: &mut String, entries: &[(Plain, Plain)], first: usize, indent: usize) {
    for (index, (key, value)) in entries.iter().enumerate() {
        pad(text, if index == 0 { first } else { indent });
        text.push_str(&scalar(key));
        text.push(':');
        match value {
            Plain::Map(entries) if !entries.is_empty() => {
                text.push('\n');
                map(text, entries, indent + 2, indent + 2);
            }
            // Psych does not indent lists in maps.
            Plain::List(items) if !items.is_empty() => {
                text.push('\n');
                list(text, items, indent, indent);
            }
            other => scalar_line(text, other, indent),
        }
    }
}

fn list(text: &mut String, items: &[Plain], first: usize, indent: usize) {
    for (index, item) in items.iter().enumerate() {
        pad(text, if index == 0 { first } else { indent });
        text.push('-');
        match item {
            Plain::Map(entries) if !entries.is_empty() => {
                text.push(' ');
                map(text, entries, 0, indent + 2);
            }
            Plain::List(items) if !items.is_empty() => {
                text.push(' ');
                list(text, items, 0, indent + 2);
            }
            other => scalar_line(text, other, indent),
        }
    }
}

fn pad(text: &mut String, indent: usize) {
    text.extend(std::iter::repeat_n(' ', indent));
}

fn scalar_line(text: &mut String, value: &Plain, indent: usize) {
    match value {
        Plain::Null => {}
        Plain::Text(value) if is_block(value) => {
            let mark = match (value.ends_with('\n'), value.ends_with("\n\n")) {
                (false, _) => "|-",
                (true, false) => "|",
                (true, true) => "|+",
            };
            text.push_str(&format!(" {mark}"));
            for line in value.strip_suffix('\n').unwrap_or(value).split('\n') {
                text.push('\n');
                if !line.is_empty() {
                    pad(text, indent + 2);
                    text.push_str(line);
                }
            }
        }
        other => text.push_str(&format!(" {}", scalar(other))),
    }
    text.push('\n');
}

/// Texts of several lines stand as they are, unless a reader would take them for something else.
fn is_block(text: &str) -> bool {
    text.trim_end_matches('\n').contains('\n')
        && !text.starts_with([' ', '\n'])
        && !text.chars().any(|c| c.is_control() && c != '\n')
}

fn scalar(value: &Plain) -> String {
    match value {
        Plain::Null => "''".to_owned(),
        Plain::Boolean(value) => value.to_string(),
        Plain::Integer(value) => value.to_string(),
        Plain::Float(value) => print_float(*value),
        Plain::Date(text) => text.clone(),
        Plain::Symbol(text) => format!(":{text}"),
        Plain::Text(text) => quoted(text),
        Plain::List(_) => "[]".to_owned(),
        Plain::Map(_) => "{}".to_owned(),
    }
}

/// Quotes a text where Psych does: where it would be read as something else, where YAML needs it, and where it begins
/// with a sign.
fn quoted(text: &str) -> String {
    let begins_with_sign = text.starts_with(|c: char| !(c.is_alphanumeric() || c == '_'));
    let needs_escapes = text.chars().any(char::is_control);
    let is_letter = matches!(text, "y" | "Y" | "n" | "N");
    if needs_escapes || is_letter || (begins_with_sign && !text.contains('"')) {
        return double(text);
    }
    let reads_as_text = matches!(Scalar::plain(text).kind, ScalarKind::Text(read) if read == text);
    let breaks_yaml = text.is_empty()
        || text.starts_with(|c: char| "-?:,[]{}#&*!|>'\"%@` ".contains(c))
        || text.ends_with([' ', ':'])
        || text.contains(": ")
        || text.contains(" #");
    if reads_as_text && !breaks_yaml { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

fn double(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '\u{1b}' => quoted.push_str("\\e"),
            control if control.is_control() => quoted.push_str(&format!("\\x{:02X}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_where_ruby_quotes_them() {
        for (text, expected) in [
            ("app", "app"),
            ("--volume", "\"--volume\""),
            ("max-size=\"10m\"", "max-size=\"10m\""),
            ("data:/data", "data:/data"),
            ("1.2.3.4", "1.2.3.4"),
            ("10", "'10'"),
            ("0600", "'0600'"),
            ("true", "'true'"),
            ("no", "'no'"),
            ("y", "\"y\""),
            ("", "''"),
            ("127.0.0.1:5432:5432", "127.0.0.1:5432:5432"),
            ("5432:5432", "5432:5432"),
            ("12:30", "'12:30'"),
            ("a: b", "'a: b'"),
            ("it's", "it's"),
            ("a #b", "'a #b'"),
            ("/data", "\"/data\""),
            ("a\tb", "\"a\\tb\""),
            ("\u{e4}\u{f6}", "\u{e4}\u{f6}"),
        ] {
            assert_eq!(quoted(text), expected, "{text}");
        }
    }

    #[test]
    fn maps_and_lists_are_laid_out_as_by_ruby() {
        let text = |text: &str| Plain::text(text);
        let value = Plain::symbols([
            ("roles", Some(Plain::texts(["job", "web"]))),
            ("version", None),
            ("volume_args", Some(Plain::List(Vec::new()))),
            ("ssh_options", Some(Plain::symbols([("port", Some(Plain::Integer(22)))]))),
            ("empty", Some(Plain::Map(Vec::new()))),
            ("nothing", Some(Plain::Null)),
            (
                "accessories",
                Some(Plain::Map(vec![(
                    text("db"),
                    Plain::Map(vec![
                        (
                            text("files"),
                            Plain::List(vec![
                                text("a:/b"),
                                Plain::Map(vec![(text("local"), text("k")), (text("mode"), text("0600"))]),
                            ]),
                        ),
                        (text("note"), text("one\ntwo\n")),
                        (text("end"), text("one\ntwo")),
                    ]),
                )])),
            ),
        ]);
        let expected = "---\n:roles:\n- job\n- web\n:volume_args: []\n:ssh_options:\n  :port: 22\n:empty: {}\n\
            :nothing:\n:accessories:\n  db:\n    files:\n    - a:/b\n    - local: k\n      mode: '0600'\n    \
            note: |\n      one\n      two\n    end: |-\n      one\n      two\n";
        assert_eq!(value.to_yaml(), expected);
        assert_eq!(Plain::text("x").to_yaml(), "--- x\n");
    }
}
