//! The state on a host, written by the real scripts in a real shell.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freehold_model::HostName;
use freehold_plan::StepId;

use super::{EngineHost, Reach, Workshop};
use crate::event::{Event, Watch};
use crate::host::{Holder, Host, HostError, LeaseAttempt, LeaseRequest, LeaseToken};
use crate::journal::{JournalEntry, JournalState};

struct Deaf;

impl Watch for Deaf {
    fn event(&self, _event: Event) {}
}

fn host(home: &Path) -> EngineHost {
    let reach = Reach::Local { home: home.to_owned(), socket: home.join("no.sock") };
    let workshop =
        Workshop::new(home.join("no.sock"), BTreeMap::new(), Vec::new(), BTreeMap::new(), BTreeMap::new());
    EngineHost::new(HostName::parse("localhost").expect("a name"), reach, workshop, Arc::new(Deaf))
}

fn request(holder: Holder) -> LeaseRequest {
    LeaseRequest {
        stem: "app".to_owned(),
        performer: "Ada".to_owned(),
        version: Some("v1".to_owned()),
        message: "it's \"quoted\"; $(not run)".to_owned(),
        holder,
        time_to_live: Some(Duration::from_secs(30)),
    }
}

fn living() -> Holder {
    Holder::current().expect("this process")
}

fn dead() -> Holder {
    Holder { started: 1, ..living() }
}

fn elsewhere() -> Holder {
    Holder { machine: "another".to_owned(), ..living() }
}

fn acquired(attempt: LeaseAttempt) -> (LeaseToken, bool) {
    match attempt {
        LeaseAttempt::Acquired { token, taken_over } => (token, taken_over),
        LeaseAttempt::Held(held) => panic!("held: {held:?}"),
    }
}

#[tokio::test]
async fn a_lock_is_ours_until_it_is_released() {
    let home = tempfile::tempdir().expect("a folder");
    let host = host(home.path());
    let (token, taken_over) = acquired(host.acquire_lease(&request(living())).await.expect("answers"));
    assert!(!taken_over);
    let LeaseAttempt::Held(held) = host.acquire_lease(&request(elsewhere())).await.expect("answers") else {
        panic!("a second holder");
    };
    assert!(held.details.contains("Locked by: Ada at "), "{}", held.details);
    assert!(held.details.contains("Message: it's \"quoted\"; $(not run)"), "{}", held.details);
    assert_eq!(held.holder, Some(living()));
    assert!(held.expires_in.is_some_and(|left| left > Duration::from_secs(20)));
    assert!(host.renew_lease(&token).await.expect("answers"));
    host.release_lease(&token).await.expect("released");
    assert!(host.lock_status("app").await.expect("answers").is_none());
    let (next, _) = acquired(host.acquire_lease(&request(living())).await.expect("answers"));
    assert!(next.fence > token.fence);
    assert!(!host.renew_lease(&token).await.expect("answers"), "an old number renews nothing");
    host.release_lease(&token).await.expect("an old number releases nothing");
    assert!(host.renew_lease(&next).await.expect("answers"));
}

#[tokio::test]
async fn kamals_lock_is_never_taken_over() {
    let home = tempfile::tempdir().expect("a folder");
    let lock = home.path().join(".kamal/lock-app");
    fs_err::create_dir_all(&lock).expect("made");
    fs_err::write(lock.join("details"), "TG9ja2VkIGJ5OiBLYW1hbAo=\n").expect("written");
    let LeaseAttempt::Held(held) =
        host(home.path()).acquire_lease(&request(living())).await.expect("answers")
    else {
        panic!("taken over");
    };
    assert_eq!((held.details.as_str(), held.expires_in), ("Locked by: Kamal", None));
}

#[tokio::test]
async fn a_dead_holders_lock_is_taken_over_and_its_number_refused() {
    let home = tempfile::tempdir().expect("a folder");
    let host = host(home.path());
    let (old, _) = acquired(host.acquire_lease(&request(dead())).await.expect("answers"));
    host.raise_fence(&old).await.expect("registered");
    host.begin_journal(&old, None).await.expect("begun");
    let entry = JournalEntry { rollout: "r".to_owned(), step: StepId(1), state: JournalState::Begun };
    host.append_journal(&old, std::slice::from_ref(&entry)).await.expect("appended");
    let (new, taken_over) = acquired(host.acquire_lease(&request(living())).await.expect("answers"));
    assert!(taken_over && new.fence > old.fence);
    let late = host.append_journal(&old, std::slice::from_ref(&entry)).await;
    assert!(matches!(late, Err(HostError::Fenced { .. })), "{late:?}");
    assert!(matches!(host.raise_fence(&old).await, Err(HostError::Fenced { .. })));
    let journal = host.read_journal("app").await.expect("answers").expect("a journal");
    assert_eq!(journal.entries, vec![entry]);
    host.end_journal(&new).await.expect("ended");
    assert!(host.read_journal("app").await.expect("answers").is_none());
}

#[test]
fn a_greater_number_ends_the_sessions_of_others_but_not_ones_own() {
    let home = tempfile::tempdir().expect("a folder");
    let mut session = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
    let raise = |fence, pid| {
        let script = super::scripts::raise_fence(&LeaseToken { stem: "app".to_owned(), fence }, Some(pid));
        let status =
            std::process::Command::new("/bin/sh").args(["-c", &script]).current_dir(home.path()).status();
        assert!(status.expect("sh runs").success());
    };
    raise(1, session.id());
    raise(2, session.id());
    assert!(session.try_wait().expect("asked").is_none(), "one client took the lock twice");
    raise(3, std::process::id());
    assert!(!session.wait().expect("ended").success(), "its holder is an earlier one now");
}

#[tokio::test]
async fn an_expired_lock_of_another_machine_is_taken_over() {
    let home = tempfile::tempdir().expect("a folder");
    let host = host(home.path());
    let (old, _) = acquired(host.acquire_lease(&request(elsewhere())).await.expect("answers"));
    assert!(matches!(host.acquire_lease(&request(living())).await, Ok(LeaseAttempt::Held(_))));
    let file = home.path().join(format!(".kamal/lock-app/lease-{}", old.fence));
    let touched = std::process::Command::new("touch").args(["-d", "2 minutes ago"]).arg(&file).status();
    assert!(touched.expect("touch runs").success());
    let (_, taken_over) = acquired(host.acquire_lease(&request(living())).await.expect("answers"));
    assert!(taken_over);
}

#[tokio::test]
async fn a_torn_last_line_of_the_journal_is_left_out_and_a_torn_middle_is_an_error() {
    let home = tempfile::tempdir().expect("a folder");
    let host = host(home.path());
    let state = home.path().join(".kamal/freehold/apps/app");
    fs_err::create_dir_all(&state).expect("made");
    let line = r#"{"rollout":"r","step":1,"state":"done"}"#;
    fs_err::write(state.join("journal"), format!("{line}\n{{\"roll")).expect("written");
    let journal = host.read_journal("app").await.expect("answers").expect("a journal");
    assert_eq!(journal.entries.len(), 1);
    fs_err::write(state.join("journal"), format!("{{\"roll\n{line}\n")).expect("written");
    assert!(matches!(host.read_journal("app").await, Err(HostError::Stored { .. })));
}

#[tokio::test]
async fn what_is_stored_is_private() {
    use std::os::unix::fs::PermissionsExt;

    let home = tempfile::tempdir().expect("a folder");
    let host = host(home.path());
    let (token, _) = acquired(host.acquire_lease(&request(living())).await.expect("answers"));
    host.begin_journal(&token, None).await.expect("begun");
    let mode =
        |path: &str| fs_err::metadata(home.path().join(path)).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(".kamal/freehold/apps/app"), 0o700);
    assert_eq!(mode(".kamal/freehold/apps/app/journal"), 0o600);
    host.append_audit("app", &["[now] [Ada] 'quoted'".to_owned()]).await.expect("appended");
    assert_eq!(host.audit("app", 50).await.expect("answers"), vec!["[now] [Ada] 'quoted'".to_owned()]);
}
