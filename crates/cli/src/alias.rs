use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::command::help;
use crate::error::{CommandError, UsageError};
use crate::process::Process;
use crate::project::{self, DeployFile};
use crate::words;

/// How many aliases may stand for one another.
const DEPTH: usize = 20;

/// Replaces an alias of the deploy file, if the first word is one, by the words that it stands for.
///
/// What stands in the command's place may be an alias again, and may name another destination.
///
/// # Errors
/// The mistakes of the deploy file, or that aliases go round in a circle.
pub(crate) async fn expand(words: &[OsString], process: &Process) -> Result<Vec<OsString>, CommandError> {
    let tree = help::tree();
    let mut words = words.to_vec();
    for _ in 0..DEPTH {
        let Some(first) = candidate(&words, &tree) else { return Ok(words) };
        let Some(expansion) = find(&first, &words, process).await? else { return Ok(words) };
        words.splice(1..2, expansion.into_iter().map(OsString::from));
    }
    let first = words.get(1).map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    Err(UsageError::new(format!("alias `{first}` stands for itself")).into())
}

/// Returns the word that may be an alias: the first, if it is neither an option nor a command.
pub(crate) fn candidate(words: &[OsString], tree: &clap::Command) -> Option<String> {
    let first = words.get(1)?.to_str()?;
    (!first.starts_with('-') && !words::is_command(first, tree)).then(|| first.to_owned())
}

async fn find(
    name: &str,
    words: &[OsString],
    process: &Process,
) -> Result<Option<Vec<String>>, CommandError> {
    let config_file = option(words, &["-c", "--config-file", "--config_file"]);
    let destination = option(words, &["-d", "--destination"]);
    let file = DeployFile {
        path: Path::new(config_file.as_deref().unwrap_or(project::DEFAULT_DEPLOY_FILE)),
        destination: destination.as_deref(),
        process,
    };
    if !process.directory.join(file.path).is_file() {
        return Ok(None);
    }
    let parsed = project::parse(&file).await?;
    let found = parsed.project.aliases.iter().find(|(known, _)| known.as_str() == name);
    Ok(found.map(|(_, expansion)| expansion.clone()))
}

/// Returns the value of an option, wherever it stands.
fn option(words: &[OsString], names: &[&str]) -> Option<String> {
    let texts: Vec<&str> =
        words.iter().take_while(|word| *word != OsStr::new("--")).filter_map(|word| word.to_str()).collect();
    let mut value = None;
    for (at, word) in texts.iter().enumerate() {
        for name in names {
            let attached = match word.strip_prefix(name) {
                Some("") => texts.get(at + 1).copied(),
                Some(rest) if name.starts_with("--") => rest.strip_prefix('='),
                Some(rest) => Some(rest.strip_prefix('=').unwrap_or(rest)),
                None => None,
            };
            value = attached.map(ToOwned::to_owned).or(value);
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_destination_is_found_wherever_it_stands() {
        let value = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            option(&words, &["-d", "--destination"])
        };
        for line in [
            "freehold x -d s",
            "freehold x -ds y",
            "freehold x --destination=s",
            "freehold x --destination s",
        ] {
            assert_eq!(value(line).as_deref(), Some("s"), "{line}");
        }
        for line in ["freehold x", "freehold x -- -d s", "freehold x --destinations s", "freehold x -d"] {
            assert_eq!(value(line), None, "{line}");
        }
    }
}
