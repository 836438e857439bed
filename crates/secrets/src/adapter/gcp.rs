use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use serde_json::Value;

use super::Vault;
use crate::fetch::{FetchError, FetchRequest, Fetched};

/// Stands for the configured project or user.
const DEFAULT: &str = "default";

pub(super) async fn fetch(
    vault: &Vault<'_>,
    request: &FetchRequest,
    account: &str,
) -> Result<Fetched, FetchError> {
    if request.names.is_empty() {
        return Err(vault.incomplete("the names of secrets"));
    }
    if !is_logged_in(vault).await? {
        vault.run(&["auth", "login"]).await?;
        if !is_logged_in(vault).await? {
            return Err(vault.login_failed());
        }
    }
    let (user, service_account) = match account.split_once('|') {
        Some((user, service_account)) => (user, Some(service_account)),
        None => (account, None),
    };
    let mut options = Vec::new();
    if user != DEFAULT {
        options.push(format!("--account={user}"));
    }
    options.extend(service_account.map(|name| format!("--impersonate-service-account={name}")));
    options.push("--format=json".to_owned());
    let mut fetched = Fetched::default();
    for name in request.full_names() {
        let (project, secret, version) = parse(&name);
        let what = format!("secret `{project}/{secret}`");
        let (secret_option, project_option) = (format!("--secret={secret}"), format!("--project={project}"));
        let mut arguments = vec!["secrets", "versions", "access", version, &secret_option];
        if project != DEFAULT {
            arguments.push(&project_option);
        }
        arguments.extend(options.iter().map(String::as_str));
        let answer = vault.json(&arguments, what).await?;
        let data = answer.get("payload").map_or(Ok(""), |payload| vault.text(payload, "data"))?;
        let value = Zeroizing::new(STANDARD.decode(data).map_err(|_| vault.not_understood())?);
        let value = std::str::from_utf8(&value).map_err(|_| vault.not_understood())?;
        fetched.set(format!("{project}/{secret}"), Some(&Value::from(value)));
    }
    Ok(fetched)
}

async fn is_logged_in(vault: &Vault<'_>) -> Result<bool, FetchError> {
    let accounts = vault.json(&["auth", "list", "--format=json"], "its accounts").await?;
    Ok(!vault.rows(&accounts)?.is_empty())
}

/// Splits `[project/]secret[/version]`.
fn parse(name: &str) -> (&str, &str, &str) {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [project, secret, version, ..] => (project, secret, version),
        [project, secret] => (project, secret, "latest"),
        _ => (DEFAULT, name, "latest"),
    }
}
