use std::io::{self, BufRead};

use async_trait::async_trait;
use freehold_fleet::{Event, Watch as _};
use freehold_model::{HostName, printable};
use freehold_ssh::Prompt;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;

use super::line::{Colours, Line, Tone};
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
        self.shared.pause(&question)?;
        let hidden = match echo {
            Echo::Shown => None,
            Echo::Hidden => Some(HiddenEcho::begin().ok()?),
        };
        // The lock is not held while the person types: events go on and are shown afterwards. After Ctrl-C the read
        // stays behind until the process ends.
        let answer = tokio::select! {
            answer = tokio::task::spawn_blocking(read_line) => answer.ok().and_then(Result::ok).flatten(),
            () = self.shared.stop.cancelled() => None,
        };
        let is_hidden = hidden.is_some();
        drop(hidden);
        self.shared.go_on(is_hidden || answer.is_none());
        answer
    }
}

impl Shared {
    fn pause(&self, question: &str) -> Option<()> {
        let mut state = self.state.lock();
        self.erase(&mut state);
        state.is_paused = true;
        state.screen.write_raw(&printable(question)).ok()
    }

    /// Shows lines also in the middle of a question, and when little is to be shown: a host that waits for a person to
    /// follow a link goes on only then.
    fn show_at_once(&self, lines: Vec<Line>) {
        let mut state = self.state.lock();
        if let Some(record) = &mut state.record {
            record.lines(&lines, self.clock.now());
        }
        if state.is_paused {
            let text: String =
                lines.iter().map(|line| format!("\n{}", line.render(Colours::Hidden))).collect();
            if state.screen.write_raw(&(text + "\n")).is_err() {
                tracing::debug!("the terminal is gone");
            }
            return;
        }
        self.show(&mut state, lines);
    }

    fn go_on(&self, needs_line_feed: bool) {
        let mut state = self.state.lock();
        state.is_paused = false;
        if needs_line_feed && state.screen.write_raw("\n").is_err() {
            tracing::debug!("the terminal is gone");
        }
        let held = std::mem::take(&mut state.held);
        self.show(&mut state, held);
    }
}

/// The terminal does not show what is typed, until this is dropped.
struct HiddenEcho {
    before: Termios,
}

impl HiddenEcho {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self { before })
    }
}

impl Drop for HiddenEcho {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before) {
            tracing::debug!(%error, "cannot restore the terminal");
        }
    }
}

fn read_line() -> io::Result<Option<String>> {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line)?;
    // The end of the input is a refusal to answer, not an empty answer.
    Ok((read > 0).then(|| line.trim_end_matches(['\n', '\r']).to_owned()))
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
        if self.is_json() {
            let fields = vec![("host", host.to_string()), ("text", text.to_owned())];
            return self.event_of("banner", fields);
        }
        let line = |text| Line::new().add(Tone::Faint, format!(" {host}: ")).plain(text);
        self.shared.show_at_once(text.lines().map(line).collect());
    }

    fn notice(&self, host: &HostName, text: &str) {
        self.event(Event::Warning { host: Some(host.clone()), message: text.to_owned() });
    }
}
