//! How the guard's table is changed.
//!
//! One change of a host at a time: `/run/freehold-guard.pending` is made only where there is none, and holds the token of the
//! change that is under way. Whether the change stays is decided once, by the rename of a file that bears its token; whoever
//! renamed it does what follows and takes `pending` away at the end. So a timer that sleeps too long, or a client that comes too
//! late, finds nothing of its own and touches nothing of the next change.

use std::time::Duration;

use freehold_ssh::quote;

use super::{BUSY, FOLDER, MOVED, TOO_LATE, as_root};

/// A table to be loaded.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine_host) struct Loading<'a> {
    /// What names the change: letters and digits.
    pub(in crate::engine_host) token: &'a str,
    /// The digest of what was stored when the table was made.
    pub(in crate::engine_host) surveyed: &'a str,
    /// The table.
    pub(in crate::engine_host) ruleset: &'a str,
    /// After how long the change undoes itself.
    pub(in crate::engine_host) undo_after: Duration,
}

/// Begins a change, or ends with [`BUSY`]; ends with [`MOVED`] where the host has not what the change was made from.
fn begin(token: &str, surveyed: &str, cleanup: &str) -> String {
    format!(
        r#"
token={token}
if ! (set -C; printf '%s\n' "$token" >"$run.pending") 2>/dev/null; then
  if [ -e "$run.pending" ]; then exit {BUSY}; fi
  echo "cannot write $run.pending" >&2
  exit 1
fi
trap 'rm -f {cleanup} "$run.pending"' EXIT
trap 'exit 1' HUP INT TERM
if [ "$(digest)" != {surveyed} ]; then exit {MOVED}; fi
"#,
        token = quote(token),
        surveyed = quote(surveyed),
    )
}

/// Checks a table, arms the timer that undoes it, and loads it. Nothing is stored for the next boot yet.
///
/// What the timer goes back to is the table that was confirmed last, or none.
pub(in crate::engine_host) fn load(loading: &Loading<'_>) -> String {
    as_root(&load_script(loading))
}

fn load_script(loading: &Loading<'_>) -> String {
    let seconds = loading.undo_after.as_secs().max(1);
    let cleanup = r#""$run.change.$token" "$run.before" "$run.undo" "$dir/guard.new""#;
    format!(
        r#"
mkdir -p "$dir/guard.d" || exit 1
{begin}
printf '%s' {ruleset} >"$dir/guard.new" && nft -c -f "$dir/guard.new" || exit 1
rm -f "$run.before"
if [ -s "$dir/guard.nft" ] && nft list table inet freehold >/dev/null 2>&1; then
  cp "$dir/guard.nft" "$run.before" || exit 1
fi
cat >"$run.undo" <<'END' || exit 1
PATH=$PATH:/usr/sbin:/sbin
run=/run/freehold-guard; token=$1; word=undone
# Another has decided, or it is another change's turn.
mv "$run.change.$token" "$run.undone.$token" 2>/dev/null || exit 0
if [ -s "$run.before" ]; then nft -f "$run.before" || word=stuck
elif nft list table inet freehold >/dev/null 2>&1; then nft delete table inet freehold || word=stuck; fi
printf '%s %s\n' "$token" "$word" >"$run.last"
rm -f "$run.before" "$run.undone.$token" "$run.undo" /etc/freehold/guard.new
rm -f "$run.pending"
END
: >"$run.change.$token" || exit 1
armed=
if has_systemd && command -v systemd-run >/dev/null 2>&1; then
  systemd-run --quiet --unit="freehold-guard-undo-$token" --on-active={seconds} --timer-property=AccuracySec=100ms \
    /bin/sh "$run.undo" "$token" >/dev/null 2>&1 && armed=yes
fi
if [ -z "$armed" ]; then
  if command -v setsid >/dev/null 2>&1; then start=setsid; else start=nohup; fi
  "$start" sh -c 'sleep {seconds}; exec sh /run/freehold-guard.undo "$0"' "$token" </dev/null >/dev/null 2>&1 &
fi
# From here on it is the timer, the confirmation or the client that ends the change.
trap - EXIT HUP INT TERM
if nft -f "$dir/guard.new"; then
  if [ -e "$run.change.$token" ]; then exit 0; fi
  # The timer ran out meanwhile and went back before there was anything to go back from.
  if (set -C; printf '%s\n' "$token" >"$run.pending") 2>/dev/null; then
    if [ -s "$dir/guard.nft" ]; then nft -f "$dir/guard.nft"; else nft delete table inet freehold; fi
    rm -f "$run.pending"
  fi
  echo 'the time to undo it was over before it was loaded' >&2
  exit 1
fi
sh "$run.undo" "$token"
exit 1
"#,
        begin = begin(loading.token, loading.surveyed, cleanup),
        ruleset = quote(loading.ruleset),
    )
}

/// Goes back to the table before, at once, unless that was done or the change was confirmed. Prints which: `undone`, `stuck`
/// where the table before could not be loaded, `stored` or `confirmed`; nothing where it cannot be told.
pub(in crate::engine_host) fn undo(token: &str) -> String {
    as_root(&undo_script(token))
}

fn undo_script(token: &str) -> String {
    format!(
        r#"
token={token}
if [ -e "$run.undo" ]; then sh "$run.undo" "$token" >&2; fi
# Whoever decided before us may still be at it.
for try in 1 2 3 4 5 6 7 8 9 10; do
  held=; if [ -e "$run.pending" ]; then read -r held <"$run.pending"; fi
  if [ "$held" != "$token" ]; then break; fi
  sleep 1
done
if has_systemd; then systemctl stop "freehold-guard-undo-$token.timer" >/dev/null 2>&1; fi
if [ -e "$run.last" ] && read -r whose word <"$run.last" && [ "$whose" = "$token" ]; then printf '%s\n' "$word"; fi
:
"#,
        token = quote(token),
    )
}

/// Confirms the loaded table: the timer is stopped and the table stored, with the policy of a project, and loaded at every
/// boot where there is an init system that we know.
pub(in crate::engine_host) fn confirm(token: &str, stem: &str, policy: Option<&str>) -> String {
    as_root(&confirm_script(token, stem, policy))
}

fn confirm_script(token: &str, stem: &str, policy: Option<&str>) -> String {
    let file = quote(&format!("{FOLDER}/guard.d/{stem}.json"));
    let (prepare, store) = match policy {
        Some(policy) => (
            format!("printf '%s\\n' {} >{file}.new || exit 1", quote(policy)),
            format!("mv {file}.new {file} || exit 1"),
        ),
        None => (String::new(), format!("rm -f {file}")),
    };
    format!(
        r#"
token={token}
if [ ! -e "$run.change.$token" ]; then exit {TOO_LATE}; fi
# What needs room on the disk comes before the timer is stopped.
listing >"$dir/guard.listing.new" || exit 1
{prepare}
if ! mv "$run.change.$token" "$run.confirmed.$token" 2>/dev/null; then
  rm -f "$dir/guard.listing.new" {file}.new
  exit {TOO_LATE}
fi
trap 'rm -f "$run.pending"' EXIT
trap 'exit 1' HUP INT TERM
if has_systemd; then systemctl stop "freehold-guard-undo-$token.timer" >/dev/null 2>&1; fi
rm -f "$run.confirmed.$token" "$run.undo" "$run.before"
mv "$dir/guard.new" "$dir/guard.nft" && mv "$dir/guard.listing.new" "$dir/guard.listing" || exit 1
{store}
printf '%s stored\n' "$token" >"$run.last"
{UNIT}
printf '%s confirmed\n' "$token" >"$run.last"
"#,
        token = quote(token),
    )
}

/// Stores the unit and has systemd load the table at every boot, before any network and before Docker. `nftables.service` flushes
/// every table when it is started, reloaded and stopped: it loads ours again after each.
const UNIT: &str = r#"
if has_systemd; then
nft=$(command -v nft)
cat >"/etc/systemd/system/$unit.new" <<END || exit 1
[Unit]
Description=Host guard of Freehold
Documentation=https://wiki.nftables.org/
DefaultDependencies=no
Wants=network-pre.target
After=local-fs.target systemd-modules-load.service nftables.service
Before=network-pre.target docker.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$nft -f /etc/freehold/guard.nft
ExecReload=$nft -f /etc/freehold/guard.nft

[Install]
WantedBy=multi-user.target docker.service
END
mkdir -p "${dropin%/*}" || exit 1
cat >"$dropin.new" <<END || exit 1
# Made by freehold firewall apply: what flushes every table loads the host guard again.
[Service]
ExecStartPost=-$nft -f /etc/freehold/guard.nft
ExecReload=-$nft -f /etc/freehold/guard.nft
ExecStopPost=-$nft -f /etc/freehold/guard.nft
END
mv "$dropin.new" "$dropin" && mv "/etc/systemd/system/$unit.new" "/etc/systemd/system/$unit" || exit 1
systemctl daemon-reload && systemctl enable --quiet "$unit" && systemctl restart "$unit" || exit 1
fi
"#;

/// Takes the guard off a host, with all that was stored for it.
pub(in crate::engine_host) fn remove(token: &str, surveyed: &str) -> String {
    as_root(&remove_script(token, surveyed))
}

fn remove_script(token: &str, surveyed: &str) -> String {
    format!(
        r#"
{begin}
if has_systemd; then
  systemctl disable --quiet --now "$unit" >/dev/null 2>&1
  rm -f "/etc/systemd/system/$unit" "$dropin"
  rmdir "${{dropin%/*}}" 2>/dev/null
  systemctl daemon-reload
fi
rm -rf "$run.last" "$dir/guard.nft" "$dir/guard.new" "$dir/guard.listing" "$dir/guard.d"
rmdir "$dir" 2>/dev/null
if nft list table inet freehold >/dev/null 2>&1; then nft delete table inet freehold || exit 1; fi
:
"#,
        begin = begin(token, surveyed, ""),
    )
}

#[cfg(test)]
mod tests;
