//! Tests against real Docker engines, which they start themselves: see [`lab`].

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "test code: a panic is how it fails"
)]

mod builds;
mod containers;
mod docker_run;
mod faults;
mod inspect;
mod lab;
mod registries;
mod staged;
mod transfers;
