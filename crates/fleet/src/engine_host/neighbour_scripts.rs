//! The scripts by which one host gets pieces of an image from another, through the hosts' own OpenSSH. POSIX `sh`.

use freehold_ssh::quote;

use crate::engine_host::staging_scripts::{STRANGE, take_each};

/// How long the key of one copy is let in at most, should nobody take it away: an hour and a half.
const LET_IN_SECONDS: u32 = 5400;

/// A neighbour may be ruled by others: it gives what was asked for, and no piece is larger.
const LARGEST_BYTES: u32 = 8 * 1024 * 1024;

/// The name of the other host in the file with its key.
const NEIGHBOUR: &str = "freehold-neighbour";

/// Ends the line that lets a neighbour in, so that it is found again.
fn comment(directory: &str) -> String {
    let name = directory.rsplit('/').next().unwrap_or(directory);
    format!("freehold-transfer {name}")
}

/// The only command that the key can run: it reads names of pieces, one a line, and writes those that are there, each
/// behind its line as [`take_each`] reads it. It holds no quote and no backslash, which `authorized_keys` would read
/// otherwise than a shell.
fn reader(directory: &str) -> String {
    format!(
        "exec /bin/sh -c 'LC_ALL=C; export LC_ALL; cd {directory} || exit 20; while read -r name; do \
         case $name in [!0-9a-f]*|*[!0-9a-f.]*) exit 21;; ?*) ;; *) exit 21;; esac; \
         if [ -f $name ]; then size=$(wc -c < $name); echo $name $size $size raw; cat $name || exit 22; fi; done'"
    )
}

/// Lets a public key in, to read the pieces of one folder and nothing else, and prints the line that does it.
///
/// `restrict` forbids all that a key may do besides (OpenSSH 7.2), `expiry-time` ends it (7.7); an older server knows one
/// of them not and lets the key do nothing at all.
pub(super) fn let_in(directory: &str, public: &str) -> String {
    format!(
        r#"
umask 077
unset TZ
until=$(date -d "@$(($(date +%s) + {LET_IN_SECONDS}))" +%Y%m%d%H%M) || exit 20
case $until in ????????????) ;; *) exit 20 ;; esac
line='restrict,expiry-time="'$until'",command="'{reader}'" '{public}' '{comment}
mkdir -p .ssh || exit 21
{forget}
file=.ssh/authorized_keys
if [ -s "$file" ] && [ -n "$(tail -c 1 "$file")" ]; then echo >> "$file" || exit 22; fi
printf '%s\n' "$line" >> "$file" || exit 22
printf '%s\n' "$line"
"#,
        reader = quote(&reader(directory)),
        public = quote(public),
        comment = quote(&comment(directory)),
        forget = forget(directory),
    )
}

/// Takes away the line that let a neighbour in.
pub(super) fn shut_out(line: &str) -> String {
    format!("filter='grep -v -x -F -e'; pattern={}\n{WITHOUT}", quote(line))
}

/// Takes away the lines that an earlier delivery left which could not: those for the same folder.
pub(super) fn forget(directory: &str) -> String {
    let pattern = format!("^restrict,expiry-time=\"[0-9]*\",command=\"exec .* {}$", comment(directory));
    let pattern = quote(&pattern);
    format!(
        "if grep -q -e {pattern} .ssh/authorized_keys 2>/dev/null; then\nfilter='grep -v -e'; pattern={pattern}\n{WITHOUT}fi\n"
    )
}

/// Replaces the file by one without the lines that match. Its mode and owner stay; where it is a link, so does that.
const WITHOUT: &str = r#"
file=$(readlink -f .ssh/authorized_keys) || file=.ssh/authorized_keys
new=$file.freehold.$$
if cp -p "$file" "$new"; then
  $filter "$pattern" "$file" > "$new"
  if [ $? -le 1 ]; then mv -f "$new" "$file"; else rm -f "$new"; exit 23; fi
else
  exit 23
fi
"#;

/// Where pieces come from.
pub(super) struct From<'a> {
    pub(super) user: &'a str,
    pub(super) address: &'a str,
    pub(super) port: u16,
}

/// Gets pieces from a neighbour. Standard input has its host key, our private key and a line `end`, then the names of
/// pieces: no argument list has the key, and the file with it goes once the first piece comes.
pub(super) fn fetch(directory: &str, from: &From<'_>) -> String {
    let From { user, address, port } = from;
    let take = take_each(&format!(
        "[ ! -e \"$key\" ] || rm -f \"$key\" \"$known\"\n  \
         [ \"$kind\" = raw ] && [ \"$bytes\" -le {LARGEST_BYTES} ] && [ \"$bytes\" -eq \"$size\" ] && \
         grep -q -x -F -e \"$name\" \"$names\" || exit {STRANGE}"
    ));
    format!(
        r#"
umask 077
command -v ssh >/dev/null 2>&1 || {{ echo 'there is no `ssh` command' >&2; exit 30; }}
mkdir -p {directory} && cd {directory} || exit 20
key=.k.$$; known=.h.$$; names=.n.$$; ended=.e.$$
trap 'rm -f "$key" "$known" "$names" "$ended"' EXIT
trap 'exit 31' HUP INT TERM
read -r host_key || exit 31
printf '{NEIGHBOUR} %s\n' "$host_key" > "$known" || exit 20
while read -r line && [ "$line" != end ]; do printf '%s\n' "$line"; done > "$key" || exit 20
cat > "$names" || exit 20
{{
  ssh -F none -T -a -x -i "$key" -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes \
    -o StrictHostKeyChecking=yes -o UserKnownHostsFile="$known" -o GlobalKnownHostsFile=/dev/null \
    -o HostKeyAlias={NEIGHBOUR} -o CheckHostIP=no -o UpdateHostKeys=no -o PreferredAuthentications=publickey \
    -o ConnectTimeout=10 -o ServerAliveInterval=15 -o ServerAliveCountMax=3 -o LogLevel=ERROR \
    -p {port} -l {user} -- {address} pieces < "$names"
  echo $? > "$ended"
}} | {{
{take}
}}
code=$?
[ "$code" -eq 0 ] || exit "$code"
read -r code < "$ended" && exit "$code"
exit 31
"#,
        directory = quote(directory),
        user = quote(user),
        address = quote(address),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;
    use std::process::{Command, Output, Stdio};

    use super::*;

    const HERE: &str = ".kamal/freehold/transfer/ab12";
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKey";

    fn run(home: &Path, script: &str, input: &[u8], path: Option<&Path>) -> Output {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).current_dir(home).env("HOME", home);
        if let Some(path) = path {
            command.env("PATH", format!("{}:/usr/bin:/bin", path.display()));
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut stdin = child.stdin.take().expect("stdin");
        drop(stdin.write_all(input));
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn good(output: &Output) -> String {
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout)
    }

    #[test]
    fn a_key_is_let_in_and_shut_out_and_the_other_lines_stay() {
        let home = tempfile::tempdir().expect("a folder");
        let file = home.path().join(".ssh/authorized_keys");
        let line = good(&run(home.path(), &let_in(HERE, KEY), b"", None));
        assert!(line.starts_with("restrict,expiry-time=\"2"), "{line}");
        assert!(line.ends_with(&format!("{KEY} freehold-transfer ab12\n")), "{line}");
        assert_eq!(line.matches('"').count(), 4, "the command holds no quote: {line}");
        assert!(!line.contains('\\'), "nor a backslash: {line}");
        assert_eq!(fs_err::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
        good(&run(home.path(), &shut_out(line.trim_end()), b"", None));
        assert_eq!(fs_err::read_to_string(&file).expect("a file"), "");

        // A person's own file, without an end of line, behind a link, with a mode of its own.
        let real = home.path().join("keys");
        fs_err::rename(&file, &real).expect("renamed");
        fs_err::os::unix::fs::symlink(&real, &file).expect("a link");
        let own = "# mine\nssh-ed25519 AAAA ann@laptop\nssh-rsa BBBB freehold-transfer ab12";
        fs_err::write(&real, own).expect("written");
        fs_err::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).expect("a mode");
        let killed = good(&run(home.path(), &let_in(HERE, KEY), b"", None));
        assert_eq!(fs_err::read_to_string(&real).expect("a file"), format!("{own}\n{killed}"));
        // The next delivery lets its own key in and takes away what a killed one has left.
        let line = good(&run(home.path(), &let_in(HERE, &KEY.replace("IKey", "IOther")), b"", None));
        assert_eq!(fs_err::read_to_string(&real).expect("a file"), format!("{own}\n{line}"));
        good(&run(home.path(), &shut_out(line.trim_end()), b"", None));
        assert_eq!(fs_err::read_to_string(&real).expect("a file"), format!("{own}\n"));
        let meta = fs_err::metadata(&real).expect("a file");
        assert_eq!(meta.permissions().mode() & 0o777, 0o640, "the mode stays");
        assert_eq!(meta.uid(), fs_err::metadata(home.path()).expect("a folder").uid());
        assert!(fs_err::symlink_metadata(&file).expect("a link").file_type().is_symlink());
        // Those of another image's delivery stay.
        good(&run(home.path(), &let_in(HERE, KEY), b"", None));
        good(&run(home.path(), &forget(".kamal/freehold/transfer/cd34"), b"", None));
        assert_eq!(fs_err::read_to_string(&real).expect("a file").lines().count(), 4);
        good(&run(home.path(), &forget(HERE), b"", None));
        assert_eq!(fs_err::read_to_string(&real).expect("a file"), format!("{own}\n"));
        assert_eq!(fs_err::read_dir(home.path()).expect("a folder").count(), 2, "no file beside it is left");
        let bare = tempfile::tempdir().expect("a folder");
        good(&run(bare.path(), &forget(HERE), b"", None));
        assert_eq!(fs_err::read_dir(bare.path()).expect("a folder").count(), 0, "nothing is made");
    }

    #[test]
    fn the_reader_gives_pieces_of_its_folder_and_nothing_else() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join(HERE);
        fs_err::create_dir_all(&folder).expect("a folder");
        for (name, content) in
            [("aa.000000", "hello"), ("f.ee", " world"), (".t.12", "half"), ("load.pid", "1")]
        {
            fs_err::write(folder.join(name), content).expect("written");
        }
        fs_err::write(home.path().join("secret"), "secret").expect("written");
        let script = reader(HERE);
        let given = good(&run(home.path(), &script, b"aa.000000\naa.000009\nf.ee\n", None));
        assert_eq!(given, "aa.000000 5 5 raw\nhellof.ee 6 6 raw\n world");
        for bad in [
            "../../../../secret",
            "/etc/passwd",
            "..",
            ".t.12",
            "load.pid",
            "a b",
            "*",
            "$(id)",
            "",
            "-rf",
            "AA",
        ] {
            let refused = run(home.path(), &script, format!("{bad}\naa.000000\n").as_bytes(), None);
            assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(21), String::new()), "{bad}");
        }
    }

    #[test]
    fn pieces_come_through_ssh_and_the_key_is_gone_when_they_do() {
        let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (there, here) = (one.path().join(HERE), other.path().join(HERE));
        fs_err::create_dir_all(&there).expect("a folder");
        fs_err::write(there.join("aa.000000"), "hello").expect("written");
        fs_err::write(there.join("f.ee"), [7; 100_000]).expect("written");
        // Stands for `ssh` and the server behind it.
        let bin = other.path().join("bin");
        fs_err::create_dir_all(&bin).expect("a folder");
        let ssh = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$@\" > {dir}/arguments\ncat .k.* > {dir}/key; cat .h.* > {dir}/known\n\
             stat -c %a .k.* > {dir}/mode\ncd {home} && {reader}\n",
            dir = bin.display(),
            home = one.path().display(),
            reader = reader(HERE)
        );
        fs_err::write(bin.join("ssh"), ssh).expect("written");
        fs_err::set_permissions(bin.join("ssh"), std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let from = From { user: "deploy", address: "10.0.0.2", port: 2222 };
        let script = fetch(HERE, &from);
        let input =
            "ssh-ed25519 HOSTKEY\n-----BEGIN\nsecret key\n-----END\nend\naa.000000\naa.000001\nf.ee\n";
        let came = good(&run(other.path(), &script, input.as_bytes(), Some(&bin)));
        assert_eq!(came, "aa.000000\nf.ee\n");
        assert_eq!(fs_err::read_to_string(here.join("aa.000000")).expect("a piece"), "hello");
        let left: Vec<_> = fs_err::read_dir(&here).expect("a folder").collect();
        assert_eq!(left.len(), 2, "{left:?}");
        let said = |name: &str| fs_err::read_to_string(bin.join(name)).expect("a file");
        assert_eq!(said("key"), "-----BEGIN\nsecret key\n-----END\n");
        assert_eq!(said("known"), "freehold-neighbour ssh-ed25519 HOSTKEY\n");
        assert_eq!(said("mode"), "600\n");
        assert!(!said("arguments").contains("secret") && !script.contains("secret"), "{}", said("arguments"));
        assert!(said("arguments").contains("-l\ndeploy\n--\n10.0.0.2\n"), "{}", said("arguments"));

        // A neighbour that others rule cannot write anything else here.
        let strange = [
            "../../../../evil 5 5 raw\\nhello",
            "/tmp/evil 5 5 raw\\nhello",
            "dd.000000 5 5 raw\\nhello",
            "aa.000000 5 5 gzip\\nhello",
            "aa.000000 99999999 99999999 raw\\nhello",
            "aa.000000 x[$(id)] 5 raw\\nhello",
            ".ssh 5 5 raw\\nhello",
        ];
        for given in strange {
            fs_err::write(bin.join("ssh"), format!("#!/bin/sh\ncat .k.* >/dev/null\nprintf '{given}'\n"))
                .expect("written");
            let taken = run(other.path(), &script, input.as_bytes(), Some(&bin));
            assert_eq!(
                (taken.status.code(), text(&taken.stdout)),
                (Some(24), String::new()),
                "{given}: {taken:?}"
            );
        }
        assert!(!other.path().join("evil").exists());
        assert_eq!(fs_err::read_dir(&here).expect("a folder").count(), 2);

        // What `ssh` says is handed on, and no file of the key stays.
        fs_err::write(bin.join("ssh"), "#!/bin/sh\necho 'Permission denied' >&2\nexit 255\n")
            .expect("written");
        let refused = run(other.path(), &script, input.as_bytes(), Some(&bin));
        assert_eq!(refused.status.code(), Some(255), "{refused:?}");
        assert!(text(&refused.stderr).contains("Permission denied"));
        assert_eq!(fs_err::read_dir(&here).expect("a folder").count(), 2);
    }
}
