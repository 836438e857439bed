//! The statements of a template: its texts and values, and what decides about them.

use super::evaluate::{Evaluator, MAX_TEXT};
use super::output::Output;
use super::segment::{Kind, Segment};
use super::syntax::{Call, Expression, Parser};
use super::token::tokens;
use super::value::Value;
use super::{Problem, Spot};

/// How deep blocks may be nested.
const MAX_DEPTH: usize = 32;

/// One statement with the tag or text it comes from.
#[derive(Debug)]
pub(super) struct Statement<'a> {
    spot: Spot,
    what: What<'a>,
}

#[derive(Debug)]
enum What<'a> {
    Text(&'a str),
    Value(Expression),
    Run(Expression),
    Assign {
        name: String,
        only_nil: bool,
        value: Expression,
    },
    /// Conditions with what they guard, and what is left.
    If {
        branches: Vec<(Expression, Vec<Statement<'a>>)>,
        otherwise: Vec<Statement<'a>>,
    },
    Each {
        over: Expression,
        names: Vec<String>,
        with_index: bool,
        body: Vec<Statement<'a>>,
    },
}

/// A block whose `end` is not there yet.
struct Open<'a> {
    spot: Spot,
    kind: OpenKind<'a>,
    /// What stands in it so far.
    body: Vec<Statement<'a>>,
}

enum OpenKind<'a> {
    If { done: Vec<(Expression, Vec<Statement<'a>>)>, condition: Expression },
    Else { done: Vec<(Expression, Vec<Statement<'a>>)> },
    Each { over: Expression, names: Vec<String>, with_index: bool },
}

/// Puts statements together over the borders of tags.
#[derive(Default)]
pub(super) struct Builder<'a> {
    done: Vec<Statement<'a>>,
    open: Vec<Open<'a>>,
    problems: Vec<(Spot, Problem)>,
}

impl<'a> Builder<'a> {
    /// Reads all segments; the problems are those of tags that cannot be understood.
    pub(super) fn build(segments: &[Segment<'a>]) -> Result<Vec<Statement<'a>>, Vec<(Spot, Problem)>> {
        let mut builder = Self::default();
        for segment in segments {
            let spot = |width| Spot { line: segment.line, column: segment.column, width };
            match segment.kind {
                Kind::Text(text) => builder.add(spot(1), What::Text(text)),
                Kind::Opening => builder.add(spot(1), What::Text("<%")),
                Kind::Value { code, width } => match value(code) {
                    Ok(value) => builder.add(spot(width), What::Value(value)),
                    Err(problem) => builder.problems.push((spot(width), problem)),
                },
                Kind::Code { code, width } => {
                    if let Err(problem) = builder.code(code, spot(width)) {
                        builder.problems.push((spot(width), problem));
                    }
                }
            }
        }
        // After a block that was not understood, what is open or closed says nothing.
        if let Some(open) = builder.open.first().filter(|_| builder.problems.is_empty()) {
            builder.problems.push((open.spot, Problem::Open));
        }
        if builder.problems.is_empty() { Ok(builder.done) } else { Err(builder.problems) }
    }

    fn add(&mut self, spot: Spot, what: What<'a>) {
        let list = self.open.last_mut().map_or(&mut self.done, |open| &mut open.body);
        list.push(Statement { spot, what });
    }

    /// Reads the statements of one tag.
    fn code(&mut self, code: &str, spot: Spot) -> Result<(), Problem> {
        let tokens = tokens(code)?;
        let mut parser = Parser::new(&tokens);
        loop {
            parser.separators();
            if parser.is_at_end() {
                return Ok(());
            }
            if self.keyword(&mut parser, spot)? {
                continue;
            }
            self.plain(&mut parser, spot)?;
        }
    }

    /// `if`, `unless`, `elsif`, `else`, `end`.
    fn keyword(&mut self, parser: &mut Parser<'_>, spot: Spot) -> Result<bool, Problem> {
        let is_unless = parser.keyword("unless");
        if is_unless || parser.keyword("if") {
            let condition = parser.expression()?;
            let condition = if is_unless { Expression::Not(Box::new(condition)) } else { condition };
            parser.keyword("then");
            self.begin(spot, OpenKind::If { done: Vec::new(), condition })?;
        } else if parser.keyword("elsif") {
            let condition = parser.expression()?;
            parser.keyword("then");
            let (spot, done) = self.branch(parser)?;
            self.begin(spot, OpenKind::If { done, condition })?;
        } else if parser.keyword("else") {
            let (spot, done) = self.branch(parser)?;
            self.begin(spot, OpenKind::Else { done })?;
        } else if parser.keyword("end") {
            self.end(parser)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn begin(&mut self, spot: Spot, kind: OpenKind<'a>) -> Result<(), Problem> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Problem::TooLarge);
        }
        self.open.push(Open { spot, kind, body: Vec::new() });
        Ok(())
    }

    /// Ends a branch and returns all of them so far.
    #[expect(clippy::type_complexity, reason = "the branches of an `if` in the making")]
    fn branch(
        &mut self,
        parser: &Parser<'_>,
    ) -> Result<(Spot, Vec<(Expression, Vec<Statement<'a>>)>), Problem> {
        match self.open.pop() {
            Some(Open { spot, kind: OpenKind::If { mut done, condition }, body }) => {
                done.push((condition, body));
                Ok((spot, done))
            }
            other => {
                self.open.extend(other);
                Err(self.stray(parser))
            }
        }
    }

    fn stray(&self, parser: &Parser<'_>) -> Problem {
        if self.problems.is_empty() { Problem::Stray } else { parser.beyond() }
    }

    fn end(&mut self, parser: &Parser<'_>) -> Result<(), Problem> {
        let Some(Open { spot, kind, body }) = self.open.pop() else {
            return if self.problems.is_empty() { Err(self.stray(parser)) } else { Ok(()) };
        };
        let what = match kind {
            OpenKind::If { mut done, condition } => {
                done.push((condition, body));
                What::If { branches: done, otherwise: Vec::new() }
            }
            OpenKind::Else { done } => What::If { branches: done, otherwise: body },
            OpenKind::Each { over, names, with_index } => What::Each { over, names, with_index, body },
        };
        self.add(spot, what);
        Ok(())
    }

    /// An assignment, `….each do |name|`, or an expression for its effect.
    fn plain(&mut self, parser: &mut Parser<'_>, spot: Spot) -> Result<(), Problem> {
        if let Some((name, only_nil)) = parser.assignment() {
            let value = parser.modified()?;
            self.add(spot, What::Assign { name, only_nil, value });
        } else {
            let expression = parser.modified()?;
            if parser.keyword("do") {
                let Expression::Call(call) = expression else { return Err(parser.beyond()) };
                let names = parser.parameters()?;
                let (over, with_index) = each(*call)?;
                return self.begin(spot, OpenKind::Each { over, names, with_index });
            }
            self.add(spot, What::Run(expression));
        }
        match parser.peek() {
            None | Some(super::token::Token::Separator) => Ok(()),
            Some(_) => Err(parser.beyond()),
        }
    }
}

/// What `each` or `each_with_index` goes over.
fn each(call: Call) -> Result<(Expression, bool), Problem> {
    let Call { receiver, name, arguments, block, is_safe } = call;
    let with_index = match name.as_str() {
        "each" => false,
        "each_with_index" => true,
        other => return Err(Problem::Beyond(format!("{other} do"))),
    };
    match receiver {
        Some(receiver) if arguments.is_empty() && block.is_none() && !is_safe => Ok((receiver, with_index)),
        _ => Err(Problem::Beyond(name)),
    }
}

/// Reads what stands in `<%= … %>`.
fn value(code: &str) -> Result<Expression, Problem> {
    let tokens = tokens(code)?;
    let mut parser = Parser::new(&tokens);
    parser.separators();
    let value = parser.modified()?;
    parser.separators();
    if parser.is_at_end() { Ok(value) } else { Err(parser.beyond()) }
}

/// Runs statements; a value that cannot be had is noted, so that all of them are told at once.
pub(super) fn run(
    statements: &[Statement<'_>],
    evaluator: &mut Evaluator<'_>,
    output: &mut Output,
    problems: &mut Vec<(Spot, Problem)>,
) -> Result<(), (Spot, Problem)> {
    for Statement { spot, what } in statements {
        let at = |problem: Problem| (*spot, problem);
        evaluator.step().map_err(at)?;
        match what {
            What::Text(text) => output.copy(text, spot.line, spot.column),
            What::Value(value) => match evaluator.evaluate(value).and_then(|value| value.print()) {
                Ok(text) => output.insert(&text, spot.line, spot.column),
                Err(Problem::TooLarge) => return Err(at(Problem::TooLarge)),
                Err(problem) => problems.push((*spot, problem)),
            },
            What::Run(expression) => {
                evaluator.evaluate(expression).map_err(at)?;
            }
            What::Assign { name, only_nil, value } => {
                let is_set = evaluator.variables.get(name).is_some_and(Value::is_true);
                if !(*only_nil && is_set) {
                    let value = evaluator.evaluate(value).map_err(at)?;
                    evaluator.variables.insert(name.clone(), value);
                }
            }
            What::If { branches, otherwise } => {
                let mut chosen = otherwise;
                for (condition, body) in branches {
                    if evaluator.evaluate(condition).map_err(at)?.is_true() {
                        chosen = body;
                        break;
                    }
                }
                run(chosen, evaluator, output, problems)?;
            }
            What::Each { over, names, with_index, body } => {
                let items = items(evaluator.evaluate(over).map_err(at)?).map_err(at)?;
                let before: Vec<_> =
                    names.iter().map(|name| (name, evaluator.variables.get(name).cloned())).collect();
                for (index, item) in items.into_iter().enumerate() {
                    let index = Value::Integer(i64::try_from(index).unwrap_or(i64::MAX));
                    let item = if *with_index { Value::List(vec![item, index]) } else { item };
                    evaluator.bind(names, &item).map_err(at)?;
                    run(body, evaluator, output, problems)?;
                }
                for (name, value) in before {
                    match value {
                        Some(value) => evaluator.variables.insert(name.clone(), value),
                        None => evaluator.variables.remove(name),
                    };
                }
            }
        }
        if output.len() > MAX_TEXT {
            return Err(at(Problem::TooLarge));
        }
    }
    Ok(())
}

/// What a loop goes over.
fn items(value: Value) -> Result<Vec<Value>, Problem> {
    match value {
        Value::List(items) => Ok(items),
        Value::Map(entries) => {
            Ok(entries.into_iter().map(|(key, value)| Value::List(vec![Value::Text(key), value])).collect())
        }
        Value::Nil => Err(Problem::OnNil("each".to_owned())),
        _ => Err(Problem::Beyond("each".to_owned())),
    }
}
