use std::io;

use base64::Engine as _;
use sha1::{Digest as _, Sha1};
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use crate::http::{Connection, Head, Response};

/// Appended to the client's key, RFC 6455 §1.3.
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The longest frame that is echoed.
const FRAME_LIMIT: usize = 1024 * 1024;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Upgrades a connection and sends back every message until the client closes, or politely closes on a stop.
pub(crate) async fn echo(
    connection: &mut Connection,
    head: &Head,
    stop: &CancellationToken,
) -> io::Result<()> {
    let Some(key) = head.header("Sec-WebSocket-Key") else {
        let response = Response::text(400, "this is a WebSocket\n");
        return connection.write(&response, false, true).await;
    };
    let accept = Sha1::digest(format!("{key}{ACCEPT_SUFFIX}"));
    let accept = base64::engine::general_purpose::STANDARD.encode(accept);
    let upgrade = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    connection.stream.write_all(upgrade.as_bytes()).await?;
    loop {
        let (first, payload) = tokio::select! {
            frame = read_frame(connection) => frame?,
            // 1001: going away (RFC 6455 §7.4.1).
            () = stop.cancelled() => return write_frame(connection, 0x80 | CLOSE, &1001_u16.to_be_bytes()).await,
        };
        match first & 0x0f {
            CLOSE => return write_frame(connection, 0x80 | CLOSE, &payload).await,
            PING => write_frame(connection, 0x80 | PONG, &payload).await?,
            PONG => {}
            _ => write_frame(connection, first, &payload).await?,
        }
    }
}

/// Reads one frame: its first byte (final flag and kind) and its payload, unmasked.
async fn read_frame(connection: &mut Connection) -> io::Result<(u8, Vec<u8>)> {
    let [first, second] = array(connection.read_exact(2).await?)?;
    let length = match second & 0x7f {
        126 => usize::from(u16::from_be_bytes(array(connection.read_exact(2).await?)?)),
        127 => {
            usize::try_from(u64::from_be_bytes(array(connection.read_exact(8).await?)?)).unwrap_or(usize::MAX)
        }
        short => usize::from(short),
    };
    if length > FRAME_LIMIT || second & 0x80 == 0 {
        return Err(io::Error::other("the frame is too long or not masked"));
    }
    let mask: [u8; 4] = array(connection.read_exact(4).await?)?;
    let payload = connection.read_exact(length).await?;
    Ok((first, payload.into_iter().zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()))
}

async fn write_frame(connection: &mut Connection, first: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length @ ..126) => frame.push(u8::try_from(length).unwrap_or_default()),
        Ok(length) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(127);
            frame.extend(u64::try_from(payload.len()).unwrap_or_default().to_be_bytes());
        }
    }
    frame.extend(payload);
    connection.stream.write_all(&frame).await
}

fn array<const N: usize>(bytes: Vec<u8>) -> io::Result<[u8; N]> {
    bytes.try_into().map_err(|_| io::ErrorKind::UnexpectedEof.into())
}
