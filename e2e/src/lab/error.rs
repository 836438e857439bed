use std::path::PathBuf;
use std::time::Duration;

/// Why the lab could not do what a test asked of it.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A program could not be started at all.
    #[error("cannot start `{program}`")]
    Spawn {
        /// The program's name.
        program: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A program ended with another exit code than 0.
    #[error("`{command}` ended with {status}: {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// The exit status as text.
        status: String,
        /// What it wrote to stderr, then what it wrote to stdout.
        stderr: String,
    },
    /// Something did not happen in time.
    #[error("`{what}` took longer than {limit:?}")]
    TooSlow {
        /// What was waited for.
        what: String,
        /// The deadline that passed.
        limit: Duration,
    },
    /// A file or folder of the lab could not be read or written.
    #[error("cannot use a file of the lab")]
    File(#[from] std::io::Error),
    /// The description of a running lab is not what this version writes.
    #[error("cannot read the lab description `{path}`")]
    Description {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// No host of that name is part of the lab.
    #[error("the lab has no host `{0}`")]
    NoSuchHost(String),
    /// No lab of that name is running.
    #[error("no lab is running")]
    NoLab,
    /// Every network that the lab may use is taken.
    #[error("no free network between 172.30.0.0/24 and 172.30.199.0/24")]
    NoNetwork,
    /// A name is not one of the known topologies.
    #[error("`{0}` is not a topology: use one, three, bastion or a number of hosts from 1 to 16")]
    UnknownTopology(String),
    /// Only a disk with a size can be filled: the other one is this computer's.
    #[error("the disk of host `{0}` has no size of its own")]
    NoSizedDisk(String),
    /// The operation needs a way into the host that its place in the topology does not have.
    #[error("host `{0}` has no address of its own: it is reached through the bastion")]
    NotReachable(String),
}
