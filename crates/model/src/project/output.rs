use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where hooks are and what of them is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSettings {
    /// The folder, relative to the project.
    pub path: PathBuf,
    /// What is shown of hooks that `output_of` does not name; none leaves it to the command line.
    pub output: Option<HookOutput>,
    /// What is shown of single hooks, by their names.
    pub output_of: BTreeMap<String, HookOutput>,
}

impl HookSettings {
    /// Returns what is shown of a hook, or none to leave it to the command line.
    #[must_use]
    pub fn output(&self, hook: &str) -> Option<HookOutput> {
        self.output_of.get(hook).copied().or(self.output)
    }
}

impl Default for HookSettings {
    fn default() -> Self {
        Self { path: PathBuf::from(".kamal/hooks"), output: None, output_of: BTreeMap::new() }
    }
}

/// What is shown of a hook when neither `--verbose` nor `--quiet` is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookOutput {
    /// Nothing, not even that it runs.
    Quiet,
    /// That it runs, and all that it prints.
    Verbose,
}

/// Where the output of commands goes besides the terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputSettings {
    /// The folder of log files, one for each command that changes something.
    pub file: Option<PathBuf>,
    /// The address of an OpenTelemetry collector (OTLP over HTTP), without `/v1/logs`.
    pub otel: Option<String>,
}
