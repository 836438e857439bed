use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a script ends with when the host does not reach its package sources. It has printed them, one `source=HOST` a
/// line.
pub(super) const NO_SOURCES: i32 = 75;

/// Sets `root` to what makes a command one of root's.
pub(in crate::engine_host) const ROOT: &str = r#"
root=; [ "$(id -u)" = 0 ] || root="sudo -n"
$root true 2>/dev/null || { echo 'this needs root, or sudo without a password' >&2; exit 1; }
"#;

/// Functions that install packages:
///
/// `packages` prints `apt`, `dnf` or nothing; `fetch_lists` gets the lists of packages; `fetch PACKAGE...` installs.
/// Both end the script when the sources cannot be reached, and print the end of what the package manager said.
///
/// The proxy's address holds a password: it is in a file that only we and root can read, and in no argument.
const FETCH: &str = r#"
said=$(mktemp) || exit 1
settings=
trap 'rm -f "$said" ${settings:+"$settings"}' EXIT
packages() {
  if command -v apt-get >/dev/null 2>&1; then echo apt
  elif command -v dnf >/dev/null 2>&1; then echo dnf
  fi
}
manager=$(packages)
sources() {
  case $manager in
    apt) cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources ;;
    dnf) cat /etc/yum.repos.d/*.repo ;;
  esac 2>/dev/null | grep -v '^ *#' | grep -oE 'https?://[^/ ]+' | sed 's,^.*//,,; s,^.*@,,; s,:[0-9]*$,,' | sort -u |
    sed 's/^/source=/'
}
if [ -n "$proxy" ]; then
  settings=$(mktemp) || exit 1
  address=$(printf '%s' "$proxy" | base64 -d)
  case $manager in
    apt)
      # What stands in /etc/apt is read later and would count, but a proxy for one host counts before one for all.
      { printf 'Acquire::http::Proxy "%s";\nAcquire::https::Proxy "%s";\n' "$address" "$address"
        sources | sed 's/^source=//' | while read -r place; do
          printf 'Acquire::http::Proxy::%s "%s";\nAcquire::https::Proxy::%s "%s";\n' \
            "$place" "$address" "$place" "$address"
        done
      } >"$settings" ;;
    dnf)
      login=${address#http://}; place=${login#*@}; login=${login%@*}
      { cat /etc/dnf/dnf.conf 2>/dev/null || echo '[main]'
        printf '\nproxy=http://%s\nproxy_username=%s\nproxy_password=%s\n' "$place" "${login%:*}" "${login#*:}"
      } >"$settings" ;;
  esac
fi
apt_once() {
  $root env LC_ALL=C DEBIAN_FRONTEND=noninteractive ${settings:+APT_CONFIG="$settings"} apt-get -q -y \
    -o APT::Update::Error-Mode=any -o Acquire::Retries=1 -o Acquire::http::Timeout=15 \
    -o Acquire::https::Timeout=15 -o Acquire::http::Pipeline-Depth=0 -o Dpkg::Options::=--force-confold \
    "$@" >"$said" 2>&1 </dev/null
}
is_locked() { grep -qE '^E: (Could not get lock|Unable to (acquire|lock)) ' "$said"; }
apt() {
  # A machine that is new updates itself at first, and has the lock for minutes.
  tries=0
  until apt_once "$@"; do
    is_locked && [ "$tries" -lt 100 ] || return 1
    tries=$((tries + 1)); sleep 3
  done
}
dnf() {
  $root env dnf ${settings:+-c "$settings"} -y -q --setopt=timeout=15 --setopt=retries=1 "$@" >"$said" 2>&1 </dev/null
}
# Called at the end where something failed, to put away what would be left behind.
clean() { :; }
failed() { clean; grep -v '^ *$' "$said" | tail -n 5 >&2; exit "$1"; }
fetch_lists() {
  case $manager in
    # One source that is broken or gone is none of our business as long as others answer.
    apt) apt -o Acquire::Retries=0 update || grep -qE '^(Hit|Get):' "$said" || { ! is_locked || failed 1; false; } ;;
    dnf) dnf makecache ;;
    *) echo 'neither apt-get nor dnf is there' >"$said"; failed 1 ;;
  esac || { [ -n "$proxy" ] || sources; failed 75; }
}
fetch() {
  case $manager in
    apt) apt install --no-install-recommends "$@" ;;
    dnf) dnf install "$@" ;;
  esac && return
  # Fedora skips sources that it does not reach (skip_if_unavailable), and then misses the package.
  missed=$(cat "$said")
  if [ "$manager" = dnf ] && [ -z "$proxy" ] && ! dnf --setopt='*.skip_if_unavailable=False' makecache; then
    sources; failed 75
  fi
  printf '%s\n' "$missed" >"$said"
  failed 1
}
"#;

/// Puts a script together: with the address of a proxy through which it gets packages, or without.
pub(super) fn install(script: &str, proxy: Option<&str>) -> String {
    let proxy = proxy.map(|address| STANDARD.encode(address)).unwrap_or_default();
    format!("{ROOT}\nproxy={proxy}\n{FETCH}\n{script}")
}

/// Reads the names of the package sources from what a script printed.
pub(super) fn sources(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.strip_prefix("source=")).map(str::to_ascii_lowercase).collect()
}
