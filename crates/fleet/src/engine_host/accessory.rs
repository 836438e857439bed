mod image;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freehold_docker::ContainerScope;
use freehold_model::{Accessory, AccessoryName, ProxyServiceName};
use freehold_plan::{CONFIGURATION_LABEL, ObservedAccessory, PlacedDirectory, PlacedFile, ProxyMaker, Route};

use crate::engine_host::link::Link;
use crate::engine_host::observe::{container_state, kamal_route, maker, route_of};
use crate::engine_host::proxy::PROXY_CONTAINER;
use crate::engine_host::{EngineHost, scripts};
use crate::host::{HostError, Outcome, StepContext, StepError};

/// How much of a file goes to the host at a time.
const PIECE_BYTES: usize = 192 * 1024;

const PROXY_DEADLINE: Duration = Duration::from_secs(10);

impl EngineHost {
    /// Looks at the containers of accessories. One that has no container is left out.
    ///
    /// # Errors
    /// [`HostError`] when the host or its engine does not answer.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn look_at_accessories(
        &self,
        accessories: &[&Accessory],
    ) -> Result<BTreeMap<AccessoryName, ObservedAccessory>, HostError> {
        let link = self.link().await?;
        let mut routes = self.accessory_routes(&link, accessories).await?;
        let mut seen = BTreeMap::new();
        for accessory in accessories {
            let labels = BTreeMap::from([("service".to_owned(), accessory.container.to_string())]);
            let listed = link
                .engine
                .list_containers(ContainerScope::All, &labels)
                .await
                .map_err(|error| self.engine_error("list containers", error))?;
            // One that was set aside by a replacement carries the label too.
            let Some(found) = listed.into_iter().find(|found| found.name == accessory.container.as_str())
            else {
                continue;
            };
            let observed = ObservedAccessory {
                id: found.id.to_string(),
                name: accessory.container.clone(),
                image: found.image.clone(),
                state: container_state(found.state),
                configuration: found.labels.get(CONFIGURATION_LABEL).cloned(),
                route: ProxyServiceName::parse(accessory.container.as_str())
                    .ok()
                    .and_then(|service| routes.remove(&service)),
            };
            seen.insert(accessory.name.clone(), observed);
        }
        Ok(seen)
    }

    /// Says whose proxy serves on the host, or would once one is made sure of.
    ///
    /// # Errors
    /// [`HostError`] when the host or its engine does not answer.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn proxy_maker(&self) -> Result<ProxyMaker, HostError> {
        let link = self.link().await?;
        let details = link.engine.inspect_container(PROXY_CONTAINER).await;
        let details = details.map_err(|error| self.engine_error("look at the proxy", error))?;
        Ok(details.as_ref().map(maker).unwrap_or_default())
    }

    async fn accessory_routes(
        &self,
        link: &Link,
        accessories: &[&Accessory],
    ) -> Result<BTreeMap<ProxyServiceName, Route>, HostError> {
        if accessories.iter().all(|accessory| accessory.proxy.is_none()) {
            return Ok(BTreeMap::new());
        }
        let details = link
            .engine
            .inspect_container(PROXY_CONTAINER)
            .await
            .map_err(|error| self.engine_error("look at the proxy", error))?;
        let Some(details) = details.filter(|details| details.state.is_alive()) else {
            return Ok(BTreeMap::new());
        };
        if maker(&details) == ProxyMaker::Kamal {
            let services = self.kamal_services(link).await?.into_iter();
            return Ok(services
                .filter_map(|service| {
                    let name = ProxyServiceName::parse(service.name.as_str()).ok()?;
                    let owner = accessories.iter().find(|one| one.container.as_str() == service.name);
                    Some((name, kamal_route(owner.and_then(|one| one.proxy.clone()), &service)))
                })
                .collect());
        }
        let services = self
            .ask_proxy(link, "list its services", async |client| client.services(PROXY_DEADLINE).await)
            .await
            .map_err(|error| error.into_host_error(&self.name))?;
        Ok(services
            .into_iter()
            .map(|status| {
                let wanted = accessories
                    .iter()
                    .find(|accessory| accessory.container.as_str() == status.name.as_str())
                    .and_then(|accessory| accessory.proxy.clone());
                (status.name.clone(), route_of(wanted, &status))
            })
            .collect())
    }

    pub(super) async fn place_files(
        &self,
        files: &[PlacedFile],
        directories: &[PlacedDirectory],
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        for directory in directories {
            let script = scripts::place_directory(context.lease, directory);
            self.fenced_script(&format!("make directory `{}`", directory.path), &script).await?;
        }
        for file in files {
            let operation = format!("write file `{}`", file.path);
            let content = self.workshop.stocked_file(&file.path).ok_or_else(|| HostError::Refused {
                host: self.name.clone(),
                operation: operation.clone(),
                message: "this command was not given its content".to_owned(),
            })?;
            self.fenced_script(&operation, &scripts::begin_file(context.lease, &file.path)).await?;
            for piece in content.chunks(PIECE_BYTES) {
                let script = scripts::append_file(context.lease, &file.path, &STANDARD.encode(piece));
                self.fenced_script(&operation, &script).await?;
            }
            self.fenced_script(&operation, &scripts::end_file(context.lease, file)).await?;
        }
        Ok(Outcome::Done(None))
    }
}
