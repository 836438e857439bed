//! The main job on real hosts: deploys, faults, killed clients, two clients at once, secrets, bad input.
//!
//! Every test shares the lab of three hosts and resets it first. Cases that are generated from a plan print one line
//! each and are counted in the last line of their test.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a failing test ends by panicking, also in its helper functions, and tells what it saw"
)]

mod accessories;
mod assets;
mod builders;
mod certificates;
mod cron;
mod cuts;
mod delivery;
mod deploy_file;
mod error_pages;
mod exec;
mod faults;
mod firewall;
mod following;
mod input;
mod kamal;
mod killed;
mod local_registry;
mod locks;
mod proxy;
mod reach;
mod real_registry;
mod registry;
mod release_command;
mod replicas;
mod scene;
mod secrets;
mod servers;
mod smoke;
mod target_protocols;
mod traffic;
mod trust;
mod under_load;
mod vectors;
