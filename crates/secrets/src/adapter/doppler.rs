use serde_json::Value;

use super::{Vault, quoted};
use crate::fetch::{FetchError, FetchRequest, Fetched};

/// A token of a service names its project and configuration by itself.
const SERVICE_TOKEN: &str = "dp.st";

pub(super) async fn fetch(vault: &Vault<'_>, request: &FetchRequest) -> Result<Fetched, FetchError> {
    let names = request.full_names();
    let Some(first) = names.first() else { return Err(vault.incomplete("the names of secrets")) };
    if !vault.ask(&["me", "--json"]).await?.status.success()
        && !vault.run(&["login", "-y"]).await?.status.success()
    {
        return Err(vault.login_failed());
    }
    let token = vault.surroundings.environment.get("DOPPLER_TOKEN");
    let is_service = token.is_some_and(|token| token.starts_with(SERVICE_TOKEN));
    let mut arguments = vec!["secrets", "get"];
    arguments.extend(names.iter().map(|name| name.rsplit('/').next().unwrap_or(name)));
    arguments.push("--json");
    if !is_service {
        let mut parts = first.split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(project), Some(config), Some(_)) => {
                arguments.extend(["-p", project, "-c", config]);
            }
            _ => return Err(vault.incomplete("`--from PROJECT/CONFIG`")),
        }
    }
    let answer = vault.json(&arguments, quoted(&names)).await?;
    let secrets = answer.as_object().ok_or_else(|| vault.not_understood())?;
    let mut fetched = Fetched::default();
    for (name, secret) in secrets {
        fetched.set(name.clone(), secret.get("computed").filter(|value| !Value::is_null(value)));
    }
    Ok(fetched)
}
