use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use freehold_model::HostName;
use parking_lot::Mutex;

use crate::connect_error::ConnectError;
use crate::connection::Connection;
use crate::route::Hop;

/// The connections to jump hosts, each shared by all hosts behind it: twenty hosts behind one bastion cost one login
/// there, not twenty, of which its `MaxStartups` would drop some at random.
///
/// A connection stays as long as something goes through it.
#[derive(Default)]
pub(crate) struct Carriers {
    places: Mutex<Vec<(Vec<Hop>, Arc<Carrier>)>>,
}

impl Carriers {
    /// Returns what carries the connections through the last of these hops.
    pub(crate) fn through(&self, hops: &[Hop]) -> Arc<Carrier> {
        let mut places = self.places.lock();
        if let Some((_, carrier)) = places.iter().find(|(known, _)| known == hops) {
            return Arc::clone(carrier);
        }
        let carrier = Arc::new(Carrier::default());
        places.push((hops.to_vec(), Arc::clone(&carrier)));
        carrier
    }
}

/// The connection to one jump host.
#[derive(Default)]
pub(crate) struct Carrier {
    state: tokio::sync::Mutex<State>,
    /// How many attempts have failed.
    failures: AtomicU64,
}

#[derive(Default)]
struct State {
    connection: Weak<Connection>,
    failure: Option<ConnectError>,
}

impl Carrier {
    /// Returns the open connection, or opens it. Who comes while another is opening it gets the same outcome, so that a
    /// jump host that is gone costs its deadline once.
    ///
    /// # Cancel safety
    /// Dropping the future ends the attempt; the next one that waits begins its own.
    pub(crate) async fn get(
        &self,
        target: &HostName,
        open: impl Future<Output = Result<Arc<Connection>, ConnectError>>,
    ) -> Result<Arc<Connection>, ConnectError> {
        let failures = self.failures.load(Ordering::SeqCst);
        let mut state = self.state.lock().await;
        if let Some(connection) = state.connection.upgrade().filter(|open| open.ended().is_none()) {
            return Ok(connection);
        }
        if self.failures.load(Ordering::SeqCst) > failures
            && let Some(failure) = &state.failure
        {
            return Err(failure.clone().on_the_way_to(target));
        }
        match open.await {
            Ok(connection) => {
                state.connection = Arc::downgrade(&connection);
                state.failure = None;
                Ok(connection)
            }
            Err(error) => {
                state.failure = Some(error.clone());
                self.failures.fetch_add(1, Ordering::SeqCst);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn whoever_waits_for_another_begins_nothing_until_its_turn() {
        let carrier = Carrier::default();
        let target = HostName::parse("web").unwrap();
        let mut first = Box::pin(carrier.get(&target, std::future::pending()));
        let begun = AtomicBool::new(false);
        let mut second = Box::pin(carrier.get(&target, async {
            // Here its deadline begins.
            begun.store(true, Ordering::SeqCst);
            Err(ConnectError::NoHops)
        }));
        std::future::poll_fn(|context| {
            assert!(first.as_mut().poll(context).is_pending());
            assert!(second.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(!begun.load(Ordering::SeqCst));
        // Its caller gives up; the next one begins.
        drop(first);
        assert!(matches!(second.await, Err(ConnectError::NoHops)));
        assert!(begun.load(Ordering::SeqCst));
    }
}
