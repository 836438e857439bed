use freehold_model::{ProxyServiceName, Traffic};
use serde::{Deserialize, Serialize};

use crate::{
    Canary, Compression, FleetKey, Gate, HealthCheck, HostPattern, PathPrefix, TargetAddress, TargetProtocol,
    TargetTls, Tls,
};

/// How a service is reached and how its targets are used; a deploy replaces all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    /// The hosts it answers to; none means any host.
    #[serde(default)]
    pub hosts: Vec<HostPattern>,
    /// The paths it is mounted on; none means `/`.
    #[serde(default)]
    pub path_prefixes: Vec<PathPrefix>,
    /// Whether the matched prefix is cut off before a request is forwarded.
    #[serde(default = "yes")]
    pub strip_path_prefix: bool,
    /// How its targets are checked.
    #[serde(default)]
    pub health_check: HealthCheck,
    /// The longest wait for the head of a target's answer; 0 for no limit.
    #[serde(default = "thirty_seconds")]
    pub response_timeout_ms: u64,
    /// Whether `X-Forwarded-For`, `-Proto` and `-Host` of a client are trusted.
    #[serde(default)]
    pub forward_headers: bool,
    /// Which bodies are received as a whole before they are sent on.
    #[serde(default, skip_serializing_if = "Buffering::is_default")]
    pub buffering: Buffering,
    /// Headers of requests whose values are logged, as `req_name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_request_headers: Vec<String>,
    /// Headers of answers whose values are logged, as `resp_name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_response_headers: Vec<String>,
    /// The host to which requests for the others are redirected; one of the hosts, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canonical_host: Option<HostPattern>,
    /// The folder, in the proxy's file system, with a page `STATUS.html` for each status that is not to be answered with the
    /// proxy's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_pages: Option<String>,
    /// How it is served over HTTPS; not at all where nothing is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Whether the paths of cookies are put under the prefix that was cut off.
    #[serde(default, skip_serializing_if = "is_false")]
    pub scope_cookie_paths: bool,
    /// Whether WebSockets go to the read-only targets, where there are any.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_targets_take_websockets: bool,
    /// For how long the reads of a client go to the targets that write after one of its requests was no read, where there
    /// are read-only targets; 0 for not at all.
    #[serde(default = "one_second", skip_serializing_if = "is_one_second")]
    pub writer_affinity_ms: u64,
    /// The header in which a proxy in front of this one names the client's address. It goes before `X-Forwarded-For`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ip_header: Option<String>,
    /// The paths, as the target sees them, whose requests are not counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_metrics_paths: Vec<String>,
    /// What its targets speak.
    #[serde(default, skip_serializing_if = "TargetProtocol::is_default")]
    pub target_protocol: TargetProtocol,
    /// How its targets are known, where they speak TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_tls: Option<TargetTls>,
    /// The codings by which answers are compressed for clients that accept one, the most wanted first; none for not at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compression: Vec<Compression>,
    /// How requests are shared out, limited and changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Box<Traffic>>,
    /// The file, in the proxy's file system, with a line `USER:HASH` for each of those who may come; the hashes are bcrypt's,
    /// as `htpasswd -B` makes them. Everybody may come where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth_file: Option<String>,
}

impl ServiceSettings {
    /// Takes over from earlier settings what kamal-proxy's file has no words for.
    pub fn keep_what_kamal_cannot_say(&mut self, earlier: &Self) {
        self.traffic.clone_from(&earlier.traffic);
        self.basic_auth_file.clone_from(&earlier.basic_auth_file);
        self.target_protocol = earlier.target_protocol;
        self.target_tls.clone_from(&earlier.target_tls);
        self.health_check.protocol = earlier.health_check.protocol;
        self.health_check.tls.clone_from(&earlier.health_check.tls);
        self.compression.clone_from(&earlier.compression);
        if let (Some(tls), Some(before)) = (&mut self.tls, &earlier.tls) {
            tls.clients.clone_from(&before.clients);
        }
    }

    /// Returns every pair of host and path prefix by which the service is found.
    #[must_use]
    pub fn bindings(&self) -> Vec<(HostPattern, PathPrefix)> {
        let or_default = |count: usize| usize::from(count == 0);
        let hosts = self.hosts.iter().cloned().chain(default_of(or_default(self.hosts.len())));
        let prefixes: Vec<PathPrefix> = self
            .path_prefixes
            .iter()
            .cloned()
            .chain(default_of(or_default(self.path_prefixes.len())))
            .collect();
        hosts.flat_map(|host| prefixes.iter().map(move |prefix| (host.clone(), prefix.clone()))).collect()
    }

    /// Says whether another service would be found by one of the same pairs, which no two services may be.
    #[must_use]
    pub fn collides_with(&self, other: &Self) -> bool {
        let own = self.bindings();
        other.bindings().iter().any(|binding| own.contains(binding))
    }
}

fn default_of<T: Default>(count: usize) -> impl Iterator<Item = T> {
    std::iter::repeat_with(T::default).take(count)
}

/// Which bodies are received as a whole before they are sent on: a slow client then does not keep a target busy.
///
/// An answer is held back only where its length is known: what comes in pieces (event streams, long polls) is sent on at
/// once, and so is what says `X-Accel-Buffering: no`. Upgraded connections are never held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Buffering {
    /// Whether requests are.
    #[serde(default)]
    pub requests: bool,
    /// Whether answers are.
    #[serde(default)]
    pub responses: bool,
    /// How much of each is kept in memory; the rest goes to a temporary file.
    #[serde(default = "one_mebibyte")]
    pub memory_bytes: u64,
    /// The longest body of a request that is held back, else 413; 0 for no limit.
    #[serde(default)]
    pub max_request_bytes: u64,
    /// The longest body of an answer that is held back, else 500; 0 for no limit.
    #[serde(default)]
    pub max_response_bytes: u64,
}

impl Buffering {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Buffering {
    fn default() -> Self {
        Self {
            requests: false,
            responses: false,
            memory_bytes: one_mebibyte(),
            max_request_bytes: 0,
            max_response_bytes: 0,
        }
    }
}

fn one_mebibyte() -> u64 {
    1024 * 1024
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            path_prefixes: Vec::new(),
            strip_path_prefix: true,
            health_check: HealthCheck::default(),
            response_timeout_ms: thirty_seconds(),
            forward_headers: false,
            buffering: Buffering::default(),
            log_request_headers: Vec::new(),
            log_response_headers: Vec::new(),
            canonical_host: None,
            error_pages: None,
            tls: None,
            scope_cookie_paths: false,
            read_targets_take_websockets: false,
            writer_affinity_ms: one_second(),
            client_ip_header: None,
            exclude_metrics_paths: Vec::new(),
            target_protocol: TargetProtocol::default(),
            target_tls: None,
            compression: Vec::new(),
            traffic: None,
            basic_auth_file: None,
        }
    }
}

fn one_second() -> u64 {
    1000
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one_second(value: &u64) -> bool {
    *value == one_second()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_zero(value: &u64) -> bool {
    *value == 0
}

pub(crate) fn yes() -> bool {
    true
}

fn thirty_seconds() -> u64 {
    30_000
}

/// What must be known of new targets' health before the switch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthGate {
    /// All must have passed a check; the switch waits for it.
    #[default]
    Wait,
    /// They are taken as healthy at once: they served a moment ago, and putting back must not lose a request.
    Trust,
    /// The switch is at once, and requests are answered 503 until a check succeeds, as by kamal-proxy's `--force`.
    Skip,
}

/// Whether a deploy waits until the earlier targets have finished their requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainMode {
    /// The answer comes after the drain.
    #[default]
    Wait,
    /// The answer comes right after the switch; the drain goes on.
    Background,
}

/// Installs a service's targets, or replaces the earlier ones in one step.
///
/// New requests go to the new targets from the switch on. Requests that are in flight finish on the earlier targets
/// until `drain_timeout_ms`, tunnels until `tunnel_timeout_ms`, both counted from the switch; what is left is then cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// The new targets, at least one; all must be healthy at the same time before the switch.
    pub targets: Vec<TargetAddress>,
    /// Targets that get reads only, and all of them as long as one of them is healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_targets: Vec<TargetAddress>,
    /// How the service is reached.
    pub settings: ServiceSettings,
    /// The longest wait for the new targets to be healthy.
    #[serde(default = "thirty_seconds")]
    pub deploy_timeout_ms: u64,
    /// How long requests may go on at the earlier targets after the switch.
    #[serde(default = "thirty_seconds")]
    pub drain_timeout_ms: u64,
    /// How long upgraded connections (WebSocket) may go on at the earlier targets after the switch; 0 cuts them at
    /// once, as kamal-proxy does.
    #[serde(default)]
    pub tunnel_timeout_ms: u64,
    /// What must be known of the targets' health before the switch.
    #[serde(default)]
    pub health: HealthGate,
    /// Whether to wait for the drain.
    #[serde(default)]
    pub drain: DrainMode,
    /// For how long the earlier targets stand by, unless a [`ConfirmRequest`] or another deploy comes first; 0 for not at
    /// all. While they do, a request goes to them where no connection to a new target can be made, so that a release that
    /// crashes after the switch fails no request before it is put back. Not kept when the proxy starts again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub standby_ms: u64,
    /// The holder's fencing number: refused where the proxy has seen a greater one for this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// Another service whose hosts and paths this one may have: it is removed in the moment of the switch, and its targets
    /// become the earlier ones of this service. One that is not there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_over: Option<ProxyServiceName>,
    /// The key of the fleet with which certificates are shared; the proxy keeps it for the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet_key: Option<FleetKey>,
}

impl DeployRequest {
    /// Makes a request with the default time limits: 30 s for health and for the drain, tunnels cut at the switch.
    #[must_use]
    pub fn new(targets: Vec<TargetAddress>, settings: ServiceSettings) -> Self {
        Self {
            targets,
            read_targets: Vec::new(),
            settings,
            deploy_timeout_ms: thirty_seconds(),
            drain_timeout_ms: thirty_seconds(),
            tunnel_timeout_ms: 0,
            health: HealthGate::Wait,
            drain: DrainMode::Wait,
            standby_ms: 0,
            fence: None,
            takes_over: None,
            fleet_key: None,
        }
    }
}

/// What a service was before a switch: enough to switch back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSnapshot {
    /// The service.
    pub name: ProxyServiceName,
    /// Its targets.
    pub targets: Vec<TargetAddress>,
    /// Its targets that get reads only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_targets: Vec<TargetAddress>,
    /// How it is reached.
    pub settings: ServiceSettings,
    /// The number of the switch that installed it.
    pub generation: u64,
    /// Whether its requests go to its targets; a deploy does not change it.
    #[serde(default, skip_serializing_if = "Gate::is_open")]
    pub gate: Gate,
    /// The targets that are tried with a part of the visitors; a deploy does not change them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

impl ServiceSnapshot {
    /// Makes the request that installs this snapshot again, with default time limits and without waiting for health or
    /// drain: the targets served a moment ago, and putting back must not depend on anything.
    #[must_use]
    pub fn restore(self) -> DeployRequest {
        let mut request = DeployRequest::new(self.targets, self.settings);
        request.read_targets = self.read_targets;
        request.health = HealthGate::Trust;
        request.drain = DrainMode::Background;
        request
    }
}

/// The answer to a deploy: the switch is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployReply {
    /// The number of this switch; each is greater than those before it.
    pub generation: u64,
    /// What was there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ServiceSnapshot>,
    /// What became of the drain, where the request waited for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<DrainReport>,
}

/// Waits until a service's earlier generations have nothing in flight.
///
/// It only waits: what is left is cut by the limits of the deploy that replaced the generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// The longest wait for requests.
    pub timeout_ms: u64,
    /// The longest wait for tunnels, from the same moment; 0 does not wait for them.
    #[serde(default)]
    pub tunnel_timeout_ms: u64,
}

/// Says that a switch is final: the earlier targets do not stand by any longer.
///
/// New requests do not go to them from the answer on; those in flight finish until the time limits, counted from this
/// request. To wait for them, ask for a drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfirmRequest {
    /// How long requests may go on at the earlier targets.
    pub drain_timeout_ms: u64,
    /// How long upgraded connections may go on at the earlier targets.
    pub tunnel_timeout_ms: u64,
    /// The holder's fencing number: refused where the proxy has seen a greater one for this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
}

/// The answer to a [`ConfirmRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfirmReply {
    /// The targets that stood by; none where none did.
    pub stood_by: Vec<TargetAddress>,
}

/// What was left when a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainReport {
    /// How long the wait took.
    pub elapsed_ms: u64,
    /// Requests that had not finished: cut if a deploy's limit was over, else still going on.
    pub requests_left: u64,
    /// Tunnels that had not finished: cut if a deploy's limit was over, else still going on.
    pub tunnels_left: u64,
}

/// The answer to a removal: nothing is routed to the service any more.
///
/// Requests in flight finish by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveReply {
    /// What was removed.
    pub previous: ServiceSnapshot,
}
