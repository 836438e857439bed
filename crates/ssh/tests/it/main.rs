//! The crate against real OpenSSH servers and agents on loopback, and against servers that misbehave.
//!
//! Debian's packages `openssh-server` and `openssh-client` are needed; without them the tests fail and say so.

mod basics;
mod support;
