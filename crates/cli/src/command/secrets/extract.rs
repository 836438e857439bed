use freehold_secrets::extract;
use secrecy::{ExposeSecret, SecretString};

use crate::context::Context;
use crate::error::CommandError;

/// Print one of the secrets that `secrets fetch` has printed.
///
/// It is the value of the key NAME, otherwise of the first key that ends in `/NAME`. In a secrets file it stands as
/// `$(kamal secrets extract NAME $FETCHED)`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold secrets extract PASSWORD '{\"Vault/Item/PASSWORD\":\"x\"}'")]
pub(crate) struct Args {
    /// The name.
    name: String,

    /// What `secrets fetch` has printed.
    #[arg(value_name = "JSON")]
    fetched: SecretString,
}

pub(crate) fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let value = extract(&arguments.name, arguments.fetched.expose_secret())?;
    context.ui.write_result(value.expose_secret().as_bytes());
    context.ui.write_result(b"\n");
    Ok(())
}
