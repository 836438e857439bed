use std::collections::BTreeMap;

use serde::Deserialize;

use crate::json::or_default;
use crate::request::{EngineRequest, escape};
use crate::{Engine, EngineError};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawNetwork {
    name: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    driver: String,
    #[serde(default, deserialize_with = "or_default")]
    options: BTreeMap<String, String>,
}

impl Engine {
    /// Makes a bridge network unless one of that name exists.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// The network may have been made; doing it again is harmless.
    pub async fn ensure_network(&self, name: &str) -> Result<(), EngineError> {
        if self.has_network(name).await? {
            return Ok(());
        }
        // Engines before 25 would otherwise make a second network of the same name.
        let body = serde_json::json!({ "Name": name, "Driver": "bridge", "CheckDuplicate": true });
        let request = EngineRequest::post(format!("make network `{name}`"), "/networks/create")
            .json(body.to_string().into());
        match self.order(request, self.deadlines().request).await {
            // Somebody else was faster.
            Err(error) if error.status() == Some(409) => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    /// Says whether a network of that name exists.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn has_network(&self, name: &str) -> Result<bool, EngineError> {
        let action = format!("describe network `{name}`");
        let found: Option<RawNetwork> =
            self.read_if_there(EngineRequest::get(action, format!("/networks/{}", escape(name)))).await?;
        // The engine also finds networks by the beginning of their identifiers.
        Ok(found.is_some_and(|network| network.name == name))
    }

    /// Returns the name of a bridge network's interface on the host, if there is such a network.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn bridge_interface(&self, name: &str) -> Result<Option<String>, EngineError> {
        let action = format!("describe network `{name}`");
        let found: Option<RawNetwork> =
            self.read_if_there(EngineRequest::get(action, format!("/networks/{}", escape(name)))).await?;
        let found = found.filter(|network| network.name == name && network.driver == "bridge");
        Ok(found.map(|network| {
            let named = network.options.get("com.docker.network.bridge.name").cloned();
            named.unwrap_or_else(|| format!("br-{}", network.id.get(..12).unwrap_or(&network.id)))
        }))
    }

    /// Removes a network; one that is not there is fine.
    ///
    /// # Errors
    /// [`EngineError`]; a refusal if containers still use it.
    ///
    /// # Cancel safety
    /// It may have been removed.
    pub async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        let request =
            EngineRequest::delete(format!("remove network `{name}`"), format!("/networks/{}", escape(name)));
        match self.order(request, self.deadlines().request).await {
            Err(error) if error.status() == Some(404) => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    /// Connects a container to a further network. One that is connected already stays so.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// It may have been connected.
    pub async fn connect_network(
        &self,
        network: &str,
        container: &str,
        aliases: &[String],
    ) -> Result<(), EngineError> {
        let details = self.inspect_container(container).await?;
        if details.is_some_and(|details| details.ip_addresses.contains_key(network)) {
            return Ok(());
        }
        let body = serde_json::json!({ "Container": container, "EndpointConfig": { "Aliases": aliases } });
        let action = format!("connect container `{container}` to network `{network}`");
        let request = EngineRequest::post(action, format!("/networks/{}/connect", escape(network)))
            .json(body.to_string().into());
        self.order(request, self.deadlines().request).await.map(|_| ())
    }

    /// Disconnects a container from a network, also from its side only if `force` is set.
    ///
    /// # Errors
    /// [`EngineError`].
    ///
    /// # Cancel safety
    /// It may have been disconnected.
    pub async fn disconnect_network(
        &self,
        network: &str,
        container: &str,
        force: bool,
    ) -> Result<(), EngineError> {
        let body = serde_json::json!({ "Container": container, "Force": force });
        let action = format!("disconnect container `{container}` from network `{network}`");
        let request = EngineRequest::post(action, format!("/networks/{}/disconnect", escape(network)))
            .json(body.to_string().into());
        self.order(request, self.deadlines().request).await.map(|_| ())
    }
}
