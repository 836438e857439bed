use std::time::Duration;

use base64::Engine as _;

use super::client::{Connection, RequestError};

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
/// Any mask will do for a client that sends to itself (RFC 6455 §5.3 is about strangers' proxies).
const MASK: [u8; 4] = [0x1f, 0x2e, 0x3d, 0x4c];
const MESSAGES: usize = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Opens a session, has every message echoed and closes it as RFC 6455 §7.1.2 asks.
pub(super) async fn session(mut connection: Connection, host: &str) -> Result<Option<String>, RequestError> {
    let key = base64::engine::general_purpose::STANDARD.encode(MASK.repeat(4));
    let upgrade = format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    connection.send(upgrade.as_bytes()).await?;
    let answer = connection.answer().await?;
    if answer.header("Sec-WebSocket-Accept").is_none() {
        return Err(RequestError::Malformed("no upgrade".to_owned()));
    }
    for number in 0..MESSAGES {
        let message = format!("message {number}");
        connection.send(&frame(TEXT, message.as_bytes())).await?;
        let (first, payload) = read_frame(&mut connection).await?;
        if (first, payload.as_slice()) != (TEXT, message.as_bytes()) {
            let payload = String::from_utf8_lossy(&payload).into_owned();
            return Err(RequestError::WrongAnswer(format!("frame {first:#x} {payload}")));
        }
        tokio::time::sleep(PAUSE).await;
    }
    connection.send(&frame(CLOSE, &1000_u16.to_be_bytes())).await?;
    match read_frame(&mut connection).await? {
        (CLOSE, _) => Ok(None),
        (first, _) => Err(RequestError::WrongAnswer(format!("frame {first:#x} instead of a close"))),
    }
}

/// Makes a masked frame of up to 125 bytes.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap_or_default();
    let mut frame = vec![first, 0x80 | length];
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

async fn read_frame(connection: &mut Connection) -> Result<(u8, Vec<u8>), RequestError> {
    let head = connection.exactly(2).await?;
    let (first, length) =
        (head.first().copied().unwrap_or_default(), head.last().copied().unwrap_or_default());
    if length > 125 {
        return Err(RequestError::WrongAnswer(format!("a frame of length code {length}")));
    }
    Ok((first, connection.exactly(usize::from(length)).await?))
}
