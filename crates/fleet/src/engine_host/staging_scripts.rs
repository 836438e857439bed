//! The scripts that keep pieces of images on a host. POSIX `sh` and coreutils.

use freehold_ssh::quote;

/// Looks at the free space where the engine keeps images and in the login directory, at what an earlier try left, and at
/// the tools that pieces need. Whoever may not use the engine's socket may perhaps by `sudo`.
pub(super) fn room(directory: &str, data_root: &str, socket: &str) -> String {
    format!(
        r#"
free() {{ df -P -k "$1" 2>/dev/null | tail -n 1 | {{ read -r _ _ _ free _ mount; echo "$free $mount"; }}; }}
printf 'engine=%s\n' "$(free {root})"
printf 'staging=%s\n' "$(free .)"
if [ -w {socket} ]; then
  for tool in docker curl; do
    if command -v "$tool" >/dev/null 2>&1; then printf 'loader=%s\n' "$tool"; break; fi
  done
elif sudo -n docker -H {engine} version >/dev/null 2>&1; then printf 'loader=sudo\n'
else printf 'lacks=socket\n'
fi
for tool in head wc gzip sha256sum; do
  command -v "$tool" >/dev/null 2>&1 || printf 'lacks=%s\n' "$tool"
done
if [ -d .kamal ]; then [ -w .kamal ]; else [ -w . ]; fi || printf 'lacks=login directory\n'
# One that reads ahead takes what is behind a piece with it, as that of busybox does.
[ "$(printf abcd | {{ head -c 1 >/dev/null; cat; }})" = bcd ] || printf 'lacks=head\n'
if [ -d {directory} ]; then printf 'left=%s\n' "$(du -s -k {directory} | {{ read -r size _; echo "$size"; }})"; fi
"#,
        root = quote(data_root),
        socket = quote(socket),
        engine = quote(&format!("unix://{socket}")),
        directory = quote(directory),
    )
}

/// Waits for a load that an earlier connection began, removes the pieces of other layers, and prints the digests and
/// names of the rest.
pub(super) fn found(directory: &str, layers: &[&str]) -> String {
    let kept: String = layers.iter().map(|layer| format!("{}.*|", quote(layer))).collect();
    format!(
        r#"
cd {directory} 2>/dev/null || exit 0
if [ -e load.pid ]; then
  read -r pid < load.pid
  turns=0
  while kill -0 "$pid" 2>/dev/null && [ "$(readlink "/proc/$pid/cwd" || pwd -P)" = "$(pwd -P)" ] && [ "$turns" -lt 1800 ]
  do sleep 1; turns=$((turns + 1)); done
  rm -f load.pid
fi
rm -f .t.* .l.* .k.* .h.* .n.* .e.*
for file in *; do
  case $file in {kept}f.*) ;; *) rm -f -- "$file" ;; esac
done
for file in *; do
  if [ -f "$file" ]; then sha256sum -- "$file" || exit 1; fi
done
"#,
        directory = quote(directory),
    )
}

/// Takes pieces from standard input into a folder, which it makes.
pub(super) fn take(directory: &str) -> String {
    format!(
        "umask 077\nmkdir -p {directory} && cd {directory} || exit 20\n{}",
        take_each(":"),
        directory = quote(directory),
    )
}

/// Ends [`take_each`] where what comes is no piece that it may take.
pub(super) const STRANGE: u32 = 24;

/// Ends [`take_each`] where the disk is full; the last line of standard error is then the free space in kilobytes.
pub(super) const FULL: u32 = 28;

/// Takes pieces from standard input, each behind a line `NAME SIZE BYTES KIND`, and prints the name of each that is whole.
/// A piece gets its name when it is whole, so that a connection that breaks leaves no half one. `check` is run before each;
/// what sends them may be a host that others rule, so that no name leads out of the folder.
pub(super) fn take_each(check: &str) -> String {
    format!(
        r#"
new=.t.$$
LC_ALL=C; export LC_ALL
lost() {{
  rm -f "$new"
  free=$(df -P -k . 2>/dev/null | tail -n 1 | {{ read -r _ _ _ free _; echo "$free"; }})
  if [ "${{free:-999999999}}" -lt "$((($1 + 65535) / 1024))" ]; then echo "$free" >&2; exit {FULL}; fi
  exit "$2"
}}
while read -r name size bytes kind; do
  case $name in '' | [!0-9a-f]* | *[!0-9a-f.]*) exit {STRANGE} ;; esac
  case $size:$bytes in :* | *: | *[!0-9:]*) exit {STRANGE} ;; esac
  {check}
  case $kind in
    gzip) head -c "$bytes" | gzip -d -c > "$new" ;;
    *) head -c "$bytes" > "$new" ;;
  esac || lost "$size" 21
  [ "$(wc -c < "$new")" -eq "$size" ] || lost "$size" 22
  mv -f "$new" "$name" || lost "$size" 23
  printf '%s\n' "$name"
done
rm -f "$new"
"#
    )
}

/// Loads the pieces whose names come on standard input, `end` behind them. The load outlives the connection: a break does not undo what the
/// engine has unpacked by then.
pub(super) fn load(directory: &str, socket: &str, loader: Loader) -> String {
    let command = match loader {
        Loader::Docker => {
            format!("DOCKER_HOST={} docker load --quiet", quote(&format!("unix://{socket}")))
        }
        Loader::SudoDocker => {
            format!("sudo -n docker -H {} load --quiet", quote(&format!("unix://{socket}")))
        }
        Loader::Curl => format!(
            "curl --silent --show-error --fail --unix-socket {} --header 'Content-Type: application/x-tar' \
             --header 'Expect:' --upload-file - --request POST 'http://docker/images/load?quiet=1'",
            quote(socket)
        ),
    };
    format!(
        r#"
umask 077
cd {directory} || exit 20
echo $$ > load.pid
names=.l.$$.names; out=.l.$$.out; words=.l.$$.words; missing=.l.$$.missing
cat > "$names"
if [ "$(tail -n 1 "$names")" != end ]; then
  rm -f "$names" load.pid
  echo 'the list of pieces broke off' >&2
  exit 21
fi
trap '' HUP PIPE
while read -r name; do
  if [ "$name" = end ]; then break; fi
  cat "./$name" || exit 1
done < "$names" 2> "$missing" | {command} > "$out" 2> "$words"
code=$?
cat "$out"
cat "$words" "$missing" >&2
rm -f .l.$$.* load.pid
exit "$code"
"#,
        directory = quote(directory),
    )
}

/// What hands an archive to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loader {
    /// The `docker` command.
    Docker,
    /// The same by `sudo`, for a person who may not use the engine's socket.
    SudoDocker,
    /// `curl`, where there is no such command.
    Curl,
}

/// Removes all pieces.
pub(super) fn clear(directory: &str) -> String {
    format!(
        "rm -rf -- {directory}\nrmdir .kamal/freehold/transfer 2>/dev/null\n:\n",
        directory = quote(directory)
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Output, Stdio};

    use super::*;

    fn run(home: &std::path::Path, script: &str, input: &[u8]) -> Output {
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell");
        // A script that refuses its input does not read it.
        drop(child.stdin.take().expect("stdin").write_all(input));
        child.wait_with_output().expect("it ends")
    }

    fn text(output: &Output) -> String {
        String::from_utf8(output.stdout.clone()).expect("text")
    }

    const HERE: &str = ".kamal/freehold/transfer/it's";

    #[test]
    fn a_piece_has_a_name_only_when_it_is_whole() {
        let home = tempfile::tempdir().expect("a folder");
        let whole = run(home.path(), &take(HERE), b"aa.000000 5 5 raw\nhellof.bb 3 3 raw\nabc");
        assert_eq!((whole.status.code(), text(&whole)), (Some(0), "aa.000000\nf.bb\n".to_owned()));
        let torn = run(home.path(), &take(HERE), b"aa.000001 5 5 raw\nhel");
        assert_eq!((torn.status.code(), text(&torn)), (Some(22), String::new()));
        let torn = run(home.path(), &take(HERE), b"aa.000002 900 20 gzip\n\x1f\x8b\x08\x00");
        assert_ne!(torn.status.code(), Some(0));
        run(home.path(), &take(HERE), b"cc.000000 1 1 raw\nx");
        let left = run(home.path(), &found(HERE, &["aa"]), b"");
        let digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let names: Vec<String> =
            text(&left).lines().map(|line| line.split_whitespace().last().unwrap_or("").to_owned()).collect();
        assert_eq!(names, ["aa.000000", "f.bb"], "that of the other layer is gone");
        assert!(text(&left).starts_with(digest), "{}", text(&left));
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs_err::metadata(home.path().join(HERE).join("aa.000000")).expect("a file").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        run(home.path(), &clear(HERE), b"");
        assert!(!home.path().join(".kamal/freehold/transfer").exists());
        assert_eq!(run(home.path(), &found(HERE, &["aa"]), b"").status.code(), Some(0));
    }

    #[test]
    fn the_load_gets_all_pieces_in_order() {
        let home = tempfile::tempdir().expect("a folder");
        run(home.path(), &take(HERE), b"aa.000000 5 5 raw\nhelloaa.000001 6 6 raw\n world");
        let script = load(HERE, "/run/docker.sock", Loader::Docker);
        let fake = format!("docker() {{ cat; echo \" $*\" \"$DOCKER_HOST\"; return 3; }}\n{script}");
        let loaded = run(home.path(), &fake, b"aa.000000\naa.000001\nend\n");
        assert_eq!(text(&loaded), "hello world load --quiet unix:///run/docker.sock\n");
        assert_eq!(loaded.status.code(), Some(3), "{loaded:?}");
        let gone = run(home.path(), &fake, b"aa.000007\nend\n");
        assert!(String::from_utf8_lossy(&gone.stderr).contains("aa.000007"), "{gone:?}");
        let torn = run(home.path(), &fake, b"aa.000000\n");
        assert_eq!(
            (torn.status.code(), text(&torn)),
            (Some(21), String::new()),
            "nothing is loaded: {torn:?}"
        );
        let names: Vec<_> = fs_err::read_dir(home.path().join(HERE)).expect("a folder").collect();
        assert_eq!(names.len(), 2, "only the pieces are left: {names:?}");
    }

    #[test]
    fn the_room_is_told_with_the_tools_and_what_is_left() {
        let home = tempfile::tempdir().expect("a folder");
        run(home.path(), &take(HERE), &[b"aa.000000 9000 9000 raw\n".as_slice(), &[7; 9000]].concat());
        let told = text(&run(home.path(), &room(HERE, "/", "/"), b""));
        let value = |name: &str| {
            told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
        };
        assert!(value("engine").is_some_and(|line| line.ends_with(" /")), "{told}");
        assert!(value("staging").is_some_and(|line| line.split(' ').count() == 2), "{told}");
        assert!(value("left").is_some_and(|left| left.parse::<u64>().is_ok_and(|left| left >= 8)), "{told}");
        assert_eq!(value("lacks"), None);
        let told = text(&run(home.path(), &room(HERE, "/nowhere/at/all", "/"), b""));
        assert!(told.contains("engine= \n") || told.contains("engine=\n"), "{told}");
    }
}
