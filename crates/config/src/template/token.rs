//! The words of the Ruby that templates may hold.

use super::Problem;

/// A word of the language.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// The end of a statement: a line break or `;`.
    Separator,
    /// A name, or a keyword.
    Name(String),
    /// A name that starts with a capital: `ENV`, `File`.
    Constant(String),
    Integer(i64),
    Float(f64),
    /// `:name`.
    Symbol(String),
    Text(Vec<Part>),
    /// What stands in back-ticks or `%x(…)`.
    Command(Vec<Part>),
    /// `%w[a b]`.
    Words(Vec<String>),
    /// An operator or bracket.
    Sign(&'static str),
}

/// A part of a text with interpolations.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Text(String),
    Code(Vec<Token>),
}

/// The signs, longer ones first.
const SIGNS: [&str; 21] = [
    "||=", "||", "&&", "==", "!=", "&.", "=>", "!", "?", ":", ".", ",", "(", ")", "[", "]", "{", "}", "|",
    "=", "+",
];

/// How deep interpolations may be nested.
const MAX_DEPTH: usize = 16;

/// Splits the code of one tag into its words.
pub(super) fn tokens(code: &str) -> Result<Vec<Token>, Problem> {
    let mut lexer = Lexer { rest: code, depth: 0 };
    let tokens = lexer.until_end(None)?;
    Ok(tokens)
}

struct Lexer<'a> {
    rest: &'a str,
    depth: usize,
}

impl Lexer<'_> {
    /// Reads to the end, or over the bracket that closes an interpolation.
    fn until_end(&mut self, closing: Option<char>) -> Result<Vec<Token>, Problem> {
        let mut tokens = Vec::new();
        let mut open = 0_usize;
        loop {
            let line_break = self.skip_blanks();
            if line_break && !tokens.is_empty() {
                tokens.push(Token::Separator);
            }
            let Some(first) = self.rest.chars().next() else {
                return if closing.is_none() { Ok(tokens) } else { Err(self.beyond()) };
            };
            match first {
                '{' => open += 1,
                '}' if closing == Some('}') && open == 0 => {
                    self.step(1);
                    return Ok(tokens);
                }
                '}' => open = open.saturating_sub(1),
                _ => {}
            }
            let token = self.token(first, tokens.last())?;
            tokens.push(token);
        }
    }

    /// Steps over blanks, comments and line breaks; says whether there was a line break that ends a statement.
    fn skip_blanks(&mut self) -> bool {
        let mut line_break = false;
        loop {
            let trimmed = self.rest.trim_start();
            let passed = self.rest.len() - trimmed.len();
            line_break |= self.rest.get(..passed).is_some_and(|blanks| blanks.contains('\n'));
            self.rest = trimmed;
            if !self.rest.starts_with('#') {
                break;
            }
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.step(end);
        }
        // A line that begins with a point goes on with the one before.
        line_break && !(self.rest.starts_with('.') || self.rest.starts_with("&."))
    }

    fn step(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn beyond(&self) -> Problem {
        Problem::Beyond(crate::yaml::shorten(self.rest))
    }

    fn token(&mut self, first: char, before: Option<&Token>) -> Result<Token, Problem> {
        match first {
            ';' => {
                self.step(1);
                Ok(Token::Separator)
            }
            '"' => self.text('"', '"').map(Token::Text),
            '`' => self.text('`', '`').map(Token::Command),
            '\'' => self.single_quoted(),
            '%' => self.percent(),
            '0'..='9' => self.number(),
            ':' if self.rest.get(1..).is_some_and(|rest| rest.starts_with(is_name_start)) => {
                self.step(1);
                Ok(Token::Symbol(self.name()))
            }
            // `&` stands only before a symbol: `map(&:strip)`.
            '&' if self.rest.starts_with("&:") && before == Some(&Token::Sign("(")) => {
                self.step(1);
                Ok(Token::Sign("&"))
            }
            name if is_name_start(name) => {
                let name = self.name();
                Ok(if name.starts_with(|c: char| c.is_ascii_uppercase()) {
                    Token::Constant(name)
                } else {
                    Token::Name(name)
                })
            }
            _ => self.sign(),
        }
    }

    fn sign(&mut self) -> Result<Token, Problem> {
        let sign = SIGNS.iter().find(|sign| self.rest.starts_with(**sign)).ok_or_else(|| self.beyond())?;
        // What begins like a sign that is known but is another one: `=~`, `===`, `+=`.
        let after = self.rest.get(sign.len()..).and_then(|rest| rest.chars().next());
        let is_other =
            matches!((*sign, after), ("=" | "==", Some('~' | '=')) | ("+", Some('=')) | ("!", Some('~')));
        if is_other {
            return Err(self.beyond());
        }
        self.step(sign.len());
        Ok(Token::Sign(sign))
    }

    fn name(&mut self) -> String {
        let end =
            self.rest.find(|c: char| !is_name_start(c) && !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (mut name, rest) = self.rest.split_at(end);
        // `empty?`, but not the `==` of `a!=b` or a ternary's `?` with a blank before it.
        let marked = rest.starts_with(['?', '!']) && !rest.get(1..).is_some_and(|rest| rest.starts_with('='));
        if marked {
            name = self.rest.get(..=end).unwrap_or(name);
        }
        let name = name.to_owned();
        self.step(name.len());
        name
    }

    fn number(&mut self) -> Result<Token, Problem> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(self.rest.len());
        let (whole, rest) = self.rest.split_at(end);
        let fraction = rest.strip_prefix('.').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let problem = self.beyond();
        // A leading zero means octal.
        if whole.len() > 1 && whole.starts_with('0') {
            return Err(problem);
        }
        let Some(fraction) = fraction else {
            let value = whole.replace('_', "").parse().map_err(|_| problem)?;
            self.step(end);
            return Ok(Token::Integer(value));
        };
        let digits = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
        let length = end + 1 + digits;
        let text = self.rest.get(..length).unwrap_or_default().replace('_', "");
        let value = text.parse().map_err(|_| problem)?;
        self.step(length);
        Ok(Token::Float(value))
    }

    fn single_quoted(&mut self) -> Result<Token, Problem> {
        let mut text = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '\'' => {
                    self.step(at + 1);
                    return Ok(Token::Text(vec![Part::Text(text)]));
                }
                '\\' => match characters.next() {
                    Some((_, escaped @ ('\'' | '\\'))) => text.push(escaped),
                    Some((_, other)) => text.extend(['\\', other]),
                    None => break,
                },
                other => text.push(other),
            }
        }
        Err(self.beyond())
    }

    /// `%x(…)`, `%w[…]`, `%q(…)`, `%Q(…)`.
    fn percent(&mut self) -> Result<Token, Problem> {
        let mut characters = self.rest.chars().skip(1);
        let (kind, open) = (characters.next(), characters.next());
        let close = match open {
            Some('(') => ')',
            Some('[') => ']',
            Some('{') => '}',
            Some('|') => '|',
            _ => return Err(self.beyond()),
        };
        let problem = self.beyond();
        match kind {
            Some('x' | 'Q') => {
                self.step(2);
                let parts = self.text(open.unwrap_or_default(), close)?;
                Ok(if kind == Some('x') { Token::Command(parts) } else { Token::Text(parts) })
            }
            Some('w' | 'q') => {
                let body = self.rest.get(3..).unwrap_or_default();
                let end = body.find(close).ok_or_else(|| problem.clone())?;
                let text = body.get(..end).unwrap_or_default();
                if text.contains(['\\', open.unwrap_or_default()]) {
                    return Err(problem);
                }
                let token = match kind {
                    Some('w') => Token::Words(text.split_whitespace().map(str::to_owned).collect()),
                    _ => Token::Text(vec![Part::Text(text.to_owned())]),
                };
                self.step(3 + end + 1);
                Ok(token)
            }
            _ => Err(problem),
        }
    }

    /// Reads a text with escapes and interpolations, from its opening to its closing sign.
    fn text(&mut self, open: char, close: char) -> Result<Vec<Part>, Problem> {
        if self.depth >= MAX_DEPTH {
            return Err(self.beyond());
        }
        let whole = self.beyond();
        self.step(open.len_utf8());
        let (mut parts, mut text, mut nested) = (Vec::new(), String::new(), 0_usize);
        while let Some(character) = self.rest.chars().next() {
            if self.rest.starts_with("#{") {
                self.step(2);
                parts.push(Part::Text(std::mem::take(&mut text)));
                self.depth += 1;
                parts.push(Part::Code(self.until_end(Some('}'))?));
                self.depth -= 1;
                continue;
            }
            self.step(character.len_utf8());
            match character {
                end if end == close && nested == 0 => {
                    parts.push(Part::Text(text));
                    return Ok(parts);
                }
                '\\' => {
                    let escaped = self.rest.chars().next().ok_or_else(|| whole.clone())?;
                    self.step(escaped.len_utf8());
                    text.push(unescape(escaped).ok_or_else(|| whole.clone())?);
                    continue;
                }
                end if end == close => nested -= 1,
                start if start == open => nested += 1,
                _ => {}
            }
            text.push(character);
        }
        Err(whole)
    }
}

/// Returns what a backslash with a character stands for; none for forms that take more characters.
fn unescape(escaped: char) -> Option<char> {
    match escaped {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        'e' => Some('\u{1b}'),
        's' => Some(' '),
        'u' | 'x' | 'c' | 'C' | 'M' | 'a' | 'b' | 'f' | 'v' | '0'..='9' | '\n' => None,
        other => Some(other),
    }
}

fn is_name_start(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_split_into_words() {
        let text = |text: &str| vec![Part::Text(text.to_owned())];
        assert_eq!(
            tokens("ENV[\"A\"] || 'b' # note").unwrap(),
            [
                Token::Constant("ENV".into()),
                Token::Sign("["),
                Token::Text(text("A")),
                Token::Sign("]"),
                Token::Sign("||"),
                Token::Text(text("b")),
            ]
        );
        assert_eq!(tokens("x.empty? ? 1 : 2.5").unwrap().len(), 7);
        assert_eq!(tokens("%w[a b]").unwrap(), [Token::Words(vec!["a".into(), "b".into()])]);
        assert_eq!(tokens("%x(a (b) c)").unwrap(), [Token::Command(text("a (b) c"))]);
        assert_eq!(tokens("a\n  .b").unwrap().len(), 3);
        assert_eq!(tokens("a\nb").unwrap()[1], Token::Separator);
    }

    #[test]
    fn interpolations_are_code_of_their_own() {
        let token = tokens("\"a#{ENV[\"X\"]}b\\n\"").unwrap();
        let [Token::Text(parts)] = token.as_slice() else { panic!("{token:?}") };
        assert!(matches!(&parts[1], Part::Code(code) if code.len() == 4));
        assert_eq!(parts[2], Part::Text("b\n".into()));
    }

    #[test]
    fn what_is_not_known_is_beyond() {
        for code in [
            "a =~ /x/",
            "\"open",
            "'open",
            "%r{x}",
            "a <=> b",
            "$x",
            "@x",
            "\"#{\"",
            "0777",
            "\"\\u00e9\"",
            "->",
        ] {
            assert!(tokens(code).is_err(), "{code}");
        }
    }
}
