//! The container of the proxy that stands in.

use freehold_docker::{ContainerSpec, ImageName};
use freehold_model::{ContainerName, ContainerOptions, InvalidName, ProxyRun, RestartPolicy};

use super::STAND_IN;
use crate::engine_host::proxy::proxy_spec;

/// Describes a proxy that takes the connections of another one for a while. It reads the same state and changes none of it.
///
/// Who may connect, what is believed of it, how much of the disk bodies may take and where traces go are as the file says:
/// a load balancer in front goes on to send its PROXY header. Certificates it only shows, so that it needs nobody's key to
/// order any.
pub(super) fn spec(
    run: &ProxyRun,
    network: &str,
    home: &str,
    image: ImageName,
) -> Result<ContainerSpec, InvalidName> {
    let same = ProxyRun {
        debug: run.debug,
        log_max_size: run.log_max_size.clone(),
        edge: run.edge.clone(),
        buffer_disk_bytes: run.buffer_disk_bytes,
        traces: run.traces.clone(),
        ..ProxyRun::default()
    };
    let mut spec = proxy_spec(&same, network, home, image)?;
    spec.name = ContainerName::parse(STAND_IN)?;
    for volume in &mut spec.volumes {
        volume.push_str(":ro");
    }
    spec.options = ContainerOptions {
        restart: RestartPolicy::UnlessStopped,
        publish: ["80", "443"].map(str::to_owned).to_vec(),
        ..ContainerOptions::default()
    };
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use freehold_model::{ImageId, Network, ProxyEdge, ProxyPort, ProxyTraces};

    use super::*;

    #[test]
    fn a_stand_in_takes_connections_as_the_proxy_does() {
        let run = ProxyRun {
            http_port: 8080,
            metrics_port: Some(9090),
            edge: ProxyEdge {
                trusted_proxies: vec![Network::parse("10.0.0.0/8").unwrap()],
                proxy_protocol: vec![ProxyPort::Http, ProxyPort::Https],
                max_client_connections: Some(200),
            },
            buffer_disk_bytes: Some(1_000_000),
            traces: Some(ProxyTraces { endpoint: "http://collector:4318".to_owned(), per_million: 100_000 }),
            ..ProxyRun::default()
        };
        let image = ImageName::Id(ImageId::parse(format!("sha256:{}", "0".repeat(64))).unwrap());
        let spec = spec(&run, "kamal", "/root", image).unwrap();
        let command = spec.command.unwrap().join(" ");
        for flag in [
            "--trusted-proxy=10.0.0.0/8",
            "--proxy-protocol=http",
            "--proxy-protocol=https",
            "--max-client-connections=200",
            "--buffer-disk 1000000",
            "--otlp-endpoint http://collector:4318",
            "--trace-ratio 0.1",
        ] {
            assert!(command.contains(flag), "{flag} in {command}");
        }
        assert!(!command.contains("--metrics-port"), "{command}");
        assert_eq!(spec.name.as_str(), STAND_IN);
        assert_eq!(spec.options.publish, ["80", "443"], "not the ports of the proxy");
        assert!(spec.volumes.iter().all(|volume| volume.ends_with(":ro")), "{:?}", spec.volumes);
    }
}
