//! The password managers, each asked through its own command line with the calls of kamal-compat §11.4.

mod aws;
mod bitwarden;
mod bitwarden_sm;
mod doppler;
mod enpass;
mod gcp;
mod lastpass;
mod one_password;
mod passbolt;

use std::io::ErrorKind;

use serde_json::Value;

use crate::fetch::{FetchError, FetchRequest, Fetched};
use crate::program::{Answer, Call, ErrorOutput, ProgramError, Surroundings};

/// A password manager that secrets can be fetched from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adapter {
    /// 1Password, by `op`.
    OnePassword,
    /// LastPass, by `lpass`.
    LastPass,
    /// Bitwarden, by `bw`.
    Bitwarden,
    /// Bitwarden Secrets Manager, by `bws`.
    BitwardenSecretsManager,
    /// AWS Secrets Manager, by `aws`.
    AwsSecretsManager,
    /// Doppler, by `doppler`.
    Doppler,
    /// Google Secret Manager, by `gcloud`.
    GcpSecretManager,
    /// Enpass, by `enpass-cli`.
    Enpass,
    /// Passbolt, by `passbolt`.
    Passbolt,
    /// None: the value is the name backwards. For trying out a secrets file.
    Test,
}

impl Adapter {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::OnePassword,
        Self::LastPass,
        Self::Bitwarden,
        Self::BitwardenSecretsManager,
        Self::AwsSecretsManager,
        Self::Doppler,
        Self::GcpSecretManager,
        Self::Enpass,
        Self::Passbolt,
        Self::Test,
    ];

    /// Finds the adapter of a name as Kamal knows it.
    ///
    /// # Errors
    /// [`FetchError::UnknownAdapter`].
    pub fn parse(name: &str) -> Result<Self, FetchError> {
        match name {
            "1password" | "one_password" => Ok(Self::OnePassword),
            "lastpass" | "last_pass" => Ok(Self::LastPass),
            "bitwarden" => Ok(Self::Bitwarden),
            "bitwarden-sm" | "bitwarden_secrets_manager" => Ok(Self::BitwardenSecretsManager),
            "aws_secrets_manager" => Ok(Self::AwsSecretsManager),
            "doppler" => Ok(Self::Doppler),
            "gcp" | "gcp_secret_manager" => Ok(Self::GcpSecretManager),
            "enpass" => Ok(Self::Enpass),
            "passbolt" => Ok(Self::Passbolt),
            "test" => Ok(Self::Test),
            _ => Err(FetchError::UnknownAdapter { name: name.to_owned() }),
        }
    }

    /// Returns the shortest name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OnePassword => "1password",
            Self::LastPass => "lastpass",
            Self::Bitwarden => "bitwarden",
            Self::BitwardenSecretsManager => "bitwarden-sm",
            Self::AwsSecretsManager => "aws_secrets_manager",
            Self::Doppler => "doppler",
            Self::GcpSecretManager => "gcp",
            Self::Enpass => "enpass",
            Self::Passbolt => "passbolt",
            Self::Test => "test",
        }
    }

    /// Says whether `--account` must be given.
    pub(crate) fn needs_account(self) -> bool {
        matches!(
            self,
            Self::OnePassword | Self::LastPass | Self::Bitwarden | Self::GcpSecretManager | Self::Test
        )
    }

    fn manager(self) -> &'static str {
        match self {
            Self::OnePassword => "1Password",
            Self::LastPass => "LastPass",
            Self::Bitwarden => "Bitwarden",
            Self::BitwardenSecretsManager => "Bitwarden Secrets Manager",
            Self::AwsSecretsManager => "AWS Secrets Manager",
            Self::Doppler => "Doppler",
            Self::GcpSecretManager => "Google Secret Manager",
            Self::Enpass => "Enpass",
            Self::Passbolt => "Passbolt",
            Self::Test => "the test adapter",
        }
    }

    /// Returns the program and the argument that makes it say its version.
    fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::OnePassword => Some(("op", "--version")),
            Self::LastPass => Some(("lpass", "--version")),
            Self::Bitwarden => Some(("bw", "--version")),
            Self::BitwardenSecretsManager => Some(("bws", "--version")),
            Self::AwsSecretsManager => Some(("aws", "--version")),
            Self::Doppler => Some(("doppler", "--version")),
            Self::GcpSecretManager => Some(("gcloud", "--version")),
            Self::Enpass => Some(("enpass-cli", "version")),
            Self::Passbolt => Some(("passbolt", "--version")),
            Self::Test => None,
        }
    }
}

/// Asks the adapter of a request.
pub(crate) async fn fetch(
    request: &FetchRequest,
    account: &str,
    surroundings: Surroundings<'_>,
) -> Result<Fetched, FetchError> {
    let adapter = request.adapter;
    let manager = adapter.manager();
    let Some((program, version)) = adapter.program() else { return Ok(reversed(request)) };
    let vault = Vault { manager, program, surroundings };
    vault.expect_installed(version).await?;
    match adapter {
        Adapter::OnePassword => one_password::fetch(&vault, request, account).await,
        Adapter::LastPass => lastpass::fetch(&vault, request, account).await,
        Adapter::Bitwarden => bitwarden::fetch(&vault, request, account).await,
        Adapter::BitwardenSecretsManager => bitwarden_sm::fetch(&vault, request).await,
        Adapter::AwsSecretsManager => aws::fetch(&vault, request, account).await,
        Adapter::Doppler => doppler::fetch(&vault, request).await,
        Adapter::GcpSecretManager => gcp::fetch(&vault, request, account).await,
        Adapter::Enpass => enpass::fetch(&vault, request).await,
        Adapter::Passbolt => passbolt::fetch(&vault, request).await,
        Adapter::Test => Ok(reversed(request)),
    }
}

fn reversed(request: &FetchRequest) -> Fetched {
    let mut fetched = Fetched::default();
    for name in request.full_names() {
        let value: String = name.chars().rev().collect();
        fetched.set(name, Some(&Value::from(value)));
    }
    fetched
}

/// A password manager's command line.
struct Vault<'a> {
    manager: &'static str,
    program: &'static str,
    surroundings: Surroundings<'a>,
}

impl Vault<'_> {
    async fn expect_installed(&self, version: &str) -> Result<(), FetchError> {
        let missing = FetchError::NotInstalled { manager: self.manager, program: self.program };
        match self.ask(&[version]).await {
            Ok(answer) if answer.status.success() => Ok(()),
            Err(FetchError::Program(ProgramError::Start { source, .. }))
                if source.kind() != ErrorKind::NotFound =>
            {
                Err(ProgramError::Start { program: self.program.to_owned(), source }.into())
            }
            Err(FetchError::Program(ProgramError::Start { .. })) | Ok(_) => Err(missing),
            Err(error) => Err(error),
        }
    }

    /// Runs the program for its answer, yes or no; what it complains about is not shown.
    async fn ask(&self, arguments: &[&str]) -> Result<Answer, FetchError> {
        self.call(arguments, &[], ErrorOutput::Hidden).await
    }

    /// Runs the program; what it complains about is shown.
    async fn run(&self, arguments: &[&str]) -> Result<Answer, FetchError> {
        self.call(arguments, &[], ErrorOutput::Shown).await
    }

    async fn call(
        &self,
        arguments: &[&str],
        variables: &[(&str, &str)],
        errors: ErrorOutput,
    ) -> Result<Answer, FetchError> {
        let call = Call {
            program: self.program,
            arguments: arguments.to_vec(),
            variables: variables.to_vec(),
            errors,
        };
        Ok(self.surroundings.run(&call).await?)
    }

    /// Runs the program and reads the JSON that it prints.
    async fn json(&self, arguments: &[&str], what: impl Into<String>) -> Result<Value, FetchError> {
        self.read_json(&self.run(arguments).await?, what)
    }

    fn read_json(&self, answer: &Answer, what: impl Into<String>) -> Result<Value, FetchError> {
        if !answer.status.success() {
            return Err(self.refused(what));
        }
        let text = answer.text().ok_or_else(|| self.not_understood())?;
        serde_json::from_str(text).map_err(|_| self.not_understood())
    }

    /// Reads an array of objects.
    fn rows<'v>(&self, value: &'v Value) -> Result<&'v Vec<Value>, FetchError> {
        value.as_array().ok_or_else(|| self.not_understood())
    }

    /// Reads a member that is text.
    fn text<'v>(&self, row: &'v Value, member: &str) -> Result<&'v str, FetchError> {
        row.get(member).and_then(Value::as_str).ok_or_else(|| self.not_understood())
    }

    fn login_failed(&self) -> FetchError {
        FetchError::Login { manager: self.manager }
    }

    fn refused(&self, what: impl Into<String>) -> FetchError {
        FetchError::Refused { manager: self.manager, what: what.into() }
    }

    fn not_found(&self, what: impl Into<String>) -> FetchError {
        FetchError::NotFound { manager: self.manager, what: what.into() }
    }

    fn not_understood(&self) -> FetchError {
        FetchError::Answer { program: self.program }
    }

    fn incomplete(&self, what: &'static str) -> FetchError {
        FetchError::Incomplete { subject: self.manager.to_owned(), what }
    }
}

/// Writes names for a message.
fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
