//! The scripts run in a real shell, in a folder that stands for the host, with an `nft` that keeps a table in a file.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use super::super::{HEAD, LOOK, as_root_if_possible};
use super::*;

const NFT: &str = r#"#!/bin/sh
case $* in
  --version) echo 'nftables v1' ;;
  '-c -f '*) if grep -q broken "$3"; then echo 'syntax error' >&2; exit 1; fi ;;
  '-f '*) if grep -q unloadable "$2"; then exit 1; fi; cp "$2" ROOT/table ;;
  *'list table inet freehold') cat ROOT/table 2>/dev/null ;;
  'delete table inet freehold') rm ROOT/table ;;
  *) exit 2 ;;
esac
"#;

/// Instead of sleeping, the timer is written down, and a test runs it when it likes.
const SETSID: &str = "#!/bin/sh\nprintf '%s\\n' \"$4\" >>ROOT/timers\n";

struct FakeHost {
    folder: tempfile::TempDir,
}

impl FakeHost {
    fn new() -> Self {
        let host = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["bin", "run", "etc"] {
            std::fs::create_dir(host.path(folder)).unwrap();
        }
        for (name, text) in [("nft", NFT), ("setsid", SETSID)] {
            let place = host.path("bin").join(name);
            fs_err::write(&place, host.here(&text.replace("ROOT", "/ROOT"))).unwrap();
            std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Has a text mean this folder instead of the computer.
    fn here(&self, text: &str) -> String {
        let root = self.folder.path().display();
        text.replace("/run/systemd/system", "/run/nowhere")
            .replace("/run/freehold-guard", &format!("{root}/run/guard"))
            .replace("/etc/freehold", &format!("{root}/etc/freehold"))
            .replace("/ROOT", &root.to_string())
    }

    fn run(&self, script: &str) -> (i32, String) {
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        let script = self.here(&format!("{HEAD}{script}"));
        let output = Command::new("/bin/sh").args(["-c", &script]).env("PATH", path).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    fn digest(&self) -> String {
        self.run("digest").1
    }

    fn load(&self, token: &str, surveyed: &str, ruleset: &str) -> i32 {
        let undo_after = Duration::from_secs(60);
        self.run(&load_script(&Loading { token, surveyed, ruleset, undo_after })).0
    }

    /// Does what the sleeping timer of a change does when it wakes up.
    fn ring(&self, token: &str) {
        assert!(self.read("timers").unwrap().lines().any(|line| line == token), "the timer was armed");
        self.run(&format!(
            "if [ -e /run/freehold-guard.undo ]; then sh /run/freehold-guard.undo {token}; fi"
        ));
    }

    fn read(&self, name: &str) -> Option<String> {
        fs_err::read_to_string(self.path(name)).ok()
    }

    /// What of a change is left in the folder of running things.
    fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("run")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != "guard.last").collect();
        names.sort();
        names
    }
}

/// Every script is one that a shell understands.
#[test]
fn scripts_are_shell() {
    let loading = Loading {
        token: "0a",
        surveyed: "1b",
        ruleset: "table inet freehold {\n}\n",
        undo_after: Duration::from_secs(60),
    };
    let scripts = [
        as_root_if_possible(LOOK),
        load(&loading),
        undo("0a"),
        confirm("0a", "app-staging", Some("{\"it's\": 1}")),
        confirm("0a", "app", None),
        remove("0a", "1b"),
    ];
    for script in scripts {
        let output = Command::new("sh").args(["-n", "-c", &script]).output().unwrap();
        assert!(output.status.success(), "{}\n{script}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_confirmed_change_is_stored_and_its_timer_is_nothing_to_the_next() {
    let host = FakeHost::new();
    assert_eq!(host.load("a", &host.digest(), "first"), 0);
    assert_eq!(host.read("table").as_deref(), Some("first"));
    assert_eq!(host.run(&confirm_script("a", "app", Some("{}"))).0, 0);
    assert_eq!(host.read("etc/freehold/guard.nft").as_deref(), Some("first"));
    assert_eq!(host.read("etc/freehold/guard.d/app.json").as_deref(), Some("{}\n"));
    assert_eq!(host.left(), [""; 0]);
    host.ring("a");
    assert_eq!(host.read("table").as_deref(), Some("first"), "it was confirmed");

    assert_eq!(host.load("b", &host.digest(), "second"), 0);
    host.ring("a");
    assert_eq!(host.read("table").as_deref(), Some("second"), "the timer of another change");
    assert_eq!(host.run(&undo_script("a")).1, "confirmed");
    assert_eq!(host.read("table").as_deref(), Some("second"), "the client of another change");
    host.ring("b");
    assert_eq!(host.read("table").as_deref(), Some("first"), "its own");
    assert_eq!(host.left(), [""; 0]);
    assert_eq!(host.run(&confirm_script("b", "app", Some("{}"))).0, TOO_LATE);
    assert_eq!(host.run(&undo_script("b")), (0, "undone".to_owned()));
}

#[test]
fn what_was_undone_is_told_as_it_is() {
    let host = FakeHost::new();
    assert_eq!(host.load("a", &host.digest(), "first"), 0);
    assert_eq!(host.run(&undo_script("a")).1, "undone");
    assert_eq!(host.read("table"), None, "there was none before");
    assert_eq!(host.run(&undo_script("unheard")).1, "");

    assert_eq!(host.load("b", &host.digest(), "unloadable"), 1, "`nft` refused it when it was to be loaded");
    assert_eq!((host.read("table"), host.left()), (None, Vec::new()));

    assert_eq!(host.load("c", &host.digest(), "good"), 0);
    assert_eq!(host.run(&confirm_script("c", "app", None)).0, 0);
    fs_err::write(host.path("etc/freehold/guard.nft"), "unloadable").unwrap();
    assert_eq!(host.load("d", &host.digest(), "next"), 0);
    assert_eq!(host.run(&undo_script("d")).1, "stuck");
}

#[test]
fn one_change_at_a_time_and_only_from_what_was_seen() {
    let host = FakeHost::new();
    let seen = host.digest();
    assert_eq!(host.load("a", &seen, "first"), 0);
    assert_eq!(host.load("b", &seen, "second"), BUSY);
    assert_eq!(host.run(&remove_script("c", &seen)).0, BUSY);
    assert_eq!(host.run(&confirm_script("b", "second", Some("{}"))).0, TOO_LATE);
    assert_eq!(host.run(&confirm_script("a", "first", Some("{}"))).0, 0);
    assert_eq!(host.read("table").as_deref(), Some("first"));

    // The other project surveyed before the first was stored: its table knows nothing of the first one's policy.
    assert_eq!(host.load("b", &seen, "second"), MOVED);
    assert_eq!(host.run(&remove_script("c", &seen)).0, MOVED);
    assert_eq!((host.read("table").as_deref(), host.left()), (Some("first"), Vec::new()));
    assert_eq!(host.load("b", &host.digest(), "broken"), 1);
    assert_eq!(host.left(), [""; 0]);
    assert_eq!(host.load("b", &host.digest(), "second"), 0);
    assert_eq!(host.run(&confirm_script("b", "second", Some("{}"))).0, 0);
    assert_eq!(host.run(&remove_script("c", &host.digest())).0, 0);
    assert_eq!((host.read("table"), host.left()), (None, Vec::new()));
    assert!(!host.path("etc/freehold").exists());
}

#[test]
fn of_many_at_once_one_begins() {
    let host = FakeHost::new();
    let seen = host.digest();
    let codes: Vec<i32> = std::thread::scope(|scope| {
        let begin = |number: usize| {
            let (host, seen) = (&host, &seen);
            scope.spawn(move || host.load(&format!("t{number}"), seen, &format!("table {number}")))
        };
        let begun: Vec<_> = (0..8).map(begin).collect();
        begun.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == BUSY).count(), 7, "{codes:?}");
}
