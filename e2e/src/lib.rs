//! Tests of the released executable against real hosts: the lab, the load generator and what tests share.
//!
//! The lab boots containers that each have their own `sshd` and their own `dockerd`, so a test deploys to them as a
//! person would to servers. It is for the tests in `e2e/tests` and for `script/lab`; no crate of the product uses it.
//!
//! Start with [`lab::Lab`] and [`project::Project`]. The tests run the executable that the variable `FREEHOLD_EXECUTABLE` names.

pub mod crowd;
pub mod executable;
pub mod lab;
pub mod load;
pub mod project;
