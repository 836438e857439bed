//! One file per command: its arguments, whose doc comments are the help, and `run`.

pub(crate) mod completion;
pub(crate) mod help;
pub(crate) mod init;
pub(crate) mod reference;
pub(crate) mod version;

use crate::arguments::Command;
use crate::context::Context;
use crate::error::CommandError;

impl Command {
    /// Returns the command's words.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Version(_) => "version",
            Self::Completion(_) => "completion",
            Self::Reference(_) => "reference",
        }
    }

    /// Does the command.
    pub(crate) async fn run(self, context: &Context) -> Result<(), CommandError> {
        match self {
            Self::Init(arguments) => init::run(context, &arguments),
            Self::Version(arguments) => version::run(context, &arguments),
            Self::Completion(arguments) => completion::run(context, &arguments),
            Self::Reference(arguments) => reference::run(context, &arguments),
        }
    }
}
