use super::Scope;

/// Why an expression has no value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// More Ruby than this version understands.
    Unsupported(String),
    /// `ENV.fetch` of a variable that is not set.
    NotSet(String),
}

impl Problem {
    pub(super) fn message(&self) -> String {
        match self {
            Self::Unsupported(code) => {
                let code = crate::yaml::shorten(code);
                format!("the template expression `{code}` is not supported by this version of freehold")
            }
            Self::NotSet(name) => format!("the environment variable `{name}` is not set"),
        }
    }

    pub(super) fn help(&self) -> String {
        match self {
            Self::Unsupported(_) => {
                "write `<%= ENV[\"NAME\"] %>`, `<%= ENV.fetch(\"NAME\", \"default\") %>` or `<%= ENV[\"NAME\"] || \"default\" %>`"
                    .to_owned()
            }
            Self::NotSet(name) => {
                format!("set it, or give a default: `<%= ENV.fetch(\"{name}\", \"default\") %>`")
            }
        }
    }
}

/// Evaluates what stands between `<%=` and `%>`.
pub(super) fn evaluate(code: &str, scope: &Scope<'_>) -> Result<String, Problem> {
    let unsupported = || Problem::Unsupported(code.to_owned());
    let look_up = LookUp::read(code).ok_or_else(unsupported)?;
    match (scope.variable(&look_up.name), look_up.otherwise) {
        (Some(value), _) => Ok(value.to_owned()),
        (None, Otherwise::Value(default)) => Ok(default),
        (None, Otherwise::Nothing) => Ok(String::new()),
        (None, Otherwise::Fail) => Err(Problem::NotSet(look_up.name)),
    }
}

/// One look-up of an environment variable.
struct LookUp {
    name: String,
    otherwise: Otherwise,
}

/// What an unset variable stands for.
enum Otherwise {
    Nothing,
    Value(String),
    Fail,
}

impl LookUp {
    fn read(code: &str) -> Option<Self> {
        let rest = code.strip_prefix("ENV")?;
        if let Some(rest) = rest.strip_prefix('[') {
            let (name, rest) = string(rest)?;
            let rest = rest.trim_start().strip_prefix(']')?.trim_start();
            let otherwise = match rest.strip_prefix("||") {
                Some(rest) => Otherwise::Value(last_string(rest)?),
                None if rest.is_empty() => Otherwise::Nothing,
                None => return None,
            };
            return Some(Self { name, otherwise });
        }
        let rest = rest.strip_prefix(".fetch(")?;
        let (name, rest) = string(rest)?;
        let inner = rest.trim().strip_suffix(')')?.trim();
        let otherwise = match inner.strip_prefix(',') {
            Some(rest) => Otherwise::Value(last_string(rest)?),
            None if inner.is_empty() => Otherwise::Fail,
            None => return None,
        };
        Some(Self { name, otherwise })
    }
}

/// Reads a string literal and nothing after it.
fn last_string(code: &str) -> Option<String> {
    string(code).filter(|(_, rest)| rest.trim().is_empty()).map(|(value, _)| value)
}

/// Reads a string literal without interpolation or escapes, the only kind whose value is plain to see.
fn string(code: &str) -> Option<(String, &str)> {
    let code = code.trim_start();
    let quote = code.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (value, rest) = code.get(1..)?.split_once(quote)?;
    let has_meaning = value.contains('\\') || (quote == '"' && value.contains("#{"));
    (!has_meaning).then(|| (value.to_owned(), rest))
}
