//! The scripts of the host guard. Where one needs root, it runs as root or through `sudo -n`.

use std::time::Duration;

use freehold_ssh::quote;

/// The exit code by which a script says that it may not become root.
pub(super) const NO_ROOT: i32 = 97;

/// The exit code by which a script says that another change of the guard waits for its confirmation.
pub(super) const BUSY: i32 = 98;

/// The exit code by which a script says that the timer has undone the change.
pub(super) const TOO_LATE: i32 = 99;

/// Where the guard's table, its listing and the policies of projects are stored on a host.
const FOLDER: &str = "/etc/freehold";

/// What several scripts need.
const HEAD: &str = r#"
PATH=$PATH:/usr/sbin:/sbin; export PATH; umask 022
dir=/etc/freehold; run=/run/freehold-guard; unit=freehold-guard.service; timer=freehold-guard-undo
has_systemd() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null 2>&1; }
listing() { nft --version; nft -s list table inet freehold; }
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
part enabled; if has_systemd && systemctl is-enabled --quiet "$unit" 2>/dev/null; then echo yes; fi
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

/// Checks a table, arms the timer that undoes it, and loads it. Nothing is stored for the next boot yet.
///
/// `before` is what the timer goes back to: the table that was confirmed last, or none.
pub(super) fn load(ruleset: &str, undo_after: Duration) -> String {
    let seconds = undo_after.as_secs().max(1);
    as_root(&format!(
        r#"
mkdir -p "$dir/guard.d" || exit 1
if [ -e "$run.pending" ]; then exit {BUSY}; fi
printf '%s' {ruleset} >"$dir/guard.new" && nft -c -f "$dir/guard.new" || exit 1
rm -f "$run.before"
if [ -s "$dir/guard.nft" ] && nft list table inet freehold >/dev/null 2>&1; then cp "$dir/guard.nft" "$run.before"; fi
cat >"$run.undo" <<'END' || exit 1
PATH=$PATH:/usr/sbin:/sbin
mv /run/freehold-guard.pending /run/freehold-guard.undone 2>/dev/null || exit 0
if [ -s /run/freehold-guard.before ]; then nft -f /run/freehold-guard.before
else nft delete table inet freehold 2>/dev/null; fi
rm -f /run/freehold-guard.before /run/freehold-guard.undone /etc/freehold/guard.new
END
: >"$run.pending" || exit 1
armed=
if has_systemd && command -v systemd-run >/dev/null 2>&1; then
  systemctl stop "$timer.timer" "$timer.service" >/dev/null 2>&1
  systemctl reset-failed "$timer.service" >/dev/null 2>&1
  systemd-run --quiet --unit="$timer" --on-active={seconds} --timer-property=AccuracySec=100ms \
    /bin/sh "$run.undo" >/dev/null 2>&1 && armed=yes
fi
if [ -z "$armed" ]; then
  if command -v setsid >/dev/null 2>&1; then start=setsid; else start=nohup; fi
  "$start" sh -c 'sleep {seconds}; exec sh /run/freehold-guard.undo' </dev/null >/dev/null 2>&1 &
fi
if nft -f "$dir/guard.new"; then
  [ -e "$run.pending" ] && exit 0
  # The timer ran out meanwhile and went back before there was anything to go back from.
  if [ -s "$dir/guard.nft" ]; then nft -f "$dir/guard.nft"; else nft delete table inet freehold; fi
  echo 'the time to undo it was over before it was loaded' >&2
  exit 1
fi
sh "$run.undo"
exit 1
"#,
        ruleset = quote(ruleset),
    ))
}

/// Goes back to the table before, at once.
pub(super) fn undo() -> String {
    as_root(
        r#"
if [ -e "$run.undo" ]; then sh "$run.undo"; fi
if has_systemd; then systemctl stop "$timer.timer" >/dev/null 2>&1; fi
:
"#,
    )
}

/// Confirms the loaded table: the timer is stopped and the table stored, with the policy of a project, and loaded at every
/// boot where there is an init system that we know.
pub(super) fn confirm(stem: &str, policy: Option<&str>) -> String {
    let file = quote(&format!("{FOLDER}/guard.d/{stem}.json"));
    let (prepare, store) = match policy {
        Some(policy) => (
            format!("printf '%s\\n' {} >{file}.new || exit 1", quote(policy)),
            format!("mv {file}.new {file} || exit 1"),
        ),
        None => (String::new(), format!("rm -f {file}")),
    };
    as_root(&format!(
        r#"
# What needs room on the disk comes before the timer is stopped.
listing >"$dir/guard.listing.new" || exit 1
{prepare}
mv "$run.pending" "$run.confirmed" 2>/dev/null || exit {TOO_LATE}
rm -f "$run.confirmed" "$run.undo" "$run.before"
if has_systemd; then systemctl stop "$timer.timer" >/dev/null 2>&1; fi
mv "$dir/guard.new" "$dir/guard.nft" && mv "$dir/guard.listing.new" "$dir/guard.listing" || exit 1
{store}
{UNIT}
"#
    ))
}

/// Stores the unit and has systemd load the table at every boot, before any network and before Docker. Debian's
/// `nftables.service` flushes every table when it starts: the guard comes after it and is loaded again with it.
const UNIT: &str = r#"
has_systemd || exit 0
nft=$(command -v nft)
cat >"/etc/systemd/system/$unit.new" <<END || exit 1
[Unit]
Description=Host guard of Freehold
Documentation=https://wiki.nftables.org/
DefaultDependencies=no
Wants=network-pre.target
After=local-fs.target systemd-modules-load.service nftables.service
Before=network-pre.target docker.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$nft -f /etc/freehold/guard.nft
ExecReload=$nft -f /etc/freehold/guard.nft

[Install]
WantedBy=multi-user.target docker.service
END
mv "/etc/systemd/system/$unit.new" "/etc/systemd/system/$unit" || exit 1
systemctl daemon-reload && systemctl enable --quiet "$unit" && systemctl restart "$unit"
"#;

/// Takes the guard off a host, with all that was stored for it.
pub(super) fn remove() -> String {
    as_root(
        r#"
if has_systemd; then
  systemctl stop "$timer.timer" >/dev/null 2>&1
  systemctl disable --quiet --now "$unit" >/dev/null 2>&1
  rm -f "/etc/systemd/system/$unit"
  systemctl daemon-reload
fi
rm -rf "$run.pending" "$run.undo" "$run.before" "$dir/guard.nft" "$dir/guard.new" "$dir/guard.listing" "$dir/guard.d"
rmdir "$dir" 2>/dev/null
if nft list table inet freehold >/dev/null 2>&1; then nft delete table inet freehold || exit 1; fi
:
"#,
    )
}

/// Tries connections from a host, at most 20 at a time. Its arguments stand as lines `PROTOCOL ADDRESS PORT` in `targets`.
///
/// Prints `src ADDRESS SOURCE` for each address with a route, `away ADDRESS` for one behind the gateway of a default route, and `seen PROTOCOL ADDRESS PORT WORD` for each target.
pub(super) fn probe(targets: &[String], wait: Duration) -> String {
    format!(
        r#"
wait={seconds}
has_bash=; if command -v bash >/dev/null 2>&1; then has_bash=yes; fi
once() {{
  if [ -z "$has_bash" ]; then
    command -v nc >/dev/null 2>&1 || {{ echo not-checked; return; }}
    if [ "$1" = udp ]; then echo not-checked
    elif nc -z -w "$wait" "$2" "$3" >/dev/null 2>&1; then echo open; else echo closed; fi
    return
  fi
  if [ "$1" = udp ]; then
    timeout "$((wait + 1))" bash -c 'exec 3<>"/dev/udp/$0/$1" && printf "\n" >&3 && read -r -t "$2" -n 1 -u 3 line
      code=$?; [ $code -gt 128 ] && exit 124; exit $code' "$2" "$3" "$wait" >/dev/null 2>&1
  else
    timeout "$wait" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$2" "$3" >/dev/null 2>&1
  fi
  case $? in 0) echo open ;; 124) echo silent ;; *) echo refused ;; esac
}}
try() {{
  seen=$(once "$1" "$2" "$3")
  if [ "$seen" = silent ]; then seen=$(once "$1" "$2" "$3"); fi
  printf 'seen %s %s %s %s\n' "$1" "$2" "$3" "$seen"
}}
targets={targets}
for address in $(printf '%s\n' "$targets" | cut -d ' ' -f 2 | sort -u); do
  route=$(ip -o route get "$address" 2>/dev/null)
  source=$(printf '%s\n' "$route" | sed -n 's/.* src \([^ ]*\).*/\1/p')
  if [ -n "$source" ]; then printf 'src %s %s\n' "$address" "$source"; fi
  interface=$(printf '%s\n' "$route" | sed -n 's/.* via .* dev \([^ ]*\).*/\1/p')
  if [ -n "$interface" ]; then
    if ip -4 route show default | grep -qF "dev $interface" || ip -6 route show default | grep -qF "dev $interface"; then
      printf 'away %s\n' "$address"
    fi
  fi
done
count=0
while read -r protocol address port; do
  try "$protocol" "$address" "$port" &
  count=$((count + 1))
  if [ "$((count % 20))" = 0 ]; then wait; fi
done <<END
$targets
END
wait
"#,
        seconds = wait.as_secs().max(1),
        targets = quote(&targets.join("\n")),
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Every script is one that a shell understands.
    #[test]
    fn scripts_are_shell() {
        let scripts = [
            as_root_if_possible(LOOK),
            load("table inet freehold {\n}\n", Duration::from_secs(60)),
            undo(),
            confirm("app-staging", Some("{\"it's\": 1}")),
            confirm("app", None),
            remove(),
            probe(&["tcp 127.0.0.1 1".to_owned()], Duration::from_secs(1)),
        ];
        for script in scripts {
            let output = Command::new("sh").args(["-n", "-c", &script]).output().unwrap();
            assert!(output.status.success(), "{}\n{script}", String::from_utf8_lossy(&output.stderr));
        }
    }

    #[test]
    fn a_probe_tells_an_open_port_from_a_refused_one() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let closed = {
            let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            other.local_addr().unwrap().port()
        };
        let targets = [format!("tcp 127.0.0.1 {port}"), format!("tcp 127.0.0.1 {closed}")];
        let script = probe(&targets, Duration::from_secs(2));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("seen tcp 127.0.0.1 {port} open")), "{text}");
        assert!(text.contains(&format!("seen tcp 127.0.0.1 {closed} refused")), "{text}");
    }
}
