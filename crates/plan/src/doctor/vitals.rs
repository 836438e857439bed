/// What a host says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vitals {
    /// Who we are on it.
    pub user: String,
    /// Whether we have root's rights.
    pub sudo: Sudo,
    /// The time there, seconds since 1970.
    pub seconds: Option<i64>,
    /// What is free on the disks of the login directory and of the engine.
    pub disks: Vec<Disk>,
    /// The memory, kibibytes.
    pub memory_kib: Option<u64>,
    /// What of it a new process can have without swapping, kibibytes.
    pub available_kib: Option<u64>,
    /// The first port that is not root's, for what listens without root's rights.
    pub unprivileged_from: Option<u16>,
    /// The ports on which anything listens.
    pub listening: Vec<Listening>,
    /// How the registry answered the host; none where it was not asked.
    pub registry: Option<RegistryAnswer>,
    /// Whether files can be written into the login directory.
    pub can_write: bool,
    /// Whether the system waits for a restart to finish an update.
    pub wants_reboot: bool,
}

/// Whether we have root's rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sudo {
    /// We are root.
    Root,
    /// `sudo` asks for no password.
    Free,
    /// There is no `sudo`, or it asks.
    #[default]
    No,
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Disk {
    /// A folder on it.
    pub folder: String,
    /// Its size, kibibytes.
    pub size_kib: u64,
    /// What is free for us, kibibytes.
    pub free_kib: u64,
    /// How many inodes it has; 0 where it makes them as it needs them.
    pub inodes: u64,
    /// How many are free.
    pub free_inodes: u64,
}

/// A port that is taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Listening {
    /// The port.
    pub port: u16,
    /// The program, where we may know it.
    pub program: Option<String>,
}

/// How a registry answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryAnswer {
    /// As registries do.
    Answers,
    /// Its name has no address on the host.
    NoAddress,
    /// Nothing answers there.
    NoConnection,
    /// It did not answer in time.
    TooSlow,
    /// Its certificate is not believed.
    Certificate,
    /// It answered with an error of its own.
    Broken {
        /// The HTTP status.
        status: u16,
    },
}

impl Vitals {
    /// Reads what the script that looks at a host prints, one `name=value` a line. Unknown lines are skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut vitals = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let value = value.trim();
            match name {
                "user" => value.clone_into(&mut vitals.user),
                "sudo" => {
                    vitals.sudo = match value {
                        "root" => Sudo::Root,
                        "free" => Sudo::Free,
                        _ => Sudo::No,
                    }
                }
                "seconds" => vitals.seconds = value.parse().ok(),
                "memory" => vitals.memory_kib = value.parse().ok(),
                "available" => vitals.available_kib = value.parse().ok(),
                "unprivileged" => vitals.unprivileged_from = value.parse().ok(),
                "disk" => vitals.disks.extend(disk(value)),
                "inodes" => vitals.inodes(value),
                "listen" => vitals.listening.extend(listening(value)),
                "registry" => vitals.registry = registry(value),
                "write" => vitals.can_write = value == "yes",
                "reboot" => vitals.wants_reboot = value == "yes",
                _ => {}
            }
        }
        vitals.disks.dedup_by(|one, other| {
            (one.size_kib, one.free_kib, one.inodes) == (other.size_kib, other.free_kib, other.inodes)
        });
        vitals.listening.sort();
        vitals.listening.dedup();
        vitals
    }

    /// Reads `FOLDER TOTAL FREE`, of a disk that was named before.
    fn inodes(&mut self, value: &str) {
        let mut words = value.rsplitn(3, ' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (free, total) = (number(), number());
        let folder = words.next();
        if let (Some(free), Some(total), Some(folder)) = (free, total, folder)
            && let Some(disk) = self.disks.iter_mut().find(|disk| disk.folder == folder)
        {
            (disk.inodes, disk.free_inodes) = (total, free);
        }
    }
}

/// Reads `FOLDER SIZE FREE`.
fn disk(value: &str) -> Option<Disk> {
    let mut words = value.rsplitn(3, ' ');
    let free_kib = words.next()?.parse().ok()?;
    let size_kib = words.next()?.parse().ok()?;
    Some(Disk { folder: words.next()?.to_owned(), size_kib, free_kib, inodes: 0, free_inodes: 0 })
}

/// Reads `PORT PROGRAM`, the program being left out where it is not known.
fn listening(value: &str) -> Option<Listening> {
    let (port, program) = value.split_once(' ').unwrap_or((value, ""));
    let program = Some(program.trim()).filter(|program| !program.is_empty()).map(str::to_owned);
    Some(Listening { port: port.parse().ok()?, program })
}

/// Reads the exit code of curl and the HTTP status that it saw. Source: the manual page of curl.
fn registry(value: &str) -> Option<RegistryAnswer> {
    let (code, status) = value.split_once(' ')?;
    let status: u16 = status.parse().unwrap_or(0);
    match code.parse::<u16>().ok()? {
        0 if status >= 500 => Some(RegistryAnswer::Broken { status }),
        0 => Some(RegistryAnswer::Answers),
        6 => Some(RegistryAnswer::NoAddress),
        7 => Some(RegistryAnswer::NoConnection),
        28 => Some(RegistryAnswer::TooSlow),
        35 | 51 | 58 | 60 => Some(RegistryAnswer::Certificate),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_lines_are_read() {
        let text = "user=deploy\nsudo=free\nseconds=1790000000\nmemory=2048\navailable=512\n\
            disk=/home/de ploy 1000 10\ninodes=/home/de ploy 64 4\ndisk=/var/lib/docker 2000 20\n\
            listen=80 nginx\nlisten=22\nlisten=80 nginx\nregistry=6 000\nwrite=yes\nreboot=yes\nnoise\nx=y\n";
        let vitals = Vitals::parse(text);
        let home = Disk {
            folder: "/home/de ploy".to_owned(),
            size_kib: 1000,
            free_kib: 10,
            inodes: 64,
            free_inodes: 4,
        };
        assert_eq!(vitals.disks[0], home);
        assert_eq!(vitals.disks.len(), 2);
        assert_eq!(vitals.listening.len(), 2);
        assert_eq!(vitals.listening[1].program.as_deref(), Some("nginx"));
        assert_eq!((vitals.sudo, vitals.seconds), (Sudo::Free, Some(1_790_000_000)));
        assert_eq!(vitals.registry, Some(RegistryAnswer::NoAddress));
        assert!(vitals.can_write && vitals.wants_reboot);
        // One disk for both is told once.
        let same =
            "disk=/root 10 1\ninodes=/root 5 5\ndisk=/var/lib/docker 10 1\ninodes=/var/lib/docker 5 5\n";
        assert_eq!(Vitals::parse(same).disks.len(), 1);
    }
}
