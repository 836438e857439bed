use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A point in time that stages of connecting share, and that stands still while a person is asked something.
#[derive(Debug)]
pub(crate) struct Deadline {
    limit: Duration,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    at: Instant,
    questions: usize,
    asked_at: Instant,
}

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Arc<Self> {
        let now = Instant::now();
        let state = State { at: now + limit, questions: 0, asked_at: now };
        Arc::new(Self { limit, state: Mutex::new(state), changed: Notify::new() })
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Runs a future until it is done or the deadline has passed; none is the latter.
    pub(crate) async fn within<F: Future>(&self, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = self.passed() => None,
        }
    }

    /// Stops the clock until the guard is dropped.
    pub(crate) fn pause(self: &Arc<Self>) -> Pause {
        let mut state = self.state.lock();
        if state.questions == 0 {
            state.asked_at = Instant::now();
        }
        state.questions += 1;
        drop(state);
        self.changed.notify_waiters();
        Pause(Arc::clone(self))
    }

    async fn passed(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (at, asking) = {
                let state = self.state.lock();
                (state.at, state.questions > 0)
            };
            if asking {
                changed.await;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep_until(at) => return,
                () = changed => {}
            }
        }
    }
}

/// Holds a [`Deadline`] still while it exists.
pub(crate) struct Pause(Arc<Deadline>);

impl Drop for Pause {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.questions = state.questions.saturating_sub(1);
        if state.questions == 0 {
            let asked_for = state.asked_at.elapsed();
            state.at += asked_for;
        }
        drop(state);
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_of_a_question_does_not_count() {
        let deadline = Deadline::after(Duration::from_millis(30));
        let pause = deadline.pause();
        let answer = async {
            tokio::time::sleep(Duration::from_millis(90)).await;
            drop(pause);
            7
        };
        assert_eq!(deadline.within(answer).await, Some(7));
        assert_eq!(deadline.within(std::future::pending::<()>()).await, None);
    }
}
