use std::io::{self, BufRead, Write};

use async_trait::async_trait;
use freehold_model::{HostName, printable};
use freehold_ssh::Prompt;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use secrecy::SecretString;

use super::line::{Line, Tone};
use super::{Shared, Ui};

/// Whether what is typed can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Echo {
    Shown,
    Hidden,
}

impl Ui {
    /// Says whether somebody can answer.
    pub(crate) fn can_ask(&self) -> bool {
        let shared = &self.shared;
        shared.terminal.is_stdin && shared.terminal.is_stderr && !shared.options.is_json
    }

    async fn ask(&self, question: String, echo: Echo) -> Option<String> {
        if !self.can_ask() {
            return None;
        }
        let ui = self.clone();
        tokio::task::spawn_blocking(move || ui.shared.ask(&question, echo)).await.ok().flatten()
    }
}

impl Shared {
    fn ask(&self, question: &str, echo: Echo) -> Option<String> {
        {
            let mut state = self.state.lock();
            self.erase(&mut state);
            state.is_paused = true;
            if state.screen.write_raw(&printable(question)).is_err() {
                return None;
            }
        }
        // The lock is not held while the person types: events go on and are shown afterwards.
        let answer = read_line(echo).ok().flatten();
        let mut state = self.state.lock();
        state.is_paused = false;
        if echo == Echo::Hidden && state.screen.write_raw("\n").is_err() {
            tracing::debug!("the terminal is gone");
        }
        let held = std::mem::take(&mut state.held);
        self.show(&mut state, held);
        answer
    }
}

fn read_line(echo: Echo) -> io::Result<Option<String>> {
    let stdin = io::stdin();
    let before = match echo {
        Echo::Shown => None,
        Echo::Hidden => {
            let before = tcgetattr(&stdin)?;
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
            Some(before)
        }
    };
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(before) = before {
        tcsetattr(&stdin, OptionalActions::Flush, &before)?;
    }
    io::stderr().flush()?;
    // The end of the input is a refusal to answer, not an empty answer.
    Ok((read? > 0).then(|| line.trim_end_matches(['\n', '\r']).to_owned()))
}

#[async_trait]
impl Prompt for Ui {
    async fn confirm(&self, question: &str) -> bool {
        let answer = self.ask(format!("{question} [y/N] "), Echo::Shown).await;
        answer.is_some_and(|answer| matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    async fn secret(&self, question: &str) -> Option<SecretString> {
        self.ask(format!("{question} "), Echo::Hidden).await.map(SecretString::from)
    }

    async fn text(&self, question: &str) -> Option<String> {
        self.ask(format!("{question} "), Echo::Shown).await
    }

    fn banner(&self, host: &HostName, text: &str) {
        for line in text.lines() {
            self.note(Line::new().add(Tone::Faint, format!(" {host}: ")).plain(line));
        }
    }
}
