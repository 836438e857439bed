use freehold_model::{ImageReference, ProxyTraces, Repository, Tag};

use super::*;

// kamal-compat §7.1 rows 1, 2, 3, 5, 6, 8.
#[test]
fn the_container_is_what_its_settings_say() {
    let image = ImageReference {
        repository: Repository::parse("freehold-proxy").unwrap(),
        tag: Tag::parse("1").unwrap(),
    };
    let spec = |run: &ProxyRun| proxy_spec(run, "kamal", "/root", image.clone().into()).unwrap();
    let usual = spec(&ProxyRun::default());
    let command = ["proxy", "run", "--http-port", "80", "--https-port", "443"];
    assert_eq!(usual.command.unwrap(), command);
    assert_eq!(usual.options.publish, ["80:80", "443:443"]);
    let mut run = ProxyRun { https_port: 8443, debug: true, metrics_port: Some(9090), ..ProxyRun::default() };
    run.bind_addresses = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    run.options.memory_bytes = Some(1 << 28);
    run.options.publish = vec!["9090:9090".to_owned()];
    let spec = spec(&run);
    assert_eq!(spec.command.unwrap()[6..], ["--debug", "--metrics-port", "9090"]);
    assert_eq!(spec.options.memory_bytes, Some(1 << 28));
    assert_eq!(spec.options.expose, ["9090"]);
    let ports = ["9090:9090", "127.0.0.1:80:80", "127.0.0.1:8443:443", "[::1]:80:80", "[::1]:8443:443"];
    assert_eq!(spec.options.publish, ports);
    run.buffer_disk_bytes = Some(1000);
    run.traces = Some(ProxyTraces { endpoint: "http://collector:4318".to_owned(), per_million: 100_000 });
    let watched =
        ["--buffer-disk", "1000", "--otlp-endpoint", "http://collector:4318", "--trace-ratio", "0.1"];
    assert_eq!(
        proxy_spec(&run, "kamal", "/root", image.clone().into()).unwrap().command.unwrap()[9..],
        watched
    );
    run.publish = false;
    assert_eq!(published(&run), [""; 0]);
}
