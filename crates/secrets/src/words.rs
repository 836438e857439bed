//! Words as a shell reads and writes them, after Ruby's `Shellwords`, which Kamal uses for `$(kamal secrets …)`.

use secrecy::zeroize::Zeroizing;

/// Splits a line into words; none if a quote is left open.
pub(crate) fn split(line: &str) -> Option<Vec<Zeroizing<String>>> {
    let mut words = Vec::new();
    let mut word: Option<Zeroizing<String>> = None;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        if character.is_ascii_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match character {
            '\'' => loop {
                match characters.next()? {
                    '\'' => break,
                    other => word.push(other),
                }
            },
            '"' => loop {
                match characters.next()? {
                    '"' => break,
                    '\\' => match characters.next()? {
                        special @ ('$' | '`' | '"' | '\\' | '\n') => word.push(special),
                        other => word.extend(['\\', other]),
                    },
                    other => word.push(other),
                }
            },
            '\\' => word.extend([characters.next().unwrap_or('\\')]),
            other => word.push(other),
        }
    }
    words.extend(word);
    Some(words)
}

/// Writes a text so that a shell reads it as one word.
pub(crate) fn escape(text: &str) -> Zeroizing<String> {
    if text.is_empty() {
        return Zeroizing::new("''".to_owned());
    }
    let mut escaped = Zeroizing::new(String::with_capacity(text.len() * 2));
    for character in text.chars() {
        match character {
            '\n' => escaped.push_str("'\n'"),
            plain if plain.is_ascii_alphanumeric() || "_-.,:+/@".contains(plain) => escaped.push(plain),
            other => escaped.extend(['\\', other]),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(line: &str) -> Option<Vec<String>> {
        split(line).map(|words| words.iter().map(|word| word.to_string()).collect())
    }

    #[test]
    fn lines_are_split_as_a_shell_does() {
        for (line, words) in [
            ("a  b\tc\n", &["a", "b", "c"][..]),
            ("'a b' \"c d\"e f\\ g", &["a b", "c de", "f g"]),
            ("\"\\$x \\n \\\"q\\\"\" '\\x'", &["$x \\n \"q\"", "\\x"]),
            ("'' \"\"", &["", ""]),
            ("é\\é", &["éé"]),
            ("", &[]),
        ] {
            assert_eq!(shown(line).unwrap(), words, "{line}");
        }
        assert_eq!(shown("a 'b"), None);
        assert_eq!(shown("a \"b\\"), None);
    }

    proptest! {
        #[test]
        fn escaping_is_undone_by_splitting(text in "(?s).{0,60}") {
            let text = text.replace('\0', "");
            let words = shown(&escape(&text)).unwrap();
            prop_assert_eq!(words, vec![text]);
        }

        #[test]
        fn any_line_is_split(line in "(?s)[a'\"\\\\ $\n]{0,40}") {
            drop(split(&line));
        }
    }
}
