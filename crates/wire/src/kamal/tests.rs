use super::*;

/// A record in kamal-proxy's shape, with a key that nobody knows.
const STATE: &str = r#"[{"name":"app-web","active_targets":["1a2b3c4d5e6f:3000"],"active_readers":[],
    "rollout_targets":null,"rollout_readers":null,"a_new_key":1,
    "options":{"hosts":["a.example.com"],"path_prefixes":["/"],"tls_enabled":false,"tls_certificate_path":"",
    "tls_private_key_path":"","tls_on_demand_url":"","tls_redirect":true,"canonical_host":"","acme_directory":"",
    "acme_cache_path":"/home/kamal-proxy/.config/kamal-proxy/certs","error_page_path":"/e","strip_prefix":true,
    "writer_affinity_timeout":1000000000,"read_targets_accept_websockets":false,"exclude_metrics_paths":null,
    "client_ip_header":""},
    "target_options":{"health_check_config":{"path":"/up","port":0,"interval":1000000000,"timeout":5000000000,
    "host":""},"response_timeout":30000000000,"buffer_requests":true,"buffer_responses":true,
    "max_memory_buffer_size":1048576,"max_request_body_size":0,"max_response_body_size":0,
    "log_request_headers":["Cache-Control"],"log_response_headers":null,"forward_headers":true,
    "scope_cookie_paths":false},
    "pause_controller":{"state":2,"stop_message":"soon","fail_after":0},"rollout_controller":null}]"#;

fn service() -> KamalService {
    read_kamal_state(STATE.as_bytes()).unwrap().remove(0)
}

#[test]
fn a_service_of_kamal_proxy_is_carried_over() {
    let snapshot = service().snapshot(7).unwrap();
    assert_eq!(snapshot.name.as_str(), "app-web");
    assert_eq!(snapshot.targets, [TargetAddress::parse("1a2b3c4d5e6f:3000").unwrap()]);
    assert_eq!(snapshot.gate, Gate::Stopped { message: "soon".to_owned() });
    let settings = &snapshot.settings;
    assert_eq!(settings.hosts, [HostPattern::parse("a.example.com").unwrap()]);
    assert_eq!(settings.path_prefixes, []);
    assert_eq!(settings.health_check, HealthCheck::default());
    assert_eq!(settings.error_pages.as_deref(), Some("/e"));
    assert!(settings.buffering.requests && settings.forward_headers && settings.strip_path_prefix);
}

#[test]
fn what_we_write_is_what_was_there() {
    let snapshots = vec![service().snapshot(0).unwrap()];
    let written = write_kamal_state(&snapshots).unwrap();
    let again: Vec<ServiceSnapshot> =
        read_kamal_state(&written).unwrap().iter().map(|service| service.snapshot(0).unwrap()).collect();
    assert_eq!(again, snapshots);
    let (before, after): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(STATE).unwrap(), serde_json::from_slice(&written).unwrap());
    for section in ["active_targets", "target_options", "pause_controller", "rollout_controller"] {
        assert_eq!(after[0][section], before[0][section], "{section}");
    }
}

#[test]
fn certificates_that_were_ordered_go_with_it() {
    let text = STATE.replacen(r#""tls_enabled":false"#, r#""tls_enabled":true"#, 1);
    let snapshot = read_kamal_state(text.as_bytes()).unwrap().remove(0).snapshot(1).unwrap();
    let tls = snapshot.settings.tls.clone().unwrap();
    assert_eq!(tls.certificate, CertificateSource::Acme(Acme::default()));
    assert!(tls.redirect);
    let written = write_kamal_state(&[snapshot]).unwrap();
    let again = read_kamal_state(&written).unwrap().remove(0);
    assert!(again.has_tls() && again.flags().contains(&"--tls=true".to_owned()));
    assert_eq!(again.snapshot(1).unwrap().settings.tls, Some(tls));
}

/// proxy-compat case 201: the record of versions before 0.9.
#[test]
fn a_record_of_an_earlier_version_is_read() {
    let text = r#"[{"name":"old","active_target":"web:80","hosts":["a.example.com"],
        "target_options":{"response_timeout":3000000000}}]"#;
    let snapshot = read_kamal_state(text.as_bytes()).unwrap().remove(0).snapshot(1).unwrap();
    assert_eq!(snapshot.targets, [TargetAddress::parse("web:80").unwrap()]);
    assert_eq!(snapshot.settings.response_timeout_ms, 3000);
    assert_eq!(snapshot.settings.hosts.len(), 1);
}

#[test]
fn what_cannot_be_carried_over_is_named() {
    for (from, to, what) in [
        (r#""active_readers":[]"#, r#""active_readers":["a-reader"]"#, "read-only targets"),
        (r#""rollout_controller":null"#, r#""rollout_controller":{"percentage":10}"#, "part of the visitors"),
        (r#""tls_on_demand_url":"""#, r#""tls_on_demand_url":"/x""#, "on demand"),
        (r#""client_ip_header":"""#, r#""client_ip_header":"X""#, "client's address"),
    ] {
        let text = STATE.replacen(from, to, 1);
        let service = read_kamal_state(text.as_bytes()).unwrap().remove(0);
        let error = service.snapshot(0).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("app-web"), "{error}");
    }
}

#[test]
fn the_flags_set_it_again() {
    assert_eq!(
        service().flags().join(" "),
        "--host=a.example.com --tls-redirect=true --health-check-interval=1000ms --health-check-timeout=5000ms \
         --target-timeout=30000ms --health-check-path=/up --buffer-requests=true --buffer-responses=true \
         --buffer-memory=1048576 --max-request-body=0 --max-response-body=0 --strip-path-prefix=true \
         --forward-headers=true --scope-cookie-paths=false --log-request-header=Cache-Control --error-pages=/e"
    );
}
