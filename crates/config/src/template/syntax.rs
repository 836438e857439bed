//! From words to what they mean: expressions and statements of the subset.

use super::Problem;
use super::token::{Part, Token};
use super::value::Value;

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    Value(Value),
    Text(Vec<Piece>),
    Command(Vec<Piece>),
    Variable(String),
    Constant(String),
    List(Vec<Expression>),
    Call(Box<Call>),
    Index(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Equal(Box<Expression>, Box<Expression>),
    Add(Box<Expression>, Box<Expression>),
    /// Condition, then, otherwise.
    Choice(Box<Expression>, Box<Expression>, Box<Expression>),
}

/// A part of a text with interpolations.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Value(Expression),
}

/// `receiver.name(arguments) { |parameters| body }`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) receiver: Option<Expression>,
    pub(super) name: String,
    pub(super) arguments: Vec<Expression>,
    pub(super) block: Option<Block>,
    /// `&.`: nothing is called on `nil`.
    pub(super) is_safe: bool,
}

/// What a call does with each item.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Block {
    /// `&:name`.
    Method(String),
    Body(Vec<String>, Expression),
}

/// How deep expressions may be nested.
const MAX_DEPTH: usize = 48;

/// Reads words one after another.
pub(super) struct Parser<'a> {
    tokens: &'a [Token],
    depth: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(tokens: &'a [Token]) -> Self {
        Self { tokens, depth: 0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.tokens.is_empty()
    }

    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.tokens.first()
    }

    fn step(&mut self) {
        self.tokens = self.tokens.get(1..).unwrap_or_default();
    }

    /// Steps over a sign if it is next.
    pub(super) fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(next)) if *next == sign);
        if found {
            self.step();
        }
        found
    }

    /// Steps over a keyword if it is next.
    pub(super) fn keyword(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Name(next)) if next == word);
        if found {
            self.step();
        }
        found
    }

    pub(super) fn separators(&mut self) {
        while self.peek() == Some(&Token::Separator) {
            self.step();
        }
    }

    fn expect(&mut self, sign: &str) -> Result<(), Problem> {
        if self.sign(sign) { Ok(()) } else { Err(self.beyond()) }
    }

    pub(super) fn beyond(&self) -> Problem {
        Problem::Beyond(self.peek().map_or_else(|| "an incomplete expression".to_owned(), describe))
    }

    /// `name =`, `name ||=`; returns the name and whether only `nil` is replaced.
    pub(super) fn assignment(&mut self) -> Option<(String, bool)> {
        let [Token::Name(name), Token::Sign(sign @ ("=" | "||=")), ..] = self.tokens else { return None };
        let is_plain = !is_keyword(name) && !name.ends_with(['?', '!']);
        is_plain.then(|| {
            self.step();
            self.step();
            (name.clone(), *sign == "||=")
        })
    }

    /// `|a, b|`, the names of a block's parameters.
    pub(super) fn parameters(&mut self) -> Result<Vec<String>, Problem> {
        let mut names = Vec::new();
        if !self.sign("|") {
            return Ok(names);
        }
        loop {
            match self.peek() {
                Some(Token::Name(name)) if !is_keyword(name) => names.push(name.clone()),
                _ => return Err(self.beyond()),
            }
            self.step();
            if self.sign("|") {
                return Ok(names);
            }
            self.expect(",")?;
        }
    }

    /// Reads an expression, with `if` or `unless` behind it.
    pub(super) fn modified(&mut self) -> Result<Expression, Problem> {
        let value = self.expression()?;
        let nil = || Box::new(Expression::Value(Value::Nil));
        if self.keyword("if") {
            let condition = self.expression()?;
            return Ok(Expression::Choice(Box::new(condition), Box::new(value), nil()));
        }
        if self.keyword("unless") {
            let condition = self.expression()?;
            return Ok(Expression::Choice(Box::new(condition), nil(), Box::new(value)));
        }
        Ok(value)
    }

    /// Reads an expression: a choice, the operators below it, calls, and single values.
    pub(super) fn expression(&mut self) -> Result<Expression, Problem> {
        if self.depth >= MAX_DEPTH {
            return Err(self.beyond());
        }
        self.depth += 1;
        let condition = self.either();
        let expression = condition.and_then(|condition| self.choice(condition));
        self.depth -= 1;
        expression
    }

    fn choice(&mut self, condition: Expression) -> Result<Expression, Problem> {
        if !self.sign("?") {
            return Ok(condition);
        }
        let then = self.expression()?;
        self.separators();
        // `a ? "b" :c` reads as a symbol.
        if let Some(Token::Symbol(name)) = self.peek() {
            self.step();
            let otherwise = Box::new(Expression::Variable(name.clone()));
            return Ok(Expression::Choice(Box::new(condition), Box::new(then), otherwise));
        }
        self.expect(":")?;
        let otherwise = self.expression()?;
        Ok(Expression::Choice(Box::new(condition), Box::new(then), Box::new(otherwise)))
    }

    fn either(&mut self) -> Result<Expression, Problem> {
        let mut left = self.both()?;
        while self.sign("||") {
            self.separators();
            left = Expression::Or(Box::new(left), Box::new(self.both()?));
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Expression, Problem> {
        let mut left = self.comparison()?;
        while self.sign("&&") {
            self.separators();
            left = Expression::And(Box::new(left), Box::new(self.comparison()?));
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Expression, Problem> {
        let left = self.sum()?;
        if self.sign("==") {
            return Ok(Expression::Equal(Box::new(left), Box::new(self.sum()?)));
        }
        if self.sign("!=") {
            let equal = Expression::Equal(Box::new(left), Box::new(self.sum()?));
            return Ok(Expression::Not(Box::new(equal)));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Expression, Problem> {
        let mut left = self.negation()?;
        while self.sign("+") {
            self.separators();
            left = Expression::Add(Box::new(left), Box::new(self.negation()?));
        }
        Ok(left)
    }

    fn negation(&mut self) -> Result<Expression, Problem> {
        let mut count = 0_usize;
        while self.sign("!") {
            count += 1;
        }
        let mut value = self.calls()?;
        for _ in 0..count.min(2 + count % 2) {
            value = Expression::Not(Box::new(value));
        }
        Ok(value)
    }

    /// A value with the calls and look-ups behind it.
    fn calls(&mut self) -> Result<Expression, Problem> {
        let mut value = self.single()?;
        let mut length = 0_usize;
        loop {
            length += 1;
            if length > MAX_DEPTH {
                return Err(self.beyond());
            }
            if self.sign("[") {
                let key = self.expression()?;
                self.expect("]")?;
                value = Expression::Index(Box::new(value), Box::new(key));
                continue;
            }
            let is_safe = self.sign("&.");
            if !is_safe && !self.sign(".") {
                return Ok(value);
            }
            let Some(Token::Name(name)) = self.peek() else { return Err(self.beyond()) };
            self.step();
            let (arguments, given) = self.arguments()?;
            let block = match given {
                Some(block) => Some(block),
                None => self.block()?,
            };
            let receiver = Some(value);
            value =
                Expression::Call(Box::new(Call { receiver, name: name.clone(), arguments, block, is_safe }));
        }
    }

    /// `(a, b)` or `(&:name)`.
    fn arguments(&mut self) -> Result<(Vec<Expression>, Option<Block>), Problem> {
        let mut arguments = Vec::new();
        if !self.sign("(") || self.sign(")") {
            return Ok((arguments, None));
        }
        loop {
            self.separators();
            if self.sign("&") {
                let Some(Token::Symbol(name)) = self.peek() else { return Err(self.beyond()) };
                self.step();
                self.expect(")")?;
                return Ok((arguments, Some(Block::Method(name.clone()))));
            }
            arguments.push(self.expression()?);
            self.separators();
            if self.sign(")") {
                return Ok((arguments, None));
            }
            self.expect(",")?;
        }
    }

    /// `{ |name| expression }`.
    fn block(&mut self) -> Result<Option<Block>, Problem> {
        if !self.sign("{") {
            return Ok(None);
        }
        let names = self.parameters()?;
        self.separators();
        let body = self.expression()?;
        self.separators();
        self.expect("}")?;
        Ok(Some(Block::Body(names, body)))
    }

    fn single(&mut self) -> Result<Expression, Problem> {
        let Some(token) = self.peek() else { return Err(self.beyond()) };
        let value = match token {
            Token::Text(parts) => Expression::Text(self.pieces(parts)?),
            Token::Command(parts) => Expression::Command(self.pieces(parts)?),
            Token::Words(words) => {
                Expression::Value(Value::List(words.iter().map(|word| Value::text(word.as_str())).collect()))
            }
            Token::Integer(value) => Expression::Value(Value::Integer(*value)),
            Token::Float(value) => Expression::Value(Value::Float(*value)),
            Token::Symbol(name) => Expression::Value(Value::text(name.as_str())),
            Token::Constant(name) => Expression::Constant(name.clone()),
            Token::Name(name) => return self.name(name),
            Token::Sign("(") => return self.bracketed(),
            Token::Sign("[") => return self.list(),
            Token::Sign(_) | Token::Separator => return Err(self.beyond()),
        };
        self.step();
        Ok(value)
    }

    fn name(&mut self, name: &str) -> Result<Expression, Problem> {
        let value = match name {
            "nil" => Value::Nil,
            "true" => Value::Boolean(true),
            "false" => Value::Boolean(false),
            "require" => return self.require(),
            name if is_keyword(name) || name.ends_with(['?', '!']) => return Err(self.beyond()),
            name => {
                self.step();
                return Ok(Expression::Variable(name.to_owned()));
            }
        };
        self.step();
        Ok(Expression::Value(value))
    }

    /// `require "name"`, with or without brackets.
    fn require(&mut self) -> Result<Expression, Problem> {
        self.step();
        let is_bracketed = self.sign("(");
        let argument = self.single()?;
        if is_bracketed {
            self.expect(")")?;
        }
        Ok(Expression::Call(Box::new(Call {
            receiver: None,
            name: "require".to_owned(),
            arguments: vec![argument],
            block: None,
            is_safe: false,
        })))
    }

    fn bracketed(&mut self) -> Result<Expression, Problem> {
        self.step();
        self.separators();
        let value = self.expression()?;
        self.separators();
        self.expect(")")?;
        Ok(value)
    }

    fn list(&mut self) -> Result<Expression, Problem> {
        self.step();
        let mut items = Vec::new();
        loop {
            self.separators();
            if self.sign("]") {
                return Ok(Expression::List(items));
            }
            items.push(self.expression()?);
            self.separators();
            if !self.sign(",") {
                self.expect("]")?;
                return Ok(Expression::List(items));
            }
        }
    }

    fn pieces(&self, parts: &[Part]) -> Result<Vec<Piece>, Problem> {
        if self.depth >= MAX_DEPTH {
            return Err(self.beyond());
        }
        let mut pieces = Vec::new();
        for part in parts {
            match part {
                Part::Text(text) if text.is_empty() => {}
                Part::Text(text) => pieces.push(Piece::Text(text.clone())),
                Part::Code(tokens) => {
                    let mut inner = Parser { tokens, depth: self.depth + 1 };
                    inner.separators();
                    let value = inner.modified()?;
                    inner.separators();
                    if !inner.is_at_end() {
                        return Err(inner.beyond());
                    }
                    pieces.push(Piece::Value(value));
                }
            }
        }
        Ok(pieces)
    }
}

const KEYWORDS: [&str; 28] = [
    "if", "elsif", "else", "unless", "end", "do", "then", "case", "when", "while", "until", "for", "begin",
    "rescue", "ensure", "def", "class", "module", "return", "yield", "not", "and", "or", "in", "self",
    "puts", "next", "break",
];

fn is_keyword(name: &str) -> bool {
    KEYWORDS.contains(&name)
}

/// A word as the template has it, more or less.
fn describe(token: &Token) -> String {
    match token {
        Token::Separator => "the end of a statement".to_owned(),
        Token::Name(name) | Token::Constant(name) => name.clone(),
        Token::Integer(value) => value.to_string(),
        Token::Float(value) => value.to_string(),
        Token::Symbol(name) => format!(":{name}"),
        Token::Text(_) => "a text".to_owned(),
        Token::Command(_) => "a command".to_owned(),
        Token::Words(_) => "a list of words".to_owned(),
        Token::Sign(sign) => (*sign).to_owned(),
    }
}
