use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use freehold_model::{ConnectionSettings, HostName};
use freehold_ssh::{ExitStatus, RemoteCommand};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::support::{Client, PATIENCE, Sshd, background};

const LIMIT: usize = 1 << 20;

#[tokio::test]
async fn a_command_gets_its_arguments_and_input_and_gives_its_output_and_code() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    let session = client.knows(&server).connect().await.unwrap();
    assert!(session.server_version().starts_with("SSH-2.0-OpenSSH"), "{}", session.server_version());
    let words =
        ["sh", "-c", "cat; printf '%s|' \"$@\"; echo oops >&2; exit 7", "x", "a b", "it's", "", "$HOME\n*"];
    let output = session.run(&RemoteCommand::arguments(words), b"input ", PATIENCE, LIMIT).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "input a b|it's||$HOME\n*|");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "oops\n");
    assert_eq!(output.status, ExitStatus::Code(7));
    assert!(!output.truncated);
    session.close().await;
}

#[tokio::test]
async fn output_is_cut_at_the_limit_and_the_command_still_ends() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    let session = client.knows(&server).connect().await.unwrap();
    let script = RemoteCommand::script("head -c 5000000 /dev/zero; kill -TERM $$");
    let output = session.run(&script, b"", PATIENCE, 1000).await.unwrap();
    assert_eq!((output.stdout.len(), output.truncated), (1000, true));
    assert_eq!(output.status, ExitStatus::Signal("TERM".to_owned()));
    let slow = session.run(&RemoteCommand::script("sleep 60"), b"", Duration::from_millis(200), LIMIT).await;
    assert!(slow.unwrap_err().to_string().contains("did not end within 0.2 s"));
}

#[tokio::test]
async fn streams_to_sockets_and_ports_carry_bytes_both_ways() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    let session = client.knows(&server).connect().await.unwrap();

    let path = server.path().join("echo.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let echo = background(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap()
    });
    let stream = session.open_unix_socket(path.to_str().unwrap()).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let sent = vec![7_u8; 3_000_000];
    let mut received = Vec::new();
    let (wrote, got) = tokio::join!(
        async {
            write.write_all(&sent).await?;
            write.shutdown().await
        },
        read.read_to_end(&mut received)
    );
    wrote.unwrap();
    got.unwrap();
    assert_eq!(received.len(), sent.len());
    assert_eq!(echo.join_all().await, [3_000_000]);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let greet = background(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"hello").await.unwrap();
    });
    let mut text = String::new();
    session.open_tcp("127.0.0.1", port).await.unwrap().read_to_string(&mut text).await.unwrap();
    greet.join_all().await;
    assert_eq!(text, "hello");
}

#[tokio::test]
async fn a_forwarded_port_brings_connections_until_it_is_closed() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    let session = client.knows(&server).connect().await.unwrap();
    let mut forward = session.forward_remote_port().await.unwrap();
    let port = forward.port();
    let caller = background(async move {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    });
    let mut stream = forward.accept().await.unwrap();
    let mut question = String::new();
    stream.read_to_string(&mut question).await.unwrap();
    stream.write_all(format!("{question} pong").as_bytes()).await.unwrap();
    drop(stream);
    assert_eq!(caller.join_all().await, ["ping pong"]);
    forward.close().await;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn keys_are_exchanged_anew_in_the_middle_of_transfers() {
    let (mut client, key) = Client::new();
    let server =
        Sshd::builder().authorize(&key.public()).config("RekeyLimit 1M").config("LogLevel DEBUG1").start();
    let session = client.knows(&server).connect().await.unwrap();
    let process = session.exec(&RemoteCommand::arguments(["cat"]), None).await.unwrap();
    let freehold_ssh::RemoteProcess { mut stdin, mut stdout, control, .. } = process;
    let sent: Vec<u8> = (0..20_000_000_u32).map(|index| (index % 251) as u8).collect();
    let mut received = Vec::new();
    let (wrote, got) = tokio::join!(
        async {
            stdin.write_all(&sent).await?;
            stdin.shutdown().await
        },
        stdout.read_to_end(&mut received)
    );
    wrote.unwrap();
    got.unwrap();
    assert!(received == sent, "{} bytes", received.len());
    assert!(control.wait().await.unwrap().success());
    let exchanges = server.log().matches("SSH2_MSG_NEWKEYS received").count();
    assert!(exchanges > 3, "{exchanges}");
}

/// kamal-compat §9 sshkit row 1
#[tokio::test]
async fn only_so_many_connections_begin_at_a_time() {
    let (mut client, _) = Client::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    client.settings.port = Some(listener.local_addr().unwrap().port());
    client.settings.connect_timeout = Duration::from_millis(300);
    let begun = Arc::new(AtomicUsize::new(0));
    let (most, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = (Arc::clone(&begun), Arc::clone(&most), Arc::clone(&open));
    // A server that says nothing: each connection stands until the client gives up.
    let server = background(async move {
        let (begun, most, open) = seen;
        let mut silent = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            begun.fetch_add(1, Ordering::SeqCst);
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let open = Arc::clone(&open);
            silent.spawn(async move {
                drop(stream.read_to_end(&mut Vec::new()).await);
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    let limits = ConnectionSettings { max_concurrent_starts: 2.try_into().unwrap(), ..Default::default() };
    let connector = client.connector().with_limits(&limits);
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (connector, settings) = (connector.clone(), client.settings.clone());
        let host = HostName::parse("127.0.0.1").unwrap();
        attempts.spawn(async move { connector.connect(&host, &settings, &[]).await.is_err() });
    }
    assert_eq!(attempts.join_all().await, [true; 5]);
    assert_eq!(begun.load(Ordering::SeqCst), 5);
    assert_eq!(most.load(Ordering::SeqCst), 2);
    drop(server);
}
