//! The passwords that wait to be looked at: those of each client in turn, so that one with many of them delays no other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::{Fingerprint, Ticket};

/// How many passwords may wait, of all clients together.
const MAX_WAITING: usize = 1024;

/// How many of them may be one client's.
const MAX_OF_CLIENT: usize = 64;

/// How many requests may wait for one password.
const MAX_TICKETS: usize = 1024;

/// For how long a password may wait by what checks have taken so far: less than a request does.
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// A user and a password, and who wants to know whether they fit.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) user: Vec<u8>,
    pub(super) password: Vec<u8>,
    pub(super) fingerprint: Fingerprint,
    /// Whose it is: an address of IPv4, or a network of IPv6.
    pub(super) client: u64,
}

/// Where passwords wait.
#[derive(Debug, Default)]
pub(super) struct Desk {
    queue: Mutex<Queue>,
    came: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whose turn it is, one after the other.
    turns: VecDeque<u64>,
    clients: BTreeMap<u64, VecDeque<Job>>,
    /// Told once the password was looked at, also while it is.
    tickets: BTreeMap<Fingerprint, Vec<Ticket>>,
    /// How long checks take, as a sliding mean.
    pace: Duration,
    is_closed: bool,
}

impl Queue {
    fn of_client(&self, client: u64) -> usize {
        self.clients.get(&client).map_or(0, VecDeque::len)
    }

    /// Returns how many are looked at before the next one of a client.
    fn ahead_of(&self, client: u64) -> usize {
        let rounds = self.of_client(client) + 1;
        self.clients.values().map(|jobs| jobs.len().min(rounds)).sum()
    }

    fn wait_of(&self, client: u64) -> Duration {
        self.pace.saturating_mul(u32::try_from(self.ahead_of(client) + 1).unwrap_or(u32::MAX))
    }
}

impl Desk {
    /// Lets a password wait, or says how long one must be expected to wait where that is too long.
    pub(super) fn ask(&self, job: Job) -> Result<Ticket, Duration> {
        let ticket = Arc::new(Notify::new());
        let mut queue = self.queue.lock();
        let wait = queue.wait_of(job.client);
        // Several requests of one client come with the same password at once.
        if let Some(tickets) = queue.tickets.get_mut(&job.fingerprint) {
            if tickets.len() >= MAX_TICKETS {
                return Err(wait);
            }
            tickets.push(Arc::clone(&ticket));
            return Ok(ticket);
        }
        let own = queue.of_client(job.client);
        if queue.tickets.len() >= MAX_WAITING || own >= MAX_OF_CLIENT || wait > LONGEST_WAIT {
            return Err(wait);
        }
        if own == 0 {
            queue.turns.push_back(job.client);
        }
        queue.tickets.insert(job.fingerprint, vec![Arc::clone(&ticket)]);
        queue.clients.entry(job.client).or_default().push_back(job);
        drop(queue);
        self.came.notify_one();
        Ok(ticket)
    }

    /// Waits for the next password; none where the desk is closed.
    pub(super) fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if queue.is_closed {
                return None;
            }
            if let Some(client) = queue.turns.pop_front() {
                let jobs = queue.clients.get_mut(&client)?;
                let job = jobs.pop_front();
                if jobs.is_empty() {
                    queue.clients.remove(&client);
                } else {
                    queue.turns.push_back(client);
                }
                return job;
            }
            self.came.wait(&mut queue);
        }
    }

    /// Tells all who wait for a password that it was looked at, and how long that took.
    pub(super) fn done(&self, fingerprint: &Fingerprint, took: Duration) {
        let mut queue = self.queue.lock();
        queue.pace = if queue.pace.is_zero() { took } else { (queue.pace * 7 + took) / 8 };
        let tickets = queue.tickets.remove(fingerprint).unwrap_or_default();
        drop(queue);
        for ticket in tickets {
            ticket.notify_one();
        }
    }

    /// Lets nothing more be looked at, and nobody wait for it.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.is_closed = true;
        let tickets = std::mem::take(&mut queue.tickets);
        drop(queue);
        self.came.notify_all();
        for ticket in tickets.into_values().flatten() {
            ticket.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(client: u64, number: u8) -> Job {
        let mut fingerprint = [number; 32];
        fingerprint[0] = u8::try_from(client).unwrap();
        Job { user: Vec::new(), password: vec![number], fingerprint, client }
    }

    #[test]
    fn clients_take_turns_and_the_same_password_waits_once() {
        let desk = Desk::default();
        for number in 0..3 {
            desk.ask(job(1, number)).unwrap();
        }
        desk.ask(job(2, 9)).unwrap();
        let again = desk.ask(job(1, 0)).unwrap();
        let order: Vec<(u64, u8)> = std::iter::repeat_with(|| desk.next().unwrap())
            .map(|job| (job.client, job.password[0]))
            .take(4)
            .collect();
        assert_eq!(order, [(1, 0), (2, 9), (1, 1), (1, 2)]);
        // While it is looked at, it does not wait again.
        let third = desk.ask(job(1, 0)).unwrap();
        desk.done(&job(1, 0).fingerprint, Duration::from_millis(1));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { tokio::join!(again.notified(), third.notified()) });
        desk.close();
        assert!(desk.next().is_none());
    }

    #[test]
    fn it_is_said_when_it_would_take_too_long_and_others_are_not_held_up() {
        let desk = Desk::default();
        for number in 0..u8::try_from(MAX_OF_CLIENT).unwrap() {
            desk.ask(job(1, number)).unwrap();
        }
        assert!(desk.ask(job(1, 200)).is_err(), "one client does not take all places");
        let first = desk.next().unwrap();
        desk.done(&first.fingerprint, Duration::from_secs(1));
        let wait = desk.ask(job(1, 201)).unwrap_err();
        assert!(wait > LONGEST_WAIT, "{wait:?}");
        assert!(desk.ask(job(2, 1)).is_ok(), "the next one of another client is soon looked at");
    }
}
