use std::time::Duration;

use freehold_ssh::quote;

/// Tries connections from a host, at most 20 at a time. Its arguments stand as lines `PROTOCOL ADDRESS PORT` in `targets`.
///
/// Prints `src ADDRESS SOURCE` for each address with a route, `away ADDRESS` for one behind the gateway of a default route, and
/// `seen PROTOCOL ADDRESS PORT WORD` for each target: `open`, `refused`, `silent`, `unreachable`, `closed` where it was not accepted
/// and the host's program does not say how, `no-tool` where the host has no program for it.
///
/// The exit code of bash says only that there was no connection. Why is in the C library's words for the error number, which
/// are the same everywhere in the locale `C`; a word that is not known is `closed`.
pub(in crate::engine_host) fn probe(targets: &[String], wait: Duration) -> String {
    format!(
        r#"
wait={seconds}; LC_ALL=C; export LC_ALL
tool=
if command -v bash >/dev/null 2>&1 && command -v timeout >/dev/null 2>&1; then tool=bash
elif command -v nc >/dev/null 2>&1; then tool=nc; fi
once() {{
  case $tool:$1 in
    :*|nc:udp) echo no-tool; return ;;
    nc:tcp) if nc -z -w "$wait" "$2" "$3" >/dev/null 2>&1; then echo open; else echo closed; fi; return ;;
    bash:udp)
      said=$(timeout "$((wait + 1))" bash -c 'exec 3<>"/dev/udp/$0/$1" && printf "\n" >&3 &&
        read -r -t "$2" -n 1 -u 3 line; code=$?; [ $code -gt 128 ] && exit 124; exit $code' "$2" "$3" "$wait" 2>&1) ;;
    *) said=$(timeout "$wait" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$2" "$3" 2>&1) ;;
  esac
  case $?:$said in
    0:*) echo open ;;
    124:*|143:*|*'timed out'*) echo silent ;;
    *refused*|*'reset by peer'*) echo refused ;;
    *unreachable*|*'No route to host'*) echo unreachable ;;
    126:*|127:*|*'No such file'*|*'not supported'*) echo no-tool ;;
    *) echo closed ;;
  esac
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
    use std::net::{TcpListener, UdpSocket};
    use std::process::Command;

    use super::*;

    fn run(targets: &[String]) -> String {
        let script = probe(targets, Duration::from_secs(1));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_probe_is_shell() {
        let script = probe(&["tcp 127.0.0.1 1".to_owned()], Duration::from_secs(1));
        assert!(Command::new("sh").args(["-n", "-c", &script]).status().unwrap().success());
    }

    #[test]
    fn a_probe_tells_an_open_port_from_a_refused_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = run(&[format!("tcp 127.0.0.1 {port}"), format!("tcp 127.0.0.1 {closed}")]);
        assert!(text.contains(&format!("seen tcp 127.0.0.1 {port} open")), "{text}");
        assert!(text.contains(&format!("seen tcp 127.0.0.1 {closed} refused")), "{text}");
    }

    #[test]
    fn a_probe_tells_datagrams_that_are_answered_refused_and_swallowed() {
        let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
        let answering = echo.local_addr().unwrap().port();
        let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
        let silent = deaf.local_addr().unwrap().port();
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let answer = std::thread::spawn(move || {
            let mut buffer = [0; 16];
            let (count, from) = echo.recv_from(&mut buffer).unwrap();
            echo.send_to(&buffer[..count], from).unwrap();
        });
        let text = run(&[answering, silent, closed].map(|port| format!("udp 127.0.0.1 {port}")));
        answer.join().unwrap();
        assert!(text.contains(&format!("seen udp 127.0.0.1 {answering} open")), "{text}");
        assert!(text.contains(&format!("seen udp 127.0.0.1 {silent} silent")), "{text}");
        assert!(text.contains(&format!("seen udp 127.0.0.1 {closed} refused")), "{text}");
    }

    /// The reasons come from programs; a fake one gives each.
    #[test]
    fn a_probe_tells_why_there_is_no_connection() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bin");
        std::fs::create_dir(&path).unwrap();
        for program in ["cut", "sort", "sed", "grep", "ip", "printf"] {
            let found = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
                .iter()
                .map(|place| std::path::Path::new(place).join(program))
                .find(|place| place.exists());
            if let Some(found) = found {
                std::os::unix::fs::symlink(found, path.join(program)).unwrap();
            }
        }
        let ask = |files: &[(&str, &str)]| {
            for (name, text) in files {
                let place = path.join(name);
                fs_err::write(&place, text).unwrap();
                std::fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                    .unwrap();
            }
            let script = probe(&["tcp 127.0.0.1 9".to_owned()], Duration::from_secs(1));
            let output = Command::new("/bin/sh").args(["-c", &script]).env("PATH", &path).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.lines().find_map(|line| line.strip_prefix("seen tcp 127.0.0.1 9 ")).map(str::to_owned)
        };
        assert_eq!(ask(&[]).as_deref(), Some("no-tool"));
        assert_eq!(ask(&[("nc", "#!/bin/sh\nexit 1\n")]).as_deref(), Some("closed"));
        assert_eq!(ask(&[("bash", "#!/bin/sh\n")]).as_deref(), Some("closed"), "without `timeout`");
        let timeout =
            |code: u8, text: &str| format!("#!/bin/sh\necho 'bash: connect: {text}' >&2\nexit {code}\n");
        for (code, text, word) in [
            (1, "Connection refused", "refused"),
            (1, "No route to host", "unreachable"),
            (1, "Host is unreachable", "unreachable"),
            (1, "Network is unreachable", "unreachable"),
            (1, "Connection timed out", "silent"),
            (124, "", "silent"),
            (143, "", "silent"),
            (1, "/dev/tcp/127.0.0.1/9: No such file or directory", "no-tool"),
            (1, "something else", "closed"),
        ] {
            assert_eq!(ask(&[("timeout", &timeout(code, text))]).as_deref(), Some(word), "{code} {text}");
        }
    }
}
