//! nginx and HAProxy, each before a recorder.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::recorder::Recorder;
use crate::client::soon;
use crate::pebble::free_port;

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) port: u16,
    child: Child,
    _folder: TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        // In good order, so that nginx's worker ends with it.
        let id = self.child.id().to_string();
        Command::new("kill").args(["-s", "TERM", &id]).status().ok();
        self.child.wait().ok();
    }
}

async fn run(program: &str, arguments: impl Fn(&Path, u16) -> Vec<String>) -> Process {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let output = fs_err::File::create(folder.path().join("output")).unwrap().into_file();
    let child = Command::new(program)
        .args(arguments(folder.path(), port))
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .expect("nginx and HAProxy are needed, which script/test installs");
    let process = Process { port, child, _folder: folder };
    soon(async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    process
}

pub(super) struct Nginx;

impl Nginx {
    pub(super) async fn start(recorder: &Recorder) -> Process {
        let target = recorder.address();
        run("/usr/sbin/nginx", |folder, port| {
            let path = folder.display();
            let text = format!(
                "daemon off; worker_processes 1; pid {path}/pid; error_log {path}/errors; {user}
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {path}/body; proxy_temp_path {path}/proxy; fastcgi_temp_path {path}/fastcgi;
  uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;
  upstream target {{ server {target}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://target; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host; }}
  }}
}}
",
                // Only root may change the user, and has to: else the worker cannot use this folder.
                user = if Command::new("id").arg("-u").output().unwrap().stdout == b"0\n" { "user root;" } else { "" }
            );
            fs_err::write(folder.join("nginx.conf"), text).unwrap();
            let folder = folder.join("");
            let file = |name: &str| folder.join(name).display().to_string();
            ["-p".into(), file(""), "-e".into(), file("errors"), "-c".into(), file("nginx.conf")].to_vec()
        })
        .await
    }
}

pub(super) struct Haproxy;

impl Haproxy {
    pub(super) async fn start(recorder: &Recorder) -> Process {
        let target = recorder.address();
        run("/usr/sbin/haproxy", |folder, port| {
            let text = format!(
                "global
  nbthread 1
  maxconn 512
defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
frontend plain
  bind 127.0.0.1:{port}
  default_backend target
backend target
  server target {target}
"
            );
            let file = folder.join("haproxy.cfg");
            fs_err::write(&file, text).unwrap();
            vec!["-db".to_owned(), "-f".to_owned(), file.display().to_string()]
        })
        .await
    }
}
