use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Cli;
use crate::context::Context;
use crate::error::CommandError;

/// Print a script that completes commands and options in a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    freehold completion bash > ~/.local/share/bash-completion/completions/freehold\n  \
    freehold completion zsh > \"${fpath[1]}/_freehold\"\n  \
    freehold completion fish > ~/.config/fish/completions/freehold.fish")]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

pub(crate) fn run(context: &Context, arguments: &Args) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "freehold", &mut script);
    context.ui.write_result(&script);
    Ok(())
}
