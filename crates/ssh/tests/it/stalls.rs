use std::time::{Duration, Instant};

use freehold_model::{Diagnose, ErrorKind};
use freehold_ssh::{ExecError, ExitStatus, HopFailure, Pty, RemoteCommand};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

use crate::support::{Client, PATIENCE, Pretender, Rules, Sshd, background, wait_until};

const LIMIT: usize = 1 << 20;

fn signal(ids: &[i32], signal: Signal) {
    for id in ids {
        // One that ends by itself is as good.
        kill_process(Pid::from_raw(*id).unwrap(), signal).ok();
    }
}

#[tokio::test]
async fn a_peer_that_says_nothing_costs_its_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut client, _) = Client::new();
    client.settings.port = Some(listener.local_addr().unwrap().port());
    client.settings.connect_timeout = Duration::from_millis(300);
    let started = Instant::now();
    let error = client.connect().await.unwrap_err();
    assert!(matches!(error.failure(), Some(HopFailure::HandshakeTimedOut { .. })), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_peer_that_never_answers_authentication_costs_its_deadline() {
    let server = Pretender::start(Rules { silent: true, ..Rules::default() }).await;
    let mut client = Client::bare();
    client.settings.port = Some(server.address.port());
    client.settings.connect_timeout = Duration::from_millis(500);
    client.remember(&format!("* {}\n", server.public));
    let error = client.connect().await.unwrap_err();
    assert!(matches!(error.failure(), Some(HopFailure::AuthenticationTimedOut { .. })), "{error:?}");
}

#[tokio::test]
async fn an_address_that_swallows_packets_costs_its_deadline() {
    // A listener whose queue is full drops further attempts.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(address)).await
    {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue never fills");
    }
    let (mut client, _) = Client::new();
    client.settings.port = Some(address.port());
    client.settings.connect_timeout = Duration::from_millis(300);
    let error = client.connect().await.unwrap_err();
    assert!(matches!(error.failure(), Some(HopFailure::TimedOut { .. })), "{error:?}");
}

#[tokio::test]
async fn nothing_listening_and_no_such_name_are_told_apart() {
    let (mut client, _) = Client::new();
    client.settings.port = Some(1);
    let error = client.connect().await.unwrap_err();
    assert!(matches!(error.failure(), Some(HopFailure::Tcp { .. })), "{error:?}");
    assert_eq!(error.help(), ["nothing listens there: does sshd run on port 1?"]);
    let error = client.connect_to("no-such-host.invalid").await.unwrap_err();
    assert!(matches!(error.failure(), Some(HopFailure::Lookup { .. })), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[tokio::test]
async fn a_server_of_another_protocol_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut client, _) = Client::new();
    client.settings.port = Some(listener.local_addr().unwrap().port());
    let _server = background(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await.unwrap();
    });
    let error = client.connect().await.unwrap_err();
    assert!(matches!(error.failure(), Some(HopFailure::Handshake { .. })), "{error:?}");
}

#[tokio::test]
async fn output_that_nobody_reads_does_not_stall_the_connection() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    let session = client.knows(&server).connect().await.unwrap();
    let mut flood = session.exec(&RemoteCommand::script("exec cat /dev/zero"), None).await.unwrap();
    let after_overflow = flood.wait().await.unwrap_err();
    assert!(matches!(after_overflow, ExecError::NotRead { .. }), "{after_overflow:?}");
    let output =
        session.run(&RemoteCommand::arguments(["echo", "alive"]), b"", PATIENCE, LIMIT).await.unwrap();
    assert_eq!(output.stdout, b"alive\n");
    // What was queued is still there; then the reader learns what happened.
    let mut rest = Vec::new();
    let error = flood.stdout.read_to_end(&mut rest).await.unwrap_err();
    assert!(rest.len() >= 16 << 20, "{}", rest.len());
    assert!(error.to_string().contains("too slowly"), "{error}");
}

#[tokio::test]
async fn a_connection_of_its_own_lets_the_host_wait() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    let session = client.knows(&server).connect().await.unwrap();
    let own = session.reconnect().await.unwrap();
    let script = "head -c 60000000 /dev/zero; echo done > \"$0\""
        .replace("$0", server.path().join("done").to_str().unwrap());
    let mut process = own.exec(&RemoteCommand::script(script), None).await.unwrap();
    let other = session.run(&RemoteCommand::arguments(["true"]), b"", PATIENCE, LIMIT).await.unwrap();
    assert!(other.status.success());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!server.path().join("done").exists(), "the host must wait for the reader");
    let mut all = Vec::new();
    process.stdout.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), 60_000_000);
    assert_eq!(process.wait().await.unwrap(), ExitStatus::Code(0));
}

#[tokio::test]
async fn small_messages_are_not_delayed_before_any_command_ran() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    let session = client.knows(&server).connect().await.unwrap();
    let path = server.path().join("pair.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let _server = background(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while stream.read_u8().await.is_ok() {
            stream.write_all(b"a").await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
            stream.write_all(b"b").await.unwrap();
        }
    });
    let mut stream = session.open_unix_socket(path.to_str().unwrap()).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..31 {
        let started = Instant::now();
        stream.write_all(b"?").await.unwrap();
        stream.read_exact(&mut [0; 2]).await.unwrap();
        times.push(started.elapsed());
    }
    times.sort();
    // The server's Nagle algorithm against a delayed acknowledgement would cost 40 ms each time.
    assert!(times[15] < Duration::from_millis(30), "{times:?}");
}

#[tokio::test]
async fn a_frozen_host_is_noticed_by_keep_alive() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    client.settings.keepalive = Duration::from_millis(200);
    let session = client.knows(&server).connect().await.unwrap();
    let closed = session.closed();
    let processes = server.session_processes();
    assert!(!processes.is_empty());
    signal(&processes, Signal::STOP);
    let command = RemoteCommand::arguments(["true"]);
    let running = session.run(&command, b"", PATIENCE, LIMIT);
    let (reason, error) = tokio::join!(tokio::time::timeout(Duration::from_secs(10), closed), running);
    signal(&processes, Signal::KILL);
    assert_eq!(reason.expect("noticed"), "the host stopped answering");
    let error = error.unwrap_err();
    assert!(matches!(error, ExecError::Disconnected { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(session.is_closed());
}

#[tokio::test]
async fn a_host_that_goes_away_fails_what_runs_and_what_comes_after() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    let session = client.knows(&server).connect().await.unwrap();
    let mut process =
        session.exec(&RemoteCommand::script("echo started; exec sleep 60"), None).await.unwrap();
    assert_eq!(process.stdout.read_u8().await.unwrap(), b's');
    let closed = session.closed();
    signal(&server.session_processes(), Signal::KILL);
    assert_eq!(closed.await, "the host closed it");
    let error = process.wait().await.unwrap_err();
    assert!(matches!(error, ExecError::Disconnected { .. }), "{error:?}");
    let mut rest = String::new();
    let error = process.stdout.read_to_string(&mut rest).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let error = session.exec(&RemoteCommand::arguments(["true"]), None).await.unwrap_err();
    assert!(matches!(error, ExecError::Disconnected { .. }), "{error:?}");
}

#[tokio::test]
async fn a_session_too_many_is_refused_with_a_hint() {
    let (mut client, key) = Client::new();
    let server = Sshd::builder().authorize(&key.public()).config("MaxSessions 2").start();
    let session = client.knows(&server).connect().await.unwrap();
    let sleep = RemoteCommand::arguments(["sleep", "60"]);
    let _one = session.exec(&sleep, None).await.unwrap();
    let _two = session.exec(&sleep, None).await.unwrap();
    let error = session.exec(&sleep, None).await.unwrap_err();
    assert!(matches!(error, ExecError::Refused { prohibited: false, .. }), "{error:?}");
    assert_eq!(error.help(), ["raise `MaxSessions` in the host's sshd_config"]);
}

#[tokio::test]
async fn more_commands_than_a_host_allows_at_once_wait_for_their_turn() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    let session = client.knows(&server).connect().await.unwrap();
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let session = session.clone();
        runs.spawn(async move {
            session.run(&RemoteCommand::arguments(["sleep", "0.05"]), b"", PATIENCE, LIMIT).await
        });
    }
    for run in runs.join_all().await {
        assert!(run.unwrap().status.success());
    }
}

#[tokio::test]
async fn a_dropped_stream_is_closed_on_the_host() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    let session = client.knows(&server).connect().await.unwrap();
    let path = server.path().join("end.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let stream = session.open_unix_socket(path.to_str().unwrap()).await.unwrap();
    let (mut accepted, _) = listener.accept().await.unwrap();
    drop(stream);
    let mut rest = Vec::new();
    let end = tokio::time::timeout(PATIENCE, accepted.read_to_end(&mut rest)).await;
    assert_eq!(end.expect("closed").unwrap_or(0), 0);
    // Many more than could stay open show that none is left behind.
    for _ in 0..300 {
        drop(session.open_unix_socket(path.to_str().unwrap()).await.unwrap());
        drop(listener.accept().await.unwrap());
    }
}

#[tokio::test]
async fn the_connection_ends_with_its_last_user() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    let session = client.knows(&server).connect().await.unwrap();
    let path = server.path().join("last.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let stream = session.open_unix_socket(path.to_str().unwrap()).await.unwrap();
    let closed = session.closed();
    drop(session);
    assert!(!server.session_processes().is_empty());
    drop(stream);
    assert_eq!(tokio::time::timeout(PATIENCE, closed).await.expect("it ends"), "it was closed");
    wait_until("the host's processes to end", || server.session_processes().is_empty()).await;
}

#[tokio::test]
async fn a_writer_does_not_wait_for_a_stream_that_the_host_closed() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    let session = client.knows(&server).connect().await.unwrap();
    let mut process = session.exec(&RemoteCommand::arguments(["sleep", "0.3"]), None).await.unwrap();
    // Nobody reads there, so the window fills before the command ends.
    let big = vec![0_u8; 50_000_000];
    let write = tokio::time::timeout(PATIENCE, process.stdin.write_all(&big)).await.expect("it ends");
    assert_eq!(write.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    assert!(process.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_terminal_has_a_size_and_hangs_up_with_its_stream() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    let session = client.knows(&server).connect().await.unwrap();
    let pty = Pty { term: "xterm".to_owned(), columns: 91, rows: 33 };
    let script = RemoteCommand::script("stty size; read -r x; stty size; echo $TERM; exec sleep 61.7");
    let mut process = session.exec(&script, Some(pty)).await.unwrap();
    let mut text = String::new();
    let read_until = async |text: &mut String, end: &str, process: &mut freehold_ssh::RemoteProcess| {
        while !text.contains(end) {
            let byte = tokio::time::timeout(PATIENCE, process.stdout.read_u8()).await.unwrap().unwrap();
            text.push(char::from(byte));
        }
    };
    read_until(&mut text, "33 91", &mut process).await;
    process.resize(100, 40).await.unwrap();
    process.stdin.write_all(b"go\n").await.unwrap();
    read_until(&mut text, "xterm", &mut process).await;
    assert!(text.contains("40 100"), "{text}");
    drop(process);
    let gone = || !running("61.7");
    wait_until("the command to be hung up", gone).await;
}

/// Says whether a process of this machine has an argument.
fn running(argument: &str) -> bool {
    let processes = fs_err::read_dir("/proc").unwrap();
    processes.filter_map(Result::ok).any(|entry| {
        let line = fs_err::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.first().is_some_and(|word| word.ends_with(b"sleep")) && words.contains(&argument.as_bytes())
    })
}
