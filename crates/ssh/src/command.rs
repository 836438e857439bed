/// What runs on a host: the words of a command, or a script for `sh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteCommand {
    /// A program and its arguments; each word arrives there as it is.
    Arguments(Vec<String>),
    /// The text of a POSIX shell script; it runs in `sh`, whatever the user's login shell is.
    Script(String),
}

/// A command that no shell could be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommand {
    /// It has no words.
    #[error("the remote command is empty")]
    Empty,
    /// It holds a zero byte, which no argument can.
    #[error("the remote command holds a zero byte")]
    ZeroByte,
    /// It is longer than one argument may be on Linux (128 KiB).
    #[error("the remote command has {length_bytes} bytes, more than the {limit_bytes} that a host takes")]
    TooLong {
        /// Its length after quoting.
        length_bytes: usize,
        /// The greatest length.
        limit_bytes: usize,
    },
}

/// Linux takes 128 KiB for one argument (`MAX_ARG_STRLEN`), and the login shell gets the whole line as one.
const LIMIT_BYTES: usize = 128 * 1024 - 1;

impl RemoteCommand {
    /// Makes a command of words.
    pub fn arguments<I, S>(words: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Self::Arguments(words.into_iter().map(Into::into).collect())
    }

    /// Makes a command of a script's text.
    pub fn script(text: impl Into<String>) -> Self {
        Self::Script(text.into())
    }

    /// Returns the line that the login shell of the host gets.
    ///
    /// # Errors
    /// [`InvalidCommand`] if it is empty, holds a zero byte, or is too long for an argument.
    pub fn line(&self) -> Result<String, InvalidCommand> {
        let line = match self {
            Self::Arguments(words) if words.is_empty() => return Err(InvalidCommand::Empty),
            Self::Arguments(words) => words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "),
            Self::Script(text) => format!("exec sh -c {}", quote(text)),
        };
        if line.contains('\0') {
            return Err(InvalidCommand::ZeroByte);
        }
        if line.len() > LIMIT_BYTES {
            return Err(InvalidCommand::TooLong { length_bytes: line.len(), limit_bytes: LIMIT_BYTES });
        }
        Ok(line)
    }
}

/// Words that mean something to a shell although they consist of harmless characters.
const RESERVED: [&str; 19] = [
    "case", "coproc", "do", "done", "elif", "else", "esac", "exec", "fi", "for", "function", "if", "in",
    "select", "then", "time", "until", "while", "alias",
];

/// Quotes a word for a POSIX shell, so that the shell reads exactly this one word back.
///
/// All quoting for remote shells happens here. A zero byte cannot be quoted: [`RemoteCommand::line`] refuses it.
#[must_use]
pub fn quote(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(harmless) && !RESERVED.contains(&word) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_words_stay_readable() {
        assert_eq!(quote("docker"), "docker");
        assert_eq!(quote("/var/run/docker.sock"), "/var/run/docker.sock");
        for (word, quoted) in [
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("A=b", "'A=b'"),
            ("~", "'~'"),
            ("if", "'if'"),
        ] {
            assert_eq!(quote(word), quoted);
        }
    }

    #[test]
    fn impossible_commands_are_refused() {
        assert_eq!(RemoteCommand::Arguments(Vec::new()).line(), Err(InvalidCommand::Empty));
        assert_eq!(RemoteCommand::arguments(["a\0b"]).line(), Err(InvalidCommand::ZeroByte));
        let long = RemoteCommand::script("x".repeat(LIMIT_BYTES)).line();
        assert!(matches!(long, Err(InvalidCommand::TooLong { .. })));
    }

    #[test]
    fn a_script_runs_in_sh_whatever_the_login_shell_is() {
        assert_eq!(RemoteCommand::script("echo 'a'").line().unwrap(), r"exec sh -c 'echo '\''a'\'''");
    }
}
