//! The command line of kamal-proxy, as Kamal 2.12 calls it (kamal-compat §7 and §19).

use std::time::Duration;

use freehold_model::{ContainerName, HealthCheck, ProxyServiceName, ProxySettings, Tls};

use crate::observed::ProxyMaker;
use crate::plan::Undo;
use crate::request::{ProxyFiles, Readiness};

/// A call of `kamal-proxy deploy`.
#[derive(Debug, Clone, Copy)]
pub struct KamalDeploy<'a> {
    /// The service.
    pub service: &'a ProxyServiceName,
    /// The targets, `host:port`.
    pub targets: &'a [String],
    /// How long it may wait until they are healthy.
    pub health_limit: Duration,
    /// How long requests at the earlier targets may take.
    pub drain: Duration,
}

/// Returns the words of a `kamal-proxy deploy`, the program's name first. `flags` are those of [`kamal_flags`].
#[must_use]
pub fn kamal_deploy(call: &KamalDeploy<'_>, flags: &[String]) -> Vec<String> {
    let mut words: Vec<String> = ["kamal-proxy", "deploy"].map(str::to_owned).to_vec();
    words.push(call.service.to_string());
    words.extend(call.targets.iter().map(|target| format!("--target={target}")));
    let is_before = |flag: &&String| BEFORE_LIMITS.iter().any(|name| flag.split('=').next() == Some(name));
    words.extend(flags.iter().filter(is_before).cloned());
    words.push(format!("--deploy-timeout={}", seconds(call.health_limit)));
    words.push(format!("--drain-timeout={}", seconds(call.drain)));
    words.extend(flags.iter().filter(|flag| !is_before(flag)).cloned());
    words
}

/// The flags that Kamal writes before the time limits.
const BEFORE_LIMITS: [&str; 4] = ["--host", "--tls", "--tls-certificate-path", "--tls-private-key-path"];

/// Returns the flags of `kamal-proxy deploy` for settings, in Kamal's order; what kamal-proxy does anyway is left out.
#[must_use]
pub fn kamal_flags(settings: &ProxySettings, files: &ProxyFiles) -> Vec<String> {
    let mut flags = Flags::default();
    flags.each("host", &settings.hosts);
    let has_tls = !settings.tls.is_off() || files.certificate.is_some();
    flags.switch("tls", has_tls, false);
    if let Some(folder) = files.certificate.as_ref().filter(|_| !matches!(settings.tls, Tls::Automatic(_))) {
        flags.value("tls-certificate-path", format!("{folder}/cert.pem"));
        flags.value("tls-private-key-path", format!("{folder}/key.pem"));
    }
    let (check, usual) = (&settings.health_check, HealthCheck::default());
    flags.unless_usual("health-check-interval", seconds(check.interval), &seconds(usual.interval));
    flags.unless_usual("health-check-timeout", seconds(check.timeout), &seconds(usual.timeout));
    flags.unless_usual("health-check-path", check.path.clone(), &usual.path);
    flags.unless_usual("target-timeout", seconds(settings.response_timeout), "30s");
    let buffering = &settings.buffering;
    flags.always("buffer-requests", buffering.requests);
    flags.always("buffer-responses", buffering.responses);
    flags.number("buffer-memory", buffering.memory_bytes);
    // kamal-proxy refuses a limit for what it does not hold back.
    flags.number("max-request-body", buffering.max_request_body_bytes.filter(|_| buffering.requests));
    flags.number("max-response-body", buffering.max_response_body_bytes.filter(|_| buffering.responses));
    flags.each("path-prefix", &settings.path_prefixes);
    flags.switch("strip-path-prefix", settings.strip_path_prefix, true);
    flags.switch("forward-headers", settings.forward_headers, !has_tls);
    flags.switch("tls-redirect", settings.redirect_to_https, true);
    flags.each("log-request-header", &settings.logged_headers.request);
    flags.each("log-response-header", &settings.logged_headers.response);
    if let Some(folder) = &files.error_pages {
        flags.value("error-pages", folder.clone());
    }
    flags.0
}

/// Returns the name under which a kamal-proxy checks a container before it gets any traffic.
#[must_use]
pub fn probe_service(container: &ContainerName) -> Option<ProxyServiceName> {
    ProxyServiceName::parse(format!("{container}-probe")).ok()
}

/// Returns what is left to be undone of waiting for a container.
pub(crate) fn undo_waiting(container: &ContainerName, readiness: &Readiness) -> Undo {
    match (readiness, probe_service(container)) {
        (Readiness::Answers { proxy: ProxyMaker::Kamal, .. }, Some(service)) => {
            Undo::RestoreRoute { service, previous: None }
        }
        _ => Undo::Nothing,
    }
}

/// Flags under construction.
#[derive(Default)]
struct Flags(Vec<String>);

impl Flags {
    fn value(&mut self, name: &str, value: String) {
        self.0.push(format!("--{name}={value}"));
    }

    fn unless_usual(&mut self, name: &str, value: String, usual: &str) {
        if value != usual {
            self.value(name, value);
        }
    }

    fn each(&mut self, name: &str, values: &[String]) {
        for value in values {
            self.value(name, value.clone());
        }
    }

    fn number(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.value(name, value.to_string());
        }
    }

    fn switch(&mut self, name: &str, value: bool, usual: bool) {
        if value != usual {
            self.always(name, value);
        }
    }

    fn always(&mut self, name: &str, value: bool) {
        self.0.push(if value { format!("--{name}") } else { format!("--{name}=false") });
    }
}

/// Writes a time as Go reads it; Kamal's are whole seconds.
fn seconds(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{}s", time.as_secs()) } else { format!("{}ms", time.as_millis()) }
}

#[cfg(test)]
mod tests {
    use freehold_model::{Buffering, CertificateAuthority, LoggedHeaders, SecretName};

    use super::*;

    fn call(settings: &ProxySettings, files: &ProxyFiles) -> String {
        let service = ProxyServiceName::parse("app-web").unwrap();
        let targets = ["1a2b3c4d5e6f:80".to_owned()];
        let limit = Duration::from_secs(30);
        let call = KamalDeploy { service: &service, targets: &targets, health_limit: limit, drain: limit };
        kamal_deploy(&call, &kamal_flags(settings, files)).join(" ")
    }

    /// The call that Kamal 2.12 makes for the file of kamal-compat §19.1: kamal-compat §7 rows 1, 5, 6, 9, 16, 18, 19
    #[test]
    fn a_call_is_kamals_to_the_letter() {
        let settings = ProxySettings {
            hosts: vec!["a.example.com".to_owned()],
            tls: Tls::Automatic(CertificateAuthority::default()),
            forward_headers: false,
            buffering: Buffering { requests: true, responses: true, ..Buffering::default() },
            ..ProxySettings::default()
        };
        let files = ProxyFiles {
            error_pages: Some("/home/kamal-proxy/.apps-config/app/error_pages/SHA".to_owned()),
            ..ProxyFiles::default()
        };
        assert_eq!(
            call(&settings, &files),
            "kamal-proxy deploy app-web --target=1a2b3c4d5e6f:80 --host=a.example.com --tls --deploy-timeout=30s \
             --drain-timeout=30s --buffer-requests --buffer-responses --log-request-header=Cache-Control \
             --log-request-header=Last-Modified --log-request-header=User-Agent \
             --error-pages=/home/kamal-proxy/.apps-config/app/error_pages/SHA"
        );
    }

    /// Everything that can be set, in the order of kamal-compat §19.2: kamal-compat §7 rows 2, 3, 4, 7, 8, 10, 11, 12,
    /// 13, 14, 15, 17
    #[test]
    fn everything_set_comes_in_kamals_order() {
        let secret = |name: &str| SecretName::parse(name).unwrap();
        let settings = ProxySettings {
            hosts: vec!["a.example.com".to_owned(), "b.example.com".to_owned()],
            app_port: 3000,
            health_check: HealthCheck {
                path: "/health".to_owned(),
                interval: Duration::from_secs(2),
                timeout: Duration::from_secs(3),
                ..HealthCheck::default()
            },
            response_timeout: Duration::from_secs(10),
            path_prefixes: vec!["/api".to_owned(), "/oauth".to_owned()],
            strip_path_prefix: false,
            forward_headers: true,
            buffering: Buffering {
                requests: true,
                responses: true,
                memory_bytes: Some(2),
                max_request_body_bytes: Some(3),
                max_response_body_bytes: Some(4),
            },
            tls: Tls::Custom { certificate: secret("CERT"), private_key: secret("KEY") },
            redirect_to_https: false,
            clients: None,
            logged_headers: LoggedHeaders {
                request: vec!["X-A".to_owned()],
                response: vec!["X-B".to_owned()],
            },
            // What only Freehold's proxy has.
            ..ProxySettings::default()
        };
        let files = ProxyFiles {
            error_pages: Some("/e".to_owned()),
            certificate: Some("/c".to_owned()),
            users: None,
        };
        insta::assert_snapshot!(call(&settings, &files).replace(" --", "\n--"));
    }

    #[test]
    fn what_is_not_held_back_has_no_limit() {
        let buffering = Buffering { max_request_body_bytes: Some(3), ..Buffering::default() };
        let call = call(&ProxySettings { buffering, ..ProxySettings::default() }, &ProxyFiles::default());
        assert!(call.contains("--buffer-requests=false") && !call.contains("max-request-body"), "{call}");
    }
}
