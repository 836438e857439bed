//! The logins that Docker keeps on this machine: those of `~/.docker/config.json`, and those of the helpers that it names.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use freehold_model::{
    Credential, Diagnose, ErrorKind, PlainSecret, Project, Registry, RegistryCredentials, RegistryPlace,
};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use crate::context::Context;

/// The server by which Docker knows Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// How long a helper may take; it may ask a person.
const LIMIT: Duration = Duration::from_secs(120);

/// The name that a helper gives where the secret is no password.
const IDENTITY_TOKEN: &str = "<token>";

/// Why Docker's login cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DockerLoginError {
    /// The file is not there or cannot be read.
    #[error("cannot read Docker's logins")]
    Read(#[source] std::io::Error),
    /// The file is not what Docker writes.
    #[error("`{path}` cannot be understood")]
    Format { path: String, source: serde_json::Error },
    /// The file has no login for the registry.
    #[error("Docker has no login for registry `{registry}`")]
    NoLogin { registry: String },
    /// The helper does not start.
    #[error("cannot run `{program}`, which keeps Docker's login for registry `{registry}`")]
    Start { program: String, registry: String, source: std::io::Error },
    /// The helper has no login.
    #[error("`{program}` has no login for registry `{registry}`: it ended with {status}")]
    Helper { program: String, registry: String, status: String },
    /// The helper took too long.
    #[error("`{program}` did not end within {} s", LIMIT.as_secs())]
    TimedOut { program: String },
    /// The helper's answer is not what the protocol promises.
    #[error("the answer of `{program}` cannot be understood")]
    Answer { program: String, source: serde_json::Error },
    /// The login is of a kind that only Docker's own command line can use.
    #[error("Docker's login for registry `{registry}` is an identity token, which only `docker` can use")]
    IdentityToken { registry: String },
}

impl Diagnose for DockerLoginError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Configuration
    }

    fn help(&self) -> Vec<String> {
        let help = match self {
            Self::IdentityToken { .. } => {
                "set `registry: username:` and `password:` instead of `credentials: docker`"
            }
            Self::Start { .. } => {
                "install it, or correct `credHelpers` and `credsStore` in `~/.docker/config.json`"
            }
            _ => "log in: `docker login SERVER`; or set `registry: username:` and `password:`",
        };
        vec![help.to_owned()]
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase", default)]
struct Auth {
    auth: Option<String>,
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: PlainText,
}

/// A text that shows in no debug output.
#[derive(Deserialize)]
struct PlainText(String);

/// Fills in the login of every registry of the project for which Docker's own is to be used.
///
/// # Errors
/// [`DockerLoginError`] for the first one that has none.
pub(crate) async fn fill(context: &Context, project: &mut Project) -> Result<(), DockerLoginError> {
    let registries = project.registry.iter_mut().chain(project.accessory_registries.values_mut());
    for registry in registries.filter(|registry| registry.uses_docker_login) {
        if registry.credentials.is_none() {
            registry.credentials = Some(look_up(context, registry).await?);
        }
    }
    Ok(())
}

async fn look_up(context: &Context, registry: &Registry) -> Result<RegistryCredentials, DockerLoginError> {
    let server = match &registry.place {
        RegistryPlace::DockerHub => DOCKER_HUB.to_owned(),
        place => place.prefix().unwrap_or_default(),
    };
    let process = &context.process;
    let folder = match process.variable("DOCKER_CONFIG") {
        Some(folder) => process.directory.join(folder),
        None => PathBuf::from(process.variable("HOME").unwrap_or("/root")).join(".docker"),
    };
    let path = folder.join("config.json");
    let text = fs_err::read_to_string(&path).map_err(DockerLoginError::Read)?;
    let config: DockerConfig = serde_json::from_str(&text)
        .map_err(|source| DockerLoginError::Format { path: path.display().to_string(), source })?;
    let name = registry_name(registry);
    let helper = config.cred_helpers.get(&server).or(config.creds_store.as_ref());
    let (username, password) = match helper.filter(|helper| !helper.is_empty()) {
        Some(helper) => ask(context, &format!("docker-credential-{helper}"), &server, &name).await?,
        None => stored(&config, &server, &name)?,
    };
    if username == IDENTITY_TOKEN {
        return Err(DockerLoginError::IdentityToken { registry: name });
    }
    let plain = |text: String| Credential::Plain(PlainSecret::new(text));
    Ok(RegistryCredentials { username: plain(username), password: plain(password) })
}

fn registry_name(registry: &Registry) -> String {
    registry.place.prefix().unwrap_or_else(|| "Docker Hub".to_owned())
}

/// Reads a login that stands in the file itself.
fn stored(config: &DockerConfig, server: &str, name: &str) -> Result<(String, String), DockerLoginError> {
    let missing = || DockerLoginError::NoLogin { registry: name.to_owned() };
    // Old versions wrote the server as a URL.
    let host = |key: &str| {
        let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
        bare.split('/').next().unwrap_or_default().to_owned()
    };
    let known = config.auths.iter().find(|(key, _)| *key == server || host(key) == server);
    let (_, auth) = known.ok_or_else(missing)?;
    if auth.identitytoken.as_ref().is_some_and(|token| !token.is_empty()) {
        return Err(DockerLoginError::IdentityToken { registry: name.to_owned() });
    }
    let pair =
        auth.auth.as_ref().and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
    let pair = pair.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(missing)?;
    let (username, password) = pair.split_once(':').ok_or_else(missing)?;
    Ok((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Asks a helper. Source: github.com/docker/docker-credential-helpers, README, section "Development".
async fn ask(
    context: &Context,
    program: &str,
    server: &str,
    registry: &str,
) -> Result<(String, String), DockerLoginError> {
    let named = || (program.to_owned(), registry.to_owned());
    let start = |source| {
        let (program, registry) = named();
        DockerLoginError::Start { program, registry, source }
    };
    let mut child = tokio::process::Command::new(program)
        .arg("get")
        .current_dir(&context.process.directory)
        .env_clear()
        .envs(context.environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let stdin = child.stdin.take();
    let work = async {
        if let Some(mut stdin) = stdin {
            // One that ends without reading says why by its status.
            let written = stdin.write_all(server.as_bytes()).await;
            tracing::debug!(?written, "server named");
        }
        child.wait_with_output().await
    };
    let ended = tokio::time::timeout(LIMIT, work).await;
    let output = ended.map_err(|_| DockerLoginError::TimedOut { program: program.to_owned() })?;
    let output = output.map_err(start)?;
    if !output.status.success() {
        let (program, registry) = named();
        return Err(DockerLoginError::Helper { program, registry, status: output.status.to_string() });
    }
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|source| DockerLoginError::Answer { program: program.to_owned(), source })?;
    Ok((answer.username, answer.secret.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> DockerConfig {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn logins_stand_in_the_file_in_base64() {
        let text = r#"{"auths":{"ghcr.io":{"auth":"YW5uOnA6dw=="},"https://index.docker.io/v1/":{"auth":"Ym9iOng="},
            "https://old.example.com/v1/":{"auth":"ZXZlOnk="},"empty.example.com":{},
            "token.example.com":{"auth":"YW5uOg==","identitytoken":"t"}},"credsStore":""}"#;
        let config = config(text);
        let login = |server: &str| stored(&config, server, server);
        assert_eq!(login("ghcr.io").unwrap(), ("ann".to_owned(), "p:w".to_owned()));
        assert_eq!(login(DOCKER_HUB).unwrap().0, "bob");
        assert_eq!(login("old.example.com").unwrap().0, "eve");
        for missing in ["empty.example.com", "other.example.com"] {
            assert!(matches!(login(missing), Err(DockerLoginError::NoLogin { .. })), "{missing}");
        }
        assert!(matches!(login("token.example.com"), Err(DockerLoginError::IdentityToken { .. })));
    }

    #[test]
    fn a_helper_goes_before_the_file() {
        let config = config(r#"{"credHelpers":{"gcr.io":"gcloud"},"credsStore":"desktop","HttpHeaders":{}}"#);
        assert_eq!(config.cred_helpers.get("gcr.io").map(String::as_str), Some("gcloud"));
        assert_eq!(config.creds_store.as_deref(), Some("desktop"));
    }
}
