//! Any bytes behind the preface of HTTP/2, over a real connection to a whole proxy: it goes on serving, and no connection
//! ends by a panic.
#![no_main]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use freehold_proxy::{AcmeConfig, EdgeConfig, Limits, NameFiles, Server, ServerConfig};
use libfuzzer_sys::fuzz_target;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The proxy's log; a panic that a connection caught ends the run.
struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        assert!(!bytes.windows(8).any(|text| text == b"panicked"), "{}", String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn port() -> u16 {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        // A panic of a connection is caught by the proxy, but not by the fuzzer.
        std::panic::set_hook(Box::new(|panic| {
            eprintln!("{panic}");
            std::process::abort();
        }));
        let folder: PathBuf = std::env::temp_dir().join(format!("freehold-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let short = Duration::from_millis(200);
        let config = ServerConfig {
            bind: Some([127, 0, 0, 1].into()),
            http_port: 0,
            https_port: 0,
            metrics_port: None,
            threads: 1,
            socket: folder.join("socket"),
            state_folder: folder.join("state"),
            debug: false,
            stop_deadline: short,
            limits: Limits { idle: short, head: short, upload: short, linger: Duration::from_millis(20), ..Limits::default() },
            names: NameFiles::default(),
            spill_folder: folder,
            spill_limit: u64::MAX,
            edge: EdgeConfig::default(),
            acme: AcmeConfig::default(),
            traces: None,
            program: None,
        };
        Server::start(config, Box::new(Log)).expect("a proxy")
    });
    server.http_port()
}

fuzz_target!(|frames: &[u8]| {
    let mut stream = TcpStream::connect(("127.0.0.1", port())).expect("it accepts");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a deadline");
    // One that is given up early takes no more.
    let sent = stream.write_all(PREFACE).and_then(|()| stream.write_all(frames));
    drop(sent.and_then(|()| stream.shutdown(Shutdown::Write)));
    let mut answer = Vec::new();
    // A reset is an end as well; one that hangs is not.
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert!(error.kind() != std::io::ErrorKind::WouldBlock, "the connection does not end");
    }
});
