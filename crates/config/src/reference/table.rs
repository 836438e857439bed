use super::{Key, Kind, Support};

/// A section of the file: a map with a fixed set of keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
}

/// Every section, in the order of the reference.
pub(crate) const SECTIONS: &[Section] = &[
    Section {
        name: "",
        doc: "The root of the file. Keys that start with `x-` are ignored, for anchors, except \
        `x-freehold`: its keys are merged over the root, so that a key of Freehold's own can stand in a file that \
        Kamal reads too.",
    },
    Section { name: "servers/ROLE", doc: "One role: the containers of the service that run one command." },
    Section {
        name: "env",
        doc: "The environment of the containers. A map without `clear`, `secret` and `tags` is all \
        clear. Layers: root, role, each tag of the host; a later one wins, and clear beats secret.",
    },
    Section {
        name: "proxy",
        doc: "How requests reach a role. The root's map gives the defaults of every role that takes \
        requests; a role's own is merged over it.",
    },
    Section {
        name: "proxy/ssl",
        doc: "Where the certificate comes from: one of your own, as secrets, or one that the proxy orders and renews \
        (ACME, from Let's Encrypt unless another directory is named). An order needs a name that leads to the host, and \
        port 80 or 443 of it open to the authority.",
    },
    Section {
        name: "proxy/target_tls",
        doc: "How containers are known that speak TLS. Their certificates are always looked at.",
    },
    Section { name: "proxy/healthcheck", doc: "How the proxy finds out that a container is healthy." },
    Section {
        name: "proxy/passive_health",
        doc: "When a container is left out because its requests failed. A map, even an empty one, turns it on.",
    },
    Section { name: "proxy/rate_limit", doc: "How often clients may ask." },
    Section { name: "proxy/redirects", doc: "One path that is sent elsewhere." },
    Section { name: "proxy/headers", doc: "What is changed in the headers of requests and responses." },
    Section {
        name: "proxy/headers/changes",
        doc: "What is changed in one direction. Headers that frame or route a message, and those that the proxy \
        writes itself, cannot be changed.",
    },
    Section { name: "proxy/headers/hsts", doc: "What `Strict-Transport-Security` says." },
    Section { name: "proxy/buffering", doc: "What the proxy holds back. It streams both ways." },
    Section { name: "proxy/logging", doc: "The headers that the proxy logs with each request." },
    Section {
        name: "proxy/run",
        doc: "How the proxy's container runs; all that run behind it on one host must agree.",
    },
    Section {
        name: "proxy/run/acme",
        doc: "Freehold's own: how the proxy orders certificates for all its services. Its keys are files in the proxy's \
        container that only the proxy's user may read. `freehold proxy reboot` applies changes.",
    },
    Section {
        name: "proxy/run/acme/eab",
        doc: "The account at the certificate authority of `directory` to which new ones are bound (external account \
        binding).",
    },
    Section {
        name: "proxy/run/acme/dns",
        doc: "The name server that takes changes of its zones (RFC 2136), by which certificates for wildcards are proven \
        (DNS-01).",
    },
    Section {
        name: "accessories/NAME",
        doc: "One long-lived container beside the service, such as a database. A deploy does not touch it.",
    },
    Section {
        name: "accessories/NAME/files",
        doc: "A file that is uploaded and mounted, where `LOCAL:REMOTE[:OPTIONS]` does not say enough.",
    },
    Section {
        name: "accessories/NAME/directories",
        doc: "A directory that is made and mounted, where `LOCAL:REMOTE[:OPTIONS]` does not say enough.",
    },
    Section { name: "registry", doc: "Where images are stored between the build and the hosts." },
    Section { name: "builder", doc: "How the image is built." },
    Section {
        name: "verify",
        doc: "Freehold's own: only images with a signature run. It is that of `cosign sign --key`, in the registry beside the \
        image, or in a folder of the project.",
    },
    Section {
        name: "scan",
        doc: "Freehold's own: a command on this machine looks at each image before any host gets it. `FREEHOLD_IMAGE` names the \
        image, by its digest where it is in a registry; `FREEHOLD_ARCHIVE` is a file with it, as `docker save` writes \
        it, where the command names that variable and the image comes from an engine.",
    },
    Section { name: "builder/cache", doc: "Where layers are cached between builds." },
    Section { name: "builder/pack", doc: "Cloud Native Buildpacks instead of a Dockerfile." },
    Section { name: "ssh", doc: "How hosts are reached." },
    Section { name: "sshkit", doc: "How many connections are made at a time and how long they are kept." },
    Section { name: "boot", doc: "How many hosts at a time take a new release." },
    Section {
        name: "canary",
        doc: "Freehold's own: which visitors try a release that `freehold canary start` puts beside the one that serves. \
        What is given to the command goes before it.",
    },
    Section {
        name: "canary/verdict",
        doc: "How the releases are compared. The release that is tried is given up as soon as it is worse and chance does \
        not explain it; after the window it is as good.",
    },
    Section { name: "logging", doc: "The log driver of the containers." },
    Section { name: "output", doc: "Where the output of commands goes besides the terminal." },
    Section {
        name: "output/file",
        doc: "A log file on this computer for each command that changes something.",
    },
    Section { name: "output/otel", doc: "An OpenTelemetry collector." },
    Section {
        name: "cron/NAME",
        doc: "Freehold's own: one scheduled job, a command that runs at certain times in a container of its own. It is switched, put back and rolled back with its release; `freehold cron` shows and runs it.",
    },
    Section {
        name: "images/NAME",
        doc: "Freehold's own: one further image of the project. It is built as `builder` says, but for the keys here.",
    },
    Section {
        name: "firewall",
        doc: "Freehold's own: who may reach the hosts, beside what follows from the rest of the file. `freehold firewall` \
        closes everything else, also the ports that Docker opens past other firewalls.",
    },
    Section { name: "firewall/allow", doc: "Freehold's own: one thing that is let in." },
];

const OWN_PROXY: &str = "freehold brings its own proxy";
const TEXTS: Kind = Kind::List(&Kind::Text);
const fn key(section: &'static str, name: &'static str, kind: Kind) -> Key {
    Key { section, name, kind, default: "", doc: "", example: "", support: Support::Full }
}

impl Key {
    const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    const fn doc(self, doc: &'static str) -> Self {
        Self { doc, ..self }
    }

    const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }

    const fn without_effect(self, help: &'static str) -> Self {
        Self { support: Support::NoEffect { help }, ..self }
    }
}

/// Every key of Kamal 2.12 and of Freehold.
pub(crate) const KEYS: &[Key] = &[
    key("", "service", Kind::Text).example("shop").doc("The service's name, the prefix of all that is made on a host; required."),
    key("", "image", Kind::Text).default("the service's name").example("acme/shop").doc("The image's name without tag."),
    key("", "servers", Kind::Either(&[Kind::Hosts, Kind::MapOf(&Kind::Either(&[Kind::Hosts, Kind::Section("servers/ROLE")]))]))
        .doc("The hosts of the role `web`, or a map of roles; required. A host is a name, an address or `HOST: TAG`."),
    key("", "env", Kind::Section("env")).doc("The environment of every container."),
    key("", "proxy", Kind::Section("proxy")).doc("How requests reach the roles."),
    key("", "builder", Kind::Section("builder")).doc("How the image is built."),
    key("", "verify", Kind::Section("verify")).doc("Freehold's own: the signatures that images must have."),
    key("", "scan", Kind::Section("scan")).doc("Freehold's own: what looks for known flaws in images before they run."),
    key("", "ssh", Kind::Section("ssh")).doc("How hosts are reached."),
    key("", "boot", Kind::Section("boot")).doc("How many hosts at a time take a new release."),
    key("", "canary", Kind::Section("canary")).doc("Freehold's own: how a release is tried beside the one that serves."),
    key("", "logging", Kind::Section("logging")).doc("The log driver of the containers."),
    key("", "labels", Kind::TextMap).example("{team: shop}").doc("Labels of every container."),
    key("", "volumes", TEXTS).example("[\"data:/data\"]").doc("Volumes of every container, as `docker run --volume` takes them; a relative host path is in the login directory."),
    key("", "secrets_path", Kind::Text).default(".kamal/secrets").example(".secrets/shop").doc("The base name of the secrets files."),
    key("", "hooks_path", Kind::Text).default(".kamal/hooks").example("ops/hooks").doc("The folder of the hooks."),
    key("", "require_destination", Kind::Boolean).default("false").example("true").doc("Whether a destination must be chosen with `-d`."),
    key("", "primary_role", Kind::Text).default("web").example("job").doc("The role that boots first and takes requests by default."),
    key("", "allow_empty_roles", Kind::Boolean).default("false").example("true").doc("Whether a role other than the primary one may have no hosts."),
    key("", "retain_containers", Kind::Integer).default("5").example("3").doc("How many stopped containers of a role stay on a host for a rollback, at least 1."),
    key("", "readiness_delay", Kind::Integer).default("7").example("1").doc("Seconds that a container without a health check must keep running."),
    key("", "deploy_timeout", Kind::Integer).default("30").example("60").doc("Seconds that a new container may take to become healthy."),
    key("", "drain_timeout", Kind::Integer).default("30").example("60").doc("Seconds that requests in flight may take to finish."),
    key("", "stop_timeout", Kind::Integer).default("10 with the proxy, else `drain_timeout`").example("20").doc("Seconds that a container may take to stop before it is killed."),
    key("", "soak", Kind::Integer).default("2").example("10").doc("Freehold's own: seconds that a new release is watched after the switch before the old one is stopped."),
    key("", "minimum_version", Kind::Text).example("2.0.0").doc("The oldest Kamal that may use the file; Freehold counts as 2.12.0."),
    key("", "run_directory", Kind::Text).without_effect("remove it").doc("Has had no effect since Kamal 2."),
    key("", "registry", Kind::Section("registry")).default("none: images go straight to the hosts").doc("Where images are stored between the build and the hosts."),
    key("", "accessories", Kind::MapOf(&Kind::Section("accessories/NAME"))).doc("Long-lived containers beside the service."),
    key("", "aliases", Kind::TextMap).example("{console: app exec -i --reuse \"bin/console\"}").doc("Names for command lines; the words behind the name are added."),
    key("", "addresses", Kind::TextMap).example("{192.0.2.1: 10.0.0.1}").doc("Freehold's own: the IP addresses at which the hosts reach each other, where the names of this file are none or lead elsewhere. Containers find accessories on other hosts by them, as `SERVICE-ACCESSORY`."),
    key("", "asset_path", Kind::Text).example("\"/app/public/assets:ro\"").doc("The folder of assets in the container that the old and the new release share, with options of the mount behind a colon."),
    key("", "error_pages_path", Kind::Text).example("public").doc("The local folder of the proxy's error pages, `4??.html` and `5??.html`."),
    key("", "hooks_output", Kind::Either(&[Kind::Text, Kind::TextMap])).example("{pre-deploy: verbose}").doc("Whether the output of hooks is shown, `quiet` or `verbose`, for all or for each by name."),
    key("", "output", Kind::Section("output")).doc("Where the output of commands goes besides the terminal."),
    key("", "sshkit", Kind::Section("sshkit")).doc("How many connections are made and kept."),
    key("", "cron", Kind::MapOf(&Kind::Section("cron/NAME"))).doc("Freehold's own: scheduled jobs."),
    key("", "images", Kind::MapOf(&Kind::Section("images/NAME"))).doc("Freehold's own: further images of the project, which roles choose by name."),
    key("", "firewall", Kind::Section("firewall")).default("what follows from the rest of the file").doc("Freehold's own: who may reach the hosts."),
    // -- servers/ROLE
    key("servers/ROLE", "hosts", Kind::Hosts).doc("The hosts, each a name, an address or `HOST: TAG` or `HOST: [TAG, TAG]`."),
    key("servers/ROLE", "cmd", Kind::Text).default("the image's own").example("bin/jobs --all").doc("The command, split into words; no shell sees it."),
    key("servers/ROLE", "proxy", Kind::Either(&[Kind::Boolean, Kind::Section("proxy")])).default("on for the primary role only").doc("Whether the role takes requests, or its own settings."),
    key("servers/ROLE", "env", Kind::Section("env")).doc("Environment over that of the root, without `tags`."),
    key("servers/ROLE", "options", Kind::MapOf(&Kind::Anything)).example("{memory: 512m}").doc("Flags of `docker run`, without the leading `--`."),
    key("servers/ROLE", "labels", Kind::TextMap).example("{tier: front}").doc("Labels over those of the root."),
    key("servers/ROLE", "logging", Kind::Section("logging")).doc("The log driver over that of the root."),
    key("servers/ROLE", "stop_timeout", Kind::Integer).default("the root's").example("21").doc("Seconds that a container of this role may take to stop."),
    key("servers/ROLE", "asset_path", Kind::Text).default("the root's").example("/app/dist").doc("The folder of assets that two releases share; only with the proxy."),
    key("servers/ROLE", "replicas", Kind::Integer).default("1").example("3").doc("Freehold's own: how many containers of the role run on each host."),
    key("servers/ROLE", "release_command", Kind::Text).example("bin/migrate").doc("Freehold's own: a command that runs once on the new image, with the role's new environment, before the release takes requests; failing it stops the deploy."),
    key("servers/ROLE", "image", Kind::Text).default("the project's").example("\"acme/other@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"").doc("Freehold's own: one of `images` by name, or an image by digest."),
    // -- env
    key("env", "clear", Kind::TextMap).example("{LEVEL: debug}").doc("Variables with their values. The login shell of the host replaces `${…}` in them, and nothing else."),
    key("env", "secret", TEXTS).example("[TOKEN, \"KEY:OTHER_KEY\"]").doc("Variables whose value is the secret of the same name, or `VARIABLE:SECRET`."),
    key("env", "tags", Kind::MapOf(&Kind::Section("env"))).doc("Environment for the hosts with a tag; root only."),
    // -- proxy
    key("proxy", "host", Kind::Text).example("shop.example.com").doc("The host name that is routed to the role, or several with commas; without one, every name that no other service has."),
    key("proxy", "hosts", TEXTS).example("[a.example.com, b.example.com]").doc("Several host names."),
    key("proxy", "app_port", Kind::Integer).default("80").example("3000").doc("The port on which the containers listen."),
    key("proxy", "healthcheck", Kind::Section("proxy/healthcheck")).doc("How a container shows that it is healthy."),
    key("proxy", "response_timeout", Kind::Integer).default("30").example("60").doc("Seconds that a container may take to begin its response."),
    key("proxy", "path_prefix", Kind::Text).default("/").example("/api").doc("The path prefix that is routed to the role, or several with commas."),
    key("proxy", "path_prefixes", TEXTS).example("[/api, /v2]").doc("Several path prefixes; wins over `path_prefix`."),
    key("proxy", "strip_path_prefix", Kind::Boolean).default("true").example("false").doc("Whether the prefix is removed before a request is forwarded."),
    key("proxy", "forward_headers", Kind::Boolean).default("true without `ssl`, else false").example("false").doc("Whether the client's `X-Forwarded-*` headers are kept."),
    key("proxy", "buffering", Kind::Section("proxy/buffering")).doc("What the proxy holds back."),
    key("proxy", "run", Kind::Section("proxy/run")).doc("How the proxy's container runs."),
    key("proxy", "ssl", Kind::Either(&[Kind::Boolean, Kind::Section("proxy/ssl")])).default("false").doc("Whether the proxy serves HTTPS, with certificates that it orders and renews, or with which one of your own; needs a host."),
    key("proxy", "ssl_redirect", Kind::Boolean).default("true").example("false").doc("Whether HTTP is redirected to HTTPS."),
    key("proxy", "target_protocol", Kind::Text).default("http1").example("h2c").doc("What the proxy speaks with the containers (not in Kamal): `http1`; `h2c` for HTTP/2 without TLS, which gRPC needs; `h2` for HTTP/2 over TLS, or HTTP/1.1 over TLS where the container does not agree on HTTP/2; `https` for HTTP/1.1 over TLS. By HTTP/2 the path `/grpc.health.v1.Health/Check` of the health check is gRPC's own check."),
    key("proxy", "target_tls", Kind::Section("proxy/target_tls")).doc("Freehold's own: how containers are known that speak TLS; required with `target_protocol: h2` and `https`."),
    key("proxy", "compress", Kind::Either(&[Kind::Boolean, TEXTS])).default("false").example("[zstd, gzip]").doc("Whether answers are compressed for clients that accept it (not in Kamal): all of `zstd`, `br` and `gzip`, or a list, the most wanted first. Compression of pages that hold both a secret and what a visitor sends can leak the secret (BREACH)."),
    key("proxy", "logging", Kind::Section("proxy/logging")).doc("The headers that the proxy logs."),
    key("proxy", "balance", Kind::Text).default("round_robin").example("least_connections").doc("Freehold's own: which of several containers gets a request, the next one in turn or the one with the fewest requests."),
    key("proxy", "passive_health", Kind::Either(&[Kind::Boolean, Kind::Section("proxy/passive_health")])).default("false").doc("Freehold's own: whether a container whose requests fail is left out for a while; the last one never is."),
    key("proxy", "rate_limit", Kind::Section("proxy/rate_limit")).doc("Freehold's own: how often clients may ask; who asks more often gets 429."),
    key("proxy", "allow_ips", TEXTS).default("all").example("[10.0.0.0/8, \"2001:db8::/32\"]").doc("Freehold's own: the only addresses and networks that are served; others get 403."),
    key("proxy", "block_ips", TEXTS).example("[192.0.2.7]").doc("Freehold's own: addresses and networks that are not served."),
    key("proxy", "upgrades", TEXTS).example("[websocket, my-protocol]").doc("Freehold's own: the protocols to which a connection may be upgraded; `websocket` alone by default. Whoever asks for another is served as if nothing had been asked for."),
    key("proxy", "trusted_proxies", TEXTS).example("[10.0.0.0/8]").doc("Freehold's own: the proxies in front whose `X-Forwarded-For` is believed, read from its end; limits, blocks and the log then see the client's address."),
    key("proxy", "basic_auth", Kind::Text).example("USERS").doc("Freehold's own: the secret with those who may come, a line `USER:HASH` each with a hash of bcrypt as `htpasswd -nB USER` prints it; others get 401."),
    key("proxy", "redirects", Kind::List(&Kind::Section("proxy/redirects"))).example("[{from: /old, to: /new}]").doc("Freehold's own: paths that are sent elsewhere; the first that fits counts."),
    key("proxy", "headers", Kind::Section("proxy/headers")).doc("Freehold's own: what is changed in the headers of requests and responses."),
    key("proxy/passive_health", "failures", Kind::Integer).default("5").example("3").doc("How many requests must have failed one after the other: no connection, no response in time, no acceptable response."),
    key("proxy/passive_health", "pause", Kind::Integer).default("10").example("30").doc("Seconds for which a container is left out the first time; each further time twice as long."),
    key("proxy/passive_health", "max_pause", Kind::Integer).default("300").example("600").doc("The longest such time in seconds."),
    key("proxy/rate_limit", "client", Kind::Text).example("20/1s:40").doc("How often one client may ask, an IPv4 address or a /64 of IPv6: `REQUESTS/SPAN`, or `REQUESTS/SPAN:BURST` with how many at once."),
    key("proxy/rate_limit", "service", Kind::Text).example("500/1s").doc("How often all clients together may ask."),
    key("proxy/redirects", "from", Kind::Text).doc("The path, required."),
    key("proxy/redirects", "to", Kind::Text).doc("Where to: a path or a URL, required."),
    key("proxy/redirects", "permanent", Kind::Boolean).default("false").example("true").doc("Whether for good: 301 instead of 302 for `GET` and `HEAD`, 308 instead of 307 for others."),
    key("proxy/redirects", "keep_path", Kind::Boolean).default("false").example("true").doc("Whether every path below `from` is redirected, with its rest and query."),
    key("proxy/headers", "request", Kind::Section("proxy/headers/changes")).doc("In requests, before the container gets them."),
    key("proxy/headers", "response", Kind::Section("proxy/headers/changes")).doc("In responses, the proxy's own pages included."),
    key("proxy/headers", "hsts", Kind::Either(&[Kind::Boolean, Kind::Section("proxy/headers/hsts")])).default("false").doc("Whether browsers that came by HTTPS are told to come by nothing else (`Strict-Transport-Security`)."),
    key("proxy/headers", "security", Kind::Boolean).default("false").example("true").doc("Whether responses get `X-Content-Type-Options: nosniff`, `X-Frame-Options: SAMEORIGIN` and `Referrer-Policy: strict-origin-when-cross-origin` where the application says nothing of them."),
    key("proxy/headers/changes", "set", Kind::TextMap).example("{X-Env: live}").doc("Headers that are set, in place of those of the same name."),
    key("proxy/headers/changes", "remove", TEXTS).example("[X-Powered-By]").doc("Headers that are taken out."),
    key("proxy/headers/hsts", "max_age", Kind::Integer).default("31536000").example("86400").doc("For how many seconds."),
    key("proxy/headers/hsts", "subdomains", Kind::Boolean).default("false").example("true").doc("Whether for all hosts below, too."),
    key("proxy/headers/hsts", "preload", Kind::Boolean).default("false").example("true").doc("Whether the host may be put into the lists that browsers come with."),
    key("proxy/target_tls", "server_name", Kind::Text).example("app.internal").doc("The name, or IP address, that the containers' certificate must have; required."),
    key("proxy/target_tls", "ca", Kind::Text).default("the public authorities").doc("Certificates of the authorities that are trusted, in PEM."),
    key("proxy/ssl", "certificate_pem", Kind::Text).doc("The secret that holds the certificate with its chain, in PEM."),
    key("proxy/ssl", "private_key_pem", Kind::Text).doc("The secret that holds the private key, in PEM."),
    key("proxy/ssl", "acme_directory", Kind::Text).default("Let's Encrypt's").doc("The URL of the directory of the certificate authority that certificates are ordered from (not in Kamal, which ignores it)."),
    key("proxy/ssl", "acme_contact", Kind::Text).doc("An e-mail address that the certificate authority may write to (not in Kamal, which ignores it)."),
    key("proxy/ssl", "acme_name_check", Kind::Boolean).default("true").doc("Freehold's own: whether it is found out before an order whether the names lead to the host; turn it off where the host cannot reach itself by its own name."),
    key("proxy/ssl", "on_demand_url", Kind::Text).doc("Freehold's own: for a service without `host`: who is asked whether a certificate is ordered for a name that a client comes with, a path of the service or a URL; it gets the name as `host` in its query, and 200 allows it."),
    key("proxy/ssl", "fleet_key", Kind::Text).doc("Freehold's own: the secret, at least 32 characters, by which the proxies of all hosts of the role share the certificates that one of them orders. They talk to each other over the port for HTTP."),
    key("proxy/ssl", "client_ca", Kind::Text).doc("Freehold's own: certificates of authorities, in PEM; clients have to show one of theirs. The application finds `X-Client-Certificate-Subject` and `X-Client-Certificate-Fingerprint` in the request."),
    key("proxy/ssl", "client_crl", Kind::Text).doc("Freehold's own: the lists of clients' certificates that were revoked, in PEM, one of each authority."),
    key("proxy/ssl", "client_optional", Kind::Boolean).default("false").doc("Freehold's own: whether clients that show no certificate are served, too."),
    key("proxy/logging", "request_headers", TEXTS).default("[Cache-Control, Last-Modified, User-Agent]").example("[X-Request-Id]").doc("Headers of requests; replaces the default."),
    key("proxy/logging", "response_headers", TEXTS).example("[X-Cache]").doc("Headers of responses."),
    key("proxy/healthcheck", "path", Kind::Text).default("/up").example("/health").doc("The path of the check; answers from 200 to 299 are healthy."),
    key("proxy/healthcheck", "interval", Kind::Integer).default("1").example("2").doc("Seconds between two checks."),
    key("proxy/healthcheck", "timeout", Kind::Integer).default("5").example("3").doc("Seconds that one check may take."),
    key("proxy/buffering", "requests", Kind::Boolean).default("false").example("true").doc("Whether request bodies are held back until they are complete."),
    key("proxy/buffering", "responses", Kind::Boolean).default("false").example("true").doc("Whether response bodies are held back until they are complete."),
    key("proxy/buffering", "memory", Kind::Integer).default("1048576").example("2097152").doc("The bytes of a body that are kept in memory."),
    key("proxy/buffering", "max_request_body", Kind::Integer).default("0, unlimited").example("1000000").doc("The greatest request body in bytes."),
    key("proxy/buffering", "max_response_body", Kind::Integer).default("0, unlimited").example("1000000").doc("The greatest response body in bytes."),
    key("proxy/run", "http_port", Kind::Integer).default("80").example("8080").doc("The host's port for HTTP."),
    key("proxy/run", "https_port", Kind::Integer).default("443").example("8443").doc("The host's port for HTTPS."),
    key("proxy/run", "publish", Kind::Boolean).default("true").example("false").doc("Whether the ports are published."),
    key("proxy/run", "bind_ips", TEXTS).default("all").example("[127.0.0.1]").doc("The host's addresses to which the ports are bound."),
    key("proxy/run", "log_max_size", Kind::Text).default("10m").example("50m").doc("The size at which the proxy's log is rotated; empty is never."),
    key("proxy/run", "debug", Kind::Boolean).default("false").example("true").doc("Whether the proxy logs at debug level."),
    key("proxy/run", "metrics_port", Kind::Integer).example("9090").doc("The port in the container that answers with metrics."),
    key("proxy/run", "trusted_proxies", TEXTS).example("[10.0.0.0/8]").doc("Freehold's own: the proxies in front of this one; they may have any number of connections."),
    key("proxy/run", "proxy_protocol", TEXTS).example("[https]").doc("Freehold's own: the ports, `http` and `https`, on which connections of trusted proxies begin with a PROXY header, version 1 or 2."),
    key("proxy/run", "max_client_connections", Kind::Integer).default("4096").example("200").doc("Freehold's own: how many connections one client may have at once, an IPv4 address or a /64 of IPv6; 0 for any number."),
    key("proxy/run", "buffer_disk", Kind::Integer).default("4294967296").example("1000000000").doc("The bytes of bodies that are held back which may be on the disk at a time, of all services of the host together; what finds no room is answered 503."),
    key("proxy/run", "otlp_endpoint", Kind::Text).example("http://collector:4318").doc("The address of a collector of OpenTelemetry, which gets a trace of requests by OTLP over HTTP."),
    key("proxy/run", "trace_ratio", Kind::Text).default("1").example("0.1").doc("The share of requests that are traced, from 0 to 1; those that a client traces are in any case."),
    key("proxy/run", "acme", Kind::Section("proxy/run/acme")).doc("Freehold's own: how the proxy orders certificates."),
    key("proxy/run/acme", "directory", Kind::Text).default("Let's Encrypt's").example("https://ca.example.com/acme/directory").doc("The URL of the directory of the certificate authority, where `ssl: acme_directory` names no other one."),
    key("proxy/run/acme", "contact", Kind::Text).example("ops@example.com").doc("An e-mail address that it may write to."),
    key("proxy/run/acme", "ca", Kind::Text).default("the public authorities").doc("Certificates, in PEM, of those who are trusted when the certificate authority is talked to: for one of your own."),
    key("proxy/run/acme", "eab", Kind::Section("proxy/run/acme/eab")).doc("The account there to which new ones are bound."),
    key("proxy/run/acme", "dns", Kind::Section("proxy/run/acme/dns")).doc("The name server that takes proofs for wildcards."),
    key("proxy/run/acme/eab", "key_id", Kind::Text).doc("The name of the account's key; required."),
    key("proxy/run/acme/eab", "hmac_key", Kind::Text).doc("The secret that holds the key, in URL-safe base64; required."),
    key("proxy/run/acme/dns", "server", Kind::Text).doc("The name server, `HOST` or `HOST:PORT`; required."),
    key("proxy/run/acme/dns", "key_name", Kind::Text).doc("The name of the key with which changes are signed (TSIG); required."),
    key("proxy/run/acme/dns", "algorithm", Kind::Text).default("hmac-sha256").doc("The algorithm of the key; there is no other one."),
    key("proxy/run/acme/dns", "key", Kind::Text).doc("The secret that holds the key, in base64; required."),
    key("proxy/run", "registry", Kind::Text).without_effect(OWN_PROXY).doc("The registry of kamal-proxy's image."),
    key("proxy/run", "repository", Kind::Text).default("basecamp/kamal-proxy").without_effect(OWN_PROXY).doc("The name of kamal-proxy's image."),
    key("proxy/run", "version", Kind::Text).default("v0.9.2").without_effect(OWN_PROXY).doc("The version of kamal-proxy."),
    key("proxy/run", "options", Kind::MapOf(&Kind::Anything)).example("{memory: 256m}").doc("Flags of `docker run` for the proxy, without the leading `--`."),
    // -- accessories
    key("accessories/NAME", "image", Kind::Text).doc("The image with its tag, or with its digest; required. The root's registry is not put before it."),
    key("accessories/NAME", "service", Kind::Text).default("`SERVICE-NAME`").doc("The name of the container, of its folder on the host and of its route in the proxy."),
    key("accessories/NAME", "host", Kind::Text).doc("The host. Exactly one of `host`, `hosts`, `role`, `roles`, `tag` and `tags` says where it runs."),
    key("accessories/NAME", "hosts", TEXTS).doc("Several hosts."),
    key("accessories/NAME", "role", Kind::Text).doc("The hosts of a role."),
    key("accessories/NAME", "roles", TEXTS).doc("The hosts of several roles."),
    key("accessories/NAME", "tag", Kind::Text).doc("The hosts with a tag."),
    key("accessories/NAME", "tags", TEXTS).doc("The hosts with one of several tags."),
    key("accessories/NAME", "port", Kind::Text).example("\"127.0.0.1:5432:5432\"").doc("A published port as `docker run --publish` takes it; `N` is `N:N`."),
    key("accessories/NAME", "cmd", Kind::Text).default("the image's own").example("redis-server --save 60 1").doc("The command, split into words; no shell sees it."),
    key("accessories/NAME", "env", Kind::Section("env")).doc("The environment, without `tags`; the root's is not part of it."),
    key("accessories/NAME", "files", Kind::List(&Kind::Either(&[Kind::Text, Kind::Section("accessories/NAME/files")]))).example("[\"config/my.cnf:/etc/my.cnf\"]").doc("Files that are uploaded and mounted, `LOCAL:REMOTE[:OPTIONS]`; one whose name ends in `erb` is rendered with the accessory's environment first."),
    key("accessories/NAME", "directories", Kind::List(&Kind::Either(&[Kind::Text, Kind::Section("accessories/NAME/directories")]))).example("[\"data:/var/lib/data\"]").doc("Directories that are made and mounted, `LOCAL:REMOTE[:OPTIONS]`; a relative one is in the accessory's folder."),
    key("accessories/NAME", "volumes", TEXTS).example("[\"data:/data\"]").doc("Volumes, as `docker run --volume` takes them."),
    key("accessories/NAME", "options", Kind::MapOf(&Kind::Anything)).example("{memory: 512m}").doc("Flags of `docker run`, without the leading `--`."),
    key("accessories/NAME", "labels", Kind::TextMap).example("{tier: data}").doc("Labels."),
    key("accessories/NAME", "network", Kind::Text).default("kamal").example("backend").doc("The network."),
    key("accessories/NAME", "registry", Kind::Section("registry")).default("the root's, for logging in").doc("A registry of its own; its server is put before the image's name."),
    key("accessories/NAME", "proxy", Kind::Section("proxy")).doc("How requests from outside reach it; the root's `proxy` is not part of it."),
    key("accessories/NAME/files", "local", Kind::Text).doc("The file, relative to the project; required."),
    key("accessories/NAME/files", "remote", Kind::Text).doc("The absolute path in the container; required."),
    key("accessories/NAME/files", "mode", Kind::Text).default("755").doc("The permissions on the host, octal digits in quotes."),
    key("accessories/NAME/files", "owner", Kind::Text).doc("The owner on the host, as `chown` takes it."),
    key("accessories/NAME/files", "options", Kind::Text).doc("Options of the mount, such as `ro`."),
    key("accessories/NAME/directories", "local", Kind::Text).doc("The directory on the host; required."),
    key("accessories/NAME/directories", "remote", Kind::Text).doc("The absolute path in the container; required."),
    key("accessories/NAME/directories", "mode", Kind::Text).doc("The permissions on the host, octal digits in quotes."),
    key("accessories/NAME/directories", "owner", Kind::Text).doc("The owner on the host, as `chown` takes it."),
    key("accessories/NAME/directories", "options", Kind::Text).doc("Options of the mount, such as `ro`."),
    // -- registry
    key("registry", "server", Kind::Text).default("Docker Hub").doc("The server; `localhost:PORT`, Kamal's registry on the build machine, is not needed: images go straight to the hosts and keep the name."),
    key("registry", "username", Kind::Either(&[Kind::Text, TEXTS])).doc("The login name, or `[SECRET]`; required but for a local registry."),
    key("registry", "password", Kind::Either(&[Kind::Text, TEXTS])).doc("The password, better `[SECRET]`; required but for a local registry."),
    key("registry", "credentials", Kind::Text).example("docker").doc("Freehold's own: `docker` uses the login that `docker login` left on this machine, or the helper that `~/.docker/config.json` names, instead of `username` and `password`."),
    // -- builder
    key("builder", "arch", Kind::Either(&[Kind::Text, TEXTS])).default("that of the hosts").example("amd64").doc("The architectures: `amd64`, `arm64`."),
    key("builder", "context", Kind::Text).default("a clone of the git repository").example(".").doc("The folder that is built; `.` builds the working tree with uncommitted changes."),
    key("builder", "dockerfile", Kind::Text).default("Dockerfile").example("docker/app.Dockerfile").doc("The Dockerfile."),
    key("builder", "target", Kind::Text).default("the last stage").example("production").doc("The stage that is built."),
    key("builder", "args", Kind::TextMap).example("{RUBY_VERSION: \"3.4\"}").doc("Build arguments."),
    key("builder", "secrets", TEXTS).example("[GITHUB_TOKEN]").doc("Secrets that the build may mount."),
    key("builder", "on", Kind::Text).default("local").example("203.0.113.1").doc("Freehold's own: where the image is built, `local` or a host of the project."),
    key("builder", "ssh", Kind::Text).example("default").doc("The SSH agent or keys that the build may use, as `docker buildx build --ssh` takes them."),
    key("builder", "cache", Kind::Section("builder/cache")).doc("Where layers are cached between builds."),
    key("builder", "driver", Kind::Text).default("docker-container").example("docker").doc("What builds: `docker-container`, `docker` for the engine itself, `cloud ORGANISATION/NAME`."),
    key("builder", "remote", Kind::Text).example("\"ssh://builder@203.0.113.5\"").doc("The engine of another machine, which builds what this one cannot."),
    key("builder", "local", Kind::Boolean).default("true").doc("Whether this machine builds; false needs `remote`."),
    key("builder", "pack", Kind::Section("builder/pack")).doc("Cloud Native Buildpacks instead of a Dockerfile."),
    key("builder", "provenance", Kind::Either(&[Kind::Text, Kind::Boolean])).example("mode=max").doc("The provenance attestation."),
    key("builder", "sbom", Kind::Either(&[Kind::Text, Kind::Boolean])).example("true").doc("The bill of materials."),
    // -- verify, scan
    key("verify", "keys", Kind::Either(&[Kind::Text, TEXTS])).example("[config/cosign.pub]").doc("Files with public keys (ECDSA P-256 or Ed25519, PEM); a signature by one of them suffices; required."),
    key("verify", "signatures", Kind::Text).example("config/signatures").doc("A folder with signatures for images that go through no registry: `sha256-DIGEST.json`, what was signed as `cosign generate` prints it, and `sha256-DIGEST.sig`."),
    key("verify", "identity", Kind::Text).doc("Not supported: signatures without a key of one's own."),
    key("verify", "issuer", Kind::Text).doc("Not supported: signatures without a key of one's own."),
    key("scan", "cmd", Kind::Text).example("\"trivy image --quiet --format json $FREEHOLD_IMAGE\"").doc("The command line, for `/bin/sh`; an exit status other than 0 stops the deploy; required."),
    key("scan", "fail_on", Kind::Text).example("high").doc("The least severity that stops the deploy, of the flaws in the report that the command prints: `low`, `medium`, `high` or `critical`. The report is JSON of Trivy or Grype."),
    key("builder/cache", "type", Kind::Text).doc("`registry`, `gha`, that of GitHub Actions, or, Freehold's own, `local`; required."),
    key("builder/cache", "options", Kind::Text).doc("Further attributes, `key=value` with commas."),
    key("builder/cache", "image", Kind::Text).default("`IMAGE-build-cache`").doc("The image that holds a cache of the type `registry`."),
    key("builder/cache", "path", Kind::Text).doc("Freehold's own: the folder of a cache of the type `local`."),
    key("builder/pack", "builder", Kind::Text).doc("The image of the builder; required."),
    key("builder/pack", "buildpacks", TEXTS).doc("The buildpacks, in their order."),
    // -- ssh
    key("ssh", "user", Kind::Text).default("that of `~/.ssh/config`, else root").example("deploy").doc("The login name."),
    key("ssh", "port", Kind::Either(&[Kind::Text, Kind::Integer])).default("that of `~/.ssh/config`, else 22").example("2222").doc("The port."),
    key("ssh", "proxy", Kind::Text).example("jump@bastion.example.com:2222").doc("Jump hosts, `[user@]host[:port]`, several with commas, the nearest first; the default user is root."),
    key("ssh", "proxy_command", Kind::Text).example("\"nc %h %p\"").doc("A command that is the connection; used if `proxy` is not set."),
    key("ssh", "keys", TEXTS).example("[\"~/.ssh/deploy\"]").doc("Private key files."),
    key("ssh", "key_data", TEXTS).example("[SSH_KEY]").doc("Secrets that hold private keys."),
    key("ssh", "keys_only", Kind::Boolean).default("false").example("true").doc("Whether only these keys are tried, none of the agent's."),
    key("ssh", "config", Kind::Either(&[Kind::Boolean, Kind::Text, TEXTS])).default("true").example("false").doc("Which OpenSSH configuration is read: the usual files, none, or these."),
    key("ssh", "forward_agent", Kind::Boolean).default("true").example("false").doc("Whether interactive sessions may use the agent."),
    key("ssh", "log_level", Kind::Text).default("fatal").example("debug").doc("From which level on what the SSH connections log is shown: `debug` (every address, key and try), `info` (connections, stored keys), `warn` (names looked up again, agents that do not answer), `error`, `fatal` (nothing but the error of the command)."),
    // -- sshkit
    key("sshkit", "max_concurrent_starts", Kind::Integer).default("30").example("10").doc("How many connections are begun at the same time; further ones wait."),
    key("sshkit", "pool_idle_timeout", Kind::Integer).default("900").example("300").doc("Seconds after which a connection that nothing uses is closed; 0 keeps none. It is opened again when it is needed."),
    key("sshkit", "dns_retries", Kind::Integer).default("3").example("5").doc("How often a name that did not resolve is looked up again, after 0.1 s, 0.2 s, 0.4 s, at most 2 s."),
    // -- boot
    key("boot", "limit", Kind::Either(&[Kind::Integer, Kind::Text])).default("all at once").example("2").doc("The size of a batch: a number of hosts, or a share such as `25%`."),
    key("boot", "wait", Kind::Integer).default("0").example("5").doc("Seconds between two batches."),
    key("boot", "parallel_roles", Kind::Boolean).default("false").example("true").doc("Whether the roles of a host boot at the same time."),
    // -- canary
    key("canary", "percent", Kind::Integer).default("10").example("25").doc("How many of a hundred visitors try it, told apart by the value of their cookie; the same ones each time."),
    key("canary", "anonymous", Kind::Boolean).default("true").example("false").doc("Whether visitors without the cookie are given one, so that they count, too, and stay on their side."),
    key("canary", "cookie", Kind::Text).default("kamal-rollout").example("visitor").doc("The cookie."),
    key("canary", "list", TEXTS).example("[staff]").doc("Values of the cookie that try it in any case."),
    key("canary", "header", Kind::Text).example("\"X-Canary: yes\"").doc("A header, with or without a value; requests with it go to the release in any case."),
    key("canary", "verdict", Kind::Either(&[Kind::Boolean, Kind::Section("canary/verdict")])).default("true").doc("Whether the proxies compare the releases, or how."),
    key("canary/verdict", "window", Kind::Integer).default("600").example("1800").doc("Seconds for which they are compared."),
    key("canary/verdict", "min_requests", Kind::Integer).default("50").example("200").doc("How many requests each side must have had at each host by then; with fewer the release is given up."),
    key("canary/verdict", "errors", Kind::Integer).default("5").example("10").doc("By how many of 1000 requests errors may be more."),
    key("canary/verdict", "latency", Kind::Integer).default("50").example("20").doc("By how many percent the time within which 95 of 100 requests are answered may be longer."),
    key("canary/verdict", "promote", Kind::Boolean).default("true").example("false").doc("Whether `freehold canary wait` and `start --wait` promote a release that is as good."),
    // -- logging
    key("logging", "driver", Kind::Text).default("the engine's").example("local").doc("The driver's name."),
    key("logging", "options", Kind::TextMap).default("`max-size: 10m` without a driver").example("{max-size: 20m}").doc("The driver's options."),
    // -- output
    key("output", "file", Kind::Section("output/file")).doc("A log file for each command that changes something."),
    key("output", "otel", Kind::Section("output/otel")).doc("An OpenTelemetry collector."),
    key("output/file", "path", Kind::Text).example("log/deploys").doc("The folder of the files, relative to the project; required. Each is `YYYY-mm-ddTHH-MM-SS[_DESTINATION]_COMMAND.log` (UTC), has all that `--verbose` shows, and is readable by its owner only."),
    key("output/otel", "endpoint", Kind::Text).example("\"http://localhost:4318\"").doc("The collector's address for OTLP over HTTP with JSON, without `/v1/logs`; required. Headers such as a key come from the variable `OTEL_EXPORTER_OTLP_HEADERS`; with `https` the collector's certificate is checked against this computer's authorities, or those of `SSL_CERT_FILE`. A collector that does not answer is a warning."),
    // -- cron
    key("cron/NAME", "schedule", Kind::Text).doc("When it runs, in UTC: the five fields of `cron`, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`; required."),
    key("cron/NAME", "cmd", Kind::Text).doc("The command, split into words; no shell sees it, and the image's entrypoint, if there is one, gets it; required."),
    key("cron/NAME", "role", Kind::Text).default("the primary role").example("job").doc("The role whose image, environment, volumes and options it has, and on whose first host it runs."),
    key("cron/NAME", "overlap", Kind::Text).default("skip").example("queue").doc("What happens when it is due while its last run goes on: `skip`, `allow`, `queue` or `replace`."),
    key("cron/NAME", "timeout", Kind::Integer).default("none").example("600").doc("Seconds after which a run is stopped, as containers of the role are."),
    key("cron/NAME", "history", Kind::Integer).default("10").example("50").doc("How many of its runs are remembered."),
    // -- images
    key("images/NAME", "image", Kind::Text).default("`IMAGE-NAME`").example("acme/worker").doc("The image's name without tag."),
    key("images/NAME", "context", Kind::Text).default("that of `builder`").example("worker").doc("The folder that is built."),
    key("images/NAME", "dockerfile", Kind::Text).default("that of `builder`").example("worker.Dockerfile").doc("The Dockerfile."),
    key("images/NAME", "target", Kind::Text).default("that of `builder`").example("worker").doc("The stage that is built."),
    key("images/NAME", "args", Kind::TextMap).example("{FAST: \"1\"}").doc("Build arguments over those of `builder`."),
    key("images/NAME", "secrets", TEXTS).default("those of `builder`").example("[WORKER_TOKEN]").doc("Secrets that the build may mount."),
    // -- firewall
    key("firewall", "allow", Kind::List(&Kind::Section("firewall/allow"))).doc("What is let in, beside SSH, the ports of the proxy, and the ports of accessories, which are let in from the hosts of the project. A rule for the port of an accessory takes the place of that."),
    key("firewall", "ssh", Kind::Either(&[Kind::Text, TEXTS])).default("any").example("[203.0.113.0/24]").doc("Who may open SSH connections: addresses, ranges, roles, accessories, hosts. Jump hosts of the file always may."),
    key("firewall", "interfaces", Kind::Either(&[TEXTS, Kind::MapOf(&TEXTS)])).default("those of the default routes").example("[eth0]").doc("The interfaces on which only what is allowed comes in, for all hosts or for each by name. On the others, rules with `from` hold, and the rest is open."),
    key("firewall", "tailnet", Kind::Either(&[Kind::Boolean, Kind::Integer])).default("false").example("true").doc("Whether the UDP port of a tailnet is open, 41641, or its number."),
    key("firewall", "metadata", Kind::Boolean).default("false").example("true").doc("Whether containers may ask the provider's metadata service, 169.254.169.254."),
    key("firewall", "publish", TEXTS).default("none").example("[web]").doc("Roles and accessories that may publish ports on every address of their hosts. Without it such a port is a mistake where the file has `firewall`; that of a well-known database always is. The port is let in from the hosts of the project and those in `allow`."),
    key("firewall/allow", "port", Kind::Either(&[Kind::Text, Kind::Integer])).doc("The port or a range of ports, of TCP or with `/udp` behind it; required."),
    key("firewall/allow", "from", Kind::Either(&[Kind::Text, TEXTS])).default("any").example("[10.0.0.0/24, web]").doc("From where: `any`, or addresses, ranges, roles, accessories, hosts."),
    key("firewall/allow", "on", Kind::Either(&[Kind::Text, TEXTS])).default("every host").example("web").doc("On the hosts of these roles or accessories, or on these hosts."),
];
