//! `$(kamal secrets …)` in a secrets file: no shell and no second process, but this very program.

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use crate::adapter::Adapter;
use crate::fetch::{ExtractError, FetchError, FetchRequest, extract, fetch};
use crate::program::Surroundings;
use crate::words;

/// Why a command of ours in a secrets file gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum InlineError {
    /// A quote is left open.
    #[error("a quote is not closed")]
    Quote,
    /// It is not `fetch` and not `extract`.
    #[error("`secrets {verb}` cannot be used inside a secrets file")]
    Verb {
        /// The word after `secrets`.
        verb: String,
    },
    /// An option that the command does not have.
    #[error("`secrets {verb}` has no option `{option}`")]
    Option {
        /// The command.
        verb: &'static str,
        /// The option.
        option: String,
    },
    /// An option without its value.
    #[error("option `{option}` needs a value")]
    Value {
        /// The option.
        option: String,
    },
    /// `extract` has other than two arguments.
    #[error("`secrets extract` takes a name and what was fetched, and got {count} arguments")]
    Arguments {
        /// How many there are.
        count: usize,
    },
    /// The password manager gave nothing.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What was fetched does not have it.
    #[error(transparent)]
    Extract(#[from] ExtractError),
}

/// Says whether a command is for this program: `kamal secrets …`, under whichever of its two names.
///
/// A shell would find `bin/kamal` or `bundle exec kamal`; Kamal leaves those to it, and so do we.
pub(crate) fn is_inline(command: &str) -> bool {
    let command = command.trim_ascii_start();
    let rest = ["kamal", "freehold"].iter().find_map(|name| command.strip_prefix(name));
    let rest = rest.and_then(|rest| rest.trim_ascii_start().strip_prefix("secrets"));
    rest.is_some_and(|rest| rest.starts_with(|character: char| character.is_ascii_whitespace()))
}

/// Does what such a command says. What `fetch` gives is escaped for a shell, so that it stays one word in the `extract`
/// that follows.
pub(crate) async fn run(command: &str, surroundings: Surroundings<'_>) -> Result<SecretString, InlineError> {
    use secrecy::ExposeSecret;

    let words = words::split(command).ok_or(InlineError::Quote)?;
    // `kamalsecrets fetch` matches what Kamal looks for, and means the same to it.
    let skipped = if words.first().is_some_and(|word| word.ends_with("secrets")) { 1 } else { 2 };
    let mut words = words.into_iter().skip(skipped);
    let verb = words.next().unwrap_or_default();
    let words: Vec<Zeroizing<String>> = words.collect();
    match verb.as_str() {
        "fetch" => {
            let request = fetch_request(&words)?;
            let json = fetch(&request, surroundings).await?.to_json();
            Ok(SecretString::from(words::escape(json.expose_secret()).as_str()))
        }
        "extract" => {
            let given = options("extract", &words, &[])?.arguments;
            match given.as_slice() {
                [name, json] => Ok(extract(name, json)?),
                other => Err(InlineError::Arguments { count: other.len() }),
            }
        }
        other => Err(InlineError::Verb { verb: other.to_owned() }),
    }
}

fn fetch_request(words: &[Zeroizing<String>]) -> Result<FetchRequest, InlineError> {
    let given = options("fetch", words, &["--adapter", "--account", "--from"])?;
    let value = |option: &str| {
        given.values.iter().rev().find(|(known, _)| *known == option).map(|(_, value)| value.clone())
    };
    let adapter = value("--adapter").ok_or_else(|| FetchError::Incomplete {
        subject: "`secrets fetch`".to_owned(),
        what: "`--adapter`",
    })?;
    Ok(FetchRequest {
        adapter: Adapter::parse(&adapter)?,
        account: value("--account"),
        from: value("--from"),
        names: given.arguments.into_iter().cloned().collect(),
    })
}

struct Given<'a> {
    values: Vec<(&'static str, String)>,
    arguments: Vec<&'a String>,
}

/// Sorts words into options with a value and arguments; options may stand anywhere.
fn options<'a>(
    verb: &'static str,
    words: &'a [Zeroizing<String>],
    known: &[&'static str],
) -> Result<Given<'a>, InlineError> {
    let mut given = Given { values: Vec::new(), arguments: Vec::new() };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        // What was fetched is an argument, whatever it begins with; so is everything after `--`.
        if word.as_str() == "--" {
            given.arguments.extend(words.by_ref().map(|word| &**word));
            break;
        }
        if !word.starts_with('-') || word.len() == 1 {
            given.arguments.push(word);
            continue;
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None if word.starts_with("-a") && word.len() > 2 => ("-a", word.get(2..)),
            None => (word.as_str(), None),
        };
        let long = if name == "-a" { "--adapter" } else { name };
        let option = known.iter().find(|option| **option == long);
        let option = option.ok_or_else(|| InlineError::Option { verb, option: name.to_owned() })?;
        let value = match value {
            Some(value) => value.to_owned(),
            None => words
                .next()
                .map(|value| value.to_string())
                .ok_or_else(|| InlineError::Value { option: (*option).to_owned() })?,
        };
        given.values.push((option, value));
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<FetchRequest, String> {
        fetch_request(&words::split(line).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_bare_name_is_ours() {
        for ours in
            ["kamal secrets fetch", "  kamal  secrets\tfetch", "freehold secrets extract", "kamalsecrets x"]
        {
            assert!(is_inline(ours), "{ours}");
        }
        for other in [
            "bin/kamal secrets fetch",
            "bundle exec kamal secrets x",
            "kamal secretsfetch",
            "kamal secrets",
            "op",
        ] {
            assert!(!is_inline(other), "{other}");
        }
    }

    #[test]
    fn options_stand_anywhere() {
        let expected = FetchRequest {
            adapter: Adapter::OnePassword,
            account: Some("my acc".to_owned()),
            from: Some("Vault/Item".to_owned()),
            names: vec!["A".to_owned(), "B".to_owned()],
        };
        for line in [
            "--adapter 1password --account 'my acc' --from Vault/Item A B",
            "A -a one_password B --account='my acc' --from=Vault/Item",
            "-a1password --account 'my acc' --from Vault/Item -- A B",
        ] {
            assert_eq!(parsed(line).unwrap(), expected, "{line}");
        }
        assert_eq!(parsed("A B").unwrap_err(), "`secrets fetch` needs `--adapter`");
        assert_eq!(parsed("-a x").unwrap_err(), "there is no secrets adapter `x`");
        assert_eq!(parsed("-a test --acount x").unwrap_err(), "`secrets fetch` has no option `--acount`");
        assert_eq!(parsed("-a test A --from").unwrap_err(), "option `--from` needs a value");
    }
}
