use clap::CommandFactory;
use clap::builder::StyledStr;
use clap::builder::styling::{AnsiColor, Style, Styles};

use crate::arguments::{Cli, GROUPS};

const HEADING: Style = Style::new().bold();
const NAME: Style = AnsiColor::Cyan.on_default();

/// The widest help; longer lines are hard to read.
const MAX_COLUMNS: u16 = 100;

/// Builds the tree of commands for reading a command line, in which a command that is not asked for stays unfinished.
///
/// Finishing them all, with every global option in each, takes longer than all else that a short command does.
pub(crate) fn tree() -> clap::Command {
    Cli::command()
}

/// Builds the tree of commands for showing help and errors, as wide as the terminal.
pub(crate) fn command(columns: Option<u16>) -> clap::Command {
    let width = columns.unwrap_or(MAX_COLUMNS).clamp(40, MAX_COLUMNS);
    let styles = Styles::styled().header(HEADING).usage(HEADING).literal(NAME).placeholder(Style::new());
    let tree = told(tree()).styles(styles).term_width(usize::from(width));
    let groups = groups(&tree);
    let mut tree = tree.help_template(format!(
        "{{about-with-newline}}\n{{before-help}}{{usage-heading}} {{usage}}\n\n{groups}{HEADING}Global options:{HEADING:#}\n{{options}}{{after-help}}"
    ));
    tree.build();
    tree
}

/// Lets the short help, which has one line for each option, tell all paragraphs of a command's description.
fn told(command: clap::Command) -> clap::Command {
    let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    let rest = long.split_once("\n\n").map(|(_, rest)| rest.to_owned());
    let examples = command.get_after_help().map(|text| headed(&text.to_string()));
    let is_leaf = command.get_subcommands().next().is_none();
    let mut command = command.mut_subcommands(told).long_about(None::<&str>);
    if let Some(rest) = rest {
        command = command.before_help(rest);
    }
    if let Some(examples) = examples {
        command = command.after_help(examples);
    }
    if is_leaf {
        command = command.help_template(
            "{about-with-newline}\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}",
        );
    }
    command
}

/// Makes headings of the lines that end in a colon.
fn headed(text: &str) -> StyledStr {
    let line = |line: &str| match line.strip_prefix(' ') {
        None if line.ends_with(':') => format!("{HEADING}{line}{HEADING:#}"),
        _ => line.to_owned(),
    };
    StyledStr::from(text.lines().map(line).collect::<Vec<_>>().join("\n"))
}

/// Lists the commands under their headings.
fn groups(tree: &clap::Command) -> String {
    let mut text = String::new();
    for (heading, names) in GROUPS {
        text.push_str(&format!("{HEADING}{heading}:{HEADING:#}\n"));
        for name in names {
            let about = match tree.find_subcommand(name) {
                Some(command) => command.get_about().map(ToString::to_string).unwrap_or_default(),
                None => "Print help for a command".to_owned(),
            };
            text.push_str(&format!("  {NAME}{name:<12}{NAME:#}{about}\n"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_stands_in_one_group() {
        let tree = tree();
        for command in tree.get_subcommands().filter(|command| !command.is_hide_set()) {
            let groups = GROUPS.iter().filter(|(_, names)| names.contains(&command.get_name())).count();
            assert_eq!(groups, 1, "{}", command.get_name());
        }
        for name in GROUPS.iter().flat_map(|(_, names)| names.iter()) {
            assert!(*name == "help" || tree.find_subcommand(name).is_some(), "{name}");
        }
    }

    #[test]
    fn every_command_says_what_it_does() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
