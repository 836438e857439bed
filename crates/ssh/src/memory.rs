use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use freehold_model::HostName;
use parking_lot::Mutex;
use russh::keys::PrivateKey;
use secrecy::SecretString;

use crate::environment::Prompt;

/// What a person has answered and unlocked so far, shared by all connections of a [`Connector`](crate::Connector).
///
/// Hosts that are connected to at the same time ask one after another, and a question that was answered is not asked
/// again: one passphrase opens a key for all hosts, and a second connection to a host asks nothing.
#[derive(Default)]
pub(crate) struct Memory {
    answers: Mutex<Answers>,
    keys: Mutex<BTreeMap<String, Arc<PrivateKey>>>,
    /// Held while a person is asked or a key is decrypted.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Answers {
    confirmed: BTreeSet<String>,
    secrets: BTreeMap<String, SecretString>,
    texts: BTreeMap<String, String>,
}

impl Memory {
    pub(crate) fn key(&self, origin: &str) -> Option<Arc<PrivateKey>> {
        self.keys.lock().get(origin).cloned()
    }

    pub(crate) fn keep_key(&self, origin: &str, key: Arc<PrivateKey>) {
        self.keys.lock().insert(origin.to_owned(), key);
    }

    /// Returns a prompt that asks what is not known yet, or, without a person, refuses it.
    pub(crate) fn prompt(self: &Arc<Self>, person: Option<Arc<dyn Prompt>>) -> Arc<dyn Prompt> {
        Arc::new(Remembering { memory: Arc::clone(self), person })
    }
}

struct Remembering {
    memory: Arc<Memory>,
    person: Option<Arc<dyn Prompt>>,
}

#[async_trait]
impl Prompt for Remembering {
    async fn confirm(&self, question: &str) -> bool {
        let _turn = self.memory.turn.lock().await;
        if self.memory.answers.lock().confirmed.contains(question) {
            return true;
        }
        let Some(person) = &self.person else { return false };
        let yes = person.confirm(question).await;
        if yes {
            self.memory.answers.lock().confirmed.insert(question.to_owned());
        }
        yes
    }

    async fn secret(&self, question: &str) -> Option<SecretString> {
        let _turn = self.memory.turn.lock().await;
        if let Some(known) = self.memory.answers.lock().secrets.get(question) {
            return Some(known.clone());
        }
        let answer = self.person.as_ref()?.secret(question).await?;
        self.memory.answers.lock().secrets.insert(question.to_owned(), answer.clone());
        Some(answer)
    }

    async fn text(&self, question: &str) -> Option<String> {
        let _turn = self.memory.turn.lock().await;
        if let Some(known) = self.memory.answers.lock().texts.get(question) {
            return Some(known.clone());
        }
        let answer = self.person.as_ref()?.text(question).await?;
        self.memory.answers.lock().texts.insert(question.to_owned(), answer.clone());
        Some(answer)
    }

    fn banner(&self, host: &HostName, text: &str) {
        if let Some(person) = &self.person {
            person.banner(host, text);
        }
    }

    fn notice(&self, host: &HostName, text: &str) {
        if let Some(person) = &self.person {
            person.notice(host, text);
        }
    }
}
