//! From the text of a value to the value: escapes, commands, variables.

use secrecy::zeroize::Zeroizing;

use crate::dotenv::{Quote, Value};

/// A stretch of a value.
pub(crate) enum Part {
    Text(Zeroizing<String>),
    Variable(String),
    /// A command without `$(` and `)`, with its variables.
    Command(Vec<Part>),
}

/// What `\n` means in double quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineBreaks {
    /// A backslash and an `n`.
    Kept,
    /// A line break, with `DOTENV_LINEBREAK_MODE=legacy`.
    Legacy,
}

/// Splits a value into its parts. What a command prints is not looked at again, unlike in Kamal: a password may hold
/// `$`.
pub(crate) fn parts(value: &Value, line_breaks: LineBreaks) -> Vec<Part> {
    let text = match value.quote {
        Quote::Single => return vec![Part::Text(value.text.clone())],
        Quote::Bare => value.text.clone(),
        Quote::Double if line_breaks == LineBreaks::Legacy => {
            Zeroizing::new(value.text.replace("\\n", "\n").replace("\\r", "\r"))
        }
        Quote::Double => Zeroizing::new(value.text.replace("\\n", "\\\\n").replace("\\r", "\\\\r")),
    };
    split(&unescape(&text), Commands::Split)
}

/// `\x` → `x`, except before `$`.
fn unescape(text: &str) -> Zeroizing<String> {
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match characters.peek() {
            Some(next) if character == '\\' && *next != '$' => {
                plain.push(*next);
                characters.next();
            }
            _ => plain.push(character),
        }
    }
    plain
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Commands {
    Split,
    /// Inside a command, which the shell will read: its own `$(…)` are the shell's.
    Keep,
}

fn split(text: &str, commands: Commands) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut plain = Zeroizing::new(String::new());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from_dollar) = rest.split_at(at);
        let is_escaped = before.ends_with('\\');
        plain.push_str(before.strip_suffix('\\').filter(|_| is_escaped).unwrap_or(before));
        let after = from_dollar.get(1..).unwrap_or_default();
        let command = command(after).filter(|_| !is_escaped && commands == Commands::Split);
        let variable = variable(after).filter(|_| !after.starts_with('('));
        rest = match (command, variable) {
            (Some((inside, tail)), _) => {
                parts.push(Part::Text(std::mem::take(&mut plain)));
                parts.push(Part::Command(split(inside, Commands::Keep)));
                tail
            }
            (None, Some((name, tail))) if !is_escaped => {
                parts.push(Part::Text(std::mem::take(&mut plain)));
                parts.push(Part::Variable(name.to_owned()));
                tail
            }
            _ => {
                // In a command an escaped `\$(` stays escaped, for the shell; `\$NAME` does not.
                if is_escaped && commands == Commands::Keep && after.starts_with('(') {
                    plain.push('\\');
                }
                plain.push('$');
                after
            }
        };
    }
    plain.push_str(rest);
    parts.push(Part::Text(plain));
    parts
}

/// Splits `(…)rest` at the parenthesis that closes the first; there must be something inside.
fn command(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    let mut is_escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            '(' if !is_escaped => depth += 1,
            ')' if !is_escaped => depth = depth.checked_sub(1)?,
            _ if at == 0 => return None,
            _ => {}
        }
        is_escaped = character == '\\' && !is_escaped;
        if depth == 0 {
            let inside = text.get(1..at).filter(|inside| !inside.is_empty())?;
            return Some((inside, text.get(at + 1..)?));
        }
    }
    None
}

/// Splits `NAMErest` or `{NAME}rest`.
fn variable(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('{').unwrap_or(text);
    let end = inside.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inside.len());
    let (name, tail) = inside.split_at_checked(end).filter(|(name, _)| !name.is_empty())?;
    // The library drops a closing brace also where none was opened.
    Some((name, tail.strip_prefix('}').unwrap_or(tail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(parts: &[Part]) -> String {
        parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.to_string(),
                Part::Variable(name) => format!("<{name}>"),
                Part::Command(parts) => format!("[{}]", shown(parts)),
            })
            .collect()
    }

    fn split_bare(text: &str) -> String {
        let value = Value { text: Zeroizing::new(text.to_owned()), quote: Quote::Bare };
        shown(&parts(&value, LineBreaks::Kept))
    }

    #[test]
    fn values_are_split_as_dotenv_does() {
        for (text, expected) in [
            ("a\\ b\\$c\\(d", "a b$c(d"),
            ("$A-${B_1}x$", "<A>-<B_1>x$"),
            ("$A}", "<A>"),
            ("${-}", "${-}"),
            ("$(echo hi; echo (x) $A) b", "[echo hi; echo (x) <A>] b"),
            ("\\$(echo $A)", "$(echo <A>)"),
            ("$()", "$()"),
            ("$(open", "$(open"),
            ("$(a $(b) \\$C)", "[a $(b) $C]"),
            ("`echo hi`", "`echo hi`"),
            ("é$é", "é$é"),
        ] {
            assert_eq!(split_bare(text), expected, "{text}");
        }
    }

    #[test]
    fn line_breaks_in_double_quotes() {
        let value = Value { text: Zeroizing::new("a\\nb\\\"c\\\\d".to_owned()), quote: Quote::Double };
        assert_eq!(shown(&parts(&value, LineBreaks::Kept)), "a\\nb\"c\\d");
        assert_eq!(shown(&parts(&value, LineBreaks::Legacy)), "a\nb\"c\\d");
    }
}
