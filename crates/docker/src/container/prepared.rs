use std::collections::BTreeMap;
use std::fmt;

use freehold_model::ContainerName;
use secrecy::{ExposeSecret, SecretString};

use super::body::create_body;
use super::{ContainerId, ContainerSpec, CreateAnswer, CreateContainerError, RemoveOptions};
use crate::request::EngineRequest;
use crate::{Engine, EngineError};

/// A container that can be made later and several times, by whoever has an engine: the request that makes it.
///
/// It holds the values of secrets, so `Debug` does not show it.
#[derive(Clone)]
pub struct PreparedContainer {
    /// The body of the request, JSON.
    pub body: SecretString,
    /// Networks that it is connected to once it is made.
    pub networks: Vec<String>,
}

impl fmt::Debug for PreparedContainer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PreparedContainer").field("networks", &self.networks).finish_non_exhaustive()
    }
}

impl Engine {
    /// Prepares a container without making it. Its name does not count.
    ///
    /// # Errors
    /// [`CreateContainerError`] where the description is wrong, or the engine is too old for it.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn prepare_container(
        &self,
        spec: &ContainerSpec,
    ) -> Result<PreparedContainer, CreateContainerError> {
        let body = create_body(spec)
            .map_err(|source| CreateContainerError::Spec { name: spec.name.clone(), source })?;
        self.check_version(spec).await?;
        let action = format!("describe container `{}`", spec.name);
        let body = serde_json::to_string(&body).map_err(|error| EngineError::answer(&action, error))?;
        Ok(PreparedContainer { body: body.into(), networks: spec.options.rare.network.clone() })
    }

    /// Makes a container that was prepared, with more labels, without starting it.
    ///
    /// # Errors
    /// [`EngineError`]; status 409 if the name is taken, 404 if its image is not there. Nothing was made then.
    ///
    /// # Cancel safety
    /// The container may have been made; look for its name.
    pub async fn create_prepared(
        &self,
        name: &ContainerName,
        container: &PreparedContainer,
        labels: &BTreeMap<String, String>,
    ) -> Result<ContainerId, EngineError> {
        let action = format!("make container `{name}`");
        let malformed = |error| EngineError::answer(&action, error);
        let mut body: serde_json::Value =
            serde_json::from_str(container.body.expose_secret()).map_err(malformed)?;
        if let Some(known) = body.get_mut("Labels").and_then(serde_json::Value::as_object_mut) {
            known.extend(labels.iter().map(|(name, value)| (name.clone(), value.clone().into())));
        }
        let body = serde_json::to_vec(&body).map_err(malformed)?;
        let request =
            EngineRequest::post(action.clone(), "/containers/create").query("name", name).json(body);
        let answer: CreateAnswer = self.read(request).await?;
        for network in &container.networks {
            if let Err(error) = self.connect_network(network, name.as_str(), &[]).await {
                let options = RemoveOptions { force: true, anonymous_volumes: true };
                // The first error tells; a container that stays is found by its name.
                if let Err(left) = self.remove_container(name.as_str(), options).await {
                    tracing::warn!(container = %name, error = %left, "a container that cannot be connected is left");
                }
                return Err(error);
            }
        }
        Ok(ContainerId::new(answer.id))
    }
}
