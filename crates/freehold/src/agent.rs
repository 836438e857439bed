use std::ffi::OsString;
use std::fmt;
use std::io;
use std::process::ExitCode;

use freehold_agent::Console;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::fail;
use crate::failure::Format;

/// Says whether a command line is the agent's, and returns the arguments that it gets.
pub(crate) fn role(words: &[OsString]) -> Option<Vec<OsString>> {
    match words {
        [_, first, rest @ ..] if first == "agent" => {
            let is_own = rest.first().and_then(|word| word.to_str()).is_some_and(freehold_agent::is_command);
            is_own.then(|| rest.to_vec())
        }
        _ => None,
    }
}

/// Runs the agent, or speaks with the one that runs.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    if arguments.first().is_some_and(|verb| verb == "serve") {
        let filter =
            Targets::new().with_default(LevelFilter::WARN).with_target("freehold_agent", LevelFilter::INFO);
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).event_format(JsonLines);
        // It fails only if there is a subscriber already, which then does the same.
        drop(tracing_subscriber::registry().with(lines.with_filter(filter)).try_init());
    }
    let console = Console { input: Box::new(io::stdin()), output: Box::new(io::stdout()) };
    match freehold_agent::run(arguments, console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, Format::Plain),
    }
}

/// Writes each event as one JSON object on a line, its fields beside its time, level and message.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields(Map::new());
        fields.0.insert("time".to_owned(), time.into());
        fields.0.insert("level".to_owned(), event.metadata().level().to_string().to_lowercase().into());
        event.record(&mut fields);
        writeln!(writer, "{}", Value::Object(fields.0))
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<parking_lot::Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_of_json() {
        let written = Written::default();
        let target = written.clone();
        let lines =
            tracing_subscriber::fmt::layer().event_format(JsonLines).with_writer(move || target.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::info!(job = %"tidy", run = 3_u64, text = "a\n\"b\"", "run ended");
        });
        let text = String::from_utf8(written.0.lock().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["message"], "run ended");
        assert_eq!(
            (&object["level"], &object["job"], &object["run"]),
            (&"info".into(), &"tidy".into(), &3.into())
        );
        assert_eq!(object["text"], "a\n\"b\"");
        assert!(object["time"].as_str().unwrap().ends_with('Z'), "{text}");
    }
}
