use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use freehold_model::HostName;
use secrecy::SecretString;

/// What connecting needs to know of the person's machine; read in `main` and passed down.
#[derive(Debug, Clone, Default)]
pub struct ClientEnvironment {
    /// The home directory, for `~/.ssh`.
    pub home: Option<PathBuf>,
    /// The name of the local user, for `%u`.
    pub user: String,
    /// The socket of the SSH agent.
    pub ssh_auth_sock: Option<PathBuf>,
    /// The project's directory, to which relative key files and `.ssh/config` belong.
    pub project_directory: PathBuf,
    /// The environment variables, for `${NAME}` in OpenSSH's configuration.
    pub variables: BTreeMap<String, String>,
    /// An OpenSSH client that resolves the configuration (`ssh -G`), or none to use our own parser.
    pub ssh_program: Option<PathBuf>,
}

/// What to do with a host whose key was never seen. A changed or revoked key is always refused.
///
/// A `StrictHostKeyChecking` in OpenSSH's configuration that is not `ask` wins over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstUse {
    /// Ask the person, and store the key on a yes.
    Ask,
    /// Store the key, unless other keys of the host are known.
    Accept,
    /// Refuse.
    Refuse,
}

/// The person at the terminal. Without one, every answer is no or none.
#[async_trait]
pub trait Prompt: Send + Sync {
    /// Asks a question that is answered by yes or no.
    async fn confirm(&self, question: &str) -> bool;

    /// Asks for a text that must not be shown while it is typed; none is a refusal to answer.
    async fn secret(&self, question: &str) -> Option<SecretString>;

    /// Asks for a text that may be shown while it is typed; none is a refusal to answer.
    async fn text(&self, question: &str) -> Option<String>;

    /// Shows what a host says before authentication, at once: it may hold a link that must be followed to go on.
    ///
    /// The text is the host's; control characters other than line feeds have been replaced.
    fn banner(&self, host: &HostName, text: &str);

    /// Shows why connecting takes longer than usual, one line.
    fn notice(&self, host: &HostName, text: &str);
}

/// A prompt without a person: refuses every question and drops banners and notices.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPrompt;

#[async_trait]
impl Prompt for NoPrompt {
    async fn confirm(&self, _question: &str) -> bool {
        false
    }

    async fn secret(&self, _question: &str) -> Option<SecretString> {
        None
    }

    async fn text(&self, _question: &str) -> Option<String> {
        None
    }

    fn banner(&self, _host: &HostName, _text: &str) {}

    fn notice(&self, _host: &HostName, _text: &str) {}
}
