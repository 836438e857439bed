use freehold_model::HostName;

use super::vitals::{Disk, RegistryAnswer, Sudo, Vitals};
use super::{Check, Engine, Examined, Findings, Surroundings, is_built_for};

/// Below this, not even an image of ours fits.
const DISK_FAULT_KIB: u64 = 300 * 1024;

/// Below this and this share, the next images will fill it.
const DISK_WARNING_KIB: u64 = 2 * 1024 * 1024;

/// The share of a disk or of its inodes that must be free, in percent.
const FREE_PERCENT: u64 = 5;

/// Below this, the kernel is about to end processes.
const MEMORY_FAULT_KIB: u64 = 32 * 1024;

/// Below this and this share, a second container beside the first may not fit.
const MEMORY_WARNING_KIB: u64 = 128 * 1024;

/// From this many seconds on, certificates and tokens that were just made are refused by others.
const CLOCK_FAULT_SECONDS: u64 = 300;

/// From this many seconds on, something keeps the clock from being set.
const CLOCK_WARNING_SECONDS: u64 = 30;

/// The oldest engine that Freehold is tested with.
const OLDEST_ENGINE: (u64, u64) = (20, 10);

pub(super) fn examine(findings: &mut Findings, around: Surroundings<'_>, host: &HostName, seen: &Examined) {
    let way = match seen.jumps.as_slice() {
        [] => String::new(),
        jumps => format!(" through {}", jumps.join(", ")),
    };
    let user = seen.vitals.as_ref().map_or_else(String::new, |vitals| format!(" as `{}`", vitals.user));
    findings.good(Check::Authentication, format!("in{user}{way}, by {}", seen.authentication));
    engine(findings, host, seen);
    if let Some(architecture) = seen.observed.as_ref().and_then(|observed| observed.architecture) {
        if is_built_for(around.project, architecture) {
            findings.good(Check::Architecture, architecture.as_str());
        } else {
            let wanted: Vec<&str> =
                around.project.builder.architectures.iter().map(|wanted| wanted.as_str()).collect();
            findings
                .fault(Check::Architecture, format!("the host's processor is {architecture}"))
                .because(&format!("the image is built for {} only: `builder/arch`", wanted.join(", ")))
                .fix([format!(
                    "add it to the deploy file: `builder: {{arch: [{}, {architecture}]}}`",
                    wanted.join(", ")
                )]);
        }
    }
    if let Some(vitals) = &seen.vitals {
        self::vitals(findings, around, host, vitals);
    }
}

fn vitals(findings: &mut Findings, around: Surroundings<'_>, host: &HostName, vitals: &Vitals) {
    if !vitals.can_write {
        findings
            .fault(Check::Disk, format!("`{}` cannot write into its login directory", vitals.user))
            .because("the directory is not its own, or its file system is read-only or full")
            .fix([format!("look at it: `ssh {host} 'ls -ld ~; mount | grep -w ro; df -h ~'`")]);
    }
    for disk in &vitals.disks {
        space(findings, host, disk);
        inodes(findings, host, disk);
    }
    memory(findings, host, vitals);
    clock(findings, host, (vitals.seconds, around.now_seconds));
    registry(findings, around, host, vitals.registry.as_ref());
    if vitals.wants_reboot {
        findings.warning(Check::Engine, "an update waits for the host to be restarted").fix([format!(
            "when it suits: `ssh {host} sudo reboot`; the containers come up again by themselves"
        )]);
    }
}

fn engine(findings: &mut Findings, host: &HostName, seen: &Examined) {
    match &seen.engine {
        Engine::NotAsked => {}
        Engine::Silent { cause, fix } => {
            findings
                .fault(Check::Engine, "the container engine does not answer")
                .because(cause)
                .fix(fix.clone());
            if let Some(Vitals { user, sudo: Sudo::No, .. }) = &seen.vitals {
                findings
                    .warning(Check::Sudo, format!("`{user}` has no root's rights there"))
                    .because("`sudo` is not installed, or asks for a password")
                    .fix([format!(
                        "let `{user}` use the engine: `usermod -aG docker {user}` as root, then log in anew"
                    )]);
            }
        }
        Engine::Answers { version, is_podman: true, .. } => {
            findings.good(Check::Engine, format!("Podman {version}"));
        }
        Engine::Answers { version, is_podman: false, is_rootless } => match parse(version) {
            Some(found) if found < OLDEST_ENGINE => findings
                .fault(Check::EngineVersion, format!("Docker {version} is too old"))
                .because(&format!("Freehold needs {}.{} or newer", OLDEST_ENGINE.0, OLDEST_ENGINE.1))
                .fix([format!("`ssh {host} 'sudo apt-get update && sudo apt-get install docker.io'`")]),
            _ if *is_rootless => findings.good(Check::Engine, format!("Docker {version}, rootless")),
            _ => findings.good(Check::Engine, format!("Docker {version}")),
        },
    }
}

/// Reads the first two numbers of a version; what is no version is not judged.
fn parse(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn space(findings: &mut Findings, host: &HostName, disk: &Disk) {
    let Disk { folder, size_kib, free_kib, .. } = disk;
    let free = format!("{} of {} free at `{folder}`", size(*free_kib), size(*size_kib));
    let fix = || {
        [
            format!("see what takes it: `ssh {host} 'docker system df; df -h {folder}'`"),
            "remove old releases and images: `freehold prune all`".to_owned(),
        ]
    };
    let is_scarce = free_kib.saturating_mul(100) < size_kib.saturating_mul(FREE_PERCENT);
    if *free_kib < DISK_FAULT_KIB {
        findings.fault(Check::Disk, format!("the disk is full: {free}")).fix(fix());
    } else if *free_kib < DISK_WARNING_KIB && is_scarce {
        findings.warning(Check::Disk, format!("the disk is almost full: {free}")).fix(fix());
    } else {
        findings.good(Check::Disk, free);
    }
}

fn inodes(findings: &mut Findings, host: &HostName, disk: &Disk) {
    let Disk { folder, inodes, free_inodes, .. } = disk;
    if *inodes == 0 {
        return;
    }
    let text = format!("{free_inodes} of {inodes} inodes free at `{folder}`");
    let fix = [
        format!("find the many small files: `ssh {host} 'du --inodes -x {folder} | sort -n | tail'`"),
        "remove old releases and images: `freehold prune all`".to_owned(),
    ];
    if free_inodes.saturating_mul(100) < *inodes {
        findings.fault(Check::Inodes, format!("no room for more files: {text}")).fix(fix);
    } else if free_inodes.saturating_mul(100) < inodes.saturating_mul(FREE_PERCENT) {
        findings.warning(Check::Inodes, format!("almost no room for more files: {text}")).fix(fix);
    } else {
        findings.good(Check::Inodes, text);
    }
}

fn memory(findings: &mut Findings, host: &HostName, vitals: &Vitals) {
    let (Some(total), Some(available)) = (vitals.memory_kib, vitals.available_kib) else { return };
    let text = format!("{} of {} available", size(available), size(total));
    let fix = [
        format!("see what takes it: `ssh {host} 'docker stats --no-stream; ps aux --sort -rss | head'`"),
        "a rollout needs room for two releases at a time: add memory or swap".to_owned(),
    ];
    if available < MEMORY_FAULT_KIB {
        findings.fault(Check::Memory, format!("no memory is left: {text}")).fix(fix);
    } else if available < MEMORY_WARNING_KIB && available.saturating_mul(10) < total {
        findings.warning(Check::Memory, format!("memory is scarce: {text}")).fix(fix);
    } else {
        findings.good(Check::Memory, text);
    }
}

fn clock(findings: &mut Findings, host: &HostName, (there, here): (Option<i64>, i64)) {
    let Some(there) = there else { return };
    let difference = there.abs_diff(here);
    let ahead = if there > here { "ahead of" } else { "behind" };
    let text = format!("its clock is {difference} s {ahead} this machine's");
    let fix = [
        format!("set it by the network: `ssh {host} sudo timedatectl set-ntp true`"),
        "or set this machine's clock, if it is the wrong one: `date -u`".to_owned(),
    ];
    if difference >= CLOCK_FAULT_SECONDS {
        findings.fault(Check::Clock, text).because("certificates and tokens count by the time").fix(fix);
    } else if difference >= CLOCK_WARNING_SECONDS {
        findings.warning(Check::Clock, text).fix(fix);
    } else {
        findings.good(Check::Clock, "its clock is right");
    }
}

fn registry(
    findings: &mut Findings,
    around: Surroundings<'_>,
    host: &HostName,
    answer: Option<&RegistryAnswer>,
) {
    let (Some(answer), Some(registry)) = (answer, &around.project.registry) else { return };
    let name = registry.place.prefix().unwrap_or_else(|| "docker.io".to_owned());
    let (finding, fix) = match answer {
        RegistryAnswer::Answers => return findings.good(Check::Registry, format!("`{name}` answers")),
        RegistryAnswer::NoAddress => (
            format!("`{name}` has no address there"),
            format!(
                "see who resolves names there: `ssh {host} 'cat /etc/resolv.conf; getent ahosts {name}'`"
            ),
        ),
        RegistryAnswer::NoConnection => (
            format!("nothing answers at `{name}` there"),
            format!(
                "does the host reach the network outside? `ssh {host} 'ip route; curl -v https://{name}/v2/'`"
            ),
        ),
        RegistryAnswer::TooSlow => (
            format!("`{name}` does not answer the host in time"),
            format!("a firewall may drop it: `ssh {host} 'curl -v https://{name}/v2/'`"),
        ),
        RegistryAnswer::Certificate => (
            format!("the host does not believe the certificate of `{name}`"),
            format!(
                "add its authority under `/etc/docker/certs.d/{name}/ca.crt` on {host}, and set the clock right"
            ),
        ),
        RegistryAnswer::Broken { status } => (
            format!("`{name}` answers with HTTP status {status}"),
            "look at the registry itself, or leave `registry` out: images then go straight to the hosts"
                .to_owned(),
        ),
    };
    let instead =
        "or leave `registry` out of the deploy file: images then go straight to the hosts".to_owned();
    findings.fault(Check::Registry, finding).fix([fix, instead]);
}

/// Writes a size for people.
fn size(kib: u64) -> String {
    match kib {
        0..1024 => format!("{kib} KiB"),
        1024..1_048_576 => format!("{} MiB", kib / 1024),
        _ => {
            let tenths = kib.saturating_mul(10) / 1_048_576;
            format!("{}.{} GiB", tenths / 10, tenths % 10)
        }
    }
}
