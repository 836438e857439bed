//! Frames that cost the proxy something and bring nothing, sent byte by byte.

use std::time::Duration;

use freehold_proxy::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::soon;
use crate::rig::Rig;
use crate::target::Target;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const ENHANCE_YOUR_CALM: u32 = 11;
const REFUSED_STREAM: u32 = 7;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// `GET /PATH` for `shop.example.com`, without compression.
pub(crate) fn head(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(b"\x01\x10shop.example.com");
    block
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
}

impl Raw {
    pub(crate) async fn open(rig: &Rig) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", rig.port())).await.unwrap();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        Self { stream }
    }

    /// Sends as much as the proxy takes; one that has closed the connection takes no more.
    pub(crate) async fn flood(&mut self, bytes: &[u8], times: usize) {
        let block = bytes.repeat(times.min(500));
        for _ in 0..times.div_ceil(500) {
            if self.stream.write_all(&block).await.is_err() {
                return;
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        soon(self.stream.read_exact(&mut head)).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        soon(self.stream.read_exact(&mut payload)).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads until the connection is given up; returns for which reason.
    pub(crate) async fn reason(mut self) -> u32 {
        loop {
            let frame = self.next().await.expect("the connection ends with a reason");
            if frame.kind == GOAWAY {
                return u32::from_be_bytes(frame.payload[4..8].try_into().unwrap());
            }
        }
    }
}

async fn scene() -> (Rig, Target) {
    let limits = Limits { linger: Duration::from_millis(500), ..Limits::default() };
    let (rig, target) = (Rig::with_limits(limits), Target::start("t").await);
    rig.deploy(&target).await;
    (rig, target)
}

/// Floods a connection of its own; others must not notice.
async fn is_given_up(rig: &Rig, bytes: &[u8], times: usize) {
    let mut raw = Raw::open(rig).await;
    raw.flood(bytes, times).await;
    assert_eq!(raw.reason().await, ENHANCE_YOUR_CALM);
    assert_eq!(rig.open().await.get("/n").await.status, 200);
}

#[tokio::test]
async fn floods_of_control_frames_end_the_connection() {
    let (rig, _target) = scene().await;
    is_given_up(&rig, &frame(SETTINGS, 0, 0, &[]), 2000).await;
    is_given_up(&rig, &frame(PING, 0, 0, &[0; 8]), 3000).await;
    is_given_up(&rig, &frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), 3000).await;
    is_given_up(&rig, &frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()), 3000).await;
    is_given_up(&rig, &frame(0xfa, 0, 0, b"unknown"), 3000).await;
}

#[tokio::test]
async fn empty_frames_of_a_body_end_the_connection() {
    let (rig, _target) = scene().await;
    let mut raw = Raw::open(&rig).await;
    let mut block = vec![0x83];
    block.extend_from_slice(&head("/n")[1..]);
    raw.stream.write_all(&frame(HEADERS, END_HEADERS, 1, &block)).await.unwrap();
    raw.flood(&frame(DATA, 0, 1, &[]), 2000).await;
    assert_eq!(raw.reason().await, ENHANCE_YOUR_CALM);
}

// CVE-2023-44487.
#[tokio::test]
async fn rapid_resets_end_the_connection_before_they_cost_much() {
    let (rig, target) = scene().await;
    let before = target.requests();
    for pause in [false, true] {
        let mut raw = Raw::open(&rig).await;
        for number in 0..2000 {
            let stream = number * 2 + 1;
            let open = frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("/n"));
            let both = [open, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat();
            if raw.stream.write_all(&both).await.is_err() {
                break;
            }
            if pause {
                // Each request gets as far as to a target.
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(raw.reason().await, ENHANCE_YOUR_CALM);
    }
    let reached = target.requests() - before;
    assert!(reached <= 1200, "{reached} requests reached the target");
    assert_eq!(rig.open().await.get("/n").await.status, 200);
}

// CVE-2024-27316.
#[tokio::test]
async fn continuations_without_end_end_the_connection() {
    let (rig, _target) = scene().await;
    for payload in [&[][..], &[0; 1000]] {
        let mut raw = Raw::open(&rig).await;
        raw.stream.write_all(&frame(HEADERS, END_STREAM, 1, &head("/n"))).await.unwrap();
        // Lines that are valid one by one: an empty name and value without compression.
        let lines = if payload.is_empty() { vec![] } else { b"\x00\x01a\x01b".repeat(200) };
        raw.flood(&frame(CONTINUATION, 0, 1, &lines), 2000).await;
        let mut ended = false;
        while let Some(frame) = raw.next().await {
            ended |= frame.kind == GOAWAY;
        }
        assert!(ended, "the connection is given up");
    }
    assert_eq!(rig.open().await.get("/n").await.status, 200);
}

#[tokio::test]
async fn a_head_that_does_not_end_has_a_deadline() {
    let short = Duration::from_millis(300);
    let limits = Limits { head: short, linger: short, ..Limits::default() };
    let (rig, target) = (Rig::with_limits(limits), Target::start("t").await);
    rig.deploy(&target).await;
    let mut raw = Raw::open(&rig).await;
    // Another request is open, so that the connection is not idle.
    raw.stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &head("/gate"))).await.unwrap();
    target.wait_for_waiting(1).await;
    raw.stream.write_all(&frame(HEADERS, END_STREAM, 3, &head("/n"))).await.unwrap();
    assert_eq!(raw.reason().await, ENHANCE_YOUR_CALM);
    target.open_gate();
}

#[tokio::test]
async fn more_requests_than_were_agreed_on_are_refused() {
    let (rig, target) = scene().await;
    let mut raw = Raw::open(&rig).await;
    for number in 0..129 {
        let open = frame(HEADERS, END_STREAM | END_HEADERS, number * 2 + 1, &head("/gate"));
        raw.stream.write_all(&open).await.unwrap();
    }
    let refused = loop {
        let frame = raw.next().await.unwrap();
        if frame.kind == RST_STREAM {
            break frame;
        }
    };
    assert_eq!(
        refused,
        Frame { kind: RST_STREAM, flags: 0, stream: 257, payload: REFUSED_STREAM.to_be_bytes().to_vec() }
    );
    target.wait_for_waiting(128).await;
    target.open_gate();
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (rig, _target) = scene().await;
    let mut raw = Raw::open(&rig).await;
    let mut block = head("/n");
    for _ in 0..40 {
        block.extend_from_slice(b"\x00\x01a\x7f\x81\x07");
        block.extend_from_slice(&[b'x'; 1024]);
    }
    let mut parts = block.chunks(16_000);
    raw.stream.write_all(&frame(HEADERS, END_STREAM, 1, parts.next().unwrap())).await.unwrap();
    let rest: Vec<&[u8]> = parts.collect();
    for (at, part) in rest.iter().enumerate() {
        let flags = if at + 1 == rest.len() { END_HEADERS } else { 0 };
        raw.stream.write_all(&frame(CONTINUATION, flags, 1, part)).await.unwrap();
    }
    let answer = loop {
        let frame = raw.next().await.unwrap();
        if matches!(frame.kind, HEADERS | RST_STREAM) {
            break frame;
        }
    };
    // 431, by the index of no static entry: a literal `:status`.
    assert_eq!((answer.kind, answer.stream), (HEADERS, 1));
    assert!(
        answer.payload.starts_with(&[0x48]) || answer.payload.windows(3).any(|text| text == b"431"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn windows_that_are_made_tiny_or_too_large_do_no_harm() {
    let (rig, _target) = scene().await;
    // A window of one byte, opened byte by byte: each costs, and the answer earns little.
    let mut raw = Raw::open(&rig).await;
    raw.stream.write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1])).await.unwrap();
    raw.stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &head("/n"))).await.unwrap();
    let first = loop {
        let frame = raw.next().await.unwrap();
        if frame.kind == DATA {
            break frame;
        }
    };
    assert_eq!(first.payload.len(), 1);
    // More than a window may have is an error of the connection: FLOW_CONTROL_ERROR.
    let update = frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
    raw.stream.write_all(&update).await.unwrap();
    assert_eq!(raw.reason().await, 3);
}

/// Numbers that look random and are the same in each run. <https://prng.di.unimi.it/splitmix64.c>
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }
}

/// What the fuzz target `http2_frames` does, on its first texts and for a moment.
#[tokio::test]
async fn whatever_comes_is_answered_or_ended_and_never_a_bug() {
    let short = Duration::from_millis(200);
    let limits = Limits { idle: short, head: short, upload: short, linger: short, ..Limits::default() };
    let (mut rig, target) = (Rig::with_limits(limits), Target::start("t").await);
    rig.deploy(&target).await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/http2_frames");
    let seeds: Vec<_> =
        fs_err::read_dir(folder).unwrap().map(|entry| fs_err::read(entry.unwrap().path()).unwrap()).collect();
    assert!(!seeds.is_empty());
    let mut numbers = Numbers(1);
    for _ in 0..1000 {
        let mut bytes = seeds[numbers.below(seeds.len())].clone();
        for _ in 0..numbers.below(6) {
            let at = numbers.below(bytes.len());
            match numbers.below(4) {
                0 => bytes[at] = numbers.below(256) as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, numbers.below(256) as u8),
                _ => bytes.extend(seeds[numbers.below(seeds.len())].clone()),
            }
            if bytes.is_empty() {
                break;
            }
        }
        let mut raw = Raw::open(&rig).await;
        if raw.stream.write_all(&bytes).await.is_ok() {
            // A connection that was given up already has no half to close.
            raw.stream.shutdown().await.ok();
        }
        let mut rest = Vec::new();
        // A reset is an end as well.
        soon(raw.stream.read_to_end(&mut rest)).await.ok();
    }
    assert_eq!(rig.open().await.get("/n").await.status, 200);
    rig.stop();
    assert!(!rig.log.text().contains("panicked"));
}
