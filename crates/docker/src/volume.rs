use serde_json::json;

use crate::request::{EngineRequest, escape};
use crate::{Engine, EngineError};

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
}
