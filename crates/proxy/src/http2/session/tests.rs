//! Frames in, frames out, without a socket.

use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use tokio::io::ReadBuf;

use super::super::frame::{HEAD_BYTES, number};
use super::*;

const PATH: &[u8] = b"\x82\x86\x84\x01\x01a";
const POST: &[u8] = b"\x83\x86\x84\x01\x01a";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> (FrameHead, Vec<u8>) {
    (FrameHead::new(kind, flags, stream, payload.len()), payload.to_vec())
}

fn receive(session: &mut Session, (head, payload): (FrameHead, Vec<u8>)) -> Result<Arrived, Fault> {
    session.receive(head, &payload)
}

/// One on which settings have been exchanged.
fn begun() -> Session {
    let mut session = Session::new(Instant::now());
    receive(&mut session, frame(kind::SETTINGS, 0, 0, &[])).unwrap();
    sent(&mut session);
    session
}

/// Takes all frames that are to be sent.
fn sent(session: &mut Session) -> Vec<(FrameHead, Vec<u8>)> {
    let bytes = session.unsent().to_vec();
    session.sent(bytes.len());
    let (mut rest, mut frames) = (bytes.as_slice(), Vec::new());
    while let Some(head) = FrameHead::parse(rest) {
        let end = HEAD_BYTES + head.length;
        frames.push((head, rest[HEAD_BYTES..end].to_vec()));
        rest = &rest[end..];
    }
    assert!(rest.is_empty());
    frames
}

fn kinds(frames: &[(FrameHead, Vec<u8>)]) -> Vec<(u8, u32)> {
    frames.iter().map(|(head, _)| (head.kind, head.stream)).collect()
}

fn ask(session: &mut Session, stream: u32) {
    let flags = flag::END_HEADERS | flag::END_STREAM;
    let arrived = receive(session, frame(kind::HEADERS, flags, stream, PATH)).unwrap();
    assert!(
        matches!(arrived, Arrived::Request(request) if request.stream == stream && request.head.is_some())
    );
}

fn room(session: &mut Session, stream: u32) -> Option<usize> {
    match session.poll_room(stream, &mut Context::from_waker(Waker::noop())) {
        Poll::Ready(room) => Some(room.unwrap()),
        Poll::Pending => None,
    }
}

fn read(session: &mut Session, stream: u32, room: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; room];
    let mut buffer = ReadBuf::new(&mut bytes);
    match session.poll_read(stream, &mut Context::from_waker(Waker::noop()), &mut buffer) {
        Poll::Ready(read) => read.ok().map(|()| buffer.filled().to_vec()),
        Poll::Pending => None,
    }
}

#[test]
fn those_that_wait_for_the_connections_window_come_in_turn() {
    let mut session = begun();
    [1, 3, 5].iter().for_each(|stream| ask(&mut session, *stream));
    let all = room(&mut session, 1).unwrap();
    assert_eq!(all, 32 * 1024);
    for stream in [1, 3] {
        session.send_data(stream, &vec![0; 32 * 1024 - 1], false);
    }
    assert_eq!(room(&mut session, 1), None, "what was written has to be sent first");
    sent(&mut session);
    assert_eq!(room(&mut session, 1), Some(1), "what is left of the window");
    session.send_data(1, &[0], false);
    sent(&mut session);
    for stream in [3, 1, 5, 3] {
        assert_eq!(room(&mut session, stream), None);
    }
    assert_eq!(session.waiting, [3, 1, 5]);
    receive(&mut session, frame(kind::WINDOW_UPDATE, 0, 0, &10_u32.to_be_bytes())).unwrap();
    assert_eq!(room(&mut session, 1), None, "it is not its turn");
    assert_eq!(room(&mut session, 3), Some(10));
    session.send_data(3, &[0; 4], false);
    assert_eq!(room(&mut session, 3), None, "the others come first");
    assert_eq!(session.waiting, [1, 5, 3]);
    session.forget(1);
    assert_eq!(room(&mut session, 5), Some(6));
}

#[test]
fn windows_are_given_back_a_good_deal_at_a_time() {
    let mut session = begun();
    receive(&mut session, frame(kind::HEADERS, flag::END_HEADERS, 1, POST)).unwrap();
    let (mut streams, mut connections) = (0, 0);
    for _ in 0..100 {
        receive(&mut session, frame(kind::DATA, 0, 1, &[b'x'; 16_000])).unwrap();
        let framed = read(&mut session, 1, 20_000).unwrap();
        assert_eq!(framed.len(), 16_000 + b"3e80\r\n\r\n".len());
        for (head, payload) in sent(&mut session) {
            assert_eq!(head.kind, kind::WINDOW_UPDATE);
            let total = if head.stream == 0 { &mut connections } else { &mut streams };
            assert!(number(&payload) >= STREAM_WINDOW / 2);
            *total += 1;
        }
    }
    assert_eq!((streams, connections), (100 / 9, 3));
}

#[test]
fn what_nobody_reads_is_given_back_to_the_connection_in_the_end() {
    let mut session = begun();
    for stream in [1, 3, 5] {
        receive(&mut session, frame(kind::HEADERS, flag::END_HEADERS, stream, POST)).unwrap();
        for _ in 0..16 {
            receive(&mut session, frame(kind::DATA, 0, stream, &[0; 16_000])).unwrap();
        }
        session.forget(stream);
    }
    let updates = sent(&mut session);
    assert!(kinds(&updates).contains(&(kind::WINDOW_UPDATE, 0)));
    assert_eq!(i64::from(CONNECTION_WINDOW), session.receive_window + i64::from(session.owed));
}

#[test]
fn bodies_are_framed_whatever_room_there_is() {
    for room in [1, 2, 3, 7, 100] {
        let mut session = begun();
        receive(&mut session, frame(kind::HEADERS, flag::END_HEADERS, 1, POST)).unwrap();
        receive(&mut session, frame(kind::DATA, flag::PADDED, 1, b"\x02hello\0\0")).unwrap();
        receive(&mut session, frame(kind::DATA, 0, 1, b", world")).unwrap();
        let end = flag::END_HEADERS | flag::END_STREAM;
        receive(&mut session, frame(kind::HEADERS, end, 1, b"\x00\x01a\x01b")).unwrap();
        let mut all = Vec::new();
        while let Some(piece) = read(&mut session, 1, room) {
            assert!(!piece.is_empty());
            all.extend(piece);
        }
        assert_eq!(String::from_utf8(all).unwrap(), "c\r\nhello, world\r\n0\r\na: b\r\n\r\n");
    }
}

#[test]
fn a_large_head_is_sent_in_several_frames() {
    let mut session = begun();
    ask(&mut session, 1);
    let text = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(40_000));
    session.send_head(1, false, text.as_bytes()).unwrap();
    let frames = sent(&mut session);
    assert_eq!(kinds(&frames), [(kind::HEADERS, 1), (kind::CONTINUATION, 1), (kind::CONTINUATION, 1)]);
    let flags: Vec<u8> = frames.iter().map(|(head, _)| head.flags).collect();
    assert_eq!(flags, [flag::END_STREAM, 0, flag::END_HEADERS]);
    let block: Vec<u8> = frames.into_iter().flat_map(|(_, payload)| payload).collect();
    let mut length = 0;
    Decoder::new().decode(&block, |_, value| length = length.max(value.len())).unwrap();
    assert_eq!(length, 40_000);
}

#[test]
fn a_client_that_is_told_to_leave_may_have_begun_something() {
    let mut session = begun();
    ask(&mut session, 1);
    session.leave();
    let frames = sent(&mut session);
    assert_eq!(kinds(&frames), [(kind::GOAWAY, 0), (kind::PING, 0)]);
    assert_eq!(number(&frames[0].1), MAX_31_BITS);
    ask(&mut session, 3);
    receive(&mut session, frame(kind::PING, flag::ACKNOWLEDGEMENT, 0, &LEAVING)).unwrap();
    assert!(session.is_leaving());
    assert_eq!(number(&sent(&mut session)[0].1), 3);
    let flags = flag::END_HEADERS | flag::END_STREAM;
    assert_eq!(receive(&mut session, frame(kind::HEADERS, flags, 5, PATH)), Ok(Arrived::Nothing));
    // What follows on such a stream is ignored as well, and counts in the connection's window.
    assert_eq!(receive(&mut session, frame(kind::HEADERS, flag::END_HEADERS, 7, POST)), Ok(Arrived::Nothing));
    assert_eq!(receive(&mut session, frame(kind::DATA, 0, 7, &[b'x'; 1000])), Ok(Arrived::Nothing));
    assert_eq!(session.owed, 1000);
    let trailers = frame(kind::HEADERS, flags, 7, b"\x00\x01a\x01b");
    assert_eq!(receive(&mut session, trailers), Ok(Arrived::Nothing));
    assert_eq!(receive(&mut session, frame(kind::RST_STREAM, 0, 7, &[0; 4])), Ok(Arrived::Nothing));
    assert!(sent(&mut session).is_empty());
    session.shut(Code::Protocol);
    assert_eq!(number(&sent(&mut session)[0].1), 3, "what was told does not grow");
}

#[test]
fn a_reset_gives_back_what_nobody_reads() {
    let mut session = begun();
    for stream in [1, 3] {
        receive(&mut session, frame(kind::HEADERS, flag::END_HEADERS, stream, POST)).unwrap();
        receive(&mut session, frame(kind::DATA, 0, stream, &[0; 16_000])).unwrap();
    }
    receive(&mut session, frame(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes())).unwrap();
    assert_eq!(session.owed, 16_000);
    session.abort(3);
    assert_eq!(session.owed, 32_000);
    [1, 3].iter().for_each(|stream| session.forget(*stream));
    assert_eq!(session.owed, 32_000, "once");
    assert_eq!(i64::from(CONNECTION_WINDOW), session.receive_window + 32_000);
}

#[test]
fn nothing_is_said_on_a_stream_that_was_reset() {
    let mut session = begun();
    ask(&mut session, 1);
    session.send_head(1, false, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    sent(&mut session);
    receive(&mut session, frame(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes())).unwrap();
    assert!(session.send_end(1, b"").is_err());
    assert!(session.send_end(1, b"a: b\r\n").is_err());
    assert!(sent(&mut session).is_empty());
}

proptest! {
    /// Whatever comes, nothing panics, and what is kept stays bounded.
    #[test]
    fn any_frames_are_taken_or_refused(
        frames in proptest::collection::vec(
            (0u8..11, any::<u8>(), 0u32..8, prop_oneof![
                Just(PATH.to_vec()),
                Just(POST.to_vec()),
                proptest::collection::vec(any::<u8>(), 0..12),
                Just(vec![0; 4]),
                Just(vec![0, 0, 1, 0]),
            ]),
            0..60,
        ),
    ) {
        let mut session = begun();
        let mut open = Vec::new();
        for (number, (kind, flags, stream, payload)) in frames.into_iter().enumerate() {
            match receive(&mut session, frame(kind, flags, stream, &payload)) {
                Ok(Arrived::Request(request)) => open.push(request.stream),
                Ok(_) => {}
                Err(fault) => {
                    session.shut(fault.code);
                    break;
                }
            }
            for stream in &open {
                read(&mut session, *stream, 10);
                if !session.is_gone(*stream) && number % 3 == 0 {
                    drop(session.poll_room(*stream, &mut Context::from_waker(Waker::noop())));
                }
            }
            if number % 7 == 6 && let Some(stream) = open.pop() {
                session.forget(stream);
            }
        }
        open.into_iter().for_each(|stream| session.forget(stream));
        prop_assert!(session.streams.is_empty() && session.waiting.is_empty());
        sent(&mut session);
    }
}
