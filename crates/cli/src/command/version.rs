use serde::Serialize;

use crate::context::Context;
use crate::error::CommandError;
use crate::ui::Line;

/// What `freehold version` prints.
pub(crate) const TEXT: &str = concat!("freehold ", env!("CARGO_PKG_VERSION"));

/// Print the version of Freehold.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
}

pub(crate) fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    context.ui.result(&[Line::new().plain(TEXT)]);
    context.ui.result_json(context.command, &Version { version: env!("CARGO_PKG_VERSION") });
    Ok(())
}
