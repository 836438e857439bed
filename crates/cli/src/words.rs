//! Brings a command line as people type it for Kamal into the one form that the tree of commands reads.
//!
//! Kamal's commands take `-` and `_` alike, may be shortened as long as they stay unique, and let options stand anywhere
//! behind the first word, also behind the arguments. A flag is taken back by `--no-FLAG` or `--skip-FLAG`.

use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgAction, Command};

/// The options that take every following word of the form `NAME:VALUE`.
const PAIRS: &str = "NAME:VALUE";

/// Returns the words in the form: program, command, options, `--`, arguments. A word that is not understood stays
/// where it is, so that the tree of commands says what is wrong with it.
pub(crate) fn normalise(words: &[OsString], tree: &Command) -> Vec<OsString> {
    let Some((program, words)) = words.split_first() else { return Vec::new() };
    if words.first().is_some_and(|word| word == "help") {
        return std::iter::once(program).chain(words).cloned().collect();
    }
    let route = Route::find(words, tree);
    let mut line = Line { leaf: route.leaf(tree), root: tree, options: Vec::new(), arguments: Vec::new() };
    line.read(words, &route.positions);
    let mut normal = vec![program.clone()];
    normal.extend(route.commands.iter().map(|command| OsString::from(command.get_name())));
    normal.extend(line.options.into_iter().flat_map(|given| given.words));
    if line.leaf.get_arguments().any(Arg::is_trailing_var_arg_set) && !line.arguments.is_empty() {
        normal.push(OsString::from("--"));
    }
    normal.extend(line.arguments);
    normal
}

/// Says whether a word begins a command of the program: its name, an alias, or the beginning of only one of them.
pub(crate) fn is_command(word: &str, tree: &Command) -> bool {
    subcommand(tree, word).is_some() || word == "help"
}

/// The commands that a line names, and at which of its words.
struct Route<'a> {
    commands: Vec<&'a Command>,
    positions: Vec<usize>,
}

impl<'a> Route<'a> {
    /// Options between the names belong to the last of them, which is not known yet: any command further down counts.
    fn find(words: &[OsString], tree: &'a Command) -> Self {
        let mut route = Self { commands: Vec::new(), positions: Vec::new() };
        let mut at = 0;
        while let Some(word) = words.get(at).and_then(|word| word.to_str()) {
            let here = route.leaf(tree);
            if word == "--" || here.get_subcommands().next().is_none() {
                break;
            }
            at += 1;
            if word.len() > 1 && word.starts_with('-') {
                let option = option_below(here, word).or_else(|| option_below(tree, word));
                let takes_next = option.is_some_and(takes_value) && !has_value(word);
                at += usize::from(takes_next);
                continue;
            }
            let Some(next) = subcommand(here, word) else { break };
            route.commands.push(next);
            route.positions.push(at - 1);
        }
        route
    }

    fn leaf(&self, tree: &'a Command) -> &'a Command {
        self.commands.last().copied().unwrap_or(tree)
    }
}

/// Finds a command by its name, an alias or a beginning that is unique, `-` and `_` alike.
fn subcommand<'a>(command: &'a Command, word: &str) -> Option<&'a Command> {
    let plain = |text: &str| text.replace('_', "-");
    let wanted = plain(word);
    let names = |command: &Command| -> Vec<String> {
        std::iter::once(command.get_name()).chain(command.get_all_aliases()).map(plain).collect()
    };
    let exact = command.get_subcommands().find(|candidate| names(candidate).contains(&wanted));
    exact.or_else(|| {
        let mut begun = command
            .get_subcommands()
            .filter(|candidate| names(candidate).iter().any(|name| name.starts_with(&wanted)));
        begun.next().filter(|_| begun.next().is_none() && !wanted.is_empty())
    })
}

/// Finds an option of a command or of any below it.
fn option_below<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    option(command, word).or_else(|| command.get_subcommands().find_map(|below| option_below(below, word)))
}

/// Finds the option that a word begins with.
fn option<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    if let Some(long) = word.strip_prefix("--") {
        let name = long.split('=').next().unwrap_or_default().replace('_', "-");
        return command.get_arguments().find(|argument| has_long(argument, &name));
    }
    let short = word.chars().nth(1)?;
    command.get_arguments().find(|argument| argument.get_short() == Some(short))
}

fn has_long(argument: &Arg, name: &str) -> bool {
    let aliases = argument.get_all_aliases().unwrap_or_default();
    !name.is_empty()
        && argument.get_long().into_iter().chain(aliases).any(|long| long.replace('_', "-") == name)
}

fn takes_value(argument: &Arg) -> bool {
    argument.get_action().takes_values()
}

/// Says whether a word that begins with an option holds its value, too.
fn has_value(word: &str) -> bool {
    if word.starts_with("--") { word.contains('=') } else { word.chars().count() > 2 }
}

/// An option as it is given, with the words that it takes.
struct Given {
    id: String,
    words: Vec<OsString>,
}

/// The words behind the command's name, sorted.
struct Line<'a> {
    leaf: &'a Command,
    root: &'a Command,
    options: Vec<Given>,
    arguments: Vec<OsString>,
}

impl Line<'_> {
    fn read(&mut self, words: &[OsString], names: &[usize]) {
        let mut rest =
            words.iter().enumerate().filter(|(at, _)| !names.contains(at)).map(|(_, word)| word).peekable();
        while let Some(word) = rest.next() {
            let text = word.to_str().unwrap_or_default();
            if text == "--" {
                if !self.leaf.get_arguments().any(Arg::is_trailing_var_arg_set) {
                    self.arguments.push(word.clone());
                }
                self.arguments.extend(rest.by_ref().cloned());
                return;
            }
            if text.len() < 2 || !text.starts_with('-') {
                self.arguments.push(word.clone());
                continue;
            }
            match self.known(text) {
                Some(Known::Flag(id)) => self.options.push(Given { id, words: vec![canonical(text)] }),
                Some(Known::TakenBack(id)) => self.options.retain(|given| given.id != id),
                Some(Known::Value { id, is_pairs }) => {
                    let mut given = Given { id, words: vec![canonical(text)] };
                    if !has_value(text) {
                        given.words.extend(rest.next().cloned());
                        while is_pairs && rest.peek().is_some_and(|next| is_pair(next)) {
                            given.words.push(canonical(text));
                            given.words.extend(rest.next().cloned());
                        }
                    }
                    self.options.push(given);
                }
                None if self.passes_words_on() => self.arguments.push(word.clone()),
                None => self.options.push(Given { id: String::new(), words: vec![canonical(text)] }),
            }
        }
    }

    /// What stands behind a command of one's own that is to be run belongs to it, unless it is an option of ours.
    fn passes_words_on(&self) -> bool {
        !self.arguments.is_empty() && self.leaf.get_arguments().any(Arg::is_trailing_var_arg_set)
    }

    fn find(&self, word: &str) -> Option<&Arg> {
        option(self.leaf, word).or_else(|| option(self.root, word))
    }

    fn known(&self, word: &str) -> Option<Known> {
        if let Some(argument) = self.find(word) {
            let id = argument.get_id().to_string();
            if takes_value(argument) {
                let is_pairs = argument
                    .get_value_names()
                    .is_some_and(|names| names.iter().any(|name| name.as_str() == PAIRS));
                return Some(Known::Value { id, is_pairs });
            }
            return match word.split_once('=') {
                Some((_, "false")) => Some(Known::TakenBack(id)),
                // Several short flags in one word: all of them must be flags.
                None if !word.starts_with("--") && !self.are_flags(word) => None,
                _ => Some(Known::Flag(id)),
            };
        }
        let name = word.strip_prefix("--")?;
        let positive = name.strip_prefix("no-").or_else(|| name.strip_prefix("no_"));
        let positive =
            positive.or_else(|| name.strip_prefix("skip-")).or_else(|| name.strip_prefix("skip_"))?;
        let argument = self.find(&format!("--{positive}"))?;
        matches!(argument.get_action(), ArgAction::SetTrue)
            .then(|| Known::TakenBack(argument.get_id().to_string()))
    }

    fn are_flags(&self, cluster: &str) -> bool {
        cluster
            .chars()
            .skip(1)
            .all(|short| self.find(&format!("-{short}")).is_some_and(|argument| !takes_value(argument)))
    }
}

enum Known {
    Flag(String),
    /// A flag that is not meant after all.
    TakenBack(String),
    Value {
        id: String,
        is_pairs: bool,
    },
}

/// Writes a long option with dashes, and a flag without `=true`.
fn canonical(word: &str) -> OsString {
    let Some(long) = word.strip_prefix("--") else { return OsString::from(word) };
    let word = match long.split_once('=') {
        Some((name, "true")) => format!("--{}", name.replace('_', "-")),
        Some((name, value)) => format!("--{}={value}", name.replace('_', "-")),
        None => format!("--{}", long.replace('_', "-")),
    };
    OsString::from(word)
}

/// Says whether a word is one more `NAME:VALUE`, and not a command that happens to hold a colon.
fn is_pair(word: &OsStr) -> bool {
    let name = word.to_str().and_then(|word| word.split_once(':')).map_or("", |(name, _)| name);
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::help;

    fn normal(line: &str) -> String {
        let words: Vec<OsString> =
            std::iter::once("freehold").chain(line.split(' ')).map(OsString::from).collect();
        let tree = help::tree();
        let normal = normalise(&words, &tree);
        normal.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn lines_come_into_one_form() {
        for (given, expected) in [
            ("deploy --skip_push", "deploy --skip-push"),
            ("deploy -P -d staging", "deploy -P -d staging"),
            ("-d staging deploy", "deploy -d staging"),
            ("app -h web-1 logs -f", "app logs -h web-1 -f"),
            ("app --container_id x logs", "app logs --container-id x"),
            ("rollb v1 -d=x", "rollback -d=x v1"),
            ("deploy --skip-hooks --no-skip-hooks", "deploy"),
            ("deploy --lock-wait=true --json=false", "deploy --lock-wait"),
            ("lock acquire -m why", "lock acquire -m why"),
            ("app exec bin/rails db:migrate -p --reuse", "app exec -p --reuse -- bin/rails db:migrate"),
            (
                "app exec -e A:1 B_2:x:y bin/rails db:migrate",
                "app exec -e A:1 -e B_2:x:y -- bin/rails db:migrate",
            ),
            ("app exec ls -la --color", "app exec -- ls -la --color"),
            ("app exec -r web -- grep -r x", "app exec -r web -- grep -r x"),
            ("app exec --nonsense ls", "app exec --nonsense -- ls"),
            ("deploy --nonsense_x", "deploy --nonsense-x"),
            ("banana -d x", "-d x banana"),
            ("help deploy", "help deploy"),
            ("app --help", "app --help"),
            ("version", "version"),
        ] {
            assert_eq!(normal(given), expected, "{given}");
        }
    }

    #[test]
    fn a_beginning_that_is_not_unique_is_left_alone() {
        assert_eq!(normal("re"), "re");
        assert_eq!(normal("app st"), "app st");
        let tree = help::tree();
        assert!(is_command("rollb", &tree) && is_command("details", &tree) && is_command("help", &tree));
        assert!(!is_command("re", &tree) && !is_command("banana", &tree));
    }
}
