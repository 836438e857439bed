use super::Problem;

/// A value of a template, of the kinds that Ruby's literals, `ENV` and JSON have.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Nil,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    /// In the order of the text it comes from.
    Map(Vec<(String, Value)>),
}

impl Value {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// Only `nil` and `false` are not true.
    pub(super) fn is_true(&self) -> bool {
        !matches!(self, Self::Nil | Self::Boolean(false))
    }

    /// Returns the value as Ruby's `to_s` writes it.
    pub(super) fn print(&self) -> Result<String, Problem> {
        match self {
            Self::Nil => Ok(String::new()),
            Self::Boolean(value) => Ok(value.to_string()),
            Self::Integer(value) => Ok(value.to_string()),
            Self::Float(value) => Ok(crate::yaml::print_float(*value)),
            Self::Text(text) => Ok(text.clone()),
            Self::List(_) => self.inspect(),
            // Its form depends on the version of Ruby.
            Self::Map(_) => Err(Problem::Beyond("a hash as text".to_owned())),
        }
    }

    /// Returns the value as Ruby's `inspect` writes it, which for lists of texts is YAML too.
    fn inspect(&self) -> Result<String, Problem> {
        match self {
            Self::Nil => Ok("nil".to_owned()),
            Self::Text(text) => Ok(inspect_text(text)),
            Self::List(items) => {
                let items = items.iter().map(Self::inspect).collect::<Result<Vec<_>, _>>()?;
                Ok(format!("[{}]", items.join(", ")))
            }
            other => other.print(),
        }
    }

    pub(super) fn of_json(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Nil,
            serde_json::Value::Bool(value) => Self::Boolean(value),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(value) => Self::Integer(value),
                None => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Self::Text(text),
            serde_json::Value::Array(items) => Self::List(items.into_iter().map(Self::of_json).collect()),
            serde_json::Value::Object(map) => {
                Self::Map(map.into_iter().map(|(key, value)| (key, Self::of_json(value))).collect())
            }
        }
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Nil => serde_json::Value::Null,
            Self::Boolean(value) => (*value).into(),
            Self::Integer(value) => (*value).into(),
            Self::Float(value) => (*value).into(),
            Self::Text(text) => text.as_str().into(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect(),
        }
    }
}

fn inspect_text(text: &str) -> String {
    let mut inspected = String::from("\"");
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' | '\\' => inspected.extend(['\\', character]),
            '#' if matches!(characters.peek(), Some('{' | '$' | '@')) => inspected.push_str("\\#"),
            '\n' => inspected.push_str("\\n"),
            '\t' => inspected.push_str("\\t"),
            '\r' => inspected.push_str("\\r"),
            '\u{1b}' => inspected.push_str("\\e"),
            other if other.is_control() => inspected.push_str(&format!("\\x{:02X}", u32::from(other))),
            other => inspected.push(other),
        }
    }
    inspected.push('"');
    inspected
}
