//! The part of dotenv files that needs no shell, for `Dotenv.load` in templates.

use std::collections::BTreeMap;

/// What becomes of variables that are set already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Present {
    Kept,
    Replaced,
}

/// Reads the variables of a file. Lines that are no assignments are passed over, as dotenv does.
///
/// # Errors
/// The name of the variable whose value needs a shell or spans lines.
pub(super) fn variables(
    text: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, String> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let Some(split) = line.find(['=', ':']) else { continue };
        let (name, rest) = line.split_at(split);
        let name = name.trim_end();
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c));
        if line.starts_with('#') || !is_name {
            continue;
        }
        // `KEY: value` needs its blank.
        if rest.starts_with(':') && !rest.get(1..).is_some_and(|rest| rest.starts_with(' ')) {
            continue;
        }
        let raw = rest.get(1..).unwrap_or_default().trim();
        let look_up = |variable: &str| {
            let earlier =
                found.iter().rev().find(|(name, _)| name == variable).map(|(_, value)| value.clone());
            earlier.or_else(|| environment.get(variable).cloned()).unwrap_or_default()
        };
        let value = value(raw, &look_up)
            .ok_or_else(|| format!("the value of `{name}` is not on one line, or needs a shell"))?;
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

/// Puts variables into an environment.
pub(super) fn load(
    variables: Vec<(String, String)>,
    present: Present,
    environment: &mut BTreeMap<String, String>,
) {
    // Within one file the last one counts.
    let last: BTreeMap<String, String> = variables.into_iter().collect();
    for (name, value) in last {
        if present == Present::Replaced || !environment.contains_key(&name) {
            environment.insert(name, value);
        }
    }
}

fn value(raw: &str, look_up: &dyn Fn(&str) -> String) -> Option<String> {
    if let Some(rest) = raw.strip_prefix('\'') {
        return rest.split_once('\'').map(|(text, _)| text.to_owned());
    }
    if let Some(rest) = raw.strip_prefix('"') {
        let mut end = None;
        let mut is_escaped = false;
        for (at, character) in rest.char_indices() {
            if character == '"' && !is_escaped {
                end = Some(at);
                break;
            }
            is_escaped = character == '\\' && !is_escaped;
        }
        return expand(rest.get(..end?)?, look_up);
    }
    expand(raw.split('#').next().unwrap_or_default().trim_end(), look_up)
}

/// Removes backslashes and replaces `$NAME` and `${NAME}`; none where a command stands.
fn expand(text: &str, look_up: &dyn Fn(&str) -> String) -> Option<String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '$']) {
        let (before, tail) = rest.split_at(at);
        expanded.push_str(before);
        let mut characters = tail.chars();
        if characters.next() == Some('\\') {
            expanded.extend(characters.next());
            rest = characters.as_str();
            continue;
        }
        let after = characters.as_str();
        if after.starts_with('(') {
            return None;
        }
        let inner = after.strip_prefix('{').unwrap_or(after);
        let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
        let (name, behind) = inner.split_at(end);
        let is_braced = inner.len() != after.len();
        if name.is_empty() || (is_braced && !behind.starts_with('}')) {
            expanded.push('$');
            rest = after;
            continue;
        }
        expanded.push_str(&look_up(name));
        rest = if is_braced { behind.strip_prefix('}').unwrap_or(behind) } else { behind };
    }
    expanded.push_str(rest);
    Some(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_those_of_dotenv() {
        let environment = BTreeMap::from([("HOME".to_owned(), "/h".to_owned())]);
        let text = "# note\nexport A=plain # trailing\nB='single $HOME'\nC=\"double $HOME ${A}\"\nD: yaml\nE=\n\
            not a line\nF=a\\ b\\$c\nG=$UNSET-x";
        let found = variables(text, &environment).unwrap();
        let pairs: Vec<(&str, &str)> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let expected = [
            ("A", "plain"),
            ("B", "single $HOME"),
            ("C", "double /h plain"),
            ("D", "yaml"),
            ("E", ""),
            ("F", "a b$c"),
            ("G", "-x"),
        ];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn what_needs_a_shell_is_refused() {
        for text in ["A=$(id)", "A=\"open", "A='open"] {
            assert!(variables(text, &BTreeMap::new()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_set_is_kept_unless_told_otherwise() {
        let mut environment = BTreeMap::from([("A".to_owned(), "old".to_owned())]);
        let new = || vec![("A".to_owned(), "new".to_owned()), ("B".to_owned(), "1".to_owned())];
        load(new(), Present::Kept, &mut environment);
        assert_eq!(environment["A"], "old");
        assert_eq!(environment["B"], "1");
        load(new(), Present::Replaced, &mut environment);
        assert_eq!(environment["A"], "new");
    }
}
