use std::time::Duration;

use freehold_model::{Project, SecretName, SecretValues};
use freehold_secrets::{Definitions, SecretFiles, Surroundings, read};

use crate::context::Context;
use crate::error::CommandError;

/// How long one command of a secrets file may take; it may ask a person for a password.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);

/// Returns what commands that know secrets are given.
pub(crate) fn surroundings(context: &Context) -> Surroundings<'_> {
    Surroundings {
        project: &context.process.directory,
        environment: context.environment(),
        command_timeout: COMMAND_TIMEOUT,
    }
}

/// Returns everything that the secrets files define. They are read at the first time.
///
/// # Errors
/// What is wrong with the files.
pub(crate) async fn definitions<'a>(
    context: &'a Context,
    project: &Project,
) -> Result<&'a Definitions, CommandError> {
    let files = SecretFiles { base: &project.secrets_path, destination: project.destination.as_ref() };
    let read = async || -> Result<Definitions, CommandError> {
        let definitions = read(files, surroundings(context)).await?;
        for place in definitions.ignored_lines() {
            context.ui.warn(format!("{place}: this line defines no secret"));
        }
        Ok(definitions)
    };
    context.secrets.get_or_try_init(read).await
}

/// Returns the secrets that are needed, all of them before anything is changed. Nothing is read if none is.
///
/// # Errors
/// What is wrong with the files, or every secret without a value at once.
pub(crate) async fn values(
    context: &Context,
    project: &Project,
    needed: &[SecretName],
) -> Result<SecretValues, CommandError> {
    if needed.is_empty() {
        return Ok(SecretValues::default());
    }
    let definitions = definitions(context, project).await?;
    let values = definitions.select(needed)?;
    warn_of_failures(context, definitions, needed);
    Ok(values)
}

/// Says which commands failed: their values may be empty.
fn warn_of_failures(context: &Context, definitions: &Definitions, names: &[SecretName]) {
    for (command, names) in definitions.failures(names) {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let (place, status) = (&command.place, command.status);
        context.ui.warn(format!(
            "{place}: the command that gives {} failed ({status}); what it printed is used all the same",
            names.join(", ")
        ));
    }
}

/// Returns every secret, for hooks.
///
/// # Errors
/// What is wrong with the files.
pub(crate) async fn all(context: &Context, project: &Project) -> Result<SecretValues, CommandError> {
    Ok(definitions(context, project).await?.all())
}
