//! What a process and its children have used, as the kernel counts it.

use std::path::Path;
use std::time::Duration;

/// Returns the processor time, user and system, of a process and all that descend from it.
///
/// It is read from `schedstat`, in nanoseconds: the ticks of `stat` are too coarse for a few thousand requests. Threads
/// that have ended are not in it, so take differences while all of them live.
pub(crate) fn cpu(pid: u32) -> std::io::Result<Duration> {
    let mut nanoseconds = 0;
    for process in family(pid)? {
        for thread in fs_err::read_dir(format!("/proc/{process}/task"))? {
            // A thread may end between the list and the look.
            let Ok(text) = fs_err::read_to_string(thread?.path().join("schedstat")) else { continue };
            nanoseconds += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Returns the resident memory of a process and all that descend from it, in bytes; what they share counts once.
pub(crate) fn resident(pid: u32) -> std::io::Result<u64> {
    let mut kilobytes = 0;
    for process in family(pid)? {
        let text = fs_err::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
        kilobytes += line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
    }
    Ok(kilobytes * 1024)
}

/// Returns a process and all that descend from it.
fn family(pid: u32) -> std::io::Result<Vec<u32>> {
    let mut members = vec![pid];
    let mut parents = Vec::new();
    for entry in fs_err::read_dir("/proc")? {
        let path = entry?.path();
        let Some(child) = number(&path) else { continue };
        // What follows the name, which may hold anything: state, parent.
        let Ok(text) = fs_err::read_to_string(path.join("stat")) else { continue };
        let Some((_, rest)) = text.rsplit_once(") ") else { continue };
        if let Some(parent) = rest.split(' ').nth(1).and_then(|parent| parent.parse::<u32>().ok()) {
            parents.push((child, parent));
        }
    }
    let mut index = 0;
    while let Some(&member) = members.get(index) {
        members.extend(parents.iter().filter(|(_, parent)| *parent == member).map(|(child, _)| child));
        index += 1;
    }
    Ok(members)
}

fn number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.parse().ok()
}
