use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;

use crate::context::Context;
use crate::error::CommandError;
use crate::{project, secret};

/// Print every secret of the project with its value, to see what a secrets file gives.
///
/// The values are shown as they are. `secrets check` tells what is there without showing it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let loaded = project::load(context).await?;
    let definitions = secret::definitions(context, &loaded.whole).await?;
    context.ui.close();
    let mut text = Zeroizing::new(String::new());
    for (name, defined) in definitions.iter() {
        text.extend([name, "=", defined.value.expose_secret(), "\n"]);
    }
    context.ui.write_result(text.as_bytes());
    Ok(())
}
