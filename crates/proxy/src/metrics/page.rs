//! The counts as text, in the form that Prometheus reads (version 0.0.4).

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::Duration;

use super::{BOUNDS, Metrics, Total};

/// What is known elsewhere and shown with the counts.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// What is in flight, by service.
    pub(crate) in_flight: Vec<(String, u64)>,
    /// When certificates end, in seconds since 1970, by host.
    pub(crate) certificates: Vec<(String, i64)>,
    /// How many bytes of bodies may be on the disk, and how many are.
    pub(crate) spilled: (u64, u64),
    /// How many connections were not served, by reason.
    pub(crate) drops: Vec<(&'static str, u64)>,
    /// How many spans a collector got, and how many it did not; none where there is none.
    pub(crate) traces: Option<(u64, u64)>,
}

/// Writes all counts.
pub(crate) fn write(metrics: &Metrics, extra: &Extra) -> String {
    let mut text = Text(String::with_capacity(16 * 1024));
    let totals = metrics.totals();
    let series = || {
        totals.iter().flat_map(|(service, counts)| {
            counts.requests.iter().map(move |((method, status), count)| {
                let labels = format!(
                    "service=\"{}\",method=\"{}\",status=\"{status}\"",
                    escaped(service),
                    method.as_str()
                );
                (labels, count)
            })
        })
    };
    text.head("kamal_proxy_http_requests_total", "counter", "HTTP requests that have ended.");
    for (labels, count) in series() {
        text.line("kamal_proxy_http_requests_total", &labels, count.requests);
    }
    let name = "kamal_proxy_http_request_duration_seconds";
    text.head(name, "histogram", "How long HTTP requests took.");
    for (labels, count) in series() {
        let mut below = 0;
        for (bound, class) in BOUNDS.iter().zip(count.classes) {
            below += class;
            text.line(&format!("{name}_bucket"), &format!("{labels},le=\"{bound}\""), below);
        }
        text.line(&format!("{name}_bucket"), &format!("{labels},le=\"+Inf\""), count.requests);
        text.line(&format!("{name}_sum"), &labels, Duration::from_nanos(count.nanos).as_secs_f64());
        text.line(&format!("{name}_count"), &labels, count.requests);
    }
    text.head("kamal_proxy_http_in_flight_requests", "gauge", "HTTP requests that have not ended.");
    for (service, count) in &extra.in_flight {
        let labels = format!("service=\"{}\"", escaped(service));
        text.line("kamal_proxy_http_in_flight_requests", &labels, count);
    }
    text.traffic(&totals);
    text.head(
        "freehold_certificate_expiry_seconds",
        "gauge",
        "When a certificate ends, in seconds since 1970.",
    );
    for (host, end) in &extra.certificates {
        text.line("freehold_certificate_expiry_seconds", &format!("host=\"{}\"", escaped(host)), end);
    }
    text.head(
        "freehold_connections_dropped_total",
        "counter",
        "Connections that were not served, by reason.",
    );
    for (reason, count) in &extra.drops {
        text.line("freehold_connections_dropped_total", &format!("reason=\"{reason}\""), count);
    }
    text.spilled(extra.spilled);
    if let Some((sent, dropped)) = extra.traces {
        text.head("freehold_trace_spans_total", "counter", "Spans that a collector got, or did not.");
        text.line("freehold_trace_spans_total", "result=\"sent\"", sent);
        text.line("freehold_trace_spans_total", "result=\"dropped\"", dropped);
    }
    text.process();
    text.0
}

/// A backslash, quote or line break would end a label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        // Writing to a String cannot go wrong.
        writeln!(self.0, "{name}{{{labels}}} {value}").ok();
    }

    /// Adds the bytes of bodies, and what the proxy itself ended.
    fn traffic(&mut self, totals: &BTreeMap<String, Total>) {
        for (side, help) in [("request", "received"), ("response", "sent")] {
            let name = format!("freehold_http_{side}_bytes_total");
            self.head(&name, "counter", &format!("Bytes of {side} bodies {help}."));
            for (service, total) in totals {
                let bytes = if side == "request" { total.request_bytes } else { total.response_bytes };
                self.line(&name, &format!("service=\"{}\"", escaped(service)), bytes);
            }
        }
        let of_targets = "Requests that failed because of their target, by reason.";
        let all = "Requests that the proxy itself ended, by reason.";
        for (name, help, only_targets) in
            [("freehold_target_errors_total", of_targets, true), ("freehold_http_dropped_total", all, false)]
        {
            self.head(name, "counter", help);
            for (service, total) in totals {
                let wanted =
                    total.ended.iter().filter(|(reason, _)| !only_targets || reason.is_target_error());
                for (reason, count) in wanted {
                    self.line(name, &format!("service=\"{}\",reason=\"{reason}\"", escaped(service)), count);
                }
            }
        }
    }

    /// Adds how much of the disk held-back bodies take.
    fn spilled(&mut self, (limit, used): (u64, u64)) {
        for (name, help, value) in [
            ("freehold_buffer_disk_bytes", "Bytes of held-back bodies on the disk.", used),
            ("freehold_buffer_disk_limit_bytes", "How many there may be.", limit),
        ] {
            self.head(name, "gauge", help);
            self.0.push_str(&format!("{name} {value}\n"));
        }
    }

    /// Adds what the system knows of the process; what cannot be read is left out.
    fn process(&mut self) {
        let stat = fs_err::read_to_string("/proc/self/stat").unwrap_or_default();
        // The second field is the name in brackets, which may hold anything.
        let fields: Vec<u64> = stat.rsplit_once(") ").map_or_else(Vec::new, |(_, rest)| {
            rest.split(' ').skip(1).map(|field| field.parse().unwrap_or_default()).collect()
        });
        let field = |number: usize| fields.get(number - 4).copied();
        let kernel = |name: &str| {
            fs_err::read_to_string("/proc/stat").ok()?.lines().find_map(|line| {
                let (key, value) = line.split_once(' ')?;
                (key == name).then(|| value.trim().parse::<f64>().ok())?
            })
        };
        let mut gauge = |name: &str, kind: &str, help: &str, value: Option<f64>| {
            if let Some(value) = value {
                self.head(name, kind, help);
                self.0.push_str(&format!("{name} {value}\n"));
            }
        };
        let ticks = field(14).zip(field(15)).map(|(user, system)| seconds(user + system));
        gauge("process_cpu_seconds_total", "counter", "Processor time used, in seconds.", ticks);
        let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
        let kilobytes = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()
        };
        let resident = kilobytes("VmRSS:").map(|size| size * 1024.0);
        gauge("process_resident_memory_bytes", "gauge", "Memory in use, in bytes.", resident);
        let all = kilobytes("VmSize:").map(|size| size * 1024.0);
        gauge("process_virtual_memory_bytes", "gauge", "Memory asked for, in bytes.", all);
        let open = fs_err::read_dir("/proc/self/fd").ok().and_then(|files| u32::try_from(files.count()).ok());
        gauge("process_open_fds", "gauge", "Open files and sockets.", open.map(f64::from));
        let start = kernel("btime").zip(field(22)).map(|(boot, start)| boot + seconds(start));
        gauge(
            "process_start_time_seconds",
            "gauge",
            "When the process started, in seconds since 1970.",
            start,
        );
    }
}

/// The system counts in hundredths of a second on every machine that we build for.
#[expect(clippy::cast_precision_loss, reason = "ticks of centuries fit into 53 bits")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / 100.0
}

#[cfg(test)]
mod tests {
    use super::super::Method;
    use super::*;

    #[test]
    fn the_page_is_what_prometheus_reads() {
        let metrics = Metrics::new(1);
        let add = |service: &str, key, duration| {
            metrics.service(service).lanes[0].counts.lock().add(key, duration);
        };
        add("shop\"web", (Method::Post, 201), Duration::from_millis(300));
        add("", (Method::Get, 404), Duration::from_micros(1));
        let extra = Extra {
            in_flight: vec![("shop".to_owned(), 2)],
            certificates: vec![("shop.example.com".to_owned(), 1_800_000_000)],
            spilled: (1000, 7),
            drops: vec![("tls_timeout", 3)],
            traces: Some((5, 1)),
        };
        let text = write(&metrics, &extra);
        for line in [
            "# TYPE kamal_proxy_http_requests_total counter",
            "kamal_proxy_http_requests_total{service=\"\",method=\"GET\",status=\"404\"} 1",
            "kamal_proxy_http_requests_total{service=\"shop\\\"web\",method=\"POST\",status=\"201\"} 1",
            "kamal_proxy_http_request_duration_seconds_bucket{service=\"shop\\\"web\",method=\"POST\",status=\"201\",le=\"0.25\"} 0",
            "kamal_proxy_http_request_duration_seconds_bucket{service=\"shop\\\"web\",method=\"POST\",status=\"201\",le=\"0.5\"} 1",
            "kamal_proxy_http_request_duration_seconds_bucket{service=\"shop\\\"web\",method=\"POST\",status=\"201\",le=\"+Inf\"} 1",
            "kamal_proxy_http_request_duration_seconds_sum{service=\"shop\\\"web\",method=\"POST\",status=\"201\"} 0.3",
            "kamal_proxy_http_in_flight_requests{service=\"shop\"} 2",
            "freehold_http_response_bytes_total{service=\"\"} 0",
            "freehold_buffer_disk_bytes 7",
            "freehold_connections_dropped_total{reason=\"tls_timeout\"} 3",
            "freehold_trace_spans_total{result=\"dropped\"} 1",
            "freehold_certificate_expiry_seconds{host=\"shop.example.com\"} 1800000000",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        for name in
            ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"]
        {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap();
            assert!(line.parse::<f64>().unwrap() >= 0.0);
        }
    }
}
