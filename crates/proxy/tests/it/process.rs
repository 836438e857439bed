//! A proxy in a process of its own, which ends with the test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::command_line::{start_process_on, terminate};

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Reads what it logs, and what those log that have taken over.
    log: Option<JoinHandle<()>>,
    seen: Arc<Mutex<String>>,
}

impl Process {
    /// Starts one with its files in a folder; 0 takes a free port.
    pub(crate) fn start(folder: &Path, port: u16) -> Self {
        Self::start_with(folder, port, &[])
    }

    /// Starts one with further flags.
    pub(crate) fn start_with(folder: &Path, port: u16, more: &[&str]) -> Self {
        let mut child = start_process_on(folder, port, more);
        let output = BufReader::new(child.stdout.take().unwrap());
        let seen = Arc::new(Mutex::new(String::new()));
        let lines = Arc::clone(&seen);
        let log = std::thread::spawn(move || {
            // Those of requests that went well are many and tell nothing.
            let told = output.lines().map_while(Result::ok).filter(|line| !line.contains("\"status\":200"));
            told.for_each(|line| *lines.lock() += &(line + "\n"));
        });
        Self { child, log: Some(log), seen }
    }

    /// Returns what was logged so far.
    pub(crate) fn log(&self) -> String {
        self.seen.lock().clone()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended; says whether it ended well, and returns the log.
    pub(crate) async fn wait(mut self) -> (bool, String) {
        let log = self.log.take().unwrap();
        tokio::task::spawn_blocking(move || {
            let status = self.child.wait().unwrap();
            log.join().unwrap();
            (status.success(), self.log())
        })
        .await
        .unwrap()
    }

    /// Ends it with all that it has started, as the system does to a container that does not stop; returns the log.
    pub(crate) async fn kill(self) -> String {
        let mut ids = vec![self.child.id()];
        let mut at = 0;
        while let Some(id) = ids.get(at).copied() {
            ids.extend(children(id));
            at += 1;
        }
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        let killed = std::process::Command::new("kill").arg("-KILL").args(ids).status().unwrap();
        assert!(killed.success());
        self.wait().await.1
    }

    /// Ends it and returns the log.
    pub(crate) async fn end(self) -> String {
        terminate(&self.child);
        let (is_well, log) = self.wait().await;
        assert!(is_well, "{log}");
        log
    }
}

/// Returns the processes whose parent is one.
fn children(parent: u32) -> Vec<u32> {
    let entries = fs_err::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    let ids = entries.filter_map(|name| name.to_str()?.parse::<u32>().ok());
    let is_child = |id: &u32| {
        // One that has just ended has no file any more.
        let stat = fs_err::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let found = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        found.and_then(|found| found.parse().ok()) == Some(parent)
    };
    ids.filter(is_child).collect()
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has been waited for is gone; a test that has failed must not leave others behind.
        if matches!(self.child.try_wait(), Ok(None)) {
            terminate(&self.child);
            self.child.wait().unwrap();
        }
    }
}
