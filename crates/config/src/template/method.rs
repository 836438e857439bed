//! What can be called on values, after Ruby's core classes.

use super::Problem;
use super::evaluate::MAX_TEXT;
use super::value::Value;

fn beyond(name: &str) -> Problem {
    Problem::Beyond(name.to_owned())
}

/// Calls a method without a block.
pub(super) fn call(receiver: Value, name: &str, arguments: &[Value]) -> Result<Value, Problem> {
    match (name, arguments) {
        ("to_s", []) => return receiver.print().map(Value::Text),
        ("to_json", []) => return Ok(Value::text(receiver.to_json().to_string())),
        ("nil?", []) => return Ok(Value::Boolean(receiver == Value::Nil)),
        ("freeze" | "itself" | "dup", []) => return Ok(receiver),
        _ => {}
    }
    match receiver {
        Value::Text(text) => of_text(&text, name, arguments),
        Value::List(items) => of_list(items, name, arguments),
        Value::Map(entries) => of_map(&entries, name, arguments),
        Value::Integer(value) if name == "to_i" && arguments.is_empty() => Ok(Value::Integer(value)),
        Value::Nil => of_nil(name, arguments),
        _ => Err(beyond(name)),
    }
}

fn of_nil(name: &str, arguments: &[Value]) -> Result<Value, Problem> {
    match (name, arguments) {
        ("to_a", []) => Ok(Value::List(Vec::new())),
        ("to_i", []) => Ok(Value::Integer(0)),
        _ => Err(Problem::OnNil(name.to_owned())),
    }
}

/// What Ruby's `strip` removes.
fn is_blank(character: char) -> bool {
    matches!(character, '\0' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

fn of_text(text: &str, name: &str, arguments: &[Value]) -> Result<Value, Problem> {
    let texts: Option<Vec<&str>> = arguments
        .iter()
        .map(|argument| match argument {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let Some(texts) = texts else { return Err(beyond(name)) };
    if texts.is_empty() {
        return of_text_alone(text, name);
    }
    let value = match (name, texts.as_slice()) {
        ("chomp", [end]) => Value::text(text.strip_suffix(end).unwrap_or(text)),
        ("split", [separator]) => return split(text, separator),
        ("include?", [part]) => Value::Boolean(text.contains(part)),
        ("start_with?", parts) => Value::Boolean(parts.iter().any(|part| text.starts_with(part))),
        ("end_with?", parts) => Value::Boolean(parts.iter().any(|part| text.ends_with(part))),
        ("delete_prefix", [part]) => Value::text(text.strip_prefix(part).unwrap_or(text)),
        ("delete_suffix", [part]) => Value::text(text.strip_suffix(part).unwrap_or(text)),
        // A backslash in the replacement means something.
        ("sub", [from, to]) if !to.contains('\\') => Value::text(text.replacen(from, to, 1)),
        ("gsub", [from, to]) if !to.contains('\\') && !from.is_empty() => {
            if text.len().saturating_mul(to.len().max(1)) > MAX_TEXT {
                return Err(Problem::TooLarge);
            }
            Value::text(text.replace(from, to))
        }
        _ => return Err(beyond(name)),
    };
    Ok(value)
}

fn of_text_alone(text: &str, name: &str) -> Result<Value, Problem> {
    let value = match name {
        "strip" => Value::text(text.trim_matches(is_blank)),
        "lstrip" => Value::text(text.trim_start_matches(is_blank)),
        "rstrip" => Value::text(text.trim_end_matches(is_blank)),
        "chomp" => {
            let cut = text.strip_suffix("\r\n").or_else(|| text.strip_suffix(['\n', '\r']));
            Value::text(cut.unwrap_or(text))
        }
        "upcase" => Value::text(text.to_uppercase()),
        "downcase" => Value::text(text.to_lowercase()),
        "to_str" | "to_sym" => Value::text(text),
        "to_i" => Value::Integer(leading_integer(text)),
        "size" | "length" => Value::Integer(i64::try_from(text.chars().count()).unwrap_or(i64::MAX)),
        "empty?" => Value::Boolean(text.is_empty()),
        "split" => {
            Value::List(text.split(is_blank).filter(|part| !part.is_empty()).map(Value::text).collect())
        }
        "lines" => Value::List(text.split_inclusive('\n').map(Value::text).collect()),
        _ => return Err(beyond(name)),
    };
    Ok(value)
}

/// As Ruby does: empty parts at the end are dropped, and a single blank splits at any blanks.
fn split(text: &str, separator: &str) -> Result<Value, Problem> {
    match separator {
        " " => of_text_alone(text, "split"),
        "" => Ok(Value::List(text.chars().map(|c| Value::text(c.to_string())).collect())),
        separator => {
            let mut parts: Vec<&str> = text.split(separator).collect();
            while parts.last().is_some_and(|part| part.is_empty()) {
                parts.pop();
            }
            Ok(Value::List(parts.into_iter().map(Value::text).collect()))
        }
    }
}

/// The number at the beginning of a text, 0 without one.
fn leading_integer(text: &str) -> i64 {
    let text = text.trim_start_matches(is_blank);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end).and_then(|digits| digits.parse::<i64>().ok()).map_or(0, |value| sign * value)
}

fn of_list(items: Vec<Value>, name: &str, arguments: &[Value]) -> Result<Value, Problem> {
    let value = match (name, arguments) {
        ("first", []) => items.into_iter().next().unwrap_or(Value::Nil),
        ("last", []) => items.into_iter().next_back().unwrap_or(Value::Nil),
        ("size" | "length" | "count", []) => Value::Integer(i64::try_from(items.len()).unwrap_or(i64::MAX)),
        ("empty?", []) => Value::Boolean(items.is_empty()),
        ("any?", []) => Value::Boolean(items.iter().any(Value::is_true)),
        ("include?", [item]) => Value::Boolean(items.contains(item)),
        ("compact", []) => Value::List(items.into_iter().filter(|item| *item != Value::Nil).collect()),
        ("uniq", []) => {
            let mut found: Vec<Value> = Vec::new();
            for item in items {
                if !found.contains(&item) {
                    found.push(item);
                }
            }
            Value::List(found)
        }
        ("reverse", []) => Value::List(items.into_iter().rev().collect()),
        ("sort", []) => {
            let texts: Option<Vec<String>> = items
                .into_iter()
                .map(|item| match item {
                    Value::Text(text) => Some(text),
                    _ => None,
                })
                .collect();
            let mut texts = texts.ok_or_else(|| beyond(name))?;
            texts.sort();
            Value::List(texts.into_iter().map(Value::Text).collect())
        }
        ("join", []) => return join(&items, ""),
        ("join", [Value::Text(separator)]) => return join(&items, separator),
        ("to_a", []) => Value::List(items),
        ("dig", [key, rest @ ..]) => return dig(&Value::List(items), key, rest),
        _ => return Err(beyond(name)),
    };
    Ok(value)
}

fn join(items: &[Value], separator: &str) -> Result<Value, Problem> {
    let texts = items
        .iter()
        .map(|item| match item {
            Value::List(_) => Err(beyond("join")),
            item => item.print(),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let length: usize = texts.iter().map(|text| text.len() + separator.len()).sum();
    if length > MAX_TEXT { Err(Problem::TooLarge) } else { Ok(Value::Text(texts.join(separator))) }
}

fn of_map(entries: &[(String, Value)], name: &str, arguments: &[Value]) -> Result<Value, Problem> {
    let find = |key: &str| entries.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    let value = match (name, arguments) {
        ("fetch", [Value::Text(key)]) => find(key).ok_or_else(|| Problem::Failed {
            what: format!("the key `{key}`"),
            reason: "there is none".to_owned(),
        })?,
        ("fetch", [Value::Text(key), default]) => find(key).unwrap_or_else(|| default.clone()),
        ("key?" | "has_key?" | "include?", [Value::Text(key)]) => Value::Boolean(find(key).is_some()),
        ("keys", []) => Value::List(entries.iter().map(|(key, _)| Value::text(key.as_str())).collect()),
        ("values", []) => Value::List(entries.iter().map(|(_, value)| value.clone()).collect()),
        ("empty?", []) => Value::Boolean(entries.is_empty()),
        ("size" | "length" | "count", []) => Value::Integer(i64::try_from(entries.len()).unwrap_or(i64::MAX)),
        ("dig", [key, rest @ ..]) => return dig(&Value::Map(entries.to_vec()), key, rest),
        _ => return Err(beyond(name)),
    };
    Ok(value)
}

fn dig(of: &Value, key: &Value, rest: &[Value]) -> Result<Value, Problem> {
    let value = index(of, key)?;
    match rest {
        [] => Ok(value),
        _ if value == Value::Nil => Ok(Value::Nil),
        [next, rest @ ..] => dig(&value, next, rest),
    }
}

/// `of[key]`.
pub(super) fn index(of: &Value, key: &Value) -> Result<Value, Problem> {
    match (of, key) {
        (Value::Map(entries), Value::Text(key)) => {
            Ok(entries.iter().find(|(name, _)| name == key).map_or(Value::Nil, |(_, value)| value.clone()))
        }
        (Value::List(items), Value::Integer(index)) => {
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let index = if *index < 0 { index.saturating_add(length) } else { *index };
            let item = usize::try_from(index).ok().and_then(|index| items.get(index));
            Ok(item.cloned().unwrap_or(Value::Nil))
        }
        (Value::Nil, _) => Err(Problem::OnNil("[]".to_owned())),
        _ => Err(beyond("[]")),
    }
}

/// `left + right`.
pub(super) fn add(left: Value, right: Value) -> Result<Value, Problem> {
    match (left, right) {
        (Value::Text(mut left), Value::Text(right)) => {
            left.push_str(&right);
            if left.len() > MAX_TEXT { Err(Problem::TooLarge) } else { Ok(Value::Text(left)) }
        }
        (Value::List(mut left), Value::List(right)) => {
            left.extend(right);
            if left.len() > MAX_TEXT { Err(Problem::TooLarge) } else { Ok(Value::List(left)) }
        }
        (Value::Integer(left), Value::Integer(right)) => {
            left.checked_add(right).map(Value::Integer).ok_or(Problem::TooLarge)
        }
        (Value::Nil, _) => Err(Problem::OnNil("+".to_owned())),
        _ => Err(beyond("+")),
    }
}
