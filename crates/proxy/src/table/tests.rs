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
        counts: None,
    })
}

fn find(table: &Table, host: &str, path: &str) -> Option<(String, usize)> {
    table.route(host, path).map(|route| (route.service.name.to_string(), route.strip))
}

fn found(name: &str, strip: usize) -> Option<(String, usize)> {
    Some((name.to_owned(), strip))
}

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
}

#[test]
fn the_level_of_the_host_is_final() {
    let table =
        Table::new([service("api", &["example.com"], &["/api"], true), service("any", &[], &[], true)]);
    assert_eq!(find(&table, "example.com", "/api/x"), found("api", 4));
    assert_eq!(find(&table, "example.com", "/x"), None);
    assert_eq!(find(&table, "other.com", "/api"), found("any", 0));
}

#[test]
fn the_longest_prefix_of_whole_segments_wins() {
    let table = Table::new([
        service("root", &["a.com"], &["/"], true),
        service("api", &["a.com"], &["/api"], true),
        service("special", &["a.com"], &["/api/special"], false),
    ]);
    for (path, wanted) in [
        ("/", found("root", 0)),
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
    assert_eq!(holder(&[], &[]), Some("any".to_owned()));
    let own = service("one", &["a.com"], &["/"], true);
    assert!(table.holder(&own.name, &own.settings).is_none());
}

#[test]
fn services_are_replaced_and_removed_as_a_whole() {
    let table =
        Table::new([service("one", &["a.com"], &[], true)]).with(service("one", &["b.com"], &[], true));
    assert_eq!(find(&table, "a.com", "/"), None);
    assert_eq!(find(&table, "b.com", "/"), found("one", 0));
    let table = table.without(&ProxyServiceName::parse("one").unwrap());
    assert_eq!(find(&table, "b.com", "/"), None);
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
