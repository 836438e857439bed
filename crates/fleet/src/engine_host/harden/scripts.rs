use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freehold_plan::hardening_sysctl_names;

use crate::engine_host::packages::ROOT;

/// How long filling a swap file may take on a slow disk.
pub(super) const SWAP_DEADLINE: Duration = Duration::from_secs(300);

/// The file in which sshd reads our settings. The first value of a keyword counts (sshd_config(5)), and images of
/// providers set `PasswordAuthentication yes` in `50-cloud-init.conf`.
const SSHD_FILE: &str = "/etc/ssh/sshd_config.d/00-freehold.conf";

const SYSCTL_FILE: &str = "/etc/sysctl.d/60-freehold.conf";

/// Functions for sshd: `effective` prints the settings that count, `reload_sshd` has it read them in.
const SSHD: &str = r#"
sshd=$(command -v sshd || echo /usr/sbin/sshd)
effective() {
  $root "$sshd" -T 2>/dev/null |
    grep -E '^(passwordauthentication|kbdinteractiveauthentication|challengeresponseauthentication|permitrootlogin) '
}
reload_sshd() {
  if [ -d /run/systemd/system ]; then
    # Debian calls it ssh, Fedora sshd, and a name that is unknown would count as a failure.
    for unit in ssh.service sshd.service; do
      if systemctl is-active --quiet "$unit"; then $root systemctl reload-or-restart "$unit"; return; fi
    done
    # Started for each connection by a socket, it reads its settings each time.
  else $root sh -c 'kill -HUP "$(cat /run/sshd.pid)"'
  fi
}
"#;

/// Puts standard input into a file of root's, whole or not at all.
const PUT: &str = r#"
put() {
  $root mkdir -p "$(dirname "$1")" && $root sh -c 'umask 077; cat >"$1"' - "$1.freehold-new" || return 1
  # A file that was there keeps who may read it.
  if [ -e "$1" ]; then $root chmod --reference="$1" "$1.freehold-new"; else $root chmod 644 "$1.freehold-new"; fi &&
    $root mv "$1.freehold-new" "$1"
}
"#;

/// Prints the facts in the form that [`freehold_plan::ServerFacts::parse`] reads.
pub(super) fn facts() -> String {
    let names = hardening_sysctl_names().collect::<Vec<_>>().join(" ");
    let look = r#"
PATH=$PATH:/usr/sbin:/sbin
manager=none
if command -v apt-get >/dev/null 2>&1; then manager=apt; elif command -v dnf >/dev/null 2>&1; then manager=dnf; fi
echo "packages=$manager"
upgrades=no
case $manager in
  apt)
    if [ -x /usr/bin/unattended-upgrade ] &&
      apt-config dump APT::Periodic::Unattended-Upgrade 2>/dev/null | grep -q '"[1-9]'; then upgrades=yes; fi ;;
  dnf)
    for timer in dnf-automatic-install.timer dnf5-automatic.timer; do
      if systemctl is-enabled --quiet "$timer" 2>/dev/null; then upgrades=yes; fi
    done ;;
esac
echo "upgrades=$upgrades"
if [ -x "$sshd" ]; then effective | sed 's/^\([a-z]*\) /sshd.\1=/'; fi
for name in $names; do
  file=/proc/sys/$(echo "$name" | tr . /)
  if value=$($root cat "$file" 2>/dev/null); then echo "sysctl.$name=$value"; fi
done
swarm=no
if [ "$($root docker info --format '{{.Swarm.LocalNodeState}}' 2>/dev/null)" = active ]; then swarm=yes; fi
echo "swarm=$swarm"
while read -r name value unit; do
  case $name in
    MemTotal:) echo "memory_kib=$value" ;;
    SwapTotal:) echo "swap_kib=$value" ;;
  esac
done </proc/meminfo
echo "free_kib=$(df -Pk / | awk 'NR == 2 { print $4 }')"
container=no
if [ -f /.dockerenv ] || [ -f /run/.containerenv ] || $root grep -qz '^container=' /proc/1/environ 2>/dev/null; then
  container=yes
fi
echo "container=$container"
time=no
if [ "$(timedatectl show -p NTP --value 2>/dev/null)" = yes ] || cat /proc/[0-9]*/comm 2>/dev/null |
  grep -qxE 'chronyd|ntpd|ntpd-rs|openntpd|systemd-timesyn'; then time=yes; fi
echo "time=$time"
if pid=$($root cat /run/docker.pid 2>/dev/null); then
  # The engine refuses to start where a setting is both in its file and among its options.
  $root cat "/proc/$pid/cmdline" 2>/dev/null | tr '\0' '\n' | sed -nE 's/^--([a-z-]+)(=.*)?$/docker_option=\1/p' | sort -u
fi
if command -v dockerd >/dev/null 2>&1; then
  echo docker-file
  if [ -e /etc/docker/daemon.json ]; then $root cat /etc/docker/daemon.json; fi
fi
:
"#;
    format!("{ROOT}\n{SSHD}\nnames='{names}'\n{look}")
}

/// Installs automatic security upgrades and switches them on.
pub(super) fn upgrades() -> String {
    format!("{PUT}\n{UPGRADES}")
}

const UPGRADES: &str = r#"
fetch_lists
case $manager in
  apt)
    fetch unattended-upgrades
    printf '%s\n' 'APT::Periodic::Update-Package-Lists "1";' 'APT::Periodic::Unattended-Upgrade "1";' |
      $root tee /etc/apt/apt.conf.d/20auto-upgrades >/dev/null || exit 1 ;;
  dnf)
    fetch dnf-automatic
    for timer in dnf-automatic-install.timer dnf5-automatic.timer; do
      if $root systemctl cat "$timer" >/dev/null 2>&1; then
        # Whatever else stands there stays.
        conf=/etc/dnf/automatic.conf; kept=$(mktemp) || exit 1
        { echo '[commands]'; echo 'apply_updates = yes'; echo 'upgrade_type = security'
          $root cat "$conf" 2>/dev/null | sed -E '/^ *\[commands\]/d; /^ *(apply_updates|upgrade_type) *=/d'
        } >"$kept"
        put "$conf" <"$kept"; status=$?; rm -f "$kept"; [ "$status" = 0 ] || exit 1
        $root systemctl enable --now "$timer" >/dev/null 2>&1 && exit 0
      fi
    done
    echo 'dnf-automatic was installed, but has no timer that can be switched on' >&2; exit 1 ;;
esac
"#;

/// Installs what sets the clock and starts it.
pub(super) const TIME: &str = r#"
fetch_lists
case $manager in
  apt) fetch systemd-timesyncd; service=systemd-timesyncd ;;
  dnf) fetch chrony; service=chronyd ;;
esac
if [ -d /run/systemd/system ]; then $root systemctl enable --now $service >/dev/null 2>&1; else exit 0; fi || {
  echo "$service was installed, but cannot be started" >&2; exit 1
}
"#;

/// Writes the kernel's settings and applies them. Where one is refused, the file is what it was.
pub(super) fn sysctl(settings: &BTreeMap<String, String>) -> String {
    let text: String = settings.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    format!(
        "{ROOT}\n{PUT}\nPATH=$PATH:/usr/sbin:/sbin\nfile={SYSCTL_FILE}\nnew={}\n{}",
        STANDARD.encode(text),
        r#"
kept=$(mktemp) && old=$(mktemp) || exit 1
trap 'rm -f "$kept" "$old"' EXIT
$root cat "$file" >"$old" 2>/dev/null
# Settings of an earlier time stay: what counts already is not in the new ones.
{ echo '# Written by freehold server bootstrap --harden.'
  { $root cat "$file" 2>/dev/null; printf '%s' "$new" | base64 -d; } | grep -v '^#' | sort -u
} >"$kept"
put "$file" <"$kept" || exit 1
if ! $root sysctl -q -p "$file" >/dev/null; then
  if [ -s "$old" ]; then put "$file" <"$old"; else $root rm -f "$file"; fi
  exit 1
fi
"#
    )
}

/// Writes Docker's configuration if it still is what the plan was made from, checks it where the engine can, and has the
/// engine read it in.
pub(super) fn docker(before: &str, after: &str) -> String {
    format!(
        "{ROOT}\n{PUT}\nPATH=$PATH:/usr/sbin:/sbin\nbefore={}\nafter={}\n{}",
        STANDARD.encode(before),
        STANDARD.encode(after),
        r#"
file=/etc/docker/daemon.json
if [ "$($root cat "$file" 2>/dev/null | base64 | tr -d '\n')" != "$before" ]; then
  echo "$file has changed since it was looked at" >&2; exit 1
fi
new=$(mktemp) || exit 1
trap 'rm -f "$new"' EXIT
printf '%s' "$after" | base64 -d >"$new" || exit 1
if dockerd --help 2>/dev/null | grep -q -- --validate; then
  $root dockerd --validate --config-file="$new" >/dev/null || exit 1
fi
put "$file" <"$new" || exit 1
# The engine takes live-restore over at once; limits of logs count from its next start, for new containers.
if [ -s /run/docker.pid ]; then $root kill -HUP "$(cat /run/docker.pid)"; fi
:
"#
    )
}

/// Makes a swap file, switches it on and writes it down in `/etc/fstab`.
pub(super) fn swap(size_mib: u64) -> String {
    format!(
        "{ROOT}\nPATH=$PATH:/usr/sbin:/sbin\nsize={size_mib}\n{}",
        r#"
file=/swapfile
if [ -e $file ]; then echo "$file is there already, and is not in use" >&2; exit 1; fi
undo() { $root rm -f $file; exit 1; }
$root sh -c "umask 077; fallocate -l ${size}M $file 2>/dev/null || dd if=/dev/zero of=$file bs=1M count=$size status=none" || undo
$root mkswap $file >/dev/null || undo
$root swapon $file || undo
grep -q "^$file " /etc/fstab || echo "$file none swap sw 0 0" | $root tee -a /etc/fstab >/dev/null
"#
    )
}

/// Has sshd take keys and certificates only, and checks that this counts. What does not count is taken back.
pub(super) fn ssh_keys_only() -> String {
    let settings = "# Written by freehold server bootstrap --harden.\n\
        PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n";
    format!(
        "{ROOT}\n{SSHD}\n{PUT}\nfile={SSHD_FILE}\nsettings={}\n{}",
        STANDARD.encode(settings),
        r#"
undo() { $root rm -f "$file"; reload_sshd; echo "$1" >&2; exit 1; }
printf '%s' "$settings" | base64 -d | put "$file" || exit 1
$root "$sshd" -t || undo 'sshd refuses the new settings'
if effective | grep -qE '^(passwordauthentication yes|kbdinteractiveauthentication yes|permitrootlogin yes)'; then
  undo "something in /etc/ssh/sshd_config outweighs $file: it has to begin with Include /etc/ssh/sshd_config.d/*.conf"
fi
reload_sshd || undo 'sshd cannot be told of the new settings'
"#
    )
}

/// Takes our settings of sshd away.
pub(super) fn ssh_as_before() -> String {
    format!("{ROOT}\n{SSHD}\n$root rm -f {SSHD_FILE} && reload_sshd")
}
