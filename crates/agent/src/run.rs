//! One run from its container's making to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freehold_model::ContainerName;
use freehold_wire::agent::{RunState, ScheduledContainer};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::agent::{Agent, Begin, Halt, RunKey};
use crate::containers::{RUN_LABEL, Standing};
use crate::output::Output;

/// How long the rest of the output may take after the end.
const REST_LIMIT: Duration = Duration::from_secs(5);

/// The pause before the engine is asked again after it did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// How often a container is told to stop, or removed, before it is given up.
const TRIES: u32 = 30;

impl Agent {
    /// Carries out a run. When the agent stops, the container goes on and is found again by the next agent.
    pub(crate) async fn carry_out(
        self: Arc<Self>,
        key: RunKey,
        begin: Begin,
        mut halted: watch::Receiver<Option<Halt>>,
        output: Arc<Mutex<Output>>,
    ) {
        let run = async {
            let state = self.run_to_end(&key, begin, &mut halted, &output).await;
            if let Some(name) = self.record(&key).and_then(|(record, _)| container_name(record.container)) {
                self.remove_container(&name).await;
            }
            state
        };
        tokio::select! {
            state = run => self.close(&key, state),
            () = self.stopping.cancelled() => {}
        }
    }

    async fn run_to_end(
        &self,
        key: &RunKey,
        begin: Begin,
        halted: &mut watch::Receiver<Option<Halt>>,
        output: &Arc<Mutex<Output>>,
    ) -> RunState {
        let permit = tokio::select! {
            permit = self.permits.acquire() => permit,
            halt = halt_of(halted), if begin == Begin::Anew => return halt.state(),
        };
        let not_started = |cause: String| RunState::NotStarted { cause };
        let Some((record, job)) = self.record(key) else {
            return not_started("it is not remembered any longer".to_owned());
        };
        let Some(name) = container_name(record.container) else {
            return not_started("its container has no possible name".to_owned());
        };
        let limit = job.as_ref().and_then(|job| job.timeout_ms).map(Duration::from_millis);
        if begin == Begin::Anew {
            let Some(job) = &job else { return not_started("its job is not stored any longer".to_owned()) };
            if let Err(cause) = self.make(key, &name, job).await {
                return not_started(cause);
            }
        }
        let passed = record
            .started_at
            .and_then(|start| Duration::try_from(self.clock.now().duration_since(start)).ok());
        if record.started_at.is_none() {
            if let Err(error) = self.containers.start(&name).await {
                return not_started(error.to_string());
            }
            self.began(key);
        }
        let left = limit.map(|limit| limit.saturating_sub(passed.unwrap_or_default()));
        let state = self.watch(&name, left, halted, output).await;
        drop(permit);
        state
    }

    async fn make(&self, key: &RunKey, name: &ContainerName, job: &ScheduledContainer) -> Result<(), String> {
        let labels = BTreeMap::from([(RUN_LABEL.to_owned(), key.run.to_string())]);
        self.containers.make(name, job, &labels).await.map_err(|error| error.to_string())
    }

    /// Watches a container to its end, which comes by itself, after a time, or because it has to stop.
    async fn watch(
        &self,
        name: &ContainerName,
        left: Option<Duration>,
        halted: &mut watch::Receiver<Option<Halt>>,
        output: &Arc<Mutex<Output>>,
    ) -> RunState {
        let mut reader = JoinSet::new();
        let (containers, container, target) =
            (Arc::clone(&self.containers), name.clone(), Arc::clone(output));
        reader.spawn(async move {
            match containers.follow(&container).await {
                Ok(mut lines) => {
                    while let Some(line) = lines.next().await {
                        target.lock().push(line);
                    }
                }
                Err(error) => tracing::warn!(%container, %error, "the output of a run cannot be read"),
            }
        });
        let over = async {
            match left {
                Some(left) => sleep(left).await,
                None => std::future::pending().await,
            }
        };
        let state = tokio::select! {
            end = self.end_of(name) => match end {
                Ok(exit_code) => RunState::Ended { exit_code },
                Err(cause) => RunState::Lost { cause },
            },
            () = over => self.stop(name, RunState::TimedOut).await,
            halt = halt_of(halted) => self.stop(name, halt.state()).await,
        };
        // Dropping the reader ends it.
        if timeout(REST_LIMIT, reader.join_next()).await.is_err() {
            tracing::warn!(container = %name, "the output of a run did not end with it");
        }
        state
    }

    /// Waits for the end of a container, also over times in which the engine does not answer.
    async fn end_of(&self, name: &ContainerName) -> Result<i64, String> {
        loop {
            let Err(error) = self.containers.wait(name).await.map_err(|error| error.to_string()) else {
                match self.containers.look(name).await {
                    Ok(Some(Standing::Ended(code))) => return Ok(code),
                    Ok(Some(Standing::Runs | Standing::Made)) => continue,
                    Ok(None) => return Err("its container was removed by somebody else".to_owned()),
                    Err(_) => {
                        sleep(PAUSE).await;
                        continue;
                    }
                }
            };
            match self.containers.look(name).await {
                Ok(Some(Standing::Ended(code))) => return Ok(code),
                Ok(None) => return Err("its container was removed by somebody else".to_owned()),
                // The engine is watched elsewhere: where it stays away, the agent starts anew.
                Ok(Some(Standing::Runs | Standing::Made)) | Err(_) => {
                    tracing::debug!(container = %name, error, "waiting for the end again");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn stop(&self, name: &ContainerName, state: RunState) -> RunState {
        for _ in 0..TRIES {
            match self.containers.stop(name).await {
                Ok(()) => return state,
                Err(error) => tracing::warn!(container = %name, %error, "a run could not be stopped"),
            }
            sleep(PAUSE).await;
        }
        RunState::Lost { cause: "it could not be stopped".to_owned() }
    }

    async fn remove_container(&self, name: &ContainerName) {
        for _ in 0..TRIES {
            match self.containers.remove(name).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(container = %name, %error, "a container could not be removed"),
            }
            sleep(PAUSE).await;
        }
    }
}

fn container_name(name: Option<String>) -> Option<ContainerName> {
    ContainerName::parse(name?).ok()
}

/// Waits until a run has to stop.
async fn halt_of(halted: &mut watch::Receiver<Option<Halt>>) -> Halt {
    match halted.wait_for(Option::is_some).await.map(|halt| *halt) {
        Ok(Some(halt)) => halt,
        // Nobody can stop it any longer.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}
