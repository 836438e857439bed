use std::os::unix::net::UnixListener;

use freehold_model::{Diagnose, ErrorKind};
use freehold_ssh::{OpenError, Session, SocketProblem};

use crate::support::{Client, Sshd};

async fn problem(session: &Session, path: &str) -> SocketProblem {
    match session.open_unix_socket(path).await {
        Err(OpenError::UnixSocket { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_look_at_the_host_tells_why_a_socket_does_not_open() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    let session = client.knows(&server).connect().await.unwrap();
    let path = |name: &str| server.path().join(name).to_str().unwrap().to_owned();
    assert_eq!(problem(&session, &path("it's missing")).await, SocketProblem::Missing);
    fs_err::write(path("file"), "").unwrap();
    assert_eq!(problem(&session, &path("file")).await, SocketProblem::NotASocket);
    drop(UnixListener::bind(path("dead.sock")).unwrap());
    assert_eq!(problem(&session, &path("dead.sock")).await, SocketProblem::NobodyListens);
    assert!(!SocketProblem::Missing.may_work_by_command());
}

#[tokio::test]
async fn forwarding_that_is_off_is_told_apart_and_offers_another_way() {
    let (mut client, key) = Client::new();
    let server = Sshd::builder().authorize(&key.public()).config("AllowStreamLocalForwarding no").start();
    let session = client.knows(&server).connect().await.unwrap();
    let path = server.path().join("live.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let error = session.open_unix_socket(path.to_str().unwrap()).await.unwrap_err();
    let OpenError::UnixSocket { problem, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*problem, SocketProblem::ForwardingOff);
    assert!(problem.may_work_by_command());
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.help()[0].contains("AllowStreamLocalForwarding yes"), "{:?}", error.help());
}

#[tokio::test]
async fn ports_that_must_not_be_forwarded_are_refused_by_name() {
    let (mut client, key) = Client::new();
    let server = Sshd::builder().authorize(&key.public()).config("AllowTcpForwarding no").start();
    let session = client.knows(&server).connect().await.unwrap();
    let error = session.open_tcp("127.0.0.1", 1).await.unwrap_err();
    assert!(matches!(error, OpenError::Prohibited { .. }), "{error:?}");
    let error = session.forward_remote_port().await.unwrap_err();
    assert_eq!(error.to_string(), "`127.0.0.1` refuses to forward a port");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_not_called_forbidden() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    let session = client.knows(&server).connect().await.unwrap();
    let error = session.open_tcp("127.0.0.1", 1).await.unwrap_err();
    assert!(matches!(error, OpenError::Refused { .. }), "{error:?}");
}
