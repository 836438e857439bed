use freehold_wire::HealthState;
use proptest::prelude::*;

use super::*;

fn service(name: &str, hosts: &[&str], prefixes: &[&str], strip: bool) -> Arc<Service> {
    let settings = ServiceSettings {
        hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
        path_prefixes: prefixes.iter().map(|prefix| PathPrefix::parse(prefix).unwrap()).collect(),
        strip_path_prefix: strip,
        ..ServiceSettings::default()
    };
    let generation = Arc::new(Generation::new(
        crate::generation::Members { targets: &[], read_targets: &[] },
        HealthState::Healthy,
        1,
    ));
    Arc::new(Service {
        name: ProxyServiceName::parse(name).unwrap(),
        settings,
        generation,
        standby: None,
        canary: None,
        gate: Gate::Open,
        gate_moved: Arc::default(),
        pages: None,
        certificate: None,
        rules: None,
        client_auth: None,
        target_authorities: None,
        counts: None,
    })
}

fn find(table: &Table, host: &str, path: &str) -> Option<(String, usize)> {
    table.route(host, path).map(|route| (route.service.name.to_string(), route.strip))
}

fn found(name: &str, strip: usize) -> Option<(String, usize)> {
    Some((name.to_owned(), strip))
}

// proxy-compat cases 145-148, 163.
#[test]
fn exact_goes_before_wildcard_before_any() {
    let table = Table::new([
        service("exact", &["example.com"], &[], true),
        service("wild", &["*.example.com"], &[], true),
        service("any", &[], &[], true),
    ]);
    assert_eq!(find(&table, "example.com", "/"), found("exact", 0));
    assert_eq!(find(&table, "EXAMPLE.com.", "/"), found("exact", 0));
    assert_eq!(find(&table, "a.example.com", "/"), found("wild", 0));
    assert_eq!(find(&table, "a.b.example.com", "/"), found("any", 0));
    assert_eq!(find(&table, ".example.com", "/"), found("any", 0));
    assert_eq!(find(&table, "", "/"), found("any", 0));
    assert_eq!(find(&table, "*.example.com", "/"), found("wild", 0));
    assert_eq!(find(&Table::default(), "example.com", "/"), None);
    let table = Table::new([
        service("first", &["*.first"], &[], true),
        service("second", &["*.second"], &[], true),
        service("any", &[], &[], true),
    ]);
    assert_eq!(find(&table, "a.first", "/"), found("first", 0));
    assert_eq!(find(&table, "a.second", "/"), found("second", 0));
    assert_eq!(find(&table, "a.third", "/"), found("any", 0));
    let table = Table::new([service("exact", &["example.com"], &[], true)]);
    assert_eq!(find(&table, "app.example.com", "/"), None);
}

// proxy-compat cases 135-137, 144, 152.
#[test]
fn a_service_has_its_hosts_and_paths_and_no_others() {
    assert_eq!(find(&Table::default(), "1.example.com", "/"), None);
    let table = Table::new([service("any", &[], &[], true)]);
    assert_eq!(find(&table, "whatever", "/x"), found("any", 0));
    let table = Table::new([
        service("one", &["1.example.com", "2.example.com"], &[], true),
        service("other", &["4.example.com"], &["/first", "/second"], true),
    ]);
    assert_eq!(find(&table, "1.example.com", "/"), found("one", 0));
    assert_eq!(find(&table, "2.example.com", "/"), found("one", 0));
    assert_eq!(find(&table, "3.example.com", "/"), None);
    assert_eq!(find(&table, "4.example.com", "/first"), found("other", 6));
    assert_eq!(find(&table, "4.example.com", "/second/x"), found("other", 7));
    assert_eq!(find(&table, "4.example.com", "/third"), None);
    assert_eq!(find(&table, "4.example.com", "/"), None);
}

// proxy-compat cases 150, 151.
#[test]
fn the_level_of_the_host_is_final() {
    let table =
        Table::new([service("api", &["example.com"], &["/api"], true), service("any", &[], &[], true)]);
    assert_eq!(find(&table, "example.com", "/api/x"), found("api", 4));
    assert_eq!(find(&table, "example.com", "/x"), None);
    assert_eq!(find(&table, "other.com", "/api"), found("any", 0));
    let table = table.with(service("anyapi", &[], &["/api"], true));
    assert_eq!(find(&table, "other.com", "/api"), found("anyapi", 4));
    assert_eq!(find(&table, "other.com", "/x"), found("any", 0));
    assert_eq!(find(&table, "example.com", "/x"), None);
}

// proxy-compat cases 149, 161, 162.
#[test]
fn the_longest_prefix_of_whole_segments_wins() {
    let table = Table::new([
        service("root", &["a.com"], &["/"], true),
        service("api", &["a.com"], &["/api"], true),
        service("special", &["a.com"], &["/api/special"], false),
    ]);
    for (path, wanted) in [
        ("/", found("root", 0)),
        ("/random", found("root", 0)),
        ("/apiary", found("root", 0)),
        ("/api", found("api", 4)),
        ("/api/", found("api", 4)),
        ("/%61pi/x", found("api", 6)),
        ("/api%2Fx", found("api", 4)),
        ("/api/../x", found("api", 4)),
        ("//api/x", found("root", 0)),
        ("/api/special", found("special", 0)),
        ("/api/special/x", found("special", 0)),
        ("/api/specials", found("api", 4)),
    ] {
        assert_eq!(find(&table, "a.com", path), wanted, "{path}");
    }
}

// proxy-compat cases 142, 143, 153, 154.
#[test]
fn pairs_of_host_and_path_have_one_owner() {
    let table = Table::new([
        service("one", &["a.com", "b.com"], &["/", "/x"], true),
        service("any", &[], &["/"], true),
    ]);
    let holder = |hosts: &[&str], prefixes: &[&str]| {
        let asking = service("asking", hosts, prefixes, true);
        table.holder(&asking.name, &asking.settings).map(|holder| holder.name.to_string())
    };
    assert_eq!(holder(&["b.com"], &["/x"]), Some("one".to_owned()));
    assert_eq!(holder(&["b.com"], &[]), Some("one".to_owned()));
    assert_eq!(holder(&["b.com"], &["/y"]), None);
    assert_eq!(holder(&["*.com"], &[]), None);
    assert_eq!(holder(&["c.com"], &[]), None, "beside a catch-all");
    assert_eq!(holder(&[], &["/y"]), None);
    assert_eq!(holder(&[], &[]), Some("any".to_owned()));
    let own = service("one", &["a.com"], &["/"], true);
    assert!(table.holder(&own.name, &own.settings).is_none());
}

// proxy-compat cases 138, 141, 164.
#[test]
fn services_are_replaced_and_removed_as_a_whole() {
    let table =
        Table::new([service("one", &["a.com"], &[], true)]).with(service("one", &["b.com"], &[], true));
    assert_eq!(find(&table, "a.com", "/"), None);
    assert_eq!(find(&table, "b.com", "/"), found("one", 0));
    let table = table.without(&ProxyServiceName::parse("one").unwrap());
    assert_eq!(find(&table, "b.com", "/"), None);
}

// proxy-compat case 176.
#[test]
fn services_without_the_root_path_have_the_security_of_the_one_with_it() {
    let tls = r#"{"certificate_path":"/a","private_key_path":"/b","redirect":false}"#;
    let with_tls = |service: Arc<Service>| {
        let settings =
            ServiceSettings { tls: Some(serde_json::from_str(tls).unwrap()), ..service.settings.clone() };
        Arc::new(Service { settings, ..Service::clone(&service) })
    };
    let table = Table::new([
        with_tls(service("one", &["1.example.com"], &[], true)),
        service("two", &["2.example.com"], &[], true),
        service("oneapi", &["1.example.com"], &["/api"], true),
        service("twoapi", &["2.example.com"], &["/api"], true),
    ]);
    let security = |table: &Table, host: &str| table.route(host, "/api").unwrap().security;
    assert_eq!(security(&table, "1.example.com"), Security::Optional);
    assert_eq!(security(&table, "2.example.com"), Security::Off);
    let table = table.without(&ProxyServiceName::parse("one").unwrap());
    assert_eq!(security(&table, "1.example.com"), Security::Off);
}

proptest! {
    #[test]
    fn no_host_and_path_make_it_panic(host in ".{0,30}", path in "/.{0,30}") {
        let table = Table::new([service("api", &["*.a.com"], &["/a/b"], true), service("any", &[], &[], true)]);
        if let Some((_, strip)) = find(&table, &host, &path) {
            prop_assert!(strip <= path.len());
        }
    }

    #[test]
    fn escapes_do_not_change_what_matches(escape in proptest::collection::vec(any::<bool>(), 6)) {
        let table = Table::new([service("api", &[], &["/a/bcd"], true)]);
        let path: String = "/a/bcd"
            .chars()
            .zip(escape)
            .map(|(c, escape)| if escape && c != '/' { format!("%{:02X}", u32::from(c)) } else { c.to_string() })
            .collect();
        prop_assert_eq!(find(&table, "x", &format!("{path}/rest")), found("api", path.len()));
    }
}
