use serde_json::Value;

use super::{Vault, quoted};
use crate::fetch::{FetchError, FetchRequest, Fetched};

/// A folder that names go through.
struct Folder {
    /// Its path from the top, by `/`.
    path: String,
    id: String,
}

pub(super) async fn fetch(vault: &Vault<'_>, request: &FetchRequest) -> Result<Fetched, FetchError> {
    let names = request.full_names();
    if names.is_empty() {
        return Err(vault.incomplete("the names of secrets"));
    }
    if !vault.run(&["verify"]).await?.status.success() {
        return Err(vault.login_failed());
    }
    let folders = folders(vault, &names).await?;
    let condition = |name: &String| match name.rsplit_once('/') {
        Some((path, last)) => {
            let id = folders.iter().find(|folder| folder.path == path).map_or("", |folder| &folder.id);
            format!("(Name == {} && FolderParentID == {})", literal(last), literal(id))
        }
        None => format!("Name == {}", literal(name)),
    };
    let filter = names.iter().map(condition).collect::<Vec<_>>().join(" || ");
    let mut arguments = vec!["list", "resources", "--filter", &filter];
    for folder in &folders {
        arguments.extend(["--folder", &folder.id]);
    }
    arguments.extend(["--column", "name", "--column", "password", "--json"]);
    let answer = vault.json(&arguments, quoted(&names)).await?;
    let mut fetched = Fetched::default();
    for row in vault.rows(&answer)? {
        fetched.set(vault.text(row, "name")?.to_owned(), row.get("password"));
    }
    let is_missing = |name: &String| !fetched.has(name.rsplit('/').next().unwrap_or(name));
    let missing: Vec<String> = names.iter().filter(|name| is_missing(name)).cloned().collect();
    if missing.is_empty() { Ok(fetched) } else { Err(vault.not_found(quoted(&missing))) }
}

/// Finds every folder on the way to the names: those at the top in one call, then level by level.
async fn folders(vault: &Vault<'_>, names: &[String]) -> Result<Vec<Folder>, FetchError> {
    let mut paths: Vec<&str> = Vec::new();
    for path in names.iter().filter_map(|name| name.rsplit_once('/')).map(|(path, _)| path) {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let mut tops: Vec<&str> = Vec::new();
    for top in paths.iter().filter_map(|path| path.split('/').next()) {
        if !tops.contains(&top) {
            tops.push(top);
        }
    }
    let mut found: Vec<Folder> = Vec::new();
    if tops.is_empty() {
        return Ok(found);
    }
    let filter = tops.iter().map(|top| format!("Name == {}", literal(top))).collect::<Vec<_>>().join(" || ");
    for row in list(vault, &filter).await? {
        let is_top = row.get("folder_parent_id").and_then(Value::as_str).is_none_or(str::is_empty);
        let name = vault.text(&row, "name")?;
        // A folder of the same name further down is not meant.
        if is_top && !found.iter().any(|folder| folder.path == name) {
            found.push(Folder { path: name.to_owned(), id: vault.text(&row, "id")?.to_owned() });
        }
    }
    for path in &paths {
        descend(vault, path, &mut found).await?;
    }
    Ok(found)
}

async fn descend(vault: &Vault<'_>, path: &str, found: &mut Vec<Folder>) -> Result<(), FetchError> {
    let missing = |path: &str| vault.not_found(format!("folder `{path}`"));
    let mut parts = path.split('/');
    let mut here = parts.next().unwrap_or_default().to_owned();
    for name in parts {
        let parent = found.iter().find(|folder| folder.path == here).ok_or_else(|| missing(&here))?;
        let below = format!("{here}/{name}");
        if !found.iter().any(|folder| folder.path == below) {
            let filter = format!("Name == {} && FolderParentID == {}", literal(name), literal(&parent.id));
            let rows = list(vault, &filter).await?;
            let row = rows.first().ok_or_else(|| missing(&below))?;
            found.push(Folder { path: below.clone(), id: vault.text(row, "id")?.to_owned() });
        }
        here = below;
    }
    found.iter().any(|folder| folder.path == here).then_some(()).ok_or_else(|| missing(&here))
}

async fn list(vault: &Vault<'_>, filter: &str) -> Result<Vec<Value>, FetchError> {
    let answer = vault.json(&["list", "folders", "--filter", filter, "--json"], "its folders").await?;
    Ok(vault.rows(&answer)?.clone())
}

/// Writes a text of the filter's language.
fn literal(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
