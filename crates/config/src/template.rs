//! ERB, the part of it that needs no Ruby.
//!
//! A template is split into texts and tags (`segment`), the code of tags into words (`token`), words into expressions
//! (`syntax`) and statements (`statement`); these are run (`evaluate`, `method`) and leave a text that knows where each
//! of its characters comes from (`output`). Files, commands and Ruby itself are reached through [`Surroundings`] only.
//!
//! What is not understood is never copied into the YAML text as it stands: the whole template is given to a real Ruby
//! where there is one, and otherwise it is a mistake that shows the expression.

mod dotenv;
mod evaluate;
mod method;
mod output;
mod segment;
mod statement;
mod syntax;
mod token;
mod value;

use std::collections::BTreeMap;
use std::fmt;

pub(crate) use output::Rendered;

use crate::mistake::ConfigErrors;
use crate::report::{Finding, Report};
use crate::source::{Place, Source};
use evaluate::Evaluator;
use output::Output;
use segment::{Unclosed, segments};
use statement::Builder;

/// What the templates of a deploy file may reach beyond their own text and the environment.
///
/// Relative paths and commands are those of the project's folder. The errors say why, in few words.
pub trait Surroundings: fmt::Debug {
    /// Returns the text of a file, or none if there is no such file.
    ///
    /// # Errors
    /// Why a file that is there cannot be read.
    fn file(&self, path: &str) -> Result<Option<String>, String>;

    /// Runs a command in a shell and returns what it wrote to standard output, all of it, whatever its exit code.
    ///
    /// # Errors
    /// Why the command could not be run.
    fn command(&self, command: &str, environment: &BTreeMap<String, String>) -> Result<String, String>;

    /// Has a Ruby render a template that holds more than this crate understands; none where there is no Ruby.
    ///
    /// # Errors
    /// What Ruby says about the template.
    fn ruby(&self, template: &str, environment: &BTreeMap<String, String>) -> Option<Result<String, String>>;
}

/// Surroundings without files, commands and Ruby.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Nowhere;

impl Surroundings for Nowhere {
    fn file(&self, _: &str) -> Result<Option<String>, String> {
        Ok(None)
    }

    fn command(&self, _: &str, _: &BTreeMap<String, String>) -> Result<String, String> {
        Err("commands are not run here".to_owned())
    }

    fn ruby(&self, _: &str, _: &BTreeMap<String, String>) -> Option<Result<String, String>> {
        None
    }
}

/// Where a tag begins and how wide its first line is. Lines count from 1, columns from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spot {
    line: usize,
    column: usize,
    width: usize,
}

/// Why a tag cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    /// More Ruby than is understood, with the part where it begins.
    Beyond(String),
    /// `ENV.fetch` of a variable that is not set.
    NotSet(String),
    /// A method of nothing.
    OnNil(String),
    /// Something outside that did not work.
    Failed { what: String, reason: String },
    /// `end`, `else` or `elsif` without a beginning.
    Stray,
    /// A block without an end.
    Open,
    /// The template does too much.
    TooLarge,
}

impl Problem {
    fn message(&self) -> String {
        match self {
            Self::Beyond(code) => {
                let code = crate::yaml::shorten(code);
                format!("the template needs a Ruby: freehold does not understand `{code}`")
            }
            Self::NotSet(name) => format!("the environment variable `{name}` is not set"),
            Self::OnNil(name) => format!("`{name}` is called on nil: there is no value"),
            Self::Failed { what, reason } => format!("the template cannot use {what}: {reason}"),
            Self::Stray => "this tag belongs to no block".to_owned(),
            Self::Open => "this block has no `end`".to_owned(),
            Self::TooLarge => "the template does too much".to_owned(),
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Beyond(_) => Some(
                "install ruby, or write it with `ENV`, `File.read`, back-ticks, `if`, `each` and methods of texts \
                and lists"
                    .to_owned(),
            ),
            Self::NotSet(name) => {
                Some(format!("set it, or give a default: `<%= ENV.fetch(\"{name}\", \"default\") %>`"))
            }
            Self::OnNil(_) => Some("give a default: `ENV.fetch(\"NAME\", \"\")`".to_owned()),
            Self::Open => Some("close it with `<% end %>`".to_owned()),
            Self::Failed { .. } | Self::Stray | Self::TooLarge => None,
        }
    }
}

/// Runs the template of one file; none if it cannot be, which the report then says.
///
/// What the template loads into the environment stays there for the files after it.
pub(crate) fn render(
    text: &str,
    file: usize,
    environment: &mut BTreeMap<String, String>,
    surroundings: &dyn Surroundings,
    report: &mut Report,
) -> Option<Rendered> {
    if !text.contains("<%") {
        let mut output = Output::new(text);
        output.copy(text, 1, 0);
        return Some(output.finish());
    }
    let mut problems = Vec::new();
    let rendered = run(text, environment, surroundings, &mut problems);
    let is_beyond = problems.iter().any(|(_, problem)| matches!(problem, Problem::Beyond(_)));
    if is_beyond {
        match surroundings.ruby(text, environment) {
            Some(Ok(foreign)) => return Some(Output::foreign(text, &foreign)),
            Some(Err(reason)) => {
                report.mistake(Finding::new(
                    Place::file(file),
                    "",
                    format!("ruby cannot render it: {reason}"),
                ));
                return None;
            }
            None => {}
        }
    }
    for (spot, problem) in problems {
        let at = Place { file, line: spot.line, column: spot.column + 1, width: spot.width };
        let finding = Finding::new(at, "", problem.message());
        report.mistake(match problem.help() {
            Some(help) => finding.help(help),
            None => finding,
        });
    }
    match rendered {
        Ok(rendered) => rendered,
        Err(Unclosed { line, column }) => {
            let at = Place { file, line, column: column + 1, width: 2 };
            let help = "close it with `%>`, or write `<%%` for a literal `<%`";
            report.mistake(Finding::new(at, "", "the template tag `<%` has no end").help(help));
            None
        }
    }
}

/// Renders a file of the project that is a template by itself, in an environment that may hold secrets: none of the
/// values in `hidden` appears in an error.
///
/// # Errors
/// [`ConfigErrors`] with every part that cannot be rendered.
pub fn render_file(
    source: &Source<'_>,
    environment: &BTreeMap<String, String>,
    hidden: &[&str],
    surroundings: &dyn Surroundings,
) -> Result<String, ConfigErrors> {
    let mut report = Report::default();
    let rendered = render(source.text, 0, &mut environment.clone(), surroundings, &mut report);
    let (mut mistakes, _) = report.into_located(&[*source]);
    match rendered {
        Some(rendered) if mistakes.is_empty() => Ok(rendered.text),
        _ => {
            for mistake in &mut mistakes {
                // An error of Ruby holds one line only, perhaps of a value of several.
                for line in hidden.iter().flat_map(|value| value.lines()).filter(|line| !line.is_empty()) {
                    mistake.message = mistake.message.replace(line, "[secret]");
                }
            }
            Err(ConfigErrors::new(mistakes))
        }
    }
}

/// Runs a template as far as it is understood; none with at least one problem.
fn run(
    text: &str,
    environment: &mut BTreeMap<String, String>,
    surroundings: &dyn Surroundings,
    problems: &mut Vec<(Spot, Problem)>,
) -> Result<Option<Rendered>, Unclosed> {
    let (segments, unclosed) = segments(text);
    if let Some(unclosed) = unclosed {
        return Err(unclosed);
    }
    let statements = match Builder::build(&segments) {
        Ok(statements) => statements,
        Err(found) => {
            problems.extend(found);
            return Ok(None);
        }
    };
    let mut evaluator = Evaluator::new(std::mem::take(environment), surroundings);
    let mut output = Output::new(text);
    let result = statement::run(&statements, &mut evaluator, &mut output, problems);
    *environment = evaluator.environment;
    problems.extend(result.err());
    Ok(problems.is_empty().then(|| output.finish()))
}

#[cfg(test)]
mod tests;
