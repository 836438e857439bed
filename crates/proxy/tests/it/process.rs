//! A proxy in a process of its own, which ends with the test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;
use std::thread::JoinHandle;

use crate::command_line::{start_process_on, terminate};

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Reads what it logs, and what those log that have taken over.
    log: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts one with its files in a folder; 0 takes a free port.
    pub(crate) fn start(folder: &Path, port: u16) -> Self {
        let mut child = start_process_on(folder, port);
        let output = BufReader::new(child.stdout.take().unwrap());
        let log = std::thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            // Those of requests that went well are many and tell nothing.
            lines
                .filter(|line| !line.contains("\"status\":200"))
                .fold(String::new(), |log, line| log + &line + "\n")
        });
        Self { child, log: Some(log) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended; says whether it ended well, and returns the log.
    pub(crate) async fn wait(mut self) -> (bool, String) {
        let log = self.log.take().unwrap();
        tokio::task::spawn_blocking(move || {
            let status = self.child.wait().unwrap();
            (status.success(), log.join().unwrap())
        })
        .await
        .unwrap()
    }

    /// Ends it and returns the log.
    pub(crate) async fn end(self) -> String {
        terminate(&self.child);
        let (is_well, log) = self.wait().await;
        assert!(is_well, "{log}");
        log
    }
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
