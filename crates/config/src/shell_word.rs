/// A command that is not plain words: it would need a shell on the host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWords {
    /// A quote without its other end.
    #[error("the quote `{quote}` has no end")]
    Unclosed {
        /// The quote.
        quote: char,
    },
    /// A character that means something to a shell, outside quotes or with a meaning inside double quotes.
    #[error("`{character}` would need a shell")]
    Metacharacter {
        /// The character.
        character: char,
    },
    /// A backslash at the very end.
    #[error("a `\\` stands at the end")]
    Backslash,
}

/// Splits a command into its words, as a POSIX shell would that expands nothing.
///
/// Quotes and backslashes work as there. What a shell would expand or act on is refused rather than taken literally:
/// Kamal's commands pass through the login shell of the host, ours pass through none, and a command must not change
/// its meaning silently.
///
/// # Errors
/// [`InvalidWords`] for an open quote and for a character that only a shell understands.
pub fn split_words(command: &str) -> Result<Vec<String>, InvalidWords> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = command.trim().chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => single_quoted(&mut characters, word.get_or_insert_default())?,
            '"' => double_quoted(&mut characters, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(characters.next().ok_or(InvalidWords::Backslash)?),
            '#' | '~' if word.is_none() => return Err(InvalidWords::Metacharacter { character }),
            '$' | '`' | '|' | '&' | ';' | '<' | '>' | '(' | ')' | '*' | '?' | '[' | '\n' | '\r' | '\0' => {
                return Err(InvalidWords::Metacharacter { character });
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Splits a text into words as Ruby's `Shellwords` does: quotes and backslashes work as in a shell, and everything else
/// is taken literally, also what a shell would act on.
///
/// # Errors
/// [`InvalidWords`] for an open quote.
pub fn split_literal_words(text: &str) -> Result<Vec<String>, InvalidWords> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            other if other.is_ascii_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(characters.next().ok_or(InvalidWords::Backslash)?),
            quote @ ('\'' | '"') => literal_quoted(&mut characters, quote, word.get_or_insert_default())?,
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

fn literal_quoted(
    characters: &mut std::str::Chars<'_>,
    quote: char,
    word: &mut String,
) -> Result<(), InvalidWords> {
    while let Some(character) = characters.next() {
        match character {
            end if end == quote => return Ok(()),
            '\\' if quote == '"' => match characters.next().ok_or(InvalidWords::Unclosed { quote })? {
                escaped @ ('$' | '`' | '"' | '\\' | '\n') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            other => word.push(other),
        }
    }
    Err(InvalidWords::Unclosed { quote })
}

fn single_quoted(characters: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), InvalidWords> {
    for character in characters {
        match character {
            '\'' => return Ok(()),
            '\0' => return Err(InvalidWords::Metacharacter { character }),
            other => word.push(other),
        }
    }
    Err(InvalidWords::Unclosed { quote: '\'' })
}

fn double_quoted(characters: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), InvalidWords> {
    while let Some(character) = characters.next() {
        match character {
            '"' => return Ok(()),
            '$' | '`' | '\0' => return Err(InvalidWords::Metacharacter { character }),
            '\\' => match characters.next().ok_or(InvalidWords::Unclosed { quote: '"' })? {
                escaped @ ('$' | '`' | '"' | '\\') => word.push(escaped),
                '\n' => {}
                other => word.extend(['\\', other]),
            },
            other => word.push(other),
        }
    }
    Err(InvalidWords::Unclosed { quote: '"' })
}

/// Joins words to a command that [`split_words`] and any POSIX shell split into the same words.
#[must_use]
pub fn join_words<Word: AsRef<str>>(words: &[Word]) -> String {
    let quote = |word: &str| {
        let is_plain =
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c));
        if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    words.iter().map(|word| quote(word.as_ref())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_and_quotes_are_those_of_a_shell() {
        for (command, words) in [
            ("bin/jobs", vec!["bin/jobs"]),
            ("  a   b\tc\n", vec!["a", "b", "c"]),
            ("sh -c 'echo $HOME | cat'", vec!["sh", "-c", "echo $HOME | cat"]),
            (r#"sh -c "echo \$HOME; ls *""#, vec!["sh", "-c", "echo $HOME; ls *"]),
            (r"a\ b c\;d", vec!["a b", "c;d"]),
            ("a'b'\"c\" ''", vec!["abc", ""]),
            (r#""a\b""#, vec![r"a\b"]),
            ("a#b x~y --flag={}", vec!["a#b", "x~y", "--flag={}"]),
            ("", vec![]),
        ] {
            assert_eq!(split_words(command).unwrap(), words, "{command}");
        }
    }

    #[test]
    fn literal_words_are_those_of_shellwords() {
        for (text, words) in [
            (
                r#"app exec -i --reuse "bin/rails console""#,
                vec!["app", "exec", "-i", "--reuse", "bin/rails console"],
            ),
            ("logs -g '$x | y' *", vec!["logs", "-g", "$x | y", "*"]),
            (r#"a\ b "c\"d\e" ''"#, vec!["a b", r#"c"d\e"#, ""]),
        ] {
            assert_eq!(split_literal_words(text).unwrap(), words, "{text}");
        }
        assert!(split_literal_words("a 'b").is_err() && split_literal_words("a\\").is_err());
    }

    #[test]
    fn what_needs_a_shell_is_refused() {
        for command in [
            "a | b",
            "a; b",
            "a && b",
            "echo $X",
            "echo \"$X\"",
            "`id`",
            "a > b",
            "ls *",
            "a\nb",
            "~/x",
            "# x",
            "(a)",
        ] {
            assert!(matches!(split_words(command), Err(InvalidWords::Metacharacter { .. })), "{command}");
        }
        for command in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(split_words(command).is_err(), "{command}");
        }
    }

    proptest! {
        #[test]
        fn joined_words_split_into_the_same(words in proptest::collection::vec("[^\0]*", 0..5)) {
            prop_assert_eq!(split_words(&join_words(&words)).unwrap(), words);
        }

        #[test]
        fn any_text_is_split_or_refused(text in "\\PC*") {
            let _: Result<_, _> = split_words(&text);
        }
    }
}
