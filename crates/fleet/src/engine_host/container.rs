use std::time::Duration;

use freehold_docker::{ContainerSpec, CreateContainerError, EnvValue, ImageName, RemoveOptions, Stopped};
use freehold_model::{ContainerName, Environment, SecretValues};
use freehold_plan::ContainerRequest;
use secrecy::ExposeSecret;

use crate::engine_host::link::Link;
use crate::engine_host::{EngineHost, scripts};
use crate::host::{HostError, Outcome, StepContext, StepError};

impl EngineHost {
    pub(super) async fn start_new(
        &self,
        request: &ContainerRequest,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let mut spec = container_spec(request, context.secrets, &link.home)?;
        self.expand(&mut spec).await?;
        match link.engine.create_container(&spec).await {
            Ok(_) => {}
            // A run that was cut off made it: it is ours by its label, and starting it is all that is left.
            Err(CreateContainerError::NameInUse { .. }) if self.is_of_release(&link, request).await? => {}
            Err(error) => return Err(self.create_error(&request.name, error)),
        }
        link.engine
            .start_container(request.name.as_str())
            .await
            .map_err(|error| self.engine_error(&format!("start container `{}`", request.name), error))?;
        Ok(Outcome::Done(None))
    }

    pub(super) fn create_error(&self, name: &ContainerName, error: CreateContainerError) -> StepError {
        match error {
            CreateContainerError::Engine(error) => {
                StepError::Host(self.engine_error(&format!("make container `{name}`"), error))
            }
            error => StepError::Host(HostError::Engine {
                host: self.name.clone(),
                operation: format!("make container `{name}`"),
                source: std::sync::Arc::new(error),
            }),
        }
    }

    async fn is_of_release(&self, link: &Link, request: &ContainerRequest) -> Result<bool, StepError> {
        let details = link
            .engine
            .inspect_container(request.name.as_str())
            .await
            .map_err(|error| self.engine_error("look at the container", error))?;
        let label = freehold_plan::RELEASE_LABEL;
        Ok(details.is_some_and(|details| details.labels.get(label) == request.labels.get(label)))
    }

    pub(super) async fn start_again(&self, container: &ContainerName) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let started = link
            .engine
            .start_container(container.as_str())
            .await
            .map_err(|error| self.engine_error(&format!("start container `{container}`"), error))?;
        Ok(match started {
            freehold_docker::Started::Started => Outcome::Done(None),
            freehold_docker::Started::AlreadyRunning => Outcome::AlreadyDone,
        })
    }

    pub(super) async fn stop(
        &self,
        container: &ContainerName,
        timeout: Option<Duration>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let stopped = link
            .engine
            .stop_container(container.as_str(), timeout)
            .await
            .map_err(|error| self.engine_error(&format!("stop container `{container}`"), error))?;
        Ok(match stopped {
            Stopped::Stopped => Outcome::Done(None),
            Stopped::AlreadyStopped | Stopped::NoSuchContainer => Outcome::AlreadyDone,
        })
    }

    pub(super) async fn remove_container(&self, container: &ContainerName) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let options = RemoveOptions { force: true, anonymous_volumes: true };
        let removed = link
            .engine
            .remove_container(container.as_str(), options)
            .await
            .map_err(|error| self.engine_error(&format!("remove container `{container}`"), error))?;
        Ok(match removed {
            freehold_docker::Removed::Removed => Outcome::Done(None),
            freehold_docker::Removed::AlreadyGone => Outcome::AlreadyDone,
        })
    }

    /// Renames a container. When the old name is gone and the new one is there, it was done before.
    pub(super) async fn rename(
        &self,
        from: &ContainerName,
        to: &ContainerName,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let operation = format!("rename container `{from}`");
        let failed = |error| StepError::Host(self.engine_error(&operation, error));
        if link.engine.inspect_container(from.as_str()).await.map_err(failed)?.is_some() {
            link.engine.rename_container(from.as_str(), to).await.map_err(|error| HostError::Engine {
                host: self.name.clone(),
                operation: operation.clone(),
                source: std::sync::Arc::new(error),
            })?;
            return Ok(Outcome::Done(None));
        }
        match link.engine.inspect_container(to.as_str()).await.map_err(failed)? {
            Some(_) => Ok(Outcome::AlreadyDone),
            None => Err(StepError::Host(HostError::Refused {
                host: self.name.clone(),
                operation,
                message: "there is no such container".to_owned(),
            })),
        }
    }

    pub(super) async fn write_environment(
        &self,
        path: &str,
        environment: &Environment,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let content = environment_file(environment, context.secrets)?;
        let script = scripts::write_private_file(context.lease, path, &content);
        self.fenced_script("write the environment file", &script).await?;
        Ok(Outcome::Done(None))
    }
}

pub(super) fn container_spec(
    request: &ContainerRequest,
    secrets: &SecretValues,
    home: &str,
) -> Result<ContainerSpec, StepError> {
    let mut spec = ContainerSpec::new(request.name.clone(), ImageName::Remote(request.image.clone()));
    spec.command = request.command.clone();
    spec.hostname = request.hostname.clone();
    for (name, value) in &request.environment.clear {
        spec.env.insert(name.clone(), EnvValue::Clear(value.clone()));
    }
    for (name, secret) in &request.environment.secret {
        let value = secrets.value(secret).ok_or_else(|| StepError::Secret { name: secret.to_string() })?;
        spec.env.insert(name.clone(), EnvValue::Secret(value.clone()));
    }
    spec.volumes = request.volumes.iter().map(|volume| absolute_volume(volume, home)).collect();
    spec.labels = request.labels.clone();
    spec.logging = request.logging.clone();
    spec.network = Some(request.network.clone());
    spec.options = request.options.clone();
    spec.stop_timeout = request.stop_timeout;
    Ok(spec)
}

/// Puts the login directory before a path that is relative to it. A bare name is a volume, not a path.
fn absolute_volume(volume: &str, home: &str) -> String {
    match volume.strip_prefix("./") {
        Some(rest) => format!("{home}/{rest}"),
        None if volume.starts_with("../") => format!("{home}/{volume}"),
        None => match volume.strip_prefix("$PWD/") {
            Some(rest) => format!("{home}/{rest}"),
            None => volume.to_owned(),
        },
    }
}

/// The secrets' file as Kamal 2.12 writes it: one `NAME=value` a line, a line break in a value as `\n`; without
/// secrets a single line break. It serves Kamal only: our containers get their values from the engine.
fn environment_file(environment: &Environment, secrets: &SecretValues) -> Result<String, StepError> {
    let mut text = String::new();
    for (name, secret) in &environment.secret {
        let value = secrets.value(secret).ok_or_else(|| StepError::Secret { name: secret.to_string() })?;
        text.push_str(name.as_str());
        text.push('=');
        for character in value.expose_secret().chars() {
            match character {
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                character => text.push(character),
            }
        }
        text.push('\n');
    }
    if text.is_empty() {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_are_taken_from_the_login_directory() {
        assert_eq!(absolute_volume("./a:/b", "/root"), "/root/a:/b");
        assert_eq!(absolute_volume("$PWD/a:/b:ro", "/root"), "/root/a:/b:ro");
        assert_eq!(absolute_volume("data:/b", "/root"), "data:/b");
        assert_eq!(absolute_volume("/a:/b", "/root"), "/a:/b");
    }
}
