use serde_json::Value;

use super::{Vault, quoted};
use crate::fetch::{FetchError, FetchRequest, Fetched};

pub(super) async fn fetch(vault: &Vault<'_>, request: &FetchRequest) -> Result<Fetched, FetchError> {
    let Some(file) = request.from.as_deref() else {
        return Err(vault.incomplete("`--from`, the folder of the vault"));
    };
    let names = &request.names;
    if names.is_empty() {
        return Err(vault.incomplete("the titles of items"));
    }
    let mut titles: Vec<&str> = Vec::new();
    for name in names {
        let title = name.rsplit_once('/').map(|(title, _)| title).filter(|title| !title.is_empty());
        let title = title.unwrap_or_else(|| name.trim_start_matches('/'));
        if !titles.contains(&title) {
            titles.push(title);
        }
    }
    let mut arguments = vec!["-json", "-vault", file, "show"];
    arguments.extend(titles);
    let answer = vault.json(&arguments, quoted(names)).await?;
    let mut fetched = Fetched::default();
    for item in vault.rows(&answer)? {
        let member =
            |name: &str| item.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
        let (Some(title), Some(_)) = (member("title"), member("password")) else { continue };
        let key = match member("label") {
            Some(label) => format!("{title}/{label}"),
            None => title.to_owned(),
        };
        if !names.iter().any(|name| name == title || *name == key) {
            continue;
        }
        if fetched.has(&key) {
            return Err(FetchError::Ambiguous { manager: vault.manager, name: key });
        }
        fetched.set(key, item.get("password"));
    }
    Ok(fetched)
}
