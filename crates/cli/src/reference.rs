//! The pages of `docs/reference` that follow from this crate.

use clap::CommandFactory;
use freehold_model::ErrorKind;

use crate::arguments::Cli;

/// The variables that are read and those that hooks get.
pub(crate) const ENVIRONMENT: &str = include_str!("reference/environment.md");

/// What `--json` prints.
pub(crate) const JSON: &str = include_str!("reference/json.md");

const EXIT_CODES: [(ErrorKind, &str); 12] = [
    (ErrorKind::Failed, "the operation was tried and did not succeed; what it changed was put back"),
    (ErrorKind::Usage, "the command line is wrong"),
    (ErrorKind::Configuration, "the deploy file, a secrets file or another local file is wrong"),
    (ErrorKind::Unreachable, "a host cannot be reached or did not let us in"),
    (ErrorKind::Locked, "another deploy holds the lock"),
    (ErrorKind::Unhealthy, "the new release is unhealthy; everything was put back"),
    (ErrorKind::NeedsAttention, "it failed half-way and needs a person; the message says what for"),
    (ErrorKind::NotPermitted, "not permitted"),
    (ErrorKind::Declined, "the question was answered with no, or could not be asked"),
    (ErrorKind::PendingChanges, "`plan --exit-code`: there are changes to make"),
    (ErrorKind::Bug, "a bug of Freehold; please report it"),
    (ErrorKind::Interrupted, "interrupted with Ctrl-C"),
];

/// Writes the page of exit codes.
pub(crate) fn exit_codes() -> String {
    let mut page = "# Exit codes\n\n| code | meaning |\n| --- | --- |\n| 0 | done |\n".to_owned();
    for (kind, meaning) in EXIT_CODES {
        page.push_str(&format!("| {} | {meaning} |\n", kind.exit_code()));
    }
    page
}

/// Writes the page of commands.
pub(crate) fn cli() -> String {
    let mut tree = Cli::command();
    tree.build();
    let mut page = "# Command line\n".to_owned();
    let global: Vec<&clap::Arg> = tree.get_arguments().filter(|argument| argument.is_global_set()).collect();
    page.push_str("\n## Global options\n\nThey may stand anywhere.\n\n");
    options(&mut page, global.into_iter());
    for command in
        tree.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
    {
        section(&mut page, command, "freehold");
    }
    page
}

fn section(page: &mut String, command: &clap::Command, parent: &str) {
    let name = format!("{parent} {}", command.get_name());
    page.push_str(&format!("\n## `{name}`\n\n"));
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    page.push_str(&format!("{}\n", about.trim()));
    let aliases: Vec<&str> = command.get_visible_aliases().collect();
    if !aliases.is_empty() {
        page.push_str(&format!("\nAlso: `{parent} {}`.\n", aliases.join("`, `")));
    }
    let mut own = command.get_arguments().filter(|argument| !argument.is_global_set()).peekable();
    if own.peek().is_some() {
        page.push('\n');
        options(page, own);
    }
    if let Some(examples) = command.get_after_help() {
        let lines = examples.to_string();
        let lines: Vec<&str> = lines.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        page.push_str(&format!("\n```sh\n{}\n```\n", lines.join("\n")));
    }
    for child in command.get_subcommands().filter(|child| !child.is_hide_set() && child.get_name() != "help")
    {
        section(page, child, &name);
    }
}

fn options<'a>(page: &mut String, arguments: impl Iterator<Item = &'a clap::Arg>) {
    for argument in arguments.filter(|argument| !argument.is_hide_set()) {
        let takes_value = argument.get_action().takes_values();
        let value = match argument.get_value_names() {
            Some(names) if takes_value => {
                names.iter().map(|name| format!("<{name}>")).collect::<Vec<_>>().join(" ")
            }
            _ => String::new(),
        };
        let short = argument.get_short().map(|short| format!("-{short}"));
        let long = argument.get_long().map(|long| format!("--{long}"));
        let flags: Vec<String> = short.into_iter().chain(long).collect();
        let words = [flags.join(", "), value]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let default =
            argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect::<Vec<_>>();
        let default = if default.is_empty() || !takes_value {
            String::new()
        } else {
            format!(" Default: `{}`.", default.join(","))
        };
        page.push_str(&format!("- `{words}`: {}.{default}\n", help.trim_end_matches('.')));
    }
}
