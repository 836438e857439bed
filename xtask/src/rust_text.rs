//! Just enough of Rust's lexical rules to tell code from comments and literals, and tests from the rest.

/// Replaces the content of comments, strings and characters by blanks; lines and columns stay.
pub(crate) fn code_only(text: &str) -> String {
    let mut lexer =
        Lexer { rest: text.chars().peekable(), code: String::with_capacity(text.len()), last: ' ' };
    lexer.run();
    lexer.code
}

/// Blanks the items under `#[cfg(test)]` in text that [`code_only`] returned.
pub(crate) fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        kept.push_str(before);
        let end = item_end(after);
        let (item, tail) = after.split_at_checked(end).unwrap_or((after, ""));
        kept.extend("#[cfg(test)]".chars().chain(item.chars()).map(blank));
        rest = tail;
    }
    kept.push_str(rest);
    kept
}

/// Returns where the first item ends: after its `;` or its closing brace.
fn item_end(code: &str) -> usize {
    let mut depth = 0_usize;
    for (index, character) in code.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth <= 1 => return index + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return index + 1,
            _ => {}
        }
    }
    code.len()
}

/// Whether a word stands in code with no letter, digit or underscore at either side.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    code.match_indices(word).any(|(index, _)| {
        let before = code.get(..index).and_then(|text| text.chars().next_back());
        let after = code.get(index + word.len()..).and_then(|text| text.chars().next());
        let joins = |outer: Option<char>, inner: Option<char>| {
            outer.is_some_and(is_part) && inner.is_some_and(is_part)
        };
        !joins(before, word.chars().next()) && !joins(after, word.chars().next_back())
    })
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    code: String,
    /// The character of code before the present one.
    last: char,
}

impl Lexer<'_> {
    fn run(&mut self) {
        while let Some(character) = self.rest.next() {
            match (character, self.rest.peek()) {
                ('/', Some('/')) => self.line_comment(),
                ('/', Some('*')) => self.block_comment(),
                ('"', _) => self.string(),
                ('r', Some('"' | '#')) if !is_name(self.last) || self.last == 'b' => self.raw_string(),
                ('\'', _) => self.quote(),
                _ => self.keep(character),
            }
        }
    }

    fn keep(&mut self, character: char) {
        self.code.push(character);
        self.last = character;
    }

    fn hide(&mut self, character: char) {
        self.code.push(blank(character));
        self.last = ' ';
    }

    fn hide_next(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        self.hide(next);
        Some(next)
    }

    fn line_comment(&mut self) {
        self.hide('/');
        while self.rest.peek().is_some_and(|next| *next != '\n') {
            self.hide_next();
        }
    }

    fn block_comment(&mut self) {
        self.hide('/');
        self.hide_next();
        let mut depth = 1;
        while depth > 0 {
            match (self.hide_next(), self.rest.peek()) {
                (Some('*'), Some('/')) => depth -= 1,
                (Some('/'), Some('*')) => depth += 1,
                (Some(_), _) => continue,
                (None, _) => return,
            }
            self.hide_next();
        }
    }

    fn string(&mut self) {
        self.keep('"');
        while let Some(next) = self.rest.next() {
            match next {
                '"' => return self.keep('"'),
                '\\' => {
                    self.hide(next);
                    self.hide_next();
                }
                _ => self.hide(next),
            }
        }
    }

    fn raw_string(&mut self) {
        self.keep('r');
        let mut hashes = 0;
        while self.rest.next_if_eq(&'#').is_some() {
            self.hide('#');
            hashes += 1;
        }
        // `r#name` is a name.
        if self.rest.next_if_eq(&'"').is_none() {
            return;
        }
        self.keep('"');
        while let Some(next) = self.rest.next() {
            self.hide(next);
            if next == '"'
                && (0..hashes).all(|_| self.rest.next_if_eq(&'#').map(|hash| self.hide(hash)).is_some())
            {
                return;
            }
        }
    }

    /// A character literal or a lifetime.
    fn quote(&mut self) {
        self.keep('\'');
        let Some(first) = self.rest.next() else { return };
        if first == '\\' {
            self.hide(first);
            self.hide_next();
            while self.hide_next().is_some_and(|next| next != '\'') {}
        } else if self.rest.next_if_eq(&'\'').is_some() {
            self.hide(first);
            self.hide('\'');
        } else {
            self.keep(first);
        }
    }
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn blank(character: char) -> char {
    if character == '\n' { '\n' } else { ' ' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_comments_and_literals_and_nothing_else() {
        let text = "let a = \"tokio \\\" x\"; // tokio\nlet b: &'static str = r#\"tokio \" \"#; /* /* tokio */ x */ let c = '\"'; tokio;";
        let code = code_only(text);
        assert_eq!(code.matches("tokio").count(), 1, "{code}");
        assert_eq!(code.lines().count(), 2);
        assert!(code.contains("&'static str") && code.contains("let c ="), "{code}");
        assert!(code.trim_end().ends_with("tokio;"), "{code}");
    }

    #[test]
    fn hides_byte_strings_and_escaped_characters() {
        let code = code_only(r##"f(b'\'', '\u{41}', b"std::env", br#"std::env"#, r#type); std::fs"##);
        assert!(!code.contains("std::env"), "{code}");
        assert!(code.ends_with("; std::fs"), "{code}");
    }

    #[test]
    fn blanks_test_items() {
        let code = "a\n#[cfg(test)]\nmod tests {\n fn f() { x }\n}\nb\n#[cfg(test)]\nmod more;\nc";
        let kept = without_tests(code);
        assert!(!kept.contains('x') && !kept.contains("more"));
        assert_eq!(kept.split_whitespace().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(kept.lines().count(), code.lines().count());
    }

    #[test]
    fn finds_whole_words_only() {
        assert!(has_word("use tokio::x;", "tokio"));
        assert!(!has_word("let mytokio = 1;", "tokio"));
        assert!(has_word("x.await;", ".await"));
        assert!(has_word("std::fs::read", "std::fs::"));
        assert!(!has_word("std::fsx", "std::fs"));
    }
}
