use std::fmt;

use freehold_model::{Diagnose, ErrorKind};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::adapter::{self, Adapter};
use crate::program::{ProgramError, Surroundings};

/// What `secrets fetch` is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// The password manager.
    pub adapter: Adapter,
    /// Whose secrets; its meaning is the adapter's.
    pub account: Option<String>,
    /// What stands before every name: a vault, a folder, a project.
    pub from: Option<String>,
    /// The names.
    pub names: Vec<String>,
}

impl FetchRequest {
    /// Returns the names with what stands before them.
    pub(crate) fn full_names(&self) -> Vec<String> {
        let full = |name: &String| match &self.from {
            Some(from) => format!("{from}/{name}"),
            None => name.clone(),
        };
        self.names.iter().map(full).collect()
    }
}

/// What a password manager gave, in the order of its answers.
#[derive(Debug, Default)]
pub struct Fetched(Vec<(String, Option<SecretString>)>);

impl Fetched {
    /// Sets a value; one that is not text becomes JSON.
    pub(crate) fn set(&mut self, key: String, value: Option<&Value>) {
        let text = match value {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(SecretString::from(text.as_str())),
            Some(other) => Some(SecretString::from(other.to_string())),
        };
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, value)) => *value = text,
            None => self.0.push((key, text)),
        }
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(known, _)| known == key)
    }

    /// Writes the names and values as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> SecretString {
        let mut json = Zeroizing::new("{".to_owned());
        for (index, (key, value)) in self.0.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            json.push_str(&Value::from(key.as_str()).to_string());
            json.push(':');
            match value {
                Some(value) => {
                    json.push_str(&Zeroizing::new(Value::from(value.expose_secret()).to_string()));
                }
                None => json.push_str("null"),
            }
        }
        json.push('}');
        SecretString::from(json.as_str())
    }
}

/// Why a password manager gave no secrets. No variant holds a value.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no adapter of that name.
    #[error("there is no secrets adapter `{name}`")]
    UnknownAdapter {
        /// The name.
        name: String,
    },
    /// It is not said which adapter, account, vault or secret is meant.
    #[error("{subject} needs {what}")]
    Incomplete {
        /// The command or the password manager.
        subject: String,
        /// What is missing.
        what: &'static str,
    },
    /// The password manager's command line is not there.
    #[error("the command line of {manager} is not installed: there is no `{program}`")]
    NotInstalled {
        /// The password manager.
        manager: &'static str,
        /// Its program.
        program: &'static str,
    },
    /// The password manager did not let us in.
    #[error("cannot log in to {manager}")]
    Login {
        /// The password manager.
        manager: &'static str,
    },
    /// The password manager's program failed.
    #[error("cannot read {what} from {manager}")]
    Refused {
        /// The password manager.
        manager: &'static str,
        /// What was asked for.
        what: String,
    },
    /// The password manager does not have it.
    #[error("{manager} has no {what}")]
    NotFound {
        /// The password manager.
        manager: &'static str,
        /// What was asked for.
        what: String,
    },
    /// The password manager has several of that name.
    #[error("{manager} has `{name}` more than once")]
    Ambiguous {
        /// The password manager.
        manager: &'static str,
        /// The name.
        name: String,
    },
    /// The program's answer is not what it is known to be.
    #[error("the answer of `{program}` is not understood")]
    Answer {
        /// The program.
        program: &'static str,
    },
    /// The program gave no answer.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

impl Diagnose for FetchError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownAdapter { .. } | Self::Incomplete { .. } => ErrorKind::Usage,
            Self::NotInstalled { .. } => ErrorKind::Configuration,
            _ => ErrorKind::Failed,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::UnknownAdapter { .. } => {
                let names: Vec<&str> = Adapter::ALL.iter().map(|adapter| adapter.name()).collect();
                vec![format!("there are: {}", names.join(", "))]
            }
            Self::NotInstalled { program, .. } => {
                vec![format!("install it so that `{program}` is found in PATH")]
            }
            Self::Refused { .. } | Self::Login { .. } => {
                vec!["what its program says stands above, if it said anything".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

/// Asks a password manager for secrets through its own command line (kamal-compat §11.4).
///
/// The program has the terminal's input and standard error, so that it can ask for a password.
///
/// # Errors
/// [`FetchError`]: an incomplete request, a program that is missing or fails, a secret that is not there.
///
/// # Cancel safety
/// Dropping the future ends the running program; nothing else is left behind.
pub async fn fetch(request: &FetchRequest, surroundings: Surroundings<'_>) -> Result<Fetched, FetchError> {
    let account = request.account.as_deref().filter(|account| !account.trim().is_empty());
    if request.adapter.needs_account() && account.is_none() {
        let subject = format!("adapter `{}`", request.adapter.name());
        return Err(FetchError::Incomplete { subject, what: "`--account`" });
    }
    adapter::fetch(request, account.unwrap_or_default(), surroundings).await
}

/// There is no such secret in what was fetched.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The text is not one JSON object.
    #[error("the secrets to extract `{name}` from are not a JSON object")]
    NotJson {
        /// The name.
        name: String,
    },
    /// No key is the name or ends in it.
    #[error("there is no secret `{name}` in what was fetched")]
    NotFound {
        /// The name.
        name: String,
        /// The keys.
        known: Vec<String>,
    },
}

impl Diagnose for ExtractError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NotJson { .. } => {
                vec!["give it what `secrets fetch` printed, as one word: in quotes".to_owned()]
            }
            Self::NotFound { known, .. } if known.is_empty() => Vec::new(),
            Self::NotFound { known, .. } => vec![format!("there are: {}", known.join(", "))],
        }
    }
}

/// Takes one value from what `secrets fetch` printed: that of the key itself, else of the first that ends in `/NAME`.
///
/// # Errors
/// [`ExtractError`].
pub fn extract(name: &str, json: &str) -> Result<SecretString, ExtractError> {
    let not_json = || ExtractError::NotJson { name: name.to_owned() };
    let Members(pairs) = serde_json::from_str(json).map_err(|_| not_json())?;
    let ending = format!("/{name}");
    let exact = pairs.iter().find(|(key, value)| key == name && !value.is_null());
    let found = exact.or_else(|| pairs.iter().find(|(key, _)| key.ends_with(&ending)));
    match found {
        Some((_, Value::String(text))) => Ok(SecretString::from(text.as_str())),
        Some((_, other)) if !other.is_null() => Ok(SecretString::from(other.to_string())),
        _ => {
            let known = pairs.into_iter().map(|(key, _)| key).collect();
            Err(ExtractError::NotFound { name: name.to_owned(), known })
        }
    }
}

/// The members of a JSON object in the order of the text, which decides between two keys that end alike.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(name: &str, json: &str) -> Result<String, String> {
        extract(name, json)
            .map(|value| value.expose_secret().to_owned())
            .map_err(|error| format!("{error} {:?}", error.help()))
    }

    #[test]
    fn the_key_itself_comes_before_one_that_ends_so() {
        let json = r#"{"v/i/B":"first","a/B":"second","B":"own","N":5,"Z":null,"x/Z":"z","Q":"\"$\nä"}"#;
        assert_eq!(taken("B", json).unwrap(), "own");
        assert_eq!(taken("i/B", json).unwrap(), "first");
        assert_eq!(taken("N", json).unwrap(), "5");
        assert_eq!(taken("Z", json).unwrap(), "z");
        assert_eq!(taken("Q", json).unwrap(), "\"$\nä");
        assert_eq!(taken("B", r#"{"v/i/B":"first","a/B":"second"}"#).unwrap(), "first");
    }

    #[test]
    fn what_is_not_there_is_an_error_without_values() {
        assert_eq!(
            taken("C", r#"{"a/B":"m4rk"}"#).unwrap_err(),
            "there is no secret `C` in what was fetched [\"there are: a/B\"]"
        );
        assert!(
            taken("C", r#"["m4rk"]"#).unwrap_err().starts_with("the secrets to extract `C` from are not")
        );
        assert!(!taken("C", "m4rk {").unwrap_err().contains("m4rk"));
    }

    #[test]
    fn the_object_keeps_the_order_and_the_last_value() {
        let mut fetched = Fetched::default();
        fetched.set("b".to_owned(), Some(&Value::from("1\n\"")));
        fetched.set("a".to_owned(), Some(&serde_json::json!({"k": [1]})));
        fetched.set("n".to_owned(), None);
        fetched.set("b".to_owned(), Some(&Value::from("2\n\"")));
        assert_eq!(fetched.to_json().expose_secret(), r#"{"b":"2\n\"","a":"{\"k\":[1]}","n":null}"#);
    }
}
