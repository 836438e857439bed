use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_model::{HostName, SshSettings};
use freehold_ssh::{ClientEnvironment, ConnectError, Connector, FirstUse, Prompt, Session};
use parking_lot::Mutex;
use secrecy::SecretString;
use tempfile::TempDir;

use super::{Key, PATIENCE, Sshd};

/// A person's machine: a home directory with keys and known hosts.
pub(crate) struct Client {
    pub(crate) home: TempDir,
    pub(crate) environment: ClientEnvironment,
    pub(crate) settings: SshSettings,
    pub(crate) first_use: FirstUse,
    pub(crate) person: Arc<Person>,
    pub(crate) key_data: Vec<SecretString>,
}

/// A person who answers by a script and remembers what was asked.
#[derive(Default)]
pub(crate) struct Person {
    pub(crate) yes: bool,
    pub(crate) answers: Mutex<Vec<String>>,
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) banners: Mutex<Vec<String>>,
    pub(crate) notices: Mutex<Vec<String>>,
}

impl Person {
    fn answer(&self, kind: &str, question: &str) -> Option<String> {
        self.asked.lock().push(format!("{kind}: {question}"));
        let mut answers = self.answers.lock();
        if answers.is_empty() { None } else { Some(answers.remove(0)) }
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

#[async_trait]
impl Prompt for Person {
    async fn confirm(&self, question: &str) -> bool {
        self.asked.lock().push(format!("confirm: {question}"));
        self.yes
    }

    async fn secret(&self, question: &str) -> Option<SecretString> {
        self.answer("secret", question).map(Into::into)
    }

    async fn text(&self, question: &str) -> Option<String> {
        self.answer("text", question)
    }

    fn banner(&self, host: &HostName, text: &str) {
        self.banners.lock().push(format!("{host}: {text}"));
    }

    fn notice(&self, host: &HostName, text: &str) {
        self.notices.lock().push(format!("{host}: {text}"));
    }
}

impl Client {
    /// A machine with an unencrypted key that the deploy file does not name.
    pub(crate) fn new() -> (Self, Key) {
        let client = Self::bare();
        let key = Key::new(&client.ssh(), "id_ed25519", "ed25519");
        (client, key)
    }

    /// A machine without any key.
    pub(crate) fn bare() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs_err::create_dir(home.path().join(".ssh")).unwrap();
        let environment = ClientEnvironment {
            home: Some(home.path().to_owned()),
            user: "somebody".to_owned(),
            ssh_auth_sock: None,
            project_directory: home.path().to_owned(),
            variables: BTreeMap::new(),
            ssh_program: Some(PathBuf::from("/usr/bin/ssh")),
        };
        let settings = SshSettings {
            user: Some(user()),
            connect_timeout: PATIENCE,
            keepalive: Duration::from_secs(30),
            ..SshSettings::default()
        };
        Self {
            home,
            environment,
            settings,
            first_use: FirstUse::Refuse,
            person: Arc::default(),
            key_data: Vec::new(),
        }
    }

    pub(crate) fn ssh(&self) -> PathBuf {
        self.home.path().join(".ssh")
    }

    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.ssh().join("known_hosts")
    }

    pub(crate) fn read_known_hosts(&self) -> String {
        fs_err::read_to_string(self.known_hosts()).unwrap_or_default()
    }

    /// Makes the server's key known, and its port the one to connect to.
    pub(crate) fn knows(&mut self, server: &Sshd) -> &mut Self {
        self.settings.port = Some(server.port);
        self.remember(&server.known_as(&format!("[127.0.0.1]:{}", server.port)));
        self
    }

    pub(crate) fn remember(&self, lines: &str) {
        append(&self.known_hosts(), lines);
    }

    pub(crate) fn config(&self, lines: &str) {
        append(&self.ssh().join("config"), lines);
    }

    pub(crate) fn connector(&self) -> Connector {
        let prompt = Arc::clone(&self.person) as Arc<dyn Prompt>;
        Connector::new(self.environment.clone(), self.first_use, prompt)
    }

    pub(crate) async fn connect(&self) -> Result<Session, ConnectError> {
        self.connect_to("127.0.0.1").await
    }

    pub(crate) async fn connect_to(&self, host: &str) -> Result<Session, ConnectError> {
        let host = HostName::parse(host).unwrap();
        self.connector().connect(&host, &self.settings, &self.key_data).await
    }
}

fn append(file: &Path, text: &str) {
    let before = fs_err::read_to_string(file).unwrap_or_default();
    fs_err::write(file, format!("{before}{text}")).unwrap();
}

/// Returns the user as whom the tests and the servers run.
pub(crate) fn user() -> String {
    let output = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
