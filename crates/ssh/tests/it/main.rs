//! The crate against real OpenSSH servers and agents on loopback, and against servers that misbehave.
//!
//! Debian's packages `openssh-server` and `openssh-client` are needed; without them the tests fail and say so.

#[cfg(test)]
mod authentication;
#[cfg(test)]
mod basics;
#[cfg(test)]
mod host_keys;
#[cfg(test)]
mod quoting;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod stalls;
#[cfg(test)]
mod support;
