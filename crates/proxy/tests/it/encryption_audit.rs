//! What testssl.sh finds wrong with encrypted connections.

use std::process::{Command, Stdio};
use std::time::Duration;

use freehold_wire::{CertificateSource, Tls};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CrlDistributionPoint, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use serde_json::Value;

use crate::client::LIMIT;
use crate::rig::{Rig, name, request_for};
use crate::target::Target;

const HOST: &str = "shop.example.com";

/// What is looked at: protocols, ciphers by kind, forward secrecy, the server's preferences and defaults, and everything that
/// has a name as a vulnerability.
const LOOKS: [&str; 6] =
    ["--protocols", "--std", "--fs", "--server-preference", "--server-defaults", "--vulnerable"];

/// Writes a certificate as a public authority would issue it, and returns its tls.
fn certificate(folder: &std::path::Path) -> Tls {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.distinguished_name.push(DnType::CommonName, "authority of a test");
    let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new([HOST.to_owned()]).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, HOST);
    let now = jiff::Timestamp::now().as_second();
    let moment = |days: i64| {
        let second = jiff::Timestamp::from_second(now + days * 24 * 60 * 60).unwrap();
        let date = second.to_zoned(jiff::tz::TimeZone::UTC);
        let (year, month, day) = (date.year(), date.month(), date.day());
        rcgen::date_time_ymd(year.into(), month.unsigned_abs(), day.unsigned_abs())
    };
    (parameters.not_before, parameters.not_after) = (moment(-1), moment(80));
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.crl_distribution_points =
        vec![CrlDistributionPoint { uris: vec!["http://127.0.0.1:9/revoked".to_owned()] }];
    parameters.use_authority_key_identifier_extension = true;
    let leaf = parameters.signed_by(&key, &issuer).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs_err::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    write("ca.pem", issuer.pem());
    let certificate = CertificateSource::Files {
        certificate_path: write("tls.crt", leaf.pem()),
        private_key_path: write("tls.key", key.serialize_pem()),
    };
    Tls { certificate, redirect: true, clients: None }
}

#[tokio::test]
async fn testssl_finds_nothing_above_low() {
    let (rig, target, folder) = (Rig::start(), Target::start("t").await, tempfile::tempdir().unwrap());
    let mut request = request_for(&target);
    request.settings.tls = Some(certificate(folder.path()));
    rig.client().await.deploy(&name("shop"), &request, LIMIT).await.unwrap();
    let report = folder.path().join("report.json");
    let mut command = Command::new("testssl");
    command.args(LOOKS).args(["--ip", "127.0.0.1", "--warnings", "batch", "--quiet", "--color", "0"]);
    command.args(["--nodns", "none", "--connect-timeout", "10", "--openssl-timeout", "10", "--jsonfile"]);
    command.arg(&report).arg("--add-ca").arg(folder.path().join("ca.pem"));
    command.arg(format!("{HOST}:{}", rig.https_port())).stdin(Stdio::null()).stdout(Stdio::null());
    let mut process = command.spawn().expect("testssl.sh is needed, which script/test installs");
    let ended = tokio::task::spawn_blocking(move || process.wait().unwrap());
    tokio::time::timeout(Duration::from_secs(10 * 60), ended).await.unwrap().unwrap();
    let text = fs_err::read_to_string(&report).unwrap();
    let findings: Vec<Value> = serde_json::from_str(&text).unwrap();
    let of = |severities: &[&str]| -> Vec<String> {
        let found = findings.iter().filter(|found| severities.contains(&found["severity"].as_str().unwrap()));
        found.map(|found| format!("{} {} {}", found["severity"], found["id"], found["finding"])).collect()
    };
    assert_eq!(of(&["MEDIUM", "HIGH", "CRITICAL", "FATAL"]), [""; 0]);
    // It has really looked.
    let finding = |id: &str| {
        let found = findings.iter().find(|found| found["id"] == id);
        found.unwrap_or_else(|| panic!("{id} is missing: {text}"))["finding"].as_str().unwrap().to_owned()
    };
    for (id, wanted) in [
        ("SSLv3", "not offered"),
        ("TLS1", "not offered"),
        ("TLS1_1", "not offered"),
        ("TLS1_2", "offered"),
        ("TLS1_3", "offered"),
        ("heartbleed", "not vulnerable"),
    ] {
        assert!(finding(id).starts_with(wanted), "{id}: {}", finding(id));
    }
    assert!(findings.len() > 60, "{}", findings.len());
}
