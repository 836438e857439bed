use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use freehold_model::{Diagnose, ErrorKind};
use freehold_ssh::{ConnectError, FirstUse, HopError, HopFailure, HostKeyError, Session};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Client, Key, Sshd, authority_signs, background, keygen};

/// Connects with known hosts of these lines alone; `NAME` is the server's name there.
async fn with(client: &Client, server: &Sshd, lines: &str) -> Result<Session, HostKeyError> {
    let name = format!("[127.0.0.1]:{}", server.port);
    fs_err::write(client.known_hosts(), lines.replace("NAME", &name)).unwrap();
    outcome(client).await
}

async fn outcome(client: &Client) -> Result<Session, HostKeyError> {
    match client.connect().await {
        Ok(session) => Ok(session),
        Err(ConnectError::Hop(HopError { failure: HopFailure::HostKey(source), .. })) => Err(source),
        Err(other) => panic!("{other:?}"),
    }
}

fn set_up() -> (Client, Sshd, String, String) {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    client.settings.port = Some(server.port);
    let right = server.host_key();
    let wrong = Key::new(&client.ssh(), "other", "ed25519").public();
    (client, server, right, wrong)
}

#[tokio::test]
async fn a_key_is_known_by_name_pattern_hash_and_port() {
    let (client, server, right, wrong) = set_up();
    let foreign = format!("elsewhere {wrong}\n");
    for line in [
        format!("NAME {right}"),
        format!("other,NAME {right} a comment"),
        format!("* {right}"),
        format!("127.0.0.* {right}"),
        format!("[127.0.0.?]:* {right}"),
        // A key that is known without a port is the host's on any port.
        format!("127.0.0.1 {right}"),
        // Several keys of a type, as after a change of the host's key or behind a balancer.
        format!("NAME {wrong}\nNAME {right}"),
        format!("  NAME \t {}  \t\r", right.replace(' ', " \t ")),
        format!("# comment\n\n{foreign}other garbage\nNAME {right}"),
        // A line that cannot be read does not take back what another line says.
        format!("NAME ssh-ed25519 AAAA\nNAME {right}"),
    ] {
        assert!(with(&client, &server, &line).await.is_ok(), "{line:?}");
    }
    fs_err::write(client.known_hosts(), format!("[127.0.0.1]:{} {right}\n", server.port)).unwrap();
    keygen(&["-q", "-H", "-f", client.known_hosts().to_str().unwrap()]);
    assert!(client.read_known_hosts().starts_with("|1|"));
    outcome(&client).await.unwrap();
}

#[tokio::test]
async fn a_key_that_no_line_allows_is_unknown() {
    let (client, server, right, wrong) = set_up();
    for line in [
        String::new(),
        format!("elsewhere {right}"),
        format!("[127.0.0.1]:1 {right}"),
        format!("*,!NAME,!127.0.0.1 {right}"),
        // The usual port's key does not make another port's one a changed one.
        format!("127.0.0.1 {wrong}"),
        // An authority speaks for certificates only.
        format!("@cert-authority NAME {right}"),
    ] {
        let error = with(&client, &server, &line).await.unwrap_err();
        assert!(matches!(error, HostKeyError::Unknown { .. }), "{line:?} {error:?}");
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(!client.read_known_hosts().contains("accepted"));
    }
}

#[tokio::test]
async fn a_changed_key_is_refused_with_its_line_both_fingerprints_and_the_way_out() {
    let (mut client, server, right, wrong) = set_up();
    client.first_use = FirstUse::Accept;
    client.config("Host *\n  StrictHostKeyChecking no\n");
    let error = with(&client, &server, &format!("# a\nNAME {wrong}\n")).await.unwrap_err();
    let HostKeyError::Changed { old, fingerprint, .. } = &error else { panic!("{error:?}") };
    assert_eq!((old.len(), old[0].line), (1, 2));
    let text = error.to_string();
    let file = client.known_hosts();
    assert!(text.contains(fingerprint) && fingerprint.starts_with("SHA256:"), "{text}");
    assert!(text.contains(old[0].fingerprint.as_ref().unwrap()), "{text}");
    assert!(text.contains(&format!("{}:2", file.display())), "{text}");
    let remove = format!("ssh-keygen -R '[127.0.0.1]:{}' -f {}", server.port, file.display());
    assert!(error.help().iter().any(|line| line.contains(&remove)), "{:?}", error.help());
    assert!(!client.read_known_hosts().contains(&right), "nothing is stored");
}

#[tokio::test]
async fn a_revoked_key_is_refused_whatever_else_is_said() {
    let (client, server, right, _) = set_up();
    for line in [
        format!("NAME {right}\n@revoked NAME {right}"),
        format!("@revoked * {right}\nNAME {right}"),
        format!("@revoked\tNAME\t{right}\n* {right}"),
    ] {
        let error = with(&client, &server, &line).await.unwrap_err();
        assert!(matches!(error, HostKeyError::Revoked { .. }), "{line:?} {error:?}");
    }
}

#[tokio::test]
async fn a_line_that_cannot_be_read_is_never_taken_for_silence() {
    let (mut client, server, right, _) = set_up();
    client.first_use = FirstUse::Accept;
    for line in [
        "NAME ssh-ed25519 AAAA".to_owned(),
        "NAME".to_owned(),
        "|1|broken|x ssh-ed25519 AAAA".to_owned(),
        format!("@revoked NAME ssh-ed25519 AAAA\nNAME {right}"),
        format!("@future NAME {right}\nNAME {right}"),
    ] {
        let error = with(&client, &server, &line).await.unwrap_err();
        assert!(matches!(error, HostKeyError::Unreadable { .. }), "{line:?} {error:?}");
        assert!(error.help()[0].starts_with("correct or remove line 1 of"), "{:?}", error.help());
    }
}

#[tokio::test]
async fn a_certificate_is_as_good_as_its_authority_its_names_and_its_time() {
    let (mut client, key) = Client::new();
    let authority = Key::new(&client.ssh(), "authority", "ed25519");
    let other = Key::new(&client.ssh(), "other", "ed25519").public();
    let host = Key::new(&client.ssh(), "host", "ed25519");
    let certificate = format!("HostCertificate {}", host.certificate().display());
    // sshd reads its certificate when it starts, and for each case it needs another one.
    let cases: [(&[&str], Option<&str>); 6] = [
        (&["-h", "-n", "127.0.0.1", "-V", "-1d:+1d"], None),
        (&["-h", "-n", "127.0.0.*"], None),
        (&["-h", "-n", "web.example.com"], Some("it is for other names")),
        (&["-h", "-n", "127.0.0.1", "-V", "-2d:-1d"], Some("it has expired")),
        (&["-h", "-n", "127.0.0.1", "-V", "+1d:+2d"], Some("it is not valid yet")),
        (&["-h"], None),
    ];
    for (options, fault) in cases {
        authority_signs(&authority, &host, options);
        let builder = Sshd::builder().authorize(&key.public()).host_key(&host);
        let running = builder.config(certificate.clone()).start();
        client.settings.port = Some(running.port);
        let public = authority.public();
        let result = with(&client, &running, &format!("@cert-authority NAME {public}")).await;
        match (fault, result) {
            (None, Ok(_)) => {}
            (Some(fault), Err(HostKeyError::Certificate { reason, .. })) => assert_eq!(reason, fault),
            (fault, result) => panic!("{options:?} {fault:?} {result:?}"),
        }
        // Another authority says nothing; then the key itself counts.
        let unknown = with(&client, &running, &format!("@cert-authority * {other}")).await.unwrap_err();
        let HostKeyError::Unknown { seen, .. } = &unknown else { panic!("{unknown:?}") };
        let (signer, asked) = (authority.fingerprint(), client.known_hosts());
        assert_eq!(seen.signed_by.as_ref(), Some(&signer));
        let said = format!(
            "; its certificate is signed by {signer}, which is none of the authorities known for it: {}:1",
            asked.display()
        );
        assert!(unknown.to_string().ends_with(&said), "{unknown}");
        let known =
            with(&client, &running, &format!("@cert-authority * {other}\nNAME {}", host.public())).await;
        assert!(known.is_ok(), "{known:?}");
        let revoked = format!("@cert-authority NAME {public}\n@revoked * {public}");
        let revoked = with(&client, &running, &revoked).await.unwrap_err();
        assert!(matches!(revoked, HostKeyError::Revoked { .. }), "{revoked:?}");
    }
}

#[tokio::test]
async fn a_host_is_asked_for_a_key_of_the_type_that_is_known() {
    let (mut client, key) = Client::new();
    let builder = Sshd::builder().authorize(&key.public());
    let keys =
        ["ed25519", "rsa", "ecdsa"].map(|kind| Key::new(builder.path(), &format!("host_{kind}"), kind));
    let builder = keys.iter().fold(builder, |builder, key| builder.host_key(key));
    let server = builder.start();
    client.settings.port = Some(server.port);
    for key in &keys {
        let session = with(&client, &server, &format!("NAME {}", key.public())).await.unwrap();
        let output = std::process::Command::new("ssh-keygen").arg("-lf").arg(&key.path).output().unwrap();
        let listed = String::from_utf8(output.stdout).unwrap();
        assert!(listed.contains(&session.host_key_fingerprint().unwrap()), "{listed}");
    }
}

#[tokio::test]
async fn all_files_and_the_alias_count() {
    let (client, server, right, _) = set_up();
    let (one, two, global) =
        (client.ssh().join("one"), client.ssh().join("two"), client.ssh().join("global"));
    client.config(&format!(
        "Host *\n  UserKnownHostsFile {} {}\n  GlobalKnownHostsFile {}\n",
        one.display(),
        two.display(),
        global.display()
    ));
    let line = format!("[127.0.0.1]:{} {right}\n", server.port);
    for file in [&two, &global] {
        assert!(outcome(&client).await.is_err());
        fs_err::write(file, &line).unwrap();
        outcome(&client).await.unwrap();
        fs_err::remove_file(file).unwrap();
    }
    client.config("  HostKeyAlias farm\n");
    fs_err::write(&two, &line).unwrap();
    assert!(outcome(&client).await.is_err(), "the alias replaces the name");
    fs_err::write(&two, format!("farm {right}\n")).unwrap();
    outcome(&client).await.unwrap();
}

#[tokio::test]
async fn a_list_of_revoked_keys_counts_and_a_binary_one_is_refused() {
    let (client, server, right, wrong) = set_up();
    let list = client.ssh().join("revoked");
    client.config(&format!("Host *\n  RevokedHostKeys {}\n", list.display()));
    fs_err::write(&list, format!("# none of ours\n{wrong}\n")).unwrap();
    with(&client, &server, &format!("NAME {right}")).await.unwrap();
    fs_err::write(&list, format!("{wrong}\n{right}\n")).unwrap();
    let error = outcome(&client).await.unwrap_err();
    assert!(matches!(&error, HostKeyError::Revoked { by, .. } if by.line == 2), "{error:?}");
    fs_err::write(&list, "SSHKRL\n\0\0\0\0\x01").unwrap();
    let error = client.connect().await.unwrap_err();
    assert!(matches!(error.failure(), Some(HopFailure::KnownHosts(_))), "{error:?}");
}

#[tokio::test]
async fn the_first_use_asks_and_remembers_a_yes() {
    let (mut client, server, right, _) = set_up();
    let name = format!("[127.0.0.1]:{}", server.port);
    // Debian's system-wide file says yes.
    client.config("HashKnownHosts no\n");
    client.first_use = FirstUse::Ask;
    let error = outcome(&client).await.unwrap_err();
    assert!(matches!(error, HostKeyError::Unknown { .. }), "{error:?}");
    assert_eq!(client.read_known_hosts(), "", "a no stores nothing");
    Arc::get_mut(&mut client.person).unwrap().yes = true;
    // A file that does not end with a line feed must not swallow the new line.
    fs_err::write(client.known_hosts(), "# end").unwrap();
    let session = outcome(&client).await.unwrap();
    let asked = client.person.asked();
    assert_eq!(asked.len(), 2);
    assert!(
        asked[1].contains(&name) && asked[1].contains(&session.host_key_fingerprint().unwrap()),
        "{asked:?}"
    );
    assert_eq!(client.read_known_hosts(), format!("# end\n{name} {right}\n"));
    client.first_use = FirstUse::Refuse;
    outcome(&client).await.unwrap();
    assert_eq!(client.person.asked().len(), 2, "it is known now");
}

#[tokio::test]
async fn a_new_file_is_the_persons_own_and_names_are_hashed_on_request() {
    let (mut client, server, right, _) = set_up();
    client.first_use = FirstUse::Accept;
    let file = client.home.path().join("new/folder/known");
    client.config(&format!("Host *\n  HashKnownHosts yes\n  UserKnownHostsFile {}\n", file.display()));
    outcome(&client).await.unwrap();
    let text = fs_err::read_to_string(&file).unwrap();
    assert!(text.starts_with("|1|") && text.trim_end().ends_with(&right), "{text}");
    assert_eq!(fs_err::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs_err::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let name = format!("[127.0.0.1]:{}", server.port);
    keygen(&["-F", &name, "-f", file.to_str().unwrap()]);
    client.first_use = FirstUse::Refuse;
    outcome(&client).await.unwrap();
}

#[tokio::test]
async fn accepting_does_not_extend_to_hosts_whose_other_keys_are_known() {
    let (mut client, server, _, _) = set_up();
    client.first_use = FirstUse::Accept;
    let rsa = Key::new(&client.ssh(), "rsa", "rsa").public();
    let error = with(&client, &server, &format!("NAME {rsa}")).await.unwrap_err();
    assert!(matches!(&error, HostKeyError::Unknown { seen, .. } if seen.others.len() == 1), "{error:?}");
    assert!(with(&client, &server, "").await.is_ok());
    assert!(!client.read_known_hosts().is_empty());
}

#[tokio::test]
async fn what_openssh_is_told_of_unknown_keys_wins() {
    let (mut client, server, _, _) = set_up();
    client.first_use = FirstUse::Accept;
    client.config("Host 127.0.0.1\n  StrictHostKeyChecking yes\n");
    assert!(with(&client, &server, "").await.is_err());
    fs_err::write(client.ssh().join("config"), "StrictHostKeyChecking accept-new\n").unwrap();
    client.first_use = FirstUse::Refuse;
    with(&client, &server, "").await.unwrap();
}

/// Reads the types of the packets that a client sent in the clear, and says whether anything else followed.
fn packets(sent: &[u8]) -> (Vec<u8>, usize) {
    let end = sent.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
    assert!(sent.starts_with(b"SSH-2.0-"));
    let (mut rest, mut types) = (&sent[end..], Vec::new());
    while rest.len() >= 6 && types.last() != Some(&NEWKEYS) {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        types.push(rest[5]);
        rest = &rest[(4 + length).min(rest.len())..];
    }
    (types, rest.len())
}

/// SSH_MSG_DISCONNECT, SSH_MSG_KEXINIT, SSH_MSG_NEWKEYS and the one of a key exchange (RFC 4253 §12, RFC 5656 §7.1).
const DISCONNECT: u8 = 1;
const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;
const KEX_INIT: u8 = 30;

/// Nothing of ours goes to a host that is not who it should be: what it gets is its half of the key exchange.
#[tokio::test]
async fn a_host_whose_key_is_refused_gets_nothing_but_the_key_exchange() {
    let (mut client, server, right, wrong) = set_up();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    client.settings.port = Some(port);
    let (record, mut sent) = tokio::sync::mpsc::unbounded_channel();
    let target = server.port;
    let _relay = background(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut to = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
            let (mut from_read, mut from_write) = from.split();
            let (mut to_read, mut to_write) = to.split();
            let there = async {
                let mut all = Vec::new();
                let mut piece = [0; 4096];
                while let Ok(count @ 1..) = from_read.read(&mut piece).await {
                    all.extend_from_slice(&piece[..count]);
                    if to_write.write_all(&piece[..count]).await.is_err() {
                        break;
                    }
                }
                drop(to_write.shutdown().await);
                record.send(all).unwrap();
            };
            tokio::join!(there, async { drop(tokio::io::copy(&mut to_read, &mut from_write).await) });
        }
    });
    let name = format!("[127.0.0.1]:{port}");
    for (lines, what) in [
        (format!("NAME {wrong}"), "changed"),
        (format!("@revoked * {right}\nNAME {right}"), "revoked"),
        (format!("@cert-authority NAME {wrong}"), "an authority that did not sign it"),
        (String::new(), "unknown"),
    ] {
        fs_err::write(client.known_hosts(), lines.replace("NAME", &name)).unwrap();
        assert!(outcome(&client).await.is_err(), "{what}");
        let (types, rest) = packets(&sent.recv().await.unwrap());
        let harmless = [DISCONNECT, KEXINIT, KEX_INIT, NEWKEYS];
        assert!(
            types.iter().all(|kind| harmless.contains(kind)) && rest == 0,
            "{what}: {types:?}, {rest} bytes"
        );
    }
    // The same relay does see it where the key is right: the service is asked for and somebody is named.
    fs_err::write(client.known_hosts(), format!("{name} {right}")).unwrap();
    drop(outcome(&client).await.unwrap());
    let (types, rest) = packets(&sent.recv().await.unwrap());
    assert!(types.contains(&NEWKEYS) && rest > 0, "{types:?} {rest}");
}
