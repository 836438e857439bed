use std::fmt;

/// The process that a lab belongs to, told apart from a later process with the same number by its start time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// A lab lives as long as this process.
    Process { pid: u32, started: u64 },
    /// A person started the lab and removes it.
    Kept,
}

impl Owner {
    /// Returns the process that asks.
    pub(super) fn this_process() -> Self {
        let pid = std::process::id();
        Self::Process { pid, started: start_time(pid).unwrap_or_default() }
    }

    /// Reads what [`fmt::Display`] wrote; anything else belongs to nobody.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "kept" {
            return Some(Self::Kept);
        }
        let (pid, started) = text.split_once('-')?;
        Some(Self::Process { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }

    /// Whether the owner can still use its lab.
    pub(super) fn is_alive(&self) -> bool {
        match self {
            Self::Kept => true,
            Self::Process { pid, started } => start_time(*pid) == Some(*started),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept => formatter.write_str("kept"),
            Self::Process { pid, started } => write!(formatter, "{pid}-{started}"),
        }
    }
}

/// Returns when a process started, in clock ticks since the computer did; `None` when there is no such process.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything. Field 3 (the state) is the first
    // after it, field 22 the start time.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    if is_dead { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_reads_back() {
        let owner = Owner::this_process();
        assert!(owner.is_alive());
        assert_eq!(Owner::parse(&owner.to_string()), Some(owner));
    }

    #[test]
    fn another_process_with_the_same_number_is_not_the_owner() {
        let owner = Owner::Process { pid: std::process::id(), started: 1 };
        assert!(!owner.is_alive());
    }

    #[test]
    fn a_process_that_was_not_waited_for_is_dead() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        while start_time(pid).is_some() {
            std::thread::yield_now();
        }
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
        child.wait().unwrap();
    }
}
