use clap::ValueEnum;

use crate::context::Context;
use crate::error::CommandError;
use crate::reference;

/// Print a page of the reference in Markdown; `docs/reference` is made of these.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The page.
    page: Page,
}

/// A page of the reference.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Page {
    /// Every command with its options.
    Cli,
    /// The exit codes.
    ExitCodes,
    /// The environment variables that are read, and those that hooks get.
    Environment,
    /// What `--json` prints.
    Json,
    /// Every key of the deploy file.
    DeployFile,
    /// The JSON Schema of the deploy file.
    DeployFileSchema,
}

pub(crate) fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let text = match arguments.page {
        Page::Cli => reference::cli(),
        Page::ExitCodes => reference::exit_codes(),
        Page::Environment => reference::ENVIRONMENT.to_owned(),
        Page::Json => reference::JSON.to_owned(),
        Page::DeployFile => freehold_config::reference_markdown(),
        Page::DeployFileSchema => freehold_config::json_schema(),
    };
    context.ui.write_result(text.trim_end().as_bytes());
    context.ui.write_result(b"\n");
    Ok(())
}
