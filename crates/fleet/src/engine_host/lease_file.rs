use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freehold_plan::Plan;
use serde::{Deserialize, Serialize};

use crate::engine_host::scripts;
use crate::engine_host::{EngineHost, shell::ShellOutput};
use crate::host::{Holder, HostError, LeaseAttempt, LeaseHeld, LeaseRequest, LeaseToken};
use crate::journal::{JournalEntry, StoredJournal};

/// What stands in the lease file beside Kamal's `details`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseFile {
    format: u32,
    holder: Holder,
    time_to_live_seconds: Option<u64>,
}

/// A lock as it was read.
struct SeenLock {
    fence: Option<u64>,
    held: LeaseHeld,
}

impl EngineHost {
    pub(super) async fn take_lock(&self, request: &LeaseRequest) -> Result<LeaseAttempt, HostError> {
        let operation = "take the deploy lock";
        let lease = serde_json::to_string(&LeaseFile {
            format: 1,
            holder: request.holder.clone(),
            time_to_live_seconds: request.time_to_live.map(|span| span.as_secs()),
        })
        .map_err(|error| self.unreadable_lock(error.to_string()))?;
        let details = STANDARD.encode(details(request));
        let output = self.plain_script(operation, &scripts::acquire(&request.stem, &details, &lease)).await?;
        if let Some(fence) = acquired(&output) {
            return Ok(self.ours(request, fence, false));
        }
        let seen = self.seen_lock(&output)?;
        let gone = seen.held.expires_in == Some(Duration::ZERO)
            || seen.held.holder.as_ref().is_some_and(Holder::is_certainly_gone)
                && seen.held.expires_in.is_some();
        let Some(old) = seen.fence.filter(|_| gone) else { return Ok(LeaseAttempt::Held(seen.held)) };
        let script = scripts::take_over(&request.stem, old, &details, &lease);
        match self.fenced_script(operation, &script).await {
            Ok(output) => match acquired(&output) {
                Some(fence) => Ok(self.ours(request, fence, true)),
                None => Err(self.unreadable_lock("no fencing number".to_owned())),
            },
            // Somebody else was quicker, or the holder came back to life.
            Err(HostError::Fenced { .. }) => Ok(LeaseAttempt::Held(seen.held)),
            Err(error) => Err(error),
        }
    }

    #[expect(clippy::unused_self, reason = "reads better beside its siblings")]
    fn ours(&self, request: &LeaseRequest, fence: u64, taken_over: bool) -> LeaseAttempt {
        LeaseAttempt::Acquired { token: LeaseToken { stem: request.stem.clone(), fence }, taken_over }
    }

    fn unreadable_lock(&self, message: String) -> HostError {
        HostError::Stored { host: self.name.clone(), path: ".kamal/lock".to_owned(), message }
    }

    /// Reads the lock of a service as it is, whoever holds it.
    ///
    /// # Errors
    /// [`HostError`] when the host does not answer.
    pub async fn lock_status(&self, stem: &str) -> Result<Option<LeaseHeld>, HostError> {
        let operation = "read the deploy lock";
        let output = self.script(operation, &scripts::read_lock(stem)).await?;
        match output.code {
            3 => Ok(None),
            _ => self.seen_lock(&output).map(|seen| Some(seen.held)),
        }
    }

    /// Removes the lock of a service, whoever holds it. Returns whether there was one.
    ///
    /// # Errors
    /// [`HostError`] when the host does not answer.
    pub async fn break_lock(&self, stem: &str) -> Result<bool, HostError> {
        let output = self.script("release the deploy lock", &scripts::break_lock(stem)).await?;
        Ok(output.code == 0)
    }

    fn seen_lock(&self, output: &ShellOutput) -> Result<SeenLock, HostError> {
        let mut seen = SeenLock {
            fence: None,
            held: LeaseHeld { details: String::new(), holder: None, expires_in: None },
        };
        for line in output.stdout.lines() {
            if let Some(base64) = line.strip_prefix("details ") {
                let bytes = STANDARD.decode(base64.trim()).unwrap_or_default();
                seen.held.details = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            } else if let Some(rest) = line.strip_prefix("held ") {
                let mut parts = rest.splitn(3, ' ');
                let fence = parts.next().and_then(|text| text.parse::<u64>().ok());
                let age = parts.next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
                let file: LeaseFile = serde_json::from_str(parts.next().unwrap_or_default())
                    .map_err(|error| self.unreadable_lock(error.to_string()))?;
                if fence > seen.fence {
                    seen.fence = fence;
                    seen.held.holder = Some(file.holder);
                    seen.held.expires_in =
                        file.time_to_live_seconds.map(|span| Duration::from_secs(span.saturating_sub(age)));
                }
            }
        }
        Ok(seen)
    }

    pub(super) async fn stored_journal(&self, stem: &str) -> Result<Option<StoredJournal>, HostError> {
        let operation = "read the journal";
        let output = self.script(operation, &scripts::read_journal(stem)).await?;
        if output.code == 3 {
            return Ok(None);
        }
        let (journal, plan) = output.stdout.split_once('\u{1}').unwrap_or((&output.stdout, ""));
        let mut entries: Vec<JournalEntry> = Vec::new();
        let lines: Vec<&str> = journal.lines().filter(|line| !line.trim().is_empty()).collect();
        for (index, line) in lines.iter().enumerate() {
            match serde_json::from_str(line) {
                Ok(entry) => entries.push(entry),
                // A host that lost power may have torn the last line.
                Err(_) if index + 1 == lines.len() => {}
                Err(error) => {
                    return Err(HostError::Stored {
                        host: self.name.clone(),
                        path: format!("{}/journal", freehold_plan::state_directory(stem)),
                        message: format!("line {}: {error}", index + 1),
                    });
                }
            }
        }
        let plan: Option<Box<Plan>> = match plan.trim() {
            "" => None,
            text => Some(serde_json::from_str(text).map_err(|error| HostError::Stored {
                host: self.name.clone(),
                path: format!("{}/plan.json", freehold_plan::state_directory(stem)),
                message: error.to_string(),
            })?),
        };
        Ok(Some(StoredJournal { plan, entries }))
    }
}

/// The text of Kamal's `details` file.
fn details(request: &LeaseRequest) -> String {
    format!(
        "Locked by: {} at {}\nVersion: {}\nMessage: {}\n",
        request.performer,
        jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        request.version.as_deref().unwrap_or("none"),
        request.message
    )
}

fn acquired(output: &ShellOutput) -> Option<u64> {
    output.stdout.lines().find_map(|line| line.strip_prefix("acquired "))?.trim().parse().ok()
}
