use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How often at most it is looked whether something is unused.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);

/// Keeps one thing that was costly to open, as long as it is used now and then.
///
/// Firewalls forget connections that are silent for long, so that one that was not used for a while is closed rather
/// than tried.
pub(super) struct Slot<T> {
    limit: Duration,
    state: Arc<tokio::sync::Mutex<State<T>>>,
    /// Closes what is unused. It ends with the slot.
    watcher: Mutex<JoinSet<()>>,
}

struct State<T> {
    kept: Option<Arc<T>>,
    used: Instant,
}

impl<T> State<T> {
    /// Says whether nobody has used what is kept for so long.
    fn is_idle(&self, limit: Duration) -> bool {
        let is_free = self.kept.as_ref().is_some_and(|kept| Arc::strong_count(kept) == 1);
        is_free && self.used.elapsed() >= limit
    }
}

impl<T: Send + Sync + 'static> Slot<T> {
    /// Makes an empty slot that closes what is unused for so long. With zero, each use opens anew what no other use
    /// holds open.
    pub(super) fn new(limit: Duration) -> Self {
        let state = State { kept: None, used: Instant::now() };
        Self { limit, state: Arc::new(tokio::sync::Mutex::new(state)), watcher: Mutex::default() }
    }

    /// Returns what is kept, or opens it where there is none, or none that is fit for use. Otherwise `open` is not begun.
    ///
    /// # Errors
    /// Those of opening.
    ///
    /// # Cancel safety
    /// Dropping the future drops what it was opening; the slot stays empty.
    pub(super) async fn get<E>(
        &self,
        is_fit: impl Fn(&T) -> bool,
        open: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, E> {
        let mut state = self.state.lock().await;
        if state.is_idle(self.limit) {
            state.kept = None;
        }
        if let Some(kept) = state.kept.as_ref().filter(|kept| is_fit(kept)).map(Arc::clone) {
            state.used = Instant::now();
            return Ok(kept);
        }
        state.kept = None;
        let opened = Arc::new(open.await?);
        state.kept = Some(Arc::clone(&opened));
        state.used = Instant::now();
        let mut watcher = self.watcher.lock();
        watcher.abort_all();
        watcher.spawn(watch(Arc::clone(&self.state), self.limit));
        Ok(opened)
    }
}

/// Empties the slot when what is kept was not used for so long.
async fn watch<T>(slot: Arc<tokio::sync::Mutex<State<T>>>, limit: Duration) {
    loop {
        let due = slot.lock().await.used + limit.max(SHORTEST_LOOK);
        tokio::time::sleep_until(due).await;
        let mut state = slot.lock().await;
        match &state.kept {
            None => return,
            Some(kept) if Arc::strong_count(kept) > 1 => state.used = Instant::now(),
            Some(_) if state.is_idle(limit) => {
                state.kept = None;
                return;
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::Weak;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const LIMIT: Duration = Duration::from_secs(900);

    struct Opener(AtomicUsize);

    impl Opener {
        async fn use_of(&self, slot: &Slot<usize>) -> Arc<usize> {
            let open = async { Ok::<_, Infallible>(self.0.fetch_add(1, Ordering::SeqCst)) };
            slot.get(|_| true, open).await.unwrap()
        }
    }

    async fn is_gone(opened: &Weak<usize>) -> bool {
        // The watcher is another task.
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        opened.upgrade().is_none()
    }

    /// kamal-compat §9 sshkit row 1
    #[tokio::test(start_paused = true)]
    async fn what_is_not_used_for_long_is_closed() {
        let (slot, opener) = (Slot::new(LIMIT), Opener(AtomicUsize::new(0)));
        let opened = Arc::downgrade(&opener.use_of(&slot).await);
        tokio::time::sleep(LIMIT / 2).await;
        assert_eq!(*opener.use_of(&slot).await, 0);
        tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
        assert!(!is_gone(&opened).await);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(is_gone(&opened).await);
        assert_eq!(*opener.use_of(&slot).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_use_stays_open_however_long() {
        let (slot, opener) = (Slot::new(LIMIT), Opener(AtomicUsize::new(0)));
        let used = opener.use_of(&slot).await;
        tokio::time::sleep(LIMIT * 5).await;
        assert_eq!(*opener.use_of(&slot).await, 0);
        let opened = Arc::downgrade(&used);
        drop(used);
        tokio::time::sleep(LIMIT * 2).await;
        assert!(is_gone(&opened).await);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_is_kept() {
        let (slot, opener) = (Slot::new(Duration::ZERO), Opener(AtomicUsize::new(0)));
        for opened in 0..3 {
            assert_eq!(*opener.use_of(&slot).await, opened);
        }
        let held = opener.use_of(&slot).await;
        assert_eq!([*opener.use_of(&slot).await, *held], [3, 3]);
    }
}
