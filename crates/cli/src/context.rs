use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use freehold_secrets::Definitions;
use jiff::Timestamp;
use tokio::sync::OnceCell;

use crate::arguments::GlobalArgs;
use crate::error::{CommandError, Interrupted};
use crate::process::Process;
use crate::ui::Ui;

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) process: Process,
    pub(crate) arguments: GlobalArgs,
    /// The command's name: `deploy`, `app logs`.
    pub(crate) command: &'static str,
    pub(crate) ui: Ui,
    /// What the secrets files define, read when the first value is needed, and once only: a command may ask a person.
    pub(crate) secrets: OnceCell<Definitions>,
    /// Whether the hook that comes before the first connection has run: once in a process, as with Kamal.
    pub(crate) is_past_pre_connect: Arc<AtomicBool>,
    /// The environment with what the deploy file's templates loaded into it, once they did.
    loaded: OnceLock<BTreeMap<String, String>>,
}

impl Context {
    pub(crate) fn new(process: Process, arguments: GlobalArgs, command: &'static str, ui: Ui) -> Self {
        Self {
            process,
            arguments,
            command,
            ui,
            secrets: OnceCell::new(),
            is_past_pre_connect: Arc::default(),
            loaded: OnceLock::new(),
        }
    }

    /// The environment of the process, with what the templates of the deploy file loaded into it.
    pub(crate) fn environment(&self) -> &BTreeMap<String, String> {
        self.loaded.get().unwrap_or(&self.process.environment)
    }

    /// Adds variables that templates loaded. Every command reads the deploy file once.
    pub(crate) fn load_environment(&self, variables: impl IntoIterator<Item = (String, String)>) {
        self.loaded.get_or_init(|| {
            let mut environment = self.process.environment.clone();
            environment.extend(variables);
            environment
        });
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.process.clock.now()
    }

    /// Awaits something that changes nothing, until Ctrl-C.
    ///
    /// # Errors
    /// Its own, or that it was interrupted.
    pub(crate) async fn until_stopped<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, CommandError>
    where
        CommandError: From<E>,
    {
        tokio::select! {
            outcome = work => Ok(outcome?),
            () = self.process.stop.cancelled() => Err(Interrupted.into()),
        }
    }
}
