//! Fakes and fixtures for tests of the upper floors: never part of the executable.
//!
//! [`FakeFleet`] is a fleet of hosts in memory. Each [`FakeFleet::client`] is another process that works on it; faults
//! make a step fail, a connection break, a client vanish or stand still. After every change an oracle looks whether each
//! route of the proxies leads to a healthy container: [`FakeFleet::outages`] is what users would have noticed.
//!
//! [`ProjectFixture`] makes projects, [`RecordingWatch`] keeps events.

mod clock;
mod fault;
mod fleet;
mod host;
mod machine;
mod project;
mod watch;

pub use clock::FakeClock;
pub use fault::{Fault, Harm, Moment, Point};
pub use fleet::{Client, FakeFleet};
pub use host::FakeHost;
pub use machine::{FakeContainer, FakeSchedule, Machine, Snapshot};
pub use project::{ProjectFixture, host_name, rollout_id};
pub use watch::RecordingWatch;
