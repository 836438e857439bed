//! Who may come, by user and password (RFC 7617).
//!
//! The hashes are bcrypt's: of those that `htpasswd` makes, the only ones that are slow to guess. Slow is also what it costs
//! to check one, so a thread of its own does it, one after the other, and what it has found is kept for as long as the
//! file says the same, also in a process that takes over. Until then a request waits like one to a service that is paused.

mod desk;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::view::RequestView;
use desk::{Desk, Job};

/// How many passwords are remembered as right or wrong.
const REMEMBERED: usize = 1024;

/// The costs that are taken: below, a hash is guessed too easily; above, a check takes seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=14;

const MAX_USERS: usize = 1000;

/// The file of users cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthError {
    /// It cannot be read.
    #[error("cannot read the users")]
    Read(#[from] io::Error),
    /// A line says nothing; it is not shown, since it may hold a password.
    #[error("line {line} of `{path}` {wrong}", path = path.display())]
    Line { path: PathBuf, line: usize, wrong: &'static str },
    /// There are none, or too many.
    #[error("`{path}` has {count} users, and 1 to {MAX_USERS} are needed", path = path.display())]
    Count { path: PathBuf, count: usize },
    /// The system gives no thread.
    #[error("cannot start the thread that checks passwords")]
    Thread(#[source] io::Error),
}

type Users = BTreeMap<Vec<u8>, String>;

type Fingerprint = [u8; 32];

/// What was found out about passwords, by a fingerprint that only this process can make.
type Findings = Arc<Mutex<BTreeMap<Fingerprint, bool>>>;

/// Told once, when a password was looked at.
pub(crate) type Ticket = Arc<Notify>;

/// Lets those in who are known.
#[derive(Debug)]
pub(super) struct Gatekeeper {
    /// None where nobody can be let in.
    desk: Option<Arc<Desk>>,
    findings: Findings,
    /// Mixed into fingerprints.
    salt: [u64; 4],
    /// Of the file.
    digest: Fingerprint,
}

/// What a process that takes over needs to know those again who were let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    digest: Fingerprint,
    salt: [u64; 4],
    fingerprints: Vec<Fingerprint>,
}

/// What a gatekeeper says.
#[derive(Debug)]
pub(super) enum Identity {
    Known,
    Stranger,
    /// It is being found out.
    Unsure(Ticket),
    /// It cannot be found out.
    Untold,
    /// It cannot be found out now: so long it would take.
    Busy(Duration),
}

impl Gatekeeper {
    /// Reads a file of users. Where it says what it said before, the one from before goes on; otherwise the thread that checks
    /// is started, which ends with the gatekeeper.
    pub(super) fn load(
        path: &Path,
        former: Option<&Arc<Self>>,
        known: Option<&Known>,
    ) -> Result<Arc<Self>, AuthError> {
        let text = fs_err::read_to_string(path)?;
        let users = parse(path, &text)?;
        let digest: Fingerprint = Sha256::digest(&text).into();
        if let Some(former) = former.filter(|former| former.desk.is_some() && former.digest == digest) {
            return Ok(Arc::clone(former));
        }
        let (desk, findings, mut salt) = (Arc::new(Desk::default()), Findings::default(), salt());
        if let Some(known) = known.filter(|known| known.digest == digest) {
            salt = known.salt;
            let fingerprints = known.fingerprints.iter().take(REMEMBERED);
            findings.lock().extend(fingerprints.map(|fingerprint| (*fingerprint, true)));
        }
        let (at, found) = (Arc::clone(&desk), Arc::clone(&findings));
        // The thread is not waited for: it may be in the midst of a slow check when the last request has gone.
        std::thread::Builder::new()
            .name("passwords".to_owned())
            .spawn(move || check_all(&users, &at, &found))
            .map_err(AuthError::Thread)?;
        Ok(Arc::new(Self { desk: Some(desk), findings, salt, digest }))
    }

    /// Makes one that lets nobody in.
    pub(super) fn closed() -> Arc<Self> {
        Arc::new(Self { desk: None, findings: Findings::default(), salt: salt(), digest: [0; 32] })
    }

    /// Returns what a process that takes over needs to know.
    pub(super) fn known(&self) -> Option<Known> {
        self.desk.as_ref()?;
        let findings = self.findings.lock();
        let right = findings.iter().filter(|(_, fits)| **fits).map(|(fingerprint, _)| *fingerprint);
        Some(Known { digest: self.digest, salt: self.salt, fingerprints: right.collect() })
    }

    /// Says who asks, by a client that is told apart by a number.
    pub(super) fn identify(&self, view: &RequestView<'_, '_>, client: u64) -> Identity {
        let Some(desk) = &self.desk else { return Identity::Untold };
        let Some((user, password)) = view.named("authorization").and_then(credentials) else {
            return Identity::Stranger;
        };
        let fingerprint = self.fingerprint(&user, &password);
        match self.findings.lock().get(&fingerprint) {
            Some(true) => return Identity::Known,
            Some(false) => return Identity::Stranger,
            None => {}
        }
        match desk.ask(Job { user, password, fingerprint, client }) {
            Ok(ticket) => Identity::Unsure(ticket),
            Err(wait) => Identity::Busy(wait),
        }
    }

    fn fingerprint(&self, user: &[u8], password: &[u8]) -> Fingerprint {
        let mut hash = Sha256::new();
        for part in self.salt {
            hash.update(part.to_le_bytes());
        }
        hash.update(u64::try_from(user.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(user);
        hash.update(password);
        hash.finalize().into()
    }
}

impl Drop for Gatekeeper {
    fn drop(&mut self) {
        if let Some(desk) = &self.desk {
            desk.close();
        }
    }
}

fn salt() -> [u64; 4] {
    std::array::from_fn(|place| RandomState::new().hash_one(place))
}

/// Reads the value of `Authorization: Basic`.
fn credentials(value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, token) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let text = STANDARD.decode(token.trim_ascii()).ok()?;
    let colon = text.iter().position(|byte| *byte == b':')?;
    let (user, password) = text.split_at_checked(colon)?;
    Some((user.to_vec(), password.get(1..)?.to_vec()))
}

fn check_all(users: &Users, desk: &Desk, findings: &Findings) {
    // A stranger is checked against somebody's hash, so that the time tells nobody which users there are.
    let any = users.values().next().cloned().unwrap_or_default();
    while let Some(job) = desk.next() {
        let started = Instant::now();
        // It may have been found out between the request's look and its question.
        let seen = findings.lock().contains_key(&job.fingerprint);
        if !seen {
            let hash = users.get(&job.user);
            let fits = bcrypt::verify(&job.password, hash.unwrap_or(&any)).unwrap_or(false);
            remember(&mut findings.lock(), job.fingerprint, fits && hash.is_some());
        }
        desk.done(&job.fingerprint, started.elapsed());
    }
}

/// Keeps a finding; what is wrong goes first where there is no room.
fn remember(findings: &mut BTreeMap<Fingerprint, bool>, fingerprint: Fingerprint, fits: bool) {
    if findings.len() >= REMEMBERED {
        findings.retain(|_, fits| *fits);
    }
    if findings.len() >= REMEMBERED {
        findings.clear();
    }
    findings.insert(fingerprint, fits);
}

fn parse(path: &Path, text: &str) -> Result<Users, AuthError> {
    let mut users = Users::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |wrong| AuthError::Line { path: path.to_owned(), line: number + 1, wrong };
        let (user, hash) = line.split_once(':').ok_or_else(|| wrong("is not `USER:HASH`"))?;
        if user.is_empty() {
            return Err(wrong("names no user"));
        }
        if !is_bcrypt(hash) {
            return Err(wrong(
                "has no hash of bcrypt with a cost of 4 to 14; make it with `htpasswd -nB USER`",
            ));
        }
        if users.insert(user.as_bytes().to_vec(), hash.to_owned()).is_some() {
            return Err(wrong("names a user for the second time"));
        }
    }
    match users.len() {
        1..=MAX_USERS => Ok(users),
        count => Err(AuthError::Count { path: path.to_owned(), count }),
    }
}

fn is_bcrypt(hash: &str) -> bool {
    let mut parts = hash.split('$');
    let (Some(""), Some("2y" | "2b" | "2a"), Some(cost), Some(rest), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let is_cost = cost.len() == 2 && cost.parse().is_ok_and(|cost: u32| COSTS.contains(&cost));
    let is_text = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
    is_cost && rest.len() == 53 && rest.bytes().all(is_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    // `htpasswd -nbB -C 4 ann secret`
    const ANN: &str = "ann:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

    fn users(text: &str) -> Result<Users, String> {
        parse(Path::new("users"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn files_are_those_of_htpasswd_with_bcrypt() {
        assert_eq!(users(&format!("# ours\n\n{ANN}\n")).unwrap().len(), 1);
        for (text, wanted) in [
            ("", "`users` has 0 users"),
            ("ann", "line 1 of `users` is not `USER:HASH`"),
            (":$2y$", "line 1 of `users` names no user"),
            ("\nann:$apr1$abc$def", "line 2 of `users` has no hash of bcrypt"),
            ("ann:secret", "line 1 of `users` has no hash of bcrypt"),
            (&ANN.replace("$04$", "$20$"), "line 1 of `users` has no hash of bcrypt"),
            (&format!("{ANN}\n{ANN}"), "line 2 of `users` names a user for the second time"),
        ] {
            let error = users(text).unwrap_err();
            assert!(error.starts_with(wanted), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_header_is_a_user_and_a_password() {
        let read = |text: &str| credentials(text.as_bytes());
        assert_eq!(read("Basic YW5uOmE6Yg=="), Some((b"ann".to_vec(), b"a:b".to_vec())));
        assert_eq!(read("bAsIc YW5uOg=="), Some((b"ann".to_vec(), Vec::new())));
        for text in ["Basic", "Basic !!!", "Basic YW5u", "Bearer YW5uOmE6Yg=="] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn the_same_file_is_the_same_gatekeeper_and_another_process_knows_whom_it_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        fs_err::write(&file, ANN).unwrap();
        let first = Gatekeeper::load(&file, None, None).unwrap();
        let print = first.fingerprint(b"ann", b"secret");
        remember(&mut first.findings.lock(), print, true);
        remember(&mut first.findings.lock(), [7; 32], false);
        assert!(Arc::ptr_eq(&first, &Gatekeeper::load(&file, Some(&first), None).unwrap()));
        let known: Known = serde_json::from_str(&serde_json::to_string(&first.known()).unwrap()).unwrap();
        let next = Gatekeeper::load(&file, None, Some(&known)).unwrap();
        assert_eq!(next.fingerprint(b"ann", b"secret"), print);
        assert_eq!(*next.findings.lock(), BTreeMap::from([(print, true)]));
        fs_err::write(&file, ANN.replace("ann", "bob")).unwrap();
        let other = Gatekeeper::load(&file, Some(&first), Some(&known)).unwrap();
        assert!(!Arc::ptr_eq(&first, &other) && other.findings.lock().is_empty());
        let closed = Gatekeeper::closed();
        assert!(closed.known().is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_right_stays() {
        let mut findings = BTreeMap::new();
        let fingerprint = |number: u32| {
            let mut print = [0; 32];
            print[..4].copy_from_slice(&number.to_be_bytes());
            print
        };
        remember(&mut findings, fingerprint(0), true);
        for number in 1..5000 {
            remember(&mut findings, fingerprint(number), false);
        }
        assert!(findings.len() <= REMEMBERED);
        assert_eq!(findings.get(&fingerprint(0)), Some(&true));
    }
}
