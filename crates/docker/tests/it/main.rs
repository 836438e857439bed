//! Tests against real Docker engines, which they start themselves: see [`lab`].

mod builds;
mod containers;
mod docker_run;
mod faults;
mod lab;
mod transfers;
