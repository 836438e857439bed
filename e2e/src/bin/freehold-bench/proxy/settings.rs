//! What each proxy is told: forward to one target over connections that are kept, add the usual header lines, write an
//! access log to a file, and serve HTTPS with HTTP/2.

use std::net::SocketAddr;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;

use super::contender::Kind;
use crate::Failure;

/// The name that all of them serve, plain and encrypted.
pub(crate) const HOST: &str = "bench.test";
/// The name of the service of Freehold that holds bodies back.
pub(crate) const BUFFERED_HOST: &str = "buffered.test";

/// A certificate for the name, with a P-256 key.
pub(crate) struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    certificate: String,
    key: String,
}

impl Certificate {
    pub(crate) fn make() -> Result<Self, Failure> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([HOST.to_owned()])?.self_signed(&key)?;
        Ok(Self { der: certificate.der().clone(), certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Writes it in the forms that the proxies want.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Failure> {
        fs_err::write(folder.join("certificate.pem"), &self.certificate)?;
        fs_err::write(folder.join("key.pem"), &self.key)?;
        fs_err::write(folder.join("both.pem"), format!("{}{}", self.certificate, self.key))?;
        Ok(())
    }
}

/// Where a proxy listens and forwards to, and where its files lie.
pub(crate) struct Settings<'s> {
    pub(crate) folder: &'s Path,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) target: SocketAddr,
}

/// Returns the commands that install Freehold's services.
pub(crate) fn services(folder: &Path, target: SocketAddr) -> [Vec<String>; 2] {
    let file = |name: &str| folder.join(name).display().to_string();
    let common = |service: &str, host: &str| {
        let words = ["proxy", "deploy", service, "--target", &target.to_string(), "--host", host, "--socket"];
        words.map(str::to_owned).into_iter().chain([file("control")]).collect::<Vec<_>>()
    };
    let mut plain = common("bench", HOST);
    plain.extend(["--tls", "--tls-redirect=false", "--tls-certificate-path"].map(str::to_owned));
    plain.extend([file("certificate.pem"), "--tls-private-key-path".to_owned(), file("key.pem")]);
    let mut buffered = common("buffered", BUFFERED_HOST);
    buffered.extend(["--buffer-requests", "--buffer-responses"].map(str::to_owned));
    [plain, buffered]
}

impl Settings<'_> {
    /// Writes the files that a proxy reads, and returns its arguments.
    pub(crate) fn write(&self, kind: Kind) -> Result<Vec<String>, Failure> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let (http, https) = (self.http.port().to_string(), self.https.port().to_string());
        Ok(match kind {
            Kind::Freehold => words(&[
                "proxy",
                "serve",
                "--bind",
                "127.0.0.1",
                "--http-port",
                &http,
                "--https-port",
                &https,
                "--metrics-port",
                "0",
                "--state-dir",
                &file("state"),
                "--socket",
                &file("control"),
            ]),
            Kind::Nginx => {
                fs_err::write(self.folder.join("nginx.conf"), self.nginx())?;
                words(&["-p", &file(""), "-e", &file("error.log"), "-c", &file("nginx.conf")])
            }
            Kind::Haproxy => {
                fs_err::write(self.folder.join("haproxy.cfg"), self.haproxy())?;
                words(&["-db", "-f", &file("haproxy.cfg")])
            }
            Kind::Caddy => {
                fs_err::write(self.folder.join("Caddyfile"), self.caddy())?;
                words(&["run", "--adapter", "caddyfile", "--config", &file("Caddyfile")])
            }
            Kind::Traefik => {
                fs_err::write(self.folder.join("routes.yml"), self.traefik_routes())?;
                fs_err::write(self.folder.join("traefik.yml"), self.traefik())?;
                words(&[&format!("--configFile={}", file("traefik.yml"))])
            }
        })
    }

    fn nginx(&self) -> String {
        let Self { folder, http, https, target } = self;
        let folder = folder.display();
        format!(
            "daemon off; master_process off; pid {folder}/pid; user root;
events {{ worker_connections 8192; }}
http {{
  access_log {folder}/access.log combined;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000; keepalive_timeout 300;
  upstream target {{ server {target}; keepalive 128; keepalive_requests 100000000; }}
  server {{
    listen {http};
    listen {https} ssl http2;
    server_name {HOST};
    ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem; ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://target; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Request-Id $request_id;
      proxy_set_header X-Request-Start \"t=$msec\";
    }}
  }}
}}
"
        )
    }

    fn haproxy(&self) -> String {
        let Self { folder, http, https, target } = self;
        let folder = folder.display();
        format!(
            "global
  nbthread 1
  maxconn 4096
  log stdout format raw daemon
defaults
  mode http
  log global
  option httplog
  option forwardfor
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
frontend plain
  bind {http}
  bind {https} ssl crt {folder}/both.pem alpn h2,http/1.1
  http-request set-header X-Forwarded-Proto http unless {{ ssl_fc }}
  http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request set-header X-Forwarded-Host %[req.hdr(Host)]
  default_backend target
backend target
  server target {target}
"
        )
    }

    fn caddy(&self) -> String {
        let Self { folder, http, https, target } = self;
        let (http, https, folder) = (http.port(), https.port(), folder.display());
        format!(
            "{{
  admin off
  auto_https off
  http_port {http}
  https_port {https}
}}
(common) {{
  bind 127.0.0.1
  log {{
    output file {folder}/access.log
  }}
  reverse_proxy {target} {{
    header_up X-Request-Id {{http.request.uuid}}
  }}
}}
http://{HOST}:{http} {{
  import common
}}
https://{HOST}:{https} {{
  tls {folder}/certificate.pem {folder}/key.pem
  import common
}}
"
        )
    }

    fn traefik(&self) -> String {
        let Self { folder, http, https, .. } = self;
        let folder = folder.display();
        format!(
            "entryPoints:
  plain: {{ address: \"{http}\" }}
  encrypted: {{ address: \"{https}\" }}
accessLog: {{ filePath: {folder}/access.log }}
providers:
  file: {{ filename: {folder}/routes.yml }}
global: {{ checkNewVersion: false, sendAnonymousUsage: false }}
"
        )
    }

    fn traefik_routes(&self) -> String {
        let Self { folder, target, .. } = self;
        let folder = folder.display();
        format!(
            "http:
  routers:
    plain: {{ rule: \"Host(`{HOST}`)\", entryPoints: [plain], service: target }}
    encrypted: {{ rule: \"Host(`{HOST}`)\", entryPoints: [encrypted], service: target, tls: {{}} }}
  services:
    target:
      loadBalancer:
        servers: [ {{ url: \"http://{target}\" }} ]
tls:
  certificates:
    - {{ certFile: {folder}/certificate.pem, keyFile: {folder}/key.pem }}
"
        )
    }
}
