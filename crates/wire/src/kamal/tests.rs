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
    assert_eq!(snapshot.settings.hosts, [HostPattern::parse("a.example.com").unwrap()]);
    assert_eq!(snapshot.settings.path_prefixes, [], "which is `/`");
}

/// proxy-compat case 200: all that a service has survives; here what is there only with readers, splits and on demand.
#[test]
fn everything_goes_both_ways() {
    let text = STATE
        .replacen(r#""active_readers":[]"#, r#""active_readers":["a-reader"]"#, 1)
        .replacen(r#""rollout_targets":null"#, r#""rollout_targets":["next:3000"]"#, 1)
        .replacen(r#""rollout_readers":null"#, r#""rollout_readers":["next-reader"]"#, 1)
        .replacen(
            r#""rollout_controller":null"#,
            r#""rollout_controller":{"percentage":20,"percentage_split_point":858993459,"allowlist":["1","2"]}"#,
            1,
        )
        .replacen(r#""hosts":["a.example.com"]"#, r#""hosts":[""]"#, 1)
        .replacen(r#""tls_enabled":false"#, r#""tls_enabled":true"#, 1)
        .replacen(r#""tls_on_demand_url":"""#, r#""tls_on_demand_url":"/allow""#, 1)
        .replacen(r#""client_ip_header":"""#, r#""client_ip_header":"True-Client-IP""#, 1)
        .replacen(r#""exclude_metrics_paths":null"#, r#""exclude_metrics_paths":["/up"]"#, 1)
        .replacen(r#""read_targets_accept_websockets":false"#, r#""read_targets_accept_websockets":true"#, 1)
        .replacen("1000000000,\"read", "2500000000,\"read", 1);
    let snapshot = read_kamal_state(text.as_bytes()).unwrap().remove(0).snapshot(3).unwrap();
    let canary = snapshot.canary.clone().unwrap();
    assert_eq!((canary.targets[0].as_str(), canary.read_targets[0].as_str()), ("next:3000", "next-reader"));
    assert_eq!(
        canary.split,
        Some(Split { percentage: 20, allow_list: vec!["1".to_owned(), "2".to_owned()], ..Split::default() })
    );
    assert_eq!(snapshot.read_targets[0].as_str(), "a-reader");
    assert_eq!(snapshot.gate, Gate::Stopped { message: "soon".to_owned() });
    let settings = &snapshot.settings;
    assert_eq!(settings.tls.as_ref().unwrap().on_demand_url(), Some("/allow"));
    assert_eq!(settings.client_ip_header.as_deref(), Some("True-Client-IP"));
    assert_eq!((settings.writer_affinity_ms, settings.read_targets_take_websockets), (2500, true));
    assert_eq!(settings.exclude_metrics_paths, ["/up"]);
    let written = write_kamal_state(std::slice::from_ref(&snapshot)).unwrap();
    assert_eq!(read_kamal_state(&written).unwrap().remove(0).snapshot(3).unwrap(), snapshot);
    let (mut before, after): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(&text).unwrap(), serde_json::from_slice(&written).unwrap());
    before[0].as_object_mut().unwrap().remove("a_new_key");
    assert_eq!(after, before);
    // Our own form, too.
    let text = serde_json::to_string(&snapshot).unwrap();
    assert_eq!(serde_json::from_str::<ServiceSnapshot>(&text).unwrap(), snapshot);
}

#[test]
fn a_split_without_targets_and_one_over_the_whole_do_no_harm() {
    let split = r#""rollout_controller":{"percentage":150,"percentage_split_point":6442450942.5}"#;
    let text = STATE.replacen(r#""rollout_controller":null"#, split, 1);
    let service = read_kamal_state(text.as_bytes()).unwrap().remove(0);
    assert_eq!(service.snapshot(0).unwrap().canary, None);
    let text = text.replacen(r#""rollout_targets":null"#, r#""rollout_target":"next:3000""#, 1);
    let canary = read_kamal_state(text.as_bytes()).unwrap().remove(0).snapshot(0).unwrap().canary.unwrap();
    assert_eq!((canary.targets[0].as_str(), canary.split.unwrap().percentage), ("next:3000", 100));
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
