use serde_json::Value;

use super::Vault;
use crate::fetch::{FetchError, FetchRequest, Fetched};
use crate::program::{Answer, ErrorOutput};

pub(super) async fn fetch(
    vault: &Vault<'_>,
    request: &FetchRequest,
    account: &str,
) -> Result<Fetched, FetchError> {
    if request.names.is_empty() {
        return Err(vault.incomplete("the names of items"));
    }
    let session = log_in(vault, account).await?;
    let mut fetched = Fetched::default();
    for (item, fields) in items(request) {
        let answer = call(vault, &["get", "item", &item], session.as_deref()).await?;
        let answer = vault.read_json(&answer, format!("item `{item}`"))?;
        for field in fields {
            match field {
                Some(field) => take(vault, &mut fetched, (&item, &field), &answer)?,
                None => take_item(vault, &mut fetched, &item, &answer)?,
            }
        }
    }
    Ok(fetched)
}

/// Logs in and unlocks as far as it is needed. Returns the session, where there is one of its own.
async fn log_in(vault: &Vault<'_>, account: &str) -> Result<Option<String>, FetchError> {
    let mut status = status(vault, None).await?;
    if status == "unauthenticated" {
        vault.run(&["login", account]).await?;
        status = self::status(vault, None).await?;
    }
    let mut session = None;
    if status == "locked" {
        let answer = vault.run(&["unlock", "--raw"]).await?;
        session = answer.text().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        status = self::status(vault, session.as_deref()).await?;
    }
    if status != "unlocked" {
        return Err(vault.login_failed());
    }
    if !call(vault, &["sync"], session.as_deref()).await?.status.success() {
        return Err(vault.refused("the newest state"));
    }
    Ok(session)
}

async fn status(vault: &Vault<'_>, session: Option<&str>) -> Result<String, FetchError> {
    let answer = call(vault, &["status"], session).await?;
    let answer = vault.read_json(&answer, "its status")?;
    Ok(vault.text(&answer, "status")?.to_owned())
}

async fn call(vault: &Vault<'_>, arguments: &[&str], session: Option<&str>) -> Result<Answer, FetchError> {
    let variables: Vec<(&str, &str)> = session.map(|token| ("BW_SESSION", token)).into_iter().collect();
    vault.call(arguments, &variables, ErrorOutput::Shown).await
}

/// Groups the names `Item[/Field]` by item, each of which is asked for once.
fn items(request: &FetchRequest) -> Vec<(String, Vec<Option<String>>)> {
    let mut items: Vec<(String, Vec<Option<String>>)> = Vec::new();
    for full in request.full_names() {
        let mut parts = full.split('/');
        let item = parts.next().unwrap_or_default().to_owned();
        let field = parts.next().map(ToOwned::to_owned);
        match items.iter_mut().find(|(known, _)| *known == item) {
            Some((_, fields)) => fields.push(field),
            None => items.push((item, vec![field])),
        }
    }
    items
}

/// Takes the password of a login, or of another item every field that it has.
fn take_item(vault: &Vault<'_>, fetched: &mut Fetched, item: &str, answer: &Value) -> Result<(), FetchError> {
    if let Some(password @ Value::String(_)) = answer.get("login").and_then(|login| login.get("password")) {
        fetched.set(item.to_owned(), Some(password));
        return Ok(());
    }
    let fields = custom_fields(answer);
    if fields.is_empty() {
        return Err(vault.not_found(format!("password and no fields in item `{item}`")));
    }
    for field in fields {
        take(vault, fetched, (item, vault.text(field, "name")?), answer)?;
    }
    Ok(())
}

fn take(
    vault: &Vault<'_>,
    fetched: &mut Fetched,
    (item, field): (&str, &str),
    answer: &Value,
) -> Result<(), FetchError> {
    let found = custom_fields(answer)
        .into_iter()
        .find(|candidate| candidate.get("name").and_then(Value::as_str) == Some(field));
    let found = found.ok_or_else(|| vault.not_found(format!("field `{field}` in item `{item}`")))?;
    fetched.set(format!("{item}/{field}"), found.get("value"));
    Ok(())
}

fn custom_fields(item: &Value) -> Vec<&Value> {
    item.get("fields").and_then(Value::as_array).map(|fields| fields.iter().collect()).unwrap_or_default()
}
