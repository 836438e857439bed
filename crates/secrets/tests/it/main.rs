//! Secrets files and password managers, with real shells and processes.
//!
//! The command lines of the password managers are stood in for by executables that the tests write: each notes its
//! arguments and answers as the real one is documented to. They show which calls are made and how answers are read, not
//! that a vendor's program of today still answers so.

#[cfg(test)]
mod adapters;
#[cfg(test)]
mod project;
#[cfg(test)]
mod read;
#[cfg(test)]
mod stand_in;
