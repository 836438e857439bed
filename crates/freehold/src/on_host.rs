//! A script in the host's own file system, run from a container that has it: `freehold on-host SCRIPT`.
//!
//! Whoever may use the engine may change the host's packet filter so, also without being root or having `sudo`. It is no
//! command for people.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use freehold_model::{Diagnose, ErrorKind};

use crate::fail;
use crate::failure::Format;

/// The word behind the program's name.
pub(crate) const WORD: &str = "on-host";

/// Where the container has the host's file system.
const HOST: &str = "/host";

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";

#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}")]
struct OnHostError {
    operation: &'static str,
    source: std::io::Error,
}

impl Diagnose for OnHostError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }
}

/// Becomes a shell that runs the script; returns only where that is not possible.
pub(crate) fn run(script: &OsStr) -> ExitCode {
    let entered = rustix::process::chroot(HOST).and_then(|()| rustix::process::chdir("/"));
    if let Err(error) = entered {
        let operation = "enter the file system of the host, which is to be mounted on `/host`";
        return fail(&OnHostError { operation, source: error.into() }, Format::Plain);
    }
    let source = Command::new("/bin/sh").arg("-c").arg(script).env_clear().env("PATH", PATH).exec();
    fail(&OnHostError { operation: "run a shell on the host", source }, Format::Plain)
}
