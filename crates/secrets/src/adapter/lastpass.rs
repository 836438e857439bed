use super::{Vault, quoted};
use crate::fetch::{FetchError, FetchRequest, Fetched};

pub(super) async fn fetch(
    vault: &Vault<'_>,
    request: &FetchRequest,
    account: &str,
) -> Result<Fetched, FetchError> {
    let names = request.full_names();
    if names.is_empty() {
        return Err(vault.incomplete("the names of secrets"));
    }
    let status = vault.run(&["status", "--color", "never"]).await?;
    if status.text().map(str::trim) != Some(format!("Logged in as {account}.").as_str())
        && !vault.run(&["login", account]).await?.status.success()
    {
        return Err(vault.login_failed());
    }
    let mut arguments = vec!["show"];
    arguments.extend(names.iter().map(String::as_str));
    arguments.push("--json");
    let answer = vault.json(&arguments, quoted(&names)).await?;
    let mut fetched = Fetched::default();
    for row in vault.rows(&answer)? {
        fetched.set(vault.text(row, "fullname")?.to_owned(), row.get("password"));
    }
    let missing: Vec<String> = names.into_iter().filter(|name| !fetched.has(name)).collect();
    if missing.is_empty() { Ok(fetched) } else { Err(vault.not_found(quoted(&missing))) }
}
