use serde_json::Value;

use super::{Vault, quoted};
use crate::fetch::{FetchError, FetchRequest, Fetched};

pub(super) async fn fetch(
    vault: &Vault<'_>,
    request: &FetchRequest,
    profile: &str,
) -> Result<Fetched, FetchError> {
    let names = request.full_names();
    if names.is_empty() {
        return Err(vault.incomplete("the names of secrets"));
    }
    let mut arguments = vec!["secretsmanager", "batch-get-secret-value", "--secret-id-list"];
    arguments.extend(names.iter().map(String::as_str));
    if !profile.is_empty() {
        arguments.extend(["--profile", profile]);
    }
    arguments.extend(["--output", "json"]);
    let answer = vault.json(&arguments, quoted(&names)).await?;
    let errors = answer.get("Errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !errors.is_empty() {
        return Err(vault.refused(errors.iter().map(describe).collect::<Vec<_>>().join(", ")));
    }
    let mut fetched = Fetched::default();
    for secret in vault.rows(answer.get("SecretValues").unwrap_or(&Value::Null))? {
        let name = vault.text(secret, "Name")?;
        // A binary secret has no text.
        let text = vault.text(secret, "SecretString")?;
        match serde_json::from_str(text) {
            Ok(Value::Object(members)) => {
                for (key, value) in &members {
                    fetched.set(format!("{name}/{key}"), Some(value));
                }
            }
            _ => fetched.set(name.to_owned(), Some(&Value::from(text))),
        }
    }
    Ok(fetched)
}

fn describe(error: &Value) -> String {
    let member = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or("?");
    format!("`{}` ({})", member("SecretId"), member("Message"))
}
