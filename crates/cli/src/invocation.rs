use std::ffi::OsString;

use clap::FromArgMatches;
use clap::error::ErrorKind;

use crate::alias;
use crate::arguments::Cli;
use crate::command;
use crate::context::Context;
use crate::error::{CommandError, UsageError};
use crate::process::Process;
use crate::record;
use crate::ui::{Detail, Ui, UiOptions};
use crate::words;

/// A command line that was understood.
#[derive(Debug)]
pub struct Invocation {
    arguments: Cli,
}

/// What the words of a command line ask for.
#[derive(Debug)]
pub enum Parsed {
    /// A command.
    Invocation(Box<Invocation>),
    /// A text for standard output: help. It holds escape sequences for colours.
    Text(String),
}

impl Invocation {
    /// Says whether the first word behind the program's name is no command, so that it may be an alias.
    #[must_use]
    pub fn may_be_alias(words: &[OsString]) -> bool {
        alias::candidate(words, &command::help::tree()).is_some()
    }

    /// Replaces an alias of the deploy file by the words that it stands for. Words that are none stay as they are.
    ///
    /// # Errors
    /// [`CommandError`] with the mistakes of the deploy file, or that aliases go round in a circle.
    ///
    /// # Cancel safety
    /// Reads only, and runs what the deploy file's templates run.
    pub async fn expand(words: &[OsString], process: &Process) -> Result<Vec<OsString>, CommandError> {
        alias::expand(words, process).await
    }

    /// Reads the words of a command line, the program's name first.
    ///
    /// # Errors
    /// [`CommandError`] of kind `Usage` that says what is not understood.
    pub fn parse(words: &[OsString], columns: Option<u16>) -> Result<Parsed, CommandError> {
        let plain: Vec<String> =
            words.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        if let [only] = plain.as_slice()
            && ["--version", "-V"].contains(&only.as_str())
        {
            return Ok(Parsed::Text(format!("{}\n", command::version::TEXT)));
        }
        let tree = command::help::tree();
        let words = words::normalise(words, &tree);
        // Whatever is shown of the tree, help or a mistake, comes from the whole of it.
        let matches = tree
            .try_get_matches_from(&words)
            .or_else(|_| command::help::command(columns).try_get_matches_from(&words));
        match matches {
            Ok(matches) => match Cli::from_arg_matches(&matches) {
                Ok(arguments) => Ok(Parsed::Invocation(Box::new(Self { arguments }))),
                Err(error) => Err(usage_error(&error).into()),
            },
            Err(error) => match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                    Ok(Parsed::Text(error.render().ansi().to_string()))
                }
                _ => Err(usage_error(&error).into()),
            },
        }
    }

    /// Says whether the result is JSON; an error is to be shown as JSON then, too.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.arguments.global.json
    }

    /// Says whether colours are unwanted.
    #[must_use]
    pub fn has_no_color(&self) -> bool {
        self.arguments.global.no_color
    }

    /// Says how much is logged: 0 errors, 1 as usual, 2 decisions too.
    #[must_use]
    pub fn is_verbose(&self) -> bool {
        self.arguments.global.verbose
    }

    /// Returns the command's name: `deploy`, `app logs`.
    #[must_use]
    pub fn command_name(&self) -> &'static str {
        self.arguments.command.name()
    }

    /// Does what the command line says.
    ///
    /// # Errors
    /// [`CommandError`] with what went wrong and what to try next.
    ///
    /// # Cancel safety
    /// Not cancel safe: it is ended through [`Process::stop`], never by dropping it.
    pub async fn run(self, process: Process) -> Result<(), CommandError> {
        let global = self.arguments.global;
        let detail = match (global.quiet, global.verbose) {
            (true, _) => Detail::Quiet,
            (_, true) => Detail::Verbose,
            _ => Detail::Normal,
        };
        let options = UiOptions { is_json: global.json, no_color: global.no_color, detail };
        let ui = Ui::new(&process, options);
        let context = Context::new(process, global, self.arguments.command.name(), ui.clone());
        // Boxed: the future of a whole command is too deep for the compiler to lay out inside another one.
        let outcome = Box::pin(self.arguments.command.run(&context)).await;
        ui.close();
        record::end(&context, outcome.as_ref().err()).await;
        outcome
    }
}

/// Turns clap's error into ours: its first paragraph is the message, its tips and the usage become help.
fn usage_error(error: &clap::Error) -> UsageError {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let first = paragraphs.next().unwrap_or_default().trim();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let (said, values): (Vec<&str>, Vec<&str>) =
        first.lines().map(str::trim).partition(|line| !line.starts_with('['));
    let mut usage = UsageError::new(quoted(&said.join(" ")));
    for paragraph in std::iter::once(values.join("\n").as_str()).chain(paragraphs) {
        for line in paragraph.lines().map(str::trim) {
            if let Some(tip) = line.strip_prefix("tip: ") {
                usage = usage.help(quoted(tip));
            } else if let Some(line) = line.strip_prefix("Usage: ") {
                usage = usage.help(format!("usage: {line}"));
            } else if line.starts_with("[possible values") {
                usage = usage.help(line.trim_matches(['[', ']']));
            }
        }
    }
    usage.help("for more: `--help`")
}

/// Our messages have values in backticks, clap's have them in single quotes.
fn quoted(text: &str) -> String {
    text.replace('\'', "`")
}
