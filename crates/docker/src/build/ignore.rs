//! `.dockerignore`, to the letter of github.com/moby/patternmatcher (v0.6) and its `ignorefile`.

/// The patterns of one `.dockerignore` file, in their order.
#[derive(Debug, Default)]
pub(crate) struct Ignore {
    patterns: Vec<Pattern>,
}

/// A line that is no pattern.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{line}` in line {number} is not a pattern: {rule}")]
pub struct IgnorePatternError {
    line: String,
    number: usize,
    rule: &'static str,
}

/// What the patterns say about a path and, for the paths below it, which of them matched.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) ignored: bool,
    matched: Vec<bool>,
}

#[derive(Debug)]
struct Pattern {
    /// The cleaned text, without `!`.
    text: String,
    exception: bool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Exact,
    /// `text**`
    Prefix,
    /// `**text`
    Suffix,
    Tokens(Vec<Token>),
}

#[derive(Debug)]
enum Token {
    Char(char),
    /// `?`
    NotSlash,
    /// `*`
    ManyNotSlash,
    /// `**` before something else: nothing, or anything that ends with a slash
    Folders,
    /// `**` at the end
    Rest,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Ignore {
    pub(crate) fn parse(text: &str) -> Result<Self, IgnorePatternError> {
        let mut patterns = Vec::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, raw) in text.lines().enumerate() {
            let line = raw.trim();
            if raw.starts_with('#') || line.is_empty() {
                continue;
            }
            let bad = |rule| IgnorePatternError { line: line.to_owned(), number: index + 1, rule };
            let (exception, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if pattern.is_empty() {
                return Err(bad("a `!` needs a pattern behind it"));
            }
            let cleaned = clean(pattern);
            let cleaned = if cleaned.len() > 1 { cleaned.trim_start_matches('/') } else { cleaned.as_str() };
            patterns.push(Pattern::compile(cleaned, exception).map_err(bad)?);
        }
        Ok(Self { patterns })
    }

    /// Judges a path (relative, with `/`) by the verdict on its parent.
    pub(crate) fn judge(&self, path: &str, parent: Option<&Verdict>) -> Verdict {
        let mut verdict = Verdict { ignored: false, matched: vec![false; self.patterns.len()] };
        for (index, (pattern, slot)) in self.patterns.iter().zip(&mut verdict.matched).enumerate() {
            let inherited = parent.and_then(|parent| parent.matched.get(index)).copied().unwrap_or_default();
            // A pattern that could not change the verdict is not looked at.
            let matches = inherited || (pattern.exception == verdict.ignored && pattern.matches(path));
            *slot = matches;
            if matches {
                verdict.ignored = !pattern.exception;
            }
        }
        verdict
    }

    /// Says whether an exception may bring back something inside an ignored folder.
    pub(crate) fn may_bring_back(&self, folder: &str) -> bool {
        let inside = format!("{folder}/");
        self.patterns.iter().any(|pattern| {
            // Wildcards may match anything, which Docker's own walk overlooks; there the file is merely not looked for.
            pattern.exception && format!("{}/", pattern.text).starts_with(&inside)
        })
    }
}

/// Go's `filepath.Clean`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

impl Pattern {
    fn compile(text: &str, exception: bool) -> Result<Self, &'static str> {
        let mut kind = Kind::Exact;
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        let mut first = true;
        while let Some(char) = chars.next() {
            // What is not one of the two simple forms is matched by tokens.
            let mut wild = true;
            match char {
                '*' if chars.peek() == Some(&'*') => {
                    chars.next();
                    if chars.peek() == Some(&'/') {
                        chars.next();
                    }
                    if chars.peek().is_some() {
                        tokens.push(Token::Folders);
                    } else if matches!(kind, Kind::Exact) {
                        kind = Kind::Prefix;
                        wild = false;
                    } else {
                        tokens.push(Token::Rest);
                    }
                    if first {
                        kind = Kind::Suffix;
                        wild = false;
                    }
                }
                '*' => tokens.push(Token::ManyNotSlash),
                '?' => tokens.push(Token::NotSlash),
                '\\' => match chars.next() {
                    Some(next) => tokens.push(Token::Char(next)),
                    None => return Err("a pattern does not end with `\\`"),
                },
                '[' => {
                    tokens.push(class(&mut chars).ok_or("a `[` needs its `]` and something between them")?)
                }
                other => {
                    tokens.push(Token::Char(other));
                    wild = false;
                }
            }
            if wild {
                kind = Kind::Tokens(Vec::new());
            }
            first = false;
        }
        if let Kind::Tokens(slot) = &mut kind {
            *slot = tokens;
        }
        Ok(Self { text: text.to_owned(), exception, kind })
    }

    fn matches(&self, path: &str) -> bool {
        match &self.kind {
            Kind::Exact => path == self.text,
            Kind::Prefix => path.starts_with(self.text.strip_suffix("**").unwrap_or(&self.text)),
            Kind::Suffix => {
                let suffix = self.text.strip_prefix("**").unwrap_or(&self.text);
                path.ends_with(suffix) || suffix.strip_prefix('/').is_some_and(|suffix| path == suffix)
            }
            Kind::Tokens(tokens) => tokens_match(tokens, path),
        }
    }
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let mut literal = || match chars.next()? {
            '\\' => chars.next().map(|char| (char, true)),
            char => Some((char, false)),
        };
        let (low, escaped) = literal()?;
        if low == ']' && !escaped && !ranges.is_empty() {
            return Some(Token::Class { negated, ranges });
        }
        let mut ahead = chars.clone();
        let ranged = ahead.next() == Some('-') && ahead.next().is_some_and(|next| next != ']');
        let high = if ranged {
            chars.next();
            match chars.next()? {
                '\\' => chars.next()?,
                char => char,
            }
        } else {
            low
        };
        if high < low {
            return None;
        }
        ranges.push((low, high));
    }
}

/// Follows all the ways through the tokens at once, so that no pattern takes long.
fn tokens_match(tokens: &[Token], path: &str) -> bool {
    let chars: Vec<char> = path.chars().collect();
    // `reached[n]`: the tokens so far can match the first n characters.
    let mut reached = vec![false; chars.len() + 1];
    if let Some(start) = reached.first_mut() {
        *start = true;
    }
    for token in tokens {
        let mut next = vec![false; chars.len() + 1];
        let mut running = false;
        for at in 0..=chars.len() {
            let here = reached.get(at).copied().unwrap_or_default();
            let before = at.checked_sub(1);
            let char = before.and_then(|before| chars.get(before)).copied();
            let came = before.and_then(|before| reached.get(before)).copied().unwrap_or_default();
            let ok = match token {
                Token::Char(wanted) => came && char == Some(*wanted),
                Token::NotSlash => came && char != Some('/'),
                Token::Class { negated, ranges } => {
                    came && char.is_some_and(|char| {
                        ranges.iter().any(|(low, high)| (*low..=*high).contains(&char)) != *negated
                    })
                }
                Token::ManyNotSlash => {
                    running = here || (running && char != Some('/'));
                    running
                }
                Token::Rest => {
                    running |= here;
                    running
                }
                Token::Folders => {
                    let ok = here || (running && char == Some('/'));
                    running |= here;
                    ok
                }
            };
            if let Some(slot) = next.get_mut(at) {
                *slot = ok;
            }
        }
        reached = next;
    }
    reached.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges a path as the walk does, through all its parents.
    fn ignored(ignore: &str, path: &str) -> bool {
        let ignore = Ignore::parse(ignore).unwrap();
        let mut verdict = None;
        for (at, _) in path.match_indices('/').chain([(path.len(), "")]) {
            verdict = Some(ignore.judge(path.get(..at).unwrap(), verdict.as_ref()));
        }
        verdict.unwrap().ignored
    }

    /// Cases of patternmatcher's own tests and of Docker's documentation.
    #[test]
    fn single_patterns_match_as_mobys() {
        let cases = [
            ("**", "file", true),
            ("**", "dir/file", true),
            ("**/", "file", true),
            ("**/", "dir/file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/*", "dir/dir2/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir2/file", true),
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**/file", "dir/file", true),
            ("**file", "dir/dirfile", true),
            ("**/file*", "dir/dir/file.txt", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt", "a/file.txt", true),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[b-d]e", "aae", false),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcdef", false),
            ("abc.def", "abcZdef", false),
            ("abc?def", "abcZdef", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/foo/bar", true),
            ("abc/**", "abc", false),
            ("*/temp*", "some/temporary.txt", true),
            ("*/*/temp*", "a/b/temporary", true),
            ("temp?", "tempa", true),
            ("/foo/bar", "foo/bar", true),
            ("foo/", "foo/bar", true),
            ("  foo  ", "foo", true),
            ("a/../b", "b", true),
            ("#foo", "#foo", false),
            ("node_modules", "app/node_modules/x", false),
            ("**/node_modules", "app/node_modules/x", true),
            ("a(b)", "a(b)", true),
            ("a/b(.*)", "a/bc", false),
        ];
        for (pattern, path, wanted) in cases {
            assert_eq!(ignored(pattern, path), wanted, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let cases = [
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README.md", "other.md", true),
            ("!README.md\n*.md", "README.md", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
            ("*\n!a/b", "a/b/c", false),
            ("*\n!a/b", "a/x", true),
            ("dir\n!dir/keep", "dir/keep", false),
            ("dir\n!dir/keep\ndir/keep/not", "dir/keep/not", true),
            ("**\n! util/docker/web", "util/docker/web/foo", false),
        ];
        for (patterns, path, wanted) in cases {
            assert_eq!(ignored(patterns, path), wanted, "{patterns:?} {path}");
        }
        let ignore = Ignore::parse("dir\n!dir/keep").unwrap();
        assert!(ignore.may_bring_back("dir") && !ignore.may_bring_back("other"));
    }

    #[test]
    fn what_is_no_pattern_is_named_with_its_line() {
        let error = Ignore::parse("ok\n# comment\n[x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`[x` in line 3 is not a pattern: a `[` needs its `]` and something between them"
        );
        assert!(Ignore::parse("!").is_err());
        assert!(Ignore::parse("\u{feff}#x\r\nfoo\r\n").unwrap().judge("foo", None).ignored);
    }

    #[test]
    fn many_wildcards_take_no_time() {
        let pattern = "*a".repeat(40) + "b";
        assert!(!ignored(&pattern, &"a".repeat(2000)));
    }
}
