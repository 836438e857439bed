//! What the proxies forward to: a server that does as little as can be.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, LocalSet};

use crate::Failure;

/// The paths that it answers, and how long the body of each is.
pub(crate) const BODIES: [(&str, usize); 4] =
    [("/up", 2), ("/1k", 1024), ("/100k", 100 * 1024), ("/10m", 10 * 1024 * 1024)];

/// Returns how long the body at a path is.
pub(crate) fn body_bytes(path: &str) -> usize {
    BODIES.iter().find(|(known, _)| *known == path).map_or(0, |(_, length)| *length)
}

/// Serves on a thread of its own until the program ends; returns where.
pub(crate) fn start() -> Result<SocketAddr, Failure> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    std::thread::Builder::new().name("target".to_owned()).spawn(move || {
        let local = LocalSet::new();
        local.block_on(&runtime, async {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            serve(listener).await;
        });
    })?;
    Ok(address)
}

async fn serve(listener: TcpListener) {
    let answers: Rc<Vec<(&str, Vec<u8>)>> = Rc::new(
        BODIES
            .iter()
            .map(|(path, length)| {
                let mut answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n")
                        .into_bytes();
                answer.resize(answer.len() + length, b'x');
                (*path, answer)
            })
            .collect(),
    );
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        socket.set_nodelay(true).ok();
        let answers = Rc::clone(&answers);
        connections.spawn_local(async move {
            // A proxy that leaves is no failure of the target's.
            answer(socket, &answers).await.ok();
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Answers request after request; one has no body, and ends with an empty line.
async fn answer(mut socket: TcpStream, answers: &[(&str, Vec<u8>)]) -> std::io::Result<()> {
    let mut buffer = vec![0; 8192];
    let mut filled = 0;
    loop {
        let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) else { return Ok(()) };
        let length = socket.read(room).await?;
        if length == 0 {
            return Ok(());
        }
        filled += length;
        let head = buffer.get(..filled).unwrap_or_default();
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let path = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        let answer = answers.iter().find(|(known, _)| known.as_bytes() == path);
        match answer {
            Some((_, answer)) => socket.write_all(answer).await?,
            None => socket.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await?,
        }
        filled = 0;
    }
}
