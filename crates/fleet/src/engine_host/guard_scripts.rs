//! The scripts of the host guard. Where one needs root, it runs as root or through `sudo -n`.

mod change;
mod probe;

use freehold_ssh::quote;

pub(super) use change::{Loading, confirm, load, remove, undo};
pub(super) use probe::probe;

/// The exit code by which a script says that what is stored on the host is not what the change was made from.
pub(super) const MOVED: i32 = 96;

/// The exit code by which a script says that it may not become root.
pub(super) const NO_ROOT: i32 = 97;

/// The exit code by which a script says that another change of the guard is under way.
pub(super) const BUSY: i32 = 98;

/// The exit code by which a script says that the timer has undone the change.
pub(super) const TOO_LATE: i32 = 99;

/// Where the guard's table, its listing and the policies of projects are stored on a host.
const FOLDER: &str = "/etc/freehold";

/// What several scripts need. The digest is that of everything that a change is made from.
const HEAD: &str = r#"
PATH=$PATH:/usr/sbin:/sbin; export PATH; umask 022
dir=/etc/freehold; run=/run/freehold-guard; unit=freehold-guard.service
dropin=/etc/systemd/system/nftables.service.d/freehold-guard.conf
has_systemd() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; }
listing() { nft --version; nft -s list table inet freehold; }
digest() {
  if command -v sha256sum >/dev/null 2>&1; then sum=sha256sum; else sum=cksum; fi
  (cd "$dir" 2>/dev/null && for file in guard.nft guard.d/*.json; do
    if [ -f "$file" ]; then printf '%s\n' "$file"; cat "$file"; fi
  done) | "$sum" | cut -d ' ' -f 1
}
"#;

/// Runs a script as root where that is possible, and else as it is.
pub(super) fn as_root_if_possible(script: &str) -> String {
    format!("{}else sh -c \"$script\"; fi", as_root_begin(script))
}

/// Runs a script as root, or ends with [`NO_ROOT`].
fn as_root(script: &str) -> String {
    format!("{}else exit {NO_ROOT}; fi", as_root_begin(script))
}

fn as_root_begin(script: &str) -> String {
    format!(
        "script={}\nif [ \"$(id -u)\" = 0 ]; then sh -c \"$script\"; elif sudo -n true 2>/dev/null; then \
         sudo -n env SSH_CONNECTION=\"${{SSH_CONNECTION-}}\" sh -c \"$script\"; ",
        quote(&format!("{HEAD}{script}"))
    )
}

/// Prints what is known of the guard, of the networks and of what listens, each part behind a line that begins with the
/// record separator.
pub(super) const LOOK: &str = r#"
part() { printf '\036%s\n' "$1"; }
part user; id -u
part nft; command -v nft
part systemd; if has_systemd; then echo yes; fi
part packager; for name in apt-get dnf; do if command -v "$name" >/dev/null 2>&1; then echo "$name"; fi; done
part system; (. /etc/os-release 2>/dev/null; printf '%s\n' "${PRETTY_NAME:-unknown}")
part routes; ip -4 -o route show default 2>/dev/null; ip -6 -o route show default 2>/dev/null
part addresses; ip -o addr show || exit 1
part connection; printf '%s\n' "${SSH_CONNECTION-}"
part ruleset; cat "$dir/guard.nft" 2>/dev/null
part stored; cat "$dir/guard.listing" 2>/dev/null
part loaded; if nft list table inet freehold >/dev/null 2>&1; then listing; fi
part counters; nft -j list counters table inet freehold 2>/dev/null
part enabled
if has_systemd && [ -e "$dropin" ] && systemctl is-enabled --quiet "$unit" 2>/dev/null; then echo yes; fi
part digest; digest
part pending; if [ -e "$run.pending" ]; then echo yes; fi
part firewalls
if grep -qs '^ENABLED=yes' /etc/ufw/ufw.conf; then echo ufw; fi
if has_systemd && systemctl is-active --quiet firewalld 2>/dev/null; then echo firewalld; fi
part sockets; ss -Hltunp 2>/dev/null
for file in "$dir"/guard.d/*.json; do
  if [ -f "$file" ]; then part "policy ${file##*/}"; cat "$file"; fi
done
:
"#;
