use std::io::Read;

use bytes::Bytes;
use serde_json::json;

use crate::request::{EngineRequest, escape};
use crate::{Engine, EngineError, Owner};

/// A file for a container.
#[derive(Clone, PartialEq, Eq)]
pub struct ContainerFile {
    /// Its name in the folder.
    pub name: String,
    /// Its mode, such as `0o600`.
    pub mode: u32,
    /// Whom it belongs to.
    pub owner: Owner,
    /// What is in it.
    pub content: Bytes,
}

impl std::fmt::Debug for ContainerFile {
    /// Shows all but the content, which may be a secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, mode, owner, .. } = self;
        write!(formatter, "ContainerFile({name}, {mode:o}, {owner:?})")
    }
}

impl Engine {
    /// Makes a named volume whose content is a folder of the host, given by its absolute path. A container that is
    /// created with it gets the image's files copied into the folder if the folder is empty.
    ///
    /// # Errors
    /// [`EngineError`]; status 409 if a volume of that name is another folder's.
    ///
    /// # Cancel safety
    /// The volume may have been made; doing it again is harmless.
    pub async fn create_folder_volume(&self, name: &str, folder: &str) -> Result<(), EngineError> {
        let body = json!({
            "Name": name,
            "Driver": "local",
            "DriverOpts": { "type": "none", "o": "bind", "device": folder },
        });
        let request = EngineRequest::post(format!("make volume `{name}`"), "/volumes/create")
            .json(body.to_string().into());
        self.order(request, self.deadlines().request).await.map(drop)
    }

    /// Removes a named volume; one that is not there is fine. A folder of the host that it stood for stays.
    ///
    /// # Errors
    /// [`EngineError`]; status 409 if a container uses it.
    ///
    /// # Cancel safety
    /// It may have been removed.
    pub async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let request =
            EngineRequest::delete(format!("remove volume `{name}`"), format!("/volumes/{}", escape(name)));
        match self.order(request, self.deadlines().request).await {
            Err(error) if error.status() == Some(404) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Says whether a container, running or not, has something at an absolute path.
    ///
    /// # Errors
    /// [`EngineError`]; a container that does not exist has nothing.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn has_path(&self, container: &str, path: &str) -> Result<bool, EngineError> {
        let action = format!("look for `{path}` in container `{container}`");
        let request = EngineRequest::new(
            action,
            http::Method::HEAD,
            format!("/containers/{}/archive", escape(container)),
        )
        .query("path", path);
        match self.order(request, self.deadlines().request).await {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a file of a container, running or not, by its absolute path; files of its volumes too. Nothing where there
    /// is no such container or file.
    ///
    /// # Errors
    /// [`EngineError`]; also where the path is no file.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn read_file(&self, container: &str, path: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let action = format!("read `{path}` in container `{container}`");
        let Some(archive) = self.container_archive(container, path, &action).await? else { return Ok(None) };
        let mut archive = tar::Archive::new(archive.as_ref());
        let entries = archive.entries().map_err(|error| EngineError::answer(&action, error))?;
        for entry in entries {
            let mut entry = entry.map_err(|error| EngineError::answer(&action, error))?;
            if entry.header().entry_type().is_file() {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).map_err(|error| EngineError::answer(&action, error))?;
                return Ok(Some(content));
            }
        }
        Err(EngineError::answer(&action, "it is not a file"))
    }

    /// Lists the files below a folder of a container, running or not, by its absolute path. None where there is no such
    /// container or folder. The folder should be small: the engine sends all of it.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn file_names(&self, container: &str, path: &str) -> Result<Vec<String>, EngineError> {
        let action = format!("list `{path}` in container `{container}`");
        let Some(archive) = self.container_archive(container, path, &action).await? else {
            return Ok(Vec::new());
        };
        let mut archive = tar::Archive::new(archive.as_ref());
        let mut names = Vec::new();
        for entry in archive.entries().map_err(|error| EngineError::answer(&action, error))? {
            let entry = entry.map_err(|error| EngineError::answer(&action, error))?;
            if entry.header().entry_type().is_file() {
                names.push(String::from_utf8_lossy(&entry.path_bytes()).into_owned());
            }
        }
        Ok(names)
    }

    /// Writes files into a folder of a container, running or not, by its absolute path; into its volumes too. Files of the
    /// same names are replaced. Owners are those that the container sees.
    ///
    /// # Errors
    /// [`EngineError`]; status 404 where there is no such container or folder.
    ///
    /// # Cancel safety
    /// Some may have been written, perhaps not as a whole.
    pub async fn write_files(
        &self,
        container: &str,
        folder: &str,
        files: &[ContainerFile],
    ) -> Result<(), EngineError> {
        let action = format!("write files to `{folder}` in container `{container}`");
        let mut archive = tar::Builder::new(Vec::new());
        for file in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(u64::try_from(file.content.len()).unwrap_or(u64::MAX));
            header.set_mode(file.mode);
            header.set_uid(file.owner.user.into());
            header.set_gid(file.owner.group.into());
            header.set_entry_type(tar::EntryType::Regular);
            archive
                .append_data(&mut header, &file.name, file.content.as_ref())
                .map_err(|error| EngineError::answer(&action, error))?;
        }
        let archive = archive.into_inner().map_err(|error| EngineError::answer(&action, error))?;
        let path = format!("/containers/{}/archive", escape(container));
        let request = EngineRequest::new(action, http::Method::PUT, path)
            .query("path", folder)
            .query("noOverwriteDirNonDir", "true")
            .tar(futures_util::stream::iter([Ok(Bytes::from(archive))]));
        self.order(request, self.deadlines().request).await.map(drop)
    }

    async fn container_archive(
        &self,
        container: &str,
        path: &str,
        action: &str,
    ) -> Result<Option<Bytes>, EngineError> {
        let request = EngineRequest::get(action, format!("/containers/{}/archive", escape(container)))
            .query("path", path);
        match self.send(request, self.deadlines().request).await {
            Ok(answer) => Ok(Some(answer.bytes().await?)),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
