use crate::host::Holder;

impl Holder {
    /// Describes this process, so that another one on the same machine can tell whether it lives.
    ///
    /// # Errors
    /// An error of the file system when `/proc` cannot be read.
    pub fn current() -> std::io::Result<Self> {
        let pid = std::process::id();
        let started = started(pid).ok_or_else(|| std::io::Error::other("cannot read `/proc/self/stat`"))?;
        Ok(Self { machine: machine()?, boot: boot()?, pid, started })
    }

    /// Says whether this holder is certainly gone: it ran on this machine, in this boot, and is no more.
    #[must_use]
    pub(super) fn is_certainly_gone(&self) -> bool {
        let same_machine = machine().is_ok_and(|machine| machine == self.machine);
        let same_boot = boot().is_ok_and(|boot| boot == self.boot);
        same_machine && (!same_boot || started(self.pid) != Some(self.started))
    }
}

/// The machine's name and process namespace: a container on the same kernel is another machine here.
fn machine() -> std::io::Result<String> {
    let name = fs_err::read_to_string("/proc/sys/kernel/hostname")?;
    let namespace = fs_err::read_link("/proc/self/ns/pid")?;
    Ok(format!("{} {}", name.trim(), namespace.display()))
}

fn boot() -> std::io::Result<String> {
    Ok(fs_err::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Field 22 of `/proc/PID/stat` (proc(5)), unless the process is a zombie.
fn started(pid: u32) -> Option<u64> {
    let text = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_is_not_gone_and_a_dead_one_is() {
        let me = Holder::current().expect("this process");
        assert!(!me.is_certainly_gone());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("a child");
        let other = Holder { pid: child.id(), started: started(child.id()).expect("runs"), ..me.clone() };
        assert!(!other.is_certainly_gone());
        child.kill().expect("killed");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !other.is_certainly_gone() {
            assert!(std::time::Instant::now() < deadline, "a zombie is gone");
            std::thread::yield_now();
        }
        child.wait().expect("reaped");
        assert!(other.is_certainly_gone());
        let elsewhere = Holder { machine: "other pid:[1]".to_owned(), ..other };
        assert!(!elsewhere.is_certainly_gone(), "nobody knows of another machine");
    }
}
