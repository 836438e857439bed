use std::io::Write;

use freehold_model::{Diagnose, ErrorKind, printable};

/// How an error is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For a person, without colours.
    Plain,
    /// For a person, with colours.
    Coloured,
    /// For a program: one object on standard output.
    Json,
}

/// Shows an error: what happened, why, what was seen, what to try. Every error of the executable comes through here.
pub(crate) fn show(error: &(dyn Diagnose + Send + Sync), format: Format) {
    // That changes are pending is the answer of `plan --exit-code`, which has shown them. Programs get one object only.
    if error.kind() == ErrorKind::PendingChanges || (error.is_in_result() && format == Format::Json) {
        return;
    }
    if error.is_told() {
        return;
    }
    let written = match format {
        Format::Json => std::io::stdout().write_all(json(error).as_bytes()),
        Format::Plain | Format::Coloured => {
            std::io::stderr().write_all(text(error, format == Format::Coloured).as_bytes())
        }
    };
    // Without a reader there is nobody to tell; the exit code still says it.
    drop(written);
}

fn causes(error: &(dyn Diagnose + Send + Sync)) -> Vec<String> {
    let mut causes = Vec::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let text = cause.to_string();
        // A transparent wrapper and what is in it say the same.
        if causes.last() != Some(&text) && text != error.to_string() {
            causes.push(text);
        }
        source = cause.source();
    }
    causes
}

fn text(error: &(dyn Diagnose + Send + Sync), has_colours: bool) -> String {
    let paint = |code: &str, text: &str| {
        if has_colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    };
    let mut text = format!("{} {}\n", paint("1;31", "error:"), printable(&error.to_string()).trim_end());
    for cause in causes(error) {
        let cause = printable(&cause).trim_end().replace('\n', "\n  ");
        text.push_str(&format!("  {} {cause}\n", paint("31", "caused by:")));
    }
    for evidence in error.evidence().iter().filter(|evidence| !evidence.lines.is_empty()) {
        text.push_str(&format!("\n  {}\n", paint("1", &printable(&evidence.title))));
        for line in &evidence.lines {
            text.push_str(format!("  {} {}", paint("2", "|"), printable(line.trim_end())).trim_end());
            text.push('\n');
        }
    }
    let mut help = error.help();
    if error.kind() == ErrorKind::Bug {
        help.push(
            "this is a bug of freehold: please report it with the command line and this text".to_owned(),
        );
    }
    if !help.is_empty() {
        text.push('\n');
    }
    for line in help {
        text.push_str(&format!("{} {}\n", paint("36", "help:"), printable(&line).trim_end()));
    }
    text
}

fn json(error: &(dyn Diagnose + Send + Sync)) -> String {
    let evidence: Vec<serde_json::Value> = error
        .evidence()
        .into_iter()
        .map(|evidence| serde_json::json!({ "title": evidence.title, "lines": evidence.lines }))
        .collect();
    let object = serde_json::json!({
        "schema": 1,
        "ok": false,
        "error": {
            "exit_code": error.kind().exit_code(),
            "message": error.to_string(),
            "causes": causes(error),
            "evidence": evidence,
            "help": error.help(),
        },
    });
    format!("{object}\n")
}
