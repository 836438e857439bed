use serde_json::Value;

use super::Vault;
use crate::fetch::{FetchError, FetchRequest, Fetched};

/// One item of a vault and the fields that are wanted of it.
struct Item {
    vault: String,
    name: String,
    /// `label` or `section.label`; empty is every field.
    fields: Vec<String>,
}

pub(super) async fn fetch(
    vault: &Vault<'_>,
    request: &FetchRequest,
    account: &str,
) -> Result<Fetched, FetchError> {
    let items = items(vault, request)?;
    let session = log_in(vault, account).await?;
    let mut fetched = Fetched::default();
    for item in items {
        let labels: Vec<String> = item.fields.iter().map(|field| format!("label={field}")).collect();
        let labels = labels.join(",");
        let mut arguments =
            vec!["item", "get", &item.name, "--vault", &item.vault, "--format", "json", "--account", account];
        // `op` takes a session otherwise only from a variable that is named after the user's own id, which is not known.
        if let Some(session) = &session {
            arguments.extend(["--session", session]);
        }
        if !item.fields.is_empty() {
            arguments.extend(["--fields", &labels]);
        }
        let answer =
            vault.json(&arguments, format!("item `{}` of vault `{}`", item.name, item.vault)).await?;
        for field in fields(vault, &answer)? {
            if let Some(reference) = field.get("reference").and_then(Value::as_str) {
                let key = reference.strip_prefix("op://").unwrap_or(reference);
                let key = key.strip_suffix("/password").unwrap_or(key);
                fetched.set(key.to_owned(), field.get("value"));
            }
        }
    }
    Ok(fetched)
}

/// Returns the token of the session, where the program does not keep it by itself.
async fn log_in(vault: &Vault<'_>, account: &str) -> Result<Option<String>, FetchError> {
    if vault.ask(&["account", "get", "--account", account]).await?.status.success() {
        return Ok(None);
    }
    let answer = vault.run(&["signin", "--account", account, "--force", "--raw"]).await?;
    match answer.text() {
        Some(token) if answer.status.success() => {
            Ok(Some(token.trim().to_owned()).filter(|token| !token.is_empty()))
        }
        _ => Err(vault.login_failed()),
    }
}

/// Groups the names `[op://]Vault/Item[/Section]/Field` by item; without a field it is the password.
fn items(vault: &Vault<'_>, request: &FetchRequest) -> Result<Vec<Item>, FetchError> {
    let split = |text: &str| -> Option<(String, String, Vec<String>)> {
        let text = text.strip_prefix("op://").unwrap_or(text);
        let mut parts = text.split('/').map(ToOwned::to_owned);
        let (vault, name) = (parts.next()?, parts.next()?);
        (!vault.is_empty() && !name.is_empty()).then(|| (vault, name, parts.collect()))
    };
    if request.names.is_empty() {
        let from = request.from.as_deref().and_then(split);
        let (vault, name, _) = from.ok_or_else(|| vault.incomplete("`--from VAULT/ITEM`, or names"))?;
        return Ok(vec![Item { vault, name, fields: Vec::new() }]);
    }
    let mut items: Vec<Item> = Vec::new();
    for full in request.full_names() {
        let what = "names such as `VAULT/ITEM/FIELD`, or `--from VAULT/ITEM`";
        let (of, name, field) = split(&full).ok_or_else(|| vault.incomplete(what))?;
        let field = if field.is_empty() { "password".to_owned() } else { field.join(".") };
        match items.iter_mut().find(|item| item.vault == of && item.name == name) {
            Some(item) => item.fields.push(field),
            None => items.push(Item { vault: of, name, fields: vec![field] }),
        }
    }
    Ok(items)
}

/// The answer is one field, several fields, or a whole item.
fn fields<'v>(vault: &Vault<'_>, answer: &'v Value) -> Result<Vec<&'v Value>, FetchError> {
    match (answer, answer.get("fields")) {
        (Value::Array(fields), _) | (_, Some(Value::Array(fields))) => Ok(fields.iter().collect()),
        (Value::Object(_), None) => Ok(vec![answer]),
        _ => Err(vault.not_understood()),
    }
}
