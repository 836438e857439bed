//! The values of expressions.

use std::collections::BTreeMap;

use super::method;
use super::syntax::{Block, Call, Expression, Piece};
use super::value::Value;
use super::{Problem, Surroundings, dotenv};

/// How many expressions a template may evaluate, loops counted.
const MAX_STEPS: usize = 200_000;

/// How long a text may become.
pub(super) const MAX_TEXT: usize = 4 << 20;

/// What a running template knows.
pub(super) struct Evaluator<'a> {
    /// The process environment with the destination, and what the template loads into it.
    pub(super) environment: BTreeMap<String, String>,
    pub(super) surroundings: &'a dyn Surroundings,
    pub(super) variables: BTreeMap<String, Value>,
    has_dotenv: bool,
    steps: usize,
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(environment: BTreeMap<String, String>, surroundings: &'a dyn Surroundings) -> Self {
        Self { environment, surroundings, variables: BTreeMap::new(), has_dotenv: false, steps: 0 }
    }

    /// Counts one more step.
    pub(super) fn step(&mut self) -> Result<(), Problem> {
        self.steps += 1;
        if self.steps > MAX_STEPS { Err(Problem::TooLarge) } else { Ok(()) }
    }

    pub(super) fn evaluate(&mut self, expression: &Expression) -> Result<Value, Problem> {
        self.step()?;
        match expression {
            Expression::Value(value) => Ok(value.clone()),
            Expression::Text(pieces) => self.text(pieces).map(Value::Text),
            Expression::Command(pieces) => {
                let command = self.text(pieces)?;
                let output = self.surroundings.command(&command, &self.environment);
                output
                    .map(Value::Text)
                    .map_err(|reason| Problem::Failed { what: format!("the command `{command}`"), reason })
            }
            Expression::Variable(name) => {
                self.variables.get(name).cloned().ok_or_else(|| Problem::Beyond(name.clone()))
            }
            Expression::Constant(name) => Err(Problem::Beyond(name.clone())),
            Expression::List(items) => {
                items.iter().map(|item| self.evaluate(item)).collect::<Result<_, _>>().map(Value::List)
            }
            Expression::Call(call) => self.call(call),
            Expression::Index(of, key) => self.index(of, key),
            Expression::Not(value) => Ok(Value::Boolean(!self.evaluate(value)?.is_true())),
            Expression::Or(left, right) => {
                let value = self.evaluate(left)?;
                if value.is_true() { Ok(value) } else { self.evaluate(right) }
            }
            Expression::And(left, right) => {
                let value = self.evaluate(left)?;
                if value.is_true() { self.evaluate(right) } else { Ok(value) }
            }
            Expression::Equal(left, right) => {
                Ok(Value::Boolean(self.evaluate(left)? == self.evaluate(right)?))
            }
            Expression::Add(left, right) => {
                let (left, right) = (self.evaluate(left)?, self.evaluate(right)?);
                method::add(left, right)
            }
            Expression::Choice(condition, then, otherwise) => {
                let chosen = if self.evaluate(condition)?.is_true() { then } else { otherwise };
                self.evaluate(chosen)
            }
        }
    }

    fn text(&mut self, pieces: &[Piece]) -> Result<String, Problem> {
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(part) => text.push_str(part),
                Piece::Value(value) => text.push_str(&self.evaluate(value)?.print()?),
            }
            if text.len() > MAX_TEXT {
                return Err(Problem::TooLarge);
            }
        }
        Ok(text)
    }

    /// Evaluates what must be a text.
    fn text_of(&mut self, expression: &Expression) -> Result<String, Problem> {
        match self.evaluate(expression)? {
            Value::Text(text) => Ok(text),
            _ => Err(Problem::Beyond("a value that is not a text".to_owned())),
        }
    }

    fn index(&mut self, of: &Expression, key: &Expression) -> Result<Value, Problem> {
        if is_constant(of, "ENV") {
            let name = self.text_of(key)?;
            return Ok(self.variable(&name));
        }
        let (of, key) = (self.evaluate(of)?, self.evaluate(key)?);
        method::index(&of, &key)
    }

    fn variable(&self, name: &str) -> Value {
        self.environment.get(name).map_or(Value::Nil, Value::text)
    }

    fn call(&mut self, call: &Call) -> Result<Value, Problem> {
        match &call.receiver {
            None => self.require(call),
            Some(Expression::Constant(name)) => match name.as_str() {
                "ENV" => self.of_environment(call),
                "File" | "IO" => self.of_file(call),
                "JSON" if call.name == "parse" => self.of_json(call),
                "Dotenv" if self.has_dotenv => self.of_dotenv(call),
                _ => Err(Problem::Beyond(format!("{name}.{}", call.name))),
            },
            Some(receiver) => {
                let value = self.evaluate(receiver)?;
                if call.is_safe && value == Value::Nil {
                    return Ok(Value::Nil);
                }
                if let Some(block) = &call.block {
                    return self.with_block(value, call, block);
                }
                let arguments = call
                    .arguments
                    .iter()
                    .map(|argument| self.evaluate(argument))
                    .collect::<Result<Vec<_>, _>>()?;
                method::call(value, &call.name, &arguments)
            }
        }
    }

    fn require(&mut self, call: &Call) -> Result<Value, Problem> {
        let [argument] = call.arguments.as_slice() else { return Err(Problem::Beyond(call.name.clone())) };
        match self.text_of(argument)?.as_str() {
            "dotenv" => self.has_dotenv = true,
            "dotenv/load" => {
                self.has_dotenv = true;
                self.load(".env", dotenv::Present::Kept, false)?;
            }
            "json" | "erb" | "yaml" => {}
            other => return Err(Problem::Beyond(format!("require \"{other}\""))),
        }
        Ok(Value::Boolean(true))
    }

    fn of_environment(&mut self, call: &Call) -> Result<Value, Problem> {
        let name = match call.arguments.first() {
            Some(argument) => self.text_of(argument)?,
            None => return Err(Problem::Beyond(format!("ENV.{}", call.name))),
        };
        let known = self.environment.get(&name).cloned();
        match (call.name.as_str(), call.arguments.get(1), &call.block) {
            ("fetch", None, None) => known.map(Value::Text).ok_or(Problem::NotSet(name)),
            ("fetch", Some(default), None) if call.arguments.len() == 2 => match known {
                Some(value) => Ok(Value::Text(value)),
                None => self.evaluate(default),
            },
            ("fetch", None, Some(Block::Body(names, default))) if names.is_empty() => match known {
                Some(value) => Ok(Value::Text(value)),
                None => self.evaluate(default),
            },
            ("key?" | "has_key?" | "include?" | "member?", None, None) => Ok(Value::Boolean(known.is_some())),
            _ => Err(Problem::Beyond(format!("ENV.{}", call.name))),
        }
    }

    fn of_file(&mut self, call: &Call) -> Result<Value, Problem> {
        let ([path], None) = (call.arguments.as_slice(), &call.block) else {
            return Err(Problem::Beyond(format!("File.{}", call.name)));
        };
        let path = self.text_of(path)?;
        let found = |found: Result<Option<String>, String>| {
            found.map_err(|reason| Problem::Failed { what: format!("the file `{path}`"), reason })
        };
        match call.name.as_str() {
            "read" => match found(self.surroundings.file(&path))? {
                Some(text) => Ok(Value::Text(text)),
                None => Err(Problem::Failed {
                    what: format!("the file `{path}`"),
                    reason: "there is none".to_owned(),
                }),
            },
            "exist?" | "file?" => Ok(Value::Boolean(found(self.surroundings.file(&path))?.is_some())),
            _ => Err(Problem::Beyond(format!("File.{}", call.name))),
        }
    }

    fn of_json(&mut self, call: &Call) -> Result<Value, Problem> {
        let [text] = call.arguments.as_slice() else { return Err(Problem::Beyond("JSON.parse".to_owned())) };
        let text = self.text_of(text)?;
        let parsed = serde_json::from_str(&text).map(Value::of_json);
        // The text itself may be a secret.
        parsed.map_err(|error| Problem::Failed {
            what: "the text".to_owned(),
            reason: format!("it is not JSON (line {}, column {})", error.line(), error.column()),
        })
    }

    fn of_dotenv(&mut self, call: &Call) -> Result<Value, Problem> {
        let (present, is_required) = match call.name.as_str() {
            "load" => (dotenv::Present::Kept, false),
            "load!" => (dotenv::Present::Kept, true),
            "overload" | "overwrite" => (dotenv::Present::Replaced, false),
            "overload!" | "overwrite!" => (dotenv::Present::Replaced, true),
            _ => return Err(Problem::Beyond(format!("Dotenv.{}", call.name))),
        };
        if call.arguments.is_empty() {
            self.load(".env", present, is_required)?;
        }
        for argument in &call.arguments {
            let path = self.text_of(argument)?;
            self.load(&path, present, is_required)?;
        }
        Ok(Value::Map(Vec::new()))
    }

    fn load(&mut self, path: &str, present: dotenv::Present, is_required: bool) -> Result<(), Problem> {
        let failed = |reason: String| Problem::Failed { what: format!("the file `{path}`"), reason };
        match self.surroundings.file(path).map_err(failed)? {
            Some(text) => {
                let text = dotenv::variables(&text, &self.environment).map_err(failed)?;
                dotenv::load(text, present, &mut self.environment);
                Ok(())
            }
            None if is_required => Err(failed("there is none".to_owned())),
            None => Ok(()),
        }
    }

    /// `map`, `select` and their like.
    fn with_block(&mut self, value: Value, call: &Call, block: &Block) -> Result<Value, Problem> {
        let (Value::List(items), true) = (value, call.arguments.is_empty()) else {
            return Err(Problem::Beyond(call.name.clone()));
        };
        let mut results = Vec::new();
        for item in items {
            let result = self.apply(block, &item)?;
            match call.name.as_str() {
                "map" | "collect" => results.push(result),
                "select" | "filter" if result.is_true() => results.push(item),
                "reject" if !result.is_true() => results.push(item),
                "select" | "filter" | "reject" => {}
                "any?" if result.is_true() => return Ok(Value::Boolean(true)),
                "all?" if !result.is_true() => return Ok(Value::Boolean(false)),
                "any?" | "all?" => {}
                other => return Err(Problem::Beyond(other.to_owned())),
            }
        }
        match call.name.as_str() {
            "any?" => Ok(Value::Boolean(false)),
            "all?" => Ok(Value::Boolean(true)),
            "map" | "collect" | "select" | "filter" | "reject" => Ok(Value::List(results)),
            other => Err(Problem::Beyond(other.to_owned())),
        }
    }

    fn apply(&mut self, block: &Block, item: &Value) -> Result<Value, Problem> {
        self.step()?;
        match block {
            Block::Method(name) => method::call(item.clone(), name, &[]),
            Block::Body(names, body) => {
                let before = self.variables.clone();
                self.bind(names, item)?;
                let result = self.evaluate(body);
                self.variables = before;
                result
            }
        }
    }

    /// Gives an item to the parameters of a block.
    pub(super) fn bind(&mut self, names: &[String], item: &Value) -> Result<(), Problem> {
        match (names, item) {
            ([], _) => {}
            ([name], item) => {
                self.variables.insert(name.clone(), item.clone());
            }
            (names, Value::List(items)) => {
                for (index, name) in names.iter().enumerate() {
                    self.variables.insert(name.clone(), items.get(index).cloned().unwrap_or(Value::Nil));
                }
            }
            _ => return Err(Problem::Beyond(format!("|{}|", names.join(", ")))),
        }
        Ok(())
    }
}

fn is_constant(expression: &Expression, name: &str) -> bool {
    matches!(expression, Expression::Constant(found) if found == name)
}
