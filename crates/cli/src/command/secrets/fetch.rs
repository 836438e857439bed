use freehold_secrets::{Adapter, FetchRequest, fetch};
use secrecy::ExposeSecret;

use crate::context::Context;
use crate::error::CommandError;
use crate::secret;

/// Fetch secrets from a password manager and print them as one JSON object.
///
/// It calls the password manager's own command line, which must be installed and may ask for a password. In a secrets
/// file it stands as `$(kamal secrets fetch ...)` and runs inside freehold.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold secrets fetch -a 1password --account my.1password.com --from Vault/Item PASSWORD KEY\n  \
    freehold secrets fetch -a aws_secrets_manager --account profile shop/production\n\
    Adapters:\n  \
    1password, lastpass, bitwarden, bitwarden-sm, aws_secrets_manager,\n  \
    doppler, gcp, enpass, passbolt, test (each name backwards)")]
pub(crate) struct Args {
    /// The password manager.
    #[arg(short, long)]
    adapter: String,

    /// Whose secrets: an account, an address, a profile.
    #[arg(long)]
    account: Option<String>,

    /// What stands before every name: a vault, a folder, a project.
    #[arg(long)]
    from: Option<String>,

    /// The names.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

pub(crate) async fn run(context: &Context, arguments: Args) -> Result<(), CommandError> {
    let Args { adapter, account, from, names } = arguments;
    let request = FetchRequest { adapter: Adapter::parse(&adapter)?, account, from, names };
    let fetched = fetch(&request, secret::surroundings(context)).await?;
    context.ui.close();
    context.ui.write_result(fetched.to_json().expose_secret().as_bytes());
    context.ui.write_result(b"\n");
    Ok(())
}
