use std::time::Duration;

use freehold_fleet::{Event, StepOutcome};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::line::Line;

/// The format of the result and of events; a change that breaks readers raises it.
pub(crate) const SCHEMA: u32 = 1;

/// Returns the result of a command that succeeded.
pub(crate) fn envelope(command: &str, result: &impl Serialize) -> String {
    let result = serde_json::to_value(result).unwrap_or(Value::Null);
    json!({ "schema": SCHEMA, "command": command, "ok": true, "result": result }).to_string()
}

/// Returns an event as one line.
pub(crate) fn event(event: &Event, now: Duration) -> Line {
    let fields = match serde_json::to_value(event) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => Map::new(),
    };
    line(fields, now)
}

/// Returns the begin or the end of an activity as one line.
pub(crate) fn activity(name: &str, title: &str, outcome: Option<&StepOutcome>, now: Duration) -> Line {
    let kind = if outcome.is_some() { "activity_finished" } else { "activity_started" };
    let mut fields = Map::new();
    fields.insert("event".to_owned(), kind.into());
    fields.insert("activity".to_owned(), name.into());
    fields.insert("title".to_owned(), title.into());
    if let Some(outcome) = outcome {
        fields.insert("outcome".to_owned(), serde_json::to_value(outcome).unwrap_or(Value::Null));
    }
    line(fields, now)
}

/// Returns a line that an activity printed.
pub(crate) fn activity_line(name: &str, text: &str, now: Duration) -> Line {
    let mut fields = Map::new();
    fields.insert("event".to_owned(), "activity_line".into());
    fields.insert("activity".to_owned(), name.into());
    fields.insert("line".to_owned(), text.into());
    line(fields, now)
}

/// Returns a line of a container's log.
pub(crate) fn log_line(source: &str, text: &str, now: Duration) -> Line {
    let mut fields = Map::new();
    fields.insert("event".to_owned(), "log".into());
    fields.insert("source".to_owned(), source.into());
    fields.insert("line".to_owned(), text.into());
    line(fields, now)
}

/// Returns an event that has texts only.
pub(crate) fn named(event: &str, texts: Vec<(&'static str, String)>, now: Duration) -> Line {
    let mut fields = Map::new();
    fields.insert("event".to_owned(), event.into());
    fields.extend(texts.into_iter().map(|(name, text)| (name.to_owned(), text.into())));
    line(fields, now)
}

fn line(mut fields: Map<String, Value>, now: Duration) -> Line {
    let milliseconds = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    fields.insert("at_ms".to_owned(), milliseconds.into());
    // JSON escapes control characters by itself, so that nothing is left for the line to escape.
    Line::new().plain(Value::Object(fields).to_string())
}
