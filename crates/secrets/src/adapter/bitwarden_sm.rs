use serde_json::Value;

use super::Vault;
use crate::fetch::{FetchError, FetchRequest, Fetched};
use crate::program::ErrorOutput;

pub(super) async fn fetch(vault: &Vault<'_>, request: &FetchRequest) -> Result<Fetched, FetchError> {
    let names = request.full_names();
    if names.is_empty() {
        return Err(vault.incomplete("the identifiers of secrets, `all` or `PROJECT/all`"));
    }
    // Whether the access token in the environment is good; what it prints is of no interest.
    if !vault.call(&["project", "list"], &[], ErrorOutput::Shown).await?.status.success() {
        return Err(vault.login_failed());
    }
    let list = match names.as_slice() {
        [only] if only == "all" => Some(vec!["secret", "list"]),
        [only] => only.strip_suffix("/all").map(|project| vec!["secret", "list", project]),
        _ => None,
    };
    let mut fetched = Fetched::default();
    let mut take = |row: &Value| -> Result<(), FetchError> {
        fetched.set(vault.text(row, "key")?.to_owned(), row.get("value"));
        Ok(())
    };
    if let Some(arguments) = list {
        let answer = vault.json(&arguments, "secrets").await?;
        vault.rows(&answer)?.iter().try_for_each(&mut take)?;
    } else {
        for name in &names {
            take(&vault.json(&["secret", "get", name], format!("secret `{name}`")).await?)?;
        }
    }
    Ok(fetched)
}
