//! What accessories take from this machine: files, rendered where they are templates, and logins of registries.

use std::collections::BTreeMap;

use freehold_config::{Source, render_file};
use freehold_docker::RegistryCredentials;
use freehold_fleet::Stock;
use freehold_model::{
    Accessory, AccessoryFile, Credential, Diagnose, ErrorKind, FileContent, Project, Registry, RegistryPlace,
    SecretName, SecretValues,
};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use crate::context::Context;
use crate::error::{CommandError, FileError};
use crate::template::ProjectFolder;

/// A file of an accessory that is no file, or no text where it is a template.
#[derive(Debug, thiserror::Error)]
enum AccessoryFileError {
    /// It is a folder.
    #[error("the file `{path}` of accessory `{accessory}` is a folder")]
    Folder { path: String, accessory: String },
    /// It is a template, and its bytes are no text.
    #[error("the template `{path}` of accessory `{accessory}` is not UTF-8")]
    NoText { path: String, accessory: String },
    /// The thread that rendered it ended early.
    #[error("the template `{path}` was not rendered to its end")]
    Rendering {
        path: String,
        #[source]
        source: tokio::task::JoinError,
    },
}

impl Diagnose for AccessoryFileError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Rendering { .. } => ErrorKind::Bug,
            Self::Folder { .. } | Self::NoText { .. } => ErrorKind::Configuration,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::Folder { .. } => {
                vec![
                    "name each file of it under `files:`, or an empty folder under `directories:`".to_owned(),
                ]
            }
            Self::NoText { .. } | Self::Rendering { .. } => Vec::new(),
        }
    }
}

/// Reads the local files of accessories, and takes the logins of their registries from the secrets.
///
/// # Errors
/// A file that cannot be read or rendered.
pub(super) async fn take(
    context: &Context,
    project: &Project,
    accessories: &[&Accessory],
    secrets: &SecretValues,
) -> Result<Stock, CommandError> {
    let mut stock = Stock::default();
    for accessory in accessories {
        for file in &accessory.files {
            let mut content = read(context, accessory, file)?;
            if file.content == FileContent::Template {
                content = render(context, project, accessory, (file, content, secrets)).await?;
            }
            stock.files.insert(accessory.file_path(file), content);
        }
        let registry = project.accessory_registries.get(&accessory.name).or(project.registry.as_ref());
        if let Some(login) = registry.and_then(|registry| login(accessory, registry, secrets)) {
            stock.logins.insert(accessory.name.clone(), login);
        }
    }
    Ok(stock)
}

fn read(context: &Context, accessory: &Accessory, file: &AccessoryFile) -> Result<Vec<u8>, CommandError> {
    let path = context.process.directory.join(&file.local);
    if path.is_dir() {
        let (path, accessory) = (file.local.clone(), accessory.name.to_string());
        return Err(AccessoryFileError::Folder { path, accessory }.into());
    }
    let failed =
        |source| FileError { operation: format!("read a file of accessory `{}`", accessory.name), source };
    Ok(fs_err::read(&path).map_err(failed)?)
}

/// Renders a template with the accessory's environment, secrets too, over that of the process. It happens on a thread of
/// its own, where it may wait for commands.
async fn render(
    context: &Context,
    project: &Project,
    accessory: &Accessory,
    (file, content, secrets): (&AccessoryFile, Vec<u8>, &SecretValues),
) -> Result<Vec<u8>, CommandError> {
    let path = file.local.clone();
    let no_text =
        |_| AccessoryFileError::NoText { path: path.clone(), accessory: accessory.name.to_string() };
    let text = String::from_utf8(content).map_err(no_text)?;
    let mut environment = context.environment().clone();
    environment
        .extend(project.destination.as_ref().map(|name| ("KAMAL_DESTINATION".to_owned(), name.to_string())));
    let clear = &accessory.environment.clear;
    environment.extend(clear.iter().map(|(name, value)| (name.to_string(), value.clone())));
    let mut hidden = Vec::new();
    for (name, secret) in &accessory.environment.secret {
        let Some(value) = secrets.value(secret) else { continue };
        environment.insert(name.to_string(), value.expose_secret().to_owned());
        hidden.push(value.clone());
    }
    let surroundings = ProjectFolder { process: context.process.clone(), runtime: Handle::current() };
    let source_path = path.clone();
    let work = move || {
        let hidden: Vec<&str> = hidden.iter().map(ExposeSecret::expose_secret).collect();
        let source = Source { path: &source_path, text: &text };
        render_file(&source, &environment, &hidden, &surroundings)
    };
    let rendered = tokio::task::spawn_blocking(work).await;
    let rendered = rendered.map_err(|source| AccessoryFileError::Rendering { path, source })?;
    Ok(rendered?.into_bytes())
}

/// Returns the login of the registry that an accessory's image is in; another registry is not told the password.
fn login(accessory: &Accessory, registry: &Registry, secrets: &SecretValues) -> Option<RegistryCredentials> {
    let server = match &registry.place {
        RegistryPlace::DockerHub => None,
        RegistryPlace::Server(server) => Some(server.to_string()),
        RegistryPlace::Local { .. } => return None,
    };
    let repository = accessory.image.repository.as_str();
    let in_front = repository.split_once('/').map(|(first, _)| first);
    let named = in_front.filter(|first| first.contains(['.', ':']) || *first == "localhost");
    if named != server.as_deref() {
        return None;
    }
    let credentials = registry.credentials.as_ref()?;
    let value = |credential: &Credential| -> Option<SecretString> {
        match credential {
            Credential::Plain(text) => Some(text.value().clone()),
            Credential::Secret(name) => secrets.value(name).cloned(),
        }
    };
    Some(RegistryCredentials {
        server,
        username: value(&credentials.username)?.expose_secret().to_owned(),
        password: value(&credentials.password)?,
    })
}

/// Returns the secrets that accessories need.
pub(crate) fn needed(project: &Project, accessories: &[&Accessory]) -> Vec<SecretName> {
    let own = accessories.iter().flat_map(|accessory| accessory.environment.secret.values().cloned());
    let registries = accessories.iter().filter_map(|accessory| {
        project.accessory_registries.get(&accessory.name).or(project.registry.as_ref())
    });
    let proxies = accessories.iter().filter_map(|accessory| accessory.proxy.as_ref());
    let mut names: Vec<SecretName> = own
        .chain(proxies.flat_map(freehold_model::ProxySettings::secret_names))
        .chain(registries.flat_map(Registry::secret_names))
        .chain(project.ssh.key_data.iter().cloned())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Returns fingerprints of the files, by their paths on the hosts.
pub(super) fn fingerprints(stock: &Stock) -> BTreeMap<String, String> {
    let print = |content: &Vec<u8>| {
        let digest = Sha256::digest(content);
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    stock.files.iter().map(|(path, content)| (path.clone(), print(content))).collect()
}
