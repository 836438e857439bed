//! Where the output of commands goes besides the terminal (`output`), and what the SSH stack tells (`ssh: log_level`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use crate::sandbox::Sandbox;

const PROJECT: &str = "service: shop
image: shop
servers: [localhost]
builder: {context: .}
proxy: {app_port: 3000}
";

/// A hook that prints, and fails if it is told so.
const HOOK: &str = "#!/bin/sh\necho \"the hook says hello\"\n[ -z \"$FAIL\" ]\n";

/// A project on this machine with an engine that does no more than to describe itself.
pub(crate) fn project(more: &str) -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::with_deploy_file(&format!("{PROJECT}{more}"))
        .executable(".kamal/hooks/docker-setup", HOOK)
        .file("config/deploy.staging.yml", "{}\n");
    let socket = sandbox.home().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // It ends with the test's process.
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut reader = BufReader::new(stream);
            while read_head(&mut reader).is_some() {
                let body = r#"{"ServerVersion":"99.0","Architecture":"x86_64","OSType":"linux"}"#;
                let head = "HTTP/1.1 200 OK\r\napi-version: 1.41\r\ncontent-type: application/json";
                let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    (sandbox, socket)
}

/// Reads the head of a request and returns how long its body is.
fn read_head(reader: &mut impl BufRead) -> Option<(String, usize)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return None;
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    Some((head, length.map_or(0, |length| length.parse().unwrap())))
}

/// Runs a command and returns its exit code and what it wrote to standard error.
pub(crate) fn run(
    sandbox: &Sandbox,
    socket: &std::path::Path,
    words: &[&str],
    environment: &[(&str, &str)],
) -> (i32, String) {
    let mut command = sandbox.command(words);
    command
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .env("PATH", "/usr/bin:/bin")
        .env("USER", "ann");
    let output = command.envs(environment.iter().copied()).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// kamal-compat §9 output row 1: a file for each command that changes something.
/// kamal-compat §12.2 row 13
#[test]
fn commands_that_change_something_leave_a_file() {
    let (sandbox, socket) = project("output: {file: {path: logs/deploys}}\n");
    let (code, shown) = run(&sandbox, &socket, &["server", "bootstrap", "-d", "staging", "-q"], &[]);
    assert_eq!((code, shown.as_str()), (0, ""));
    let (code, shown) = run(&sandbox, &socket, &["server", "bootstrap"], &[("FAIL", "yes")]);
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("Logs written to "), "{shown}");
    // What only looks leaves none.
    assert_eq!(run(&sandbox, &socket, &["lock", "status"], &[]).0, 0);
    let folder = sandbox.path().join("logs/deploys");
    let mut files: Vec<_> = fs_err::read_dir(&folder).unwrap().map(|entry| entry.unwrap()).collect();
    files.sort_by_key(|file| file.file_name().len());
    let names: Vec<String> = files
        .iter()
        .map(|file| file.file_name().into_string().unwrap().replace(|c: char| c.is_ascii_digit(), "0"))
        .collect();
    assert_eq!(
        names,
        ["0000-00-00T00-00-00_server_bootstrap.log", "0000-00-00T00-00-00_staging_server_bootstrap.log"]
    );
    for file in &files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs_err::read_to_string(file.path()).unwrap();
        // It has what `--verbose` shows, whatever the terminal got.
        assert!(text.contains("| the hook says hello") && text.contains("connected (local)"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
    let last = |index: usize| {
        let text = fs_err::read_to_string(files[index].path()).unwrap();
        text.lines().last().unwrap().replace(|c: char| c.is_ascii_digit(), "0")
    };
    assert!(last(0).starts_with("# FAILED: Failed: hook `docker-setup` "), "{}", last(0));
    assert!(last(0).ends_with(" (0.0s)"), "{}", last(0));
    assert_eq!(last(1), "# Completed in 0.0s");
}

/// Before anything is changed, a place that cannot be written to is told.
#[test]
fn a_folder_that_cannot_be_made_stops_the_command() {
    let (sandbox, socket) = project("output: {file: {path: taken}}\n");
    let sandbox = sandbox.file("taken", "");
    let (code, shown) = run(&sandbox, &socket, &["server", "bootstrap"], &[]);
    assert_eq!(code, 3, "{shown}");
    assert!(
        shown.contains("cannot make the log file of `output: file:`") && shown.contains("taken"),
        "{shown}"
    );
    assert!(!shown.contains("hello"));
}

/// A collector that answers as it is told, the last answer for ever, and keeps what it gets.
struct Collector {
    endpoint: String,
    requests: Receiver<(String, Value)>,
}

impl Collector {
    fn start(statuses: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (kept, requests) = channel();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for index in 0.. {
                let Ok((stream, _)) = listener.accept() else { return };
                let mut reader = BufReader::new(stream);
                let Some((head, length)) = read_head(&mut reader) else { continue };
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                kept.send((head, serde_json::from_slice(&body).unwrap())).unwrap();
                let status = statuses.get(index).or(statuses.last()).unwrap();
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { endpoint, requests }
    }

    /// Returns what came since the last time.
    fn requests(&self) -> Vec<(String, Value)> {
        self.requests.try_iter().collect()
    }
}

fn attribute(attributes: &Value, name: &str) -> Option<String> {
    let found = attributes.as_array()?.iter().find(|attribute| attribute["key"] == name)?;
    found["value"]["stringValue"].as_str().map(ToOwned::to_owned)
}

/// kamal-compat §9 output row 1: OTLP over HTTP, with Kamal's attributes and events.
#[test]
fn a_collector_gets_all_output_and_how_the_command_ended() {
    let collector = Collector::start(&["503 Service Unavailable", "200 OK"]);
    let setting = format!("output: {{otel: {{endpoint: \"{}/\"}}}}\n", collector.endpoint);
    let (sandbox, socket) = project(&setting);
    let environment = [("OTEL_EXPORTER_OTLP_HEADERS", "api-key=marked, x-scope = shop"), ("VERSION", "v7")];
    let (code, shown) = run(&sandbox, &socket, &["server", "bootstrap", "-d", "staging"], &environment);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains(&format!("Logs sent to {}", collector.endpoint)), "{shown}");
    let requests = collector.requests();
    // The first answer asked to come again.
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].1, requests[1].1);
    let (head, body) = &requests[1];
    assert!(head.starts_with("POST /v1/logs HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains("content-type: application/json")
            && head.contains("api-key: marked")
            && head.contains("x-scope: shop"),
        "{head}"
    );
    let resource = &body["resourceLogs"][0]["resource"]["attributes"];
    let of = |name: &str| attribute(resource, name).unwrap_or_default();
    assert_eq!(of("service.name"), "kamal");
    assert_eq!(of("service.namespace"), "shop");
    assert_eq!(of("service.version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(of("kamal.deploy_version"), "v7");
    assert_eq!(of("kamal.performer"), "ann");
    assert_eq!(of("deployment.environment.name"), "staging");
    assert_eq!(of("kamal.run_id").len(), 32);
    let records = body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap().clone();
    let names: Vec<&str> = records.iter().filter_map(|record| record["eventName"].as_str()).collect();
    assert_eq!(names, ["kamal.start", "kamal.complete"]);
    let (first, last) = (records.first().unwrap(), records.last().unwrap());
    assert_eq!(attribute(&first["attributes"], "kamal.command").unwrap(), "server bootstrap");
    assert_eq!(attribute(&first["attributes"], "kamal.hosts").unwrap(), "localhost");
    assert!(attribute(&last["attributes"], "kamal.runtime").unwrap().parse::<f64>().is_ok());
    assert!(records.iter().all(|record| record["timeUnixNano"].as_str().unwrap().len() == 19));
    let said = |text: &str| {
        records.iter().any(|record| record["body"]["stringValue"].as_str().unwrap().contains(text))
    };
    assert!(said("the hook says hello") && said("connected (local)"), "{body}");
}

#[test]
fn a_failure_is_an_event_and_a_deaf_collector_is_none() {
    let collector = Collector::start(&["200 OK"]);
    let setting = format!("output: {{otel: {{endpoint: \"{}\"}}}}\n", collector.endpoint);
    let (sandbox, socket) = project(&setting);
    assert_eq!(run(&sandbox, &socket, &["server", "bootstrap"], &[("FAIL", "yes")]).0, 1);
    let (_, body) = collector.requests().pop().unwrap();
    let records = body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap().clone();
    let last = records.last().unwrap();
    assert_eq!(
        (&last["eventName"], &last["severityNumber"]),
        (&Value::from("kamal.failed"), &Value::from(17))
    );
    assert_eq!(attribute(&last["attributes"], "exception.type").unwrap(), "Failed");
    assert!(attribute(&last["attributes"], "exception.message").unwrap().contains("`docker-setup`"));

    let refusing = Collector::start(&["403 Forbidden"]);
    let setting = format!("output: {{otel: {{endpoint: \"{}\"}}}}\n", refusing.endpoint);
    let (sandbox, socket) = project(&setting);
    let (code, shown) = run(&sandbox, &socket, &["server", "bootstrap"], &[]);
    assert_eq!(code, 0, "the command goes on without: {shown}");
    assert!(
        shown.contains("log records did not reach") && shown.contains("it answered `403 Forbidden`"),
        "{shown}"
    );
    assert_eq!(refusing.requests().len(), 1, "an answer that is final is not asked for again");
    let (sandbox, socket) = project("output: {otel: {endpoint: \"http://127.0.0.1:1\"}}\n");
    let (code, shown) = run(&sandbox, &socket, &["server", "bootstrap"], &[]);
    assert!(code == 0 && shown.contains("it cannot be connected to"), "{shown}");
    let wrong = [("OTEL_EXPORTER_OTLP_HEADERS", "marked")];
    let (code, shown) = run(&sandbox, &socket, &["server", "bootstrap"], &wrong);
    assert!(code == 3 && !shown.contains("marked"), "{shown}");
}

/// kamal-compat §9 ssh row 10
#[test]
fn the_ssh_stack_tells_as_much_as_the_deploy_file_says() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // A host that says nothing that SSH could understand.
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            drop(stream.write_all(b"no SSH here\r\n"));
        }
    });
    let show = |level: &str, words: &[&str]| {
        let deploy_file = format!(
            "service: shop\nimage: shop\nservers: [127.0.0.1]\nbuilder: {{context: .}}\n\
             ssh: {{port: {port}, config: false{level}}}\n"
        );
        let sandbox = Sandbox::with_deploy_file(&deploy_file);
        let shown = sandbox.run(words);
        assert!(shown.ends_with("exit code 4"), "{shown}");
        shown
    };
    let line = " ssh: DEBUG ";
    assert!(show(", log_level: debug", &["lock", "status"]).contains(line));
    assert!(show(", log_level: debug", &["lock", "status", "--json"]).contains("\"source\":\"ssh\""));
    assert!(!show(", log_level: info", &["lock", "status"]).contains(line));
    assert!(!show("", &["lock", "status"]).contains(" ssh: "));
}
