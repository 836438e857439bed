//! The scripts that run on hosts. POSIX `sh` and what coreutils and busybox have in common.
//!
//! Every value is quoted by the one function of the ssh crate; a script never holds a secret but in the argument of
//! the shell's own `printf`, which no process list shows.

use std::time::Duration;

use freehold_plan::{PlacedDirectory, PlacedFile, canary_file, state_directory};
use freehold_ssh::quote;

use crate::host::LeaseToken;

/// The exit code by which a script says that the lock is another's.
pub(super) const FENCED: i32 = 97;

fn lock_directory(stem: &str) -> String {
    format!(".kamal/lock-{stem}")
}

/// Prints what the shell knows of the host, one `name=value` a line; sockets that the user may use go before others.
pub(super) const GREETING: &str = r#"
printf 'home=%s\n' "$(pwd -P)"
printf 'parent=%s\n' "$PPID"
printf 'docker_host=%s\n' "${DOCKER_HOST-}"
if [ -z "${DOCKER_HOST-}" ] && { [ -n "${DOCKER_CONTEXT-}" ] ||
  grep -qs '"currentContext"' "${DOCKER_CONFIG:-$HOME/.docker}/config.json"; }; then
  docker context inspect --format 'context={{.Name}} {{.Endpoints.docker.Host}}' 2>/dev/null
fi
if [ -e /etc/freehold/guard.nft ]; then echo guard=yes; fi
if grep -q ' freehold-transfer [0-9a-f]*$' .ssh/authorized_keys 2>/dev/null; then echo neighbour=left; fi
for usable in -w -e; do
  for socket in /var/run/docker.sock "${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/docker.sock" \
    "$HOME/.docker/run/docker.sock" /run/podman/podman.sock; do
    if [ -S "$socket" ] && [ "$usable" "$socket" ]; then printf 'socket=%s\n' "$socket"; fi
  done
done
"#;

/// Tries to take the lock. Prints `acquired N`, or `held AGE` and what is known of the holder.
pub(super) fn acquire(stem: &str, details_base64: &str, lease: &str) -> String {
    let (lock, state) = (lock_directory(stem), state_directory(stem));
    format!(
        r#"
lock={lock}; state={state}
mkdir -p .kamal && (umask 077 && mkdir -p "$state") || exit 1
now=$(date +%s)
next=$(($(cat "$state/fence" 2>/dev/null || echo 0) + 1))
if [ "$next" -lt "$now" ]; then next=$now; fi
rmdir "$lock" 2>/dev/null
if mkdir "$lock" 2>/dev/null; then
  printf '%s\n' {lease} > "$lock/lease-$next" && printf '%s' {details} > "$lock/details" || exit 1
  printf '%s\n' "$next" > "$state/fence.new" && mv "$state/fence.new" "$state/fence" || exit 1
  printf 'acquired %s\n' "$next"
  exit 0
fi
if ! [ -d "$lock" ]; then printf 'cannot make %s\n' "$lock" >&2; exit 1; fi
for file in "$lock"/lease-*; do
  if [ -e "$file" ]; then
    printf 'held %s %s %s\n' "${{file##*-}}" "$(($(date +%s) - $(stat -c %Y "$file")))" "$(cat "$file")"
  fi
done
printf 'details %s\n' "$(tr -d '\n' < "$lock/details" 2>/dev/null)"
"#,
        lock = quote(&lock),
        state = quote(&state),
        lease = quote(lease),
        details = quote(&wrapped(details_base64)),
    )
}

/// Takes over the lock of a holder that is gone: whoever renames its lease file wins.
pub(super) fn take_over(stem: &str, old_fence: u64, details_base64: &str, lease: &str) -> String {
    let (lock, state) = (lock_directory(stem), state_directory(stem));
    format!(
        r#"
lock={lock}; state={state}
now=$(date +%s); next=$(({old_fence} + 1))
stored=$(($(cat "$state/fence" 2>/dev/null || echo 0) + 1))
if [ "$next" -lt "$stored" ]; then next=$stored; fi
if [ "$next" -lt "$now" ]; then next=$now; fi
mv "$lock/lease-{old_fence}" "$lock/lease-$next" 2>/dev/null || exit {FENCED}
printf '%s\n' {lease} > "$lock/lease-$next" && printf '%s' {details} > "$lock/details" || exit 1
printf '%s\n' "$next" > "$state/fence.new" && mv "$state/fence.new" "$state/fence" || exit 1
printf 'acquired %s\n' "$next"
"#,
        lock = quote(&lock),
        state = quote(&state),
        lease = quote(lease),
        details = quote(&wrapped(details_base64)),
    )
}

/// Shows a sign of life; exit code [`FENCED`] when the lock is another's.
pub(super) fn renew(token: &LeaseToken) -> String {
    let file = quote(&format!("{}/lease-{}", lock_directory(&token.stem), token.fence));
    format!("[ -e {file} ] && touch -c {file} && [ -e {file} ] || exit {FENCED}")
}

/// Gives the lock back if it is still ours.
pub(super) fn release(token: &LeaseToken) -> String {
    let lock = lock_directory(&token.stem);
    format!(
        "lock={}; if mv \"$lock/lease-{}\" \"$lock/released\" 2>/dev/null; then rm -f \"$lock/details\" && rm -rf \"$lock\"; fi",
        quote(&lock),
        token.fence
    )
}

/// Removes the lock whoever holds it. Exit code 3 when there is none.
pub(super) fn break_lock(stem: &str) -> String {
    let lock = quote(&lock_directory(stem));
    format!("[ -d {lock} ] || exit 3; rm -f {lock}/details && rm -rf {lock}")
}

/// Raises the fencing number, ends the sessions of earlier holders and registers our own.
pub(super) fn raise_fence(token: &LeaseToken, session: Option<u32>) -> String {
    let state = quote(&state_directory(&token.stem));
    // A client that takes the lock again over the same connection is an earlier holder, too.
    let own = session.map_or_else(String::new, |pid| pid.to_string());
    let register = session.map_or_else(String::new, |pid| {
        format!(
            "started=$(sed 's/^.*) //' /proc/{pid}/stat 2>/dev/null | cut -d' ' -f20); \
             printf '{pid} %s\\n' \"$started\" > \"$state/sessions/{fence}-{pid}\" || exit 1",
            fence = token.fence
        )
    });
    format!(
        r#"
state={state}; fence={fence}
(umask 077 && mkdir -p "$state/sessions") && mkdir -p .kamal || exit 1
seen=$(cat "$state/fence" 2>/dev/null || echo 0)
if [ "$seen" -gt "$fence" ]; then exit {FENCED}; fi
if [ "$seen" -lt "$fence" ]; then
  printf '%s\n' "$fence" > "$state/fence.new" && mv "$state/fence.new" "$state/fence" || exit 1
fi
for file in "$state"/sessions/*; do
  [ -e "$file" ] || continue
  name=${{file##*/}}
  if [ "${{name%%-*}}" -lt "$fence" ]; then
    read -r pid started < "$file"
    now=$(sed 's/^.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f20)
    if [ "$pid" != "{own}" ] && [ -n "$started" ] && [ "$now" = "$started" ]; then kill "$pid" 2>/dev/null; fi
    rm -f "$file"
  fi
done
{register}
"#,
        fence = token.fence,
    )
}

/// Prints the fencing number, 0 where there is none yet.
pub(super) fn read_fence(stem: &str) -> String {
    format!("cat {} 2>/dev/null || echo 0", quote(&format!("{}/fence", state_directory(stem))))
}

/// Fails with [`FENCED`] when the host has seen a greater number. One that has seen none counts as 0, the number of a
/// run under a lock of Kamal's.
pub(super) fn check_fence(token: &LeaseToken) -> String {
    // Every step begins with this: the shell reads the number by itself, without another process.
    format!(
        "state={}; seen=0; if [ -e \"$state/fence\" ]; then read -r seen < \"$state/fence\"; fi\n\
         [ \"$seen\" = {} ] || exit {FENCED}\n",
        quote(&state_directory(&token.stem)),
        token.fence
    )
}

/// Stores a plan, if given, and begins an empty journal.
pub(super) fn begin_journal(token: &LeaseToken, plan: Option<&str>) -> String {
    let plan = plan.map_or_else(String::new, |plan| {
        format!("printf '%s\\n' {} > \"$state/plan.new\" && mv \"$state/plan.new\" \"$state/plan.json\" || exit 1\n", quote(plan))
    });
    format!(
        "{}umask 077\n{plan}: > \"$state/journal\" || exit 1\nsync \"$state\"/journal \"$state\"/plan.json 2>/dev/null || sync\n",
        check_fence(token)
    )
}

/// Appends lines to the journal. They reach the disk a moment later: a client that dies loses nothing, a host that
/// dies loses its containers' processes with them.
pub(super) fn append_journal(token: &LeaseToken, lines: &str) -> String {
    format!(
        "{}printf '%s\\n' {} >> \"$state/journal\" || exit 1\nsync \"$state/journal\" >/dev/null 2>&1 &",
        check_fence(token),
        quote(lines)
    )
}

/// Prints the journal and the plan, if there are any. Exit code 3 when there is no journal.
pub(super) fn read_journal(stem: &str) -> String {
    let state = quote(&state_directory(stem));
    format!(
        "cd {state} 2>/dev/null || exit 3; [ -e journal ] || exit 3; cat journal; printf '\\001'; cat plan.json 2>/dev/null; :"
    )
}

/// Removes the journal and the plan.
pub(super) fn end_journal(token: &LeaseToken) -> String {
    format!(
        "{}rm -f \"$state/journal\" \"$state/plan.json\" \"$state\"/sessions/{}-*",
        check_fence(token),
        token.fence
    )
}

/// Appends to the audit file.
pub(super) fn append_audit(stem: &str, lines: &str) -> String {
    format!(
        "mkdir -p .kamal && printf '%s\\n' {} >> {}",
        quote(lines),
        quote(&format!(".kamal/{stem}-audit.log"))
    )
}

/// Prints the last lines of the audit file.
pub(super) fn read_audit(stem: &str, lines: u32) -> String {
    format!("tail -n {lines} {} 2>/dev/null; :", quote(&format!(".kamal/{stem}-audit.log")))
}

/// Prints every stored release, each with the byte 1 behind it; behind the byte 2 that which is tried, if one is; and behind
/// another those of the folders that exist.
pub(super) fn read_releases(stem: &str, folders: &[String]) -> String {
    let folders: String = folders.iter().map(|folder| format!(" {}", quote(folder))).collect();
    format!(
        r#"
for file in {}/releases/*.json; do [ -e "$file" ] && cat "$file" && printf '\001'; done
printf '\002'
if [ -e {canary} ]; then cat {canary}; fi
printf '\002'
for folder in{folders}; do
  if [ -d "$folder" ] || grep -q " freehold-transfer ${{folder##*/}}\$" .ssh/authorized_keys 2>/dev/null
  then printf '%s\n' "$folder"; fi
done
"#,
        quote(&state_directory(stem)),
        canary = quote(&canary_file(stem)),
    )
}

/// Forgets which release is tried.
pub(super) fn forget_canary(token: &LeaseToken) -> String {
    format!("{}rm -f {}", check_fence(token), quote(&canary_file(&token.stem)))
}

/// Stores a release.
pub(super) fn write_release(token: &LeaseToken, id: &str, json: &str) -> String {
    format!(
        "{}umask 077; mkdir -p \"$state/releases\" && printf '%s\\n' {} > \"$state/releases/.new\" && mv \"$state/releases/.new\" \"$state/releases/\"{}.json",
        check_fence(token),
        quote(json),
        quote(id)
    )
}

/// Forgets stored releases.
pub(super) fn forget_releases(token: &LeaseToken, ids: &[String]) -> String {
    let files: String = ids.iter().map(|id| format!(" \"$state/releases/\"{}.json", quote(id))).collect();
    format!("{}rm -f{files}", check_fence(token))
}

/// Makes folders. Those of Kamal keep the usual mode, ours are private.
pub(super) fn make_directories(token: &LeaseToken, directories: &[String]) -> String {
    let folders: String = directories
        .iter()
        .map(|directory| {
            let private = if directory.starts_with(".kamal/freehold") || directory.contains("/env/") {
                "umask 077; "
            } else {
                ""
            };
            format!("( {private}mkdir -p {} ) || exit 1\n", quote(directory))
        })
        .collect();
    format!("{}{folders}", check_fence(token))
}

/// Removes folders.
pub(super) fn remove_directories(directories: &[String]) -> String {
    let folders: String = directories.iter().map(|directory| format!(" {}", quote(directory))).collect();
    format!("rm -rf{folders}")
}

/// Writes a private file as a whole.
pub(super) fn write_private_file(token: &LeaseToken, path: &str, content: &str) -> String {
    let new = quote(&format!("{path}.new"));
    let path = quote(path);
    format!(
        "{}umask 077; printf '%s' {} > {new} && chmod 600 {new} && mv {new} {path}",
        check_fence(token),
        quote(content)
    )
}

/// Makes a directory of an accessory. What is in it stays.
pub(super) fn place_directory(token: &LeaseToken, directory: &PlacedDirectory) -> String {
    let path = quote(&directory.path);
    let mut script = format!("{}mkdir -p {path} || exit 1\n", check_fence(token));
    if let Some(mode) = directory.mode {
        script.push_str(&format!("chmod {mode} {path} || exit 1\n"));
    }
    if let Some(owner) = &directory.owner {
        script.push_str(&format!("chown {} {path} || exit 1\n", quote(owner)));
    }
    script
}

fn new_file(path: &str) -> String {
    quote(&format!("{path}.freehold-new"))
}

/// Begins a file beside its place, readable by its owner alone.
pub(super) fn begin_file(token: &LeaseToken, path: &str) -> String {
    let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
    format!(
        "{}mkdir -p {} || exit 1\numask 077; : > {new} || exit 1\n",
        check_fence(token),
        quote(folder),
        new = new_file(path)
    )
}

/// Appends to a file that was begun.
pub(super) fn append_file(token: &LeaseToken, path: &str, base64: &str) -> String {
    format!("{}printf '%s' {} | base64 -d >> {}", check_fence(token), quote(base64), new_file(path))
}

/// Puts a file that was begun in its place. A container that has mounted the old one sees the new content only if the
/// file itself stays, so an existing one is written over.
pub(super) fn end_file(token: &LeaseToken, file: &PlacedFile) -> String {
    let (path, new) = (quote(&file.path), new_file(&file.path));
    let owner = file
        .owner
        .as_ref()
        .map_or_else(String::new, |owner| format!("chown {} {path} || exit 1\n", quote(owner)));
    format!(
        "{}if [ -f {path} ]; then cmp -s {new} {path} || cat {new} > {path} || exit 1; rm -f {new}; else mv {new} {path} || exit 1; fi\n\
         chmod {mode} {path} || exit 1\n{owner}",
        check_fence(token),
        mode = file.mode,
    )
}

/// Prints how many KiB are free where our files are.
pub(super) const READ_FREE_KILOBYTES: &str =
    "df -P -k . | tail -n 1 | { read -r _ _ _ free _; echo \"$free\"; }";

/// Prints the sockets on which the processes of a container listen, and free space and memory.
pub(super) fn read_listeners(pid: i64) -> String {
    format!("cat /proc/{pid}/net/tcp /proc/{pid}/net/tcp6 2>/dev/null; :")
}

/// Prints the lock as it is: `held N AGE JSON` and `details BASE64`. Exit code 3 when there is none.
pub(super) fn read_lock(stem: &str) -> String {
    format!(
        r#"
lock={}
[ -d "$lock" ] || exit 3
for file in "$lock"/lease-*; do
  if [ -e "$file" ]; then
    printf 'held %s %s %s\n' "${{file##*-}}" "$(($(date +%s) - $(stat -c %Y "$file")))" "$(cat "$file")"
  fi
done
printf 'details %s\n' "$(tr -d '\n' < "$lock/details" 2>/dev/null)"
"#,
        quote(&lock_directory(stem))
    )
}

/// Base64 in lines of 60, as Kamal writes it.
fn wrapped(base64: &str) -> String {
    let mut text = String::new();
    for (index, character) in base64.chars().enumerate() {
        if index > 0 && index % 60 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push('\n');
    text
}

/// How long a script of ours may take: none does more than a few file operations.
pub(super) const SCRIPT_DEADLINE: Duration = Duration::from_secs(30);
