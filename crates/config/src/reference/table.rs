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
    Section { name: "proxy/healthcheck", doc: "How the proxy finds out that a container is healthy." },
    Section { name: "proxy/buffering", doc: "What the proxy holds back. It streams both ways." },
    Section { name: "proxy/run", doc: "How the proxy's container runs; one setting for the whole project." },
    Section { name: "builder", doc: "How the image is built." },
    Section { name: "ssh", doc: "How hosts are reached." },
    Section { name: "boot", doc: "How many hosts at a time take a new release." },
    Section { name: "logging", doc: "The log driver of the containers." },
];

const TEXTS: Kind = Kind::List(&Kind::Text);
const LATER: Support =
    Support::Refused { unless: None, help: "remove it, or stay with Kamal until it is supported" };

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

    const fn refused(self) -> Self {
        Self { support: LATER, ..self }
    }

    const fn refused_unless(self, value: bool) -> Self {
        Self { support: Support::Refused { unless: Some(value), help: "" }, ..self }
    }

    const fn refused_because(self, help: &'static str) -> Self {
        Self { support: Support::Refused { unless: None, help }, ..self }
    }

    const fn without_effect(self) -> Self {
        Self { support: Support::NoEffect, ..self }
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
    key("", "ssh", Kind::Section("ssh")).doc("How hosts are reached."),
    key("", "boot", Kind::Section("boot")).doc("How many hosts at a time take a new release."),
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
    key("", "run_directory", Kind::Text).without_effect().doc("Has had no effect since Kamal 2."),
    key("", "registry", Kind::Section("registry")).refused_because("remove it: without a registry, freehold sends images straight to the hosts").doc("The image registry."),
    key("", "accessories", Kind::MapOf(&Kind::Anything)).refused().doc("Long-lived containers beside the service."),
    key("", "aliases", Kind::TextMap).refused().doc("Names for commands."),
    key("", "asset_path", Kind::Text).refused().doc("The folder of assets that two releases share."),
    key("", "error_pages_path", Kind::Text).refused().doc("The folder of error pages for the proxy."),
    key("", "hooks_output", Kind::Anything).refused().doc("Whether the output of hooks is shown."),
    key("", "output", Kind::Anything).refused().doc("Where the output of commands goes besides the terminal."),
    key("", "sshkit", Kind::Anything).refused().doc("Limits of parallel connections."),
    // -- servers/ROLE
    key("servers/ROLE", "hosts", Kind::Hosts).doc("The hosts, each a name, an address or `HOST: TAG` or `HOST: [TAG, TAG]`."),
    key("servers/ROLE", "cmd", Kind::Text).default("the image's own").example("bin/jobs --all").doc("The command, split into words; no shell sees it."),
    key("servers/ROLE", "proxy", Kind::Either(&[Kind::Boolean, Kind::Section("proxy")])).default("on for the primary role only").doc("Whether the role takes requests, or its own settings."),
    key("servers/ROLE", "env", Kind::Section("env")).doc("Environment over that of the root, without `tags`."),
    key("servers/ROLE", "options", Kind::MapOf(&Kind::Anything)).example("{memory: 512m}").doc("Flags of `docker run`, without the leading `--`."),
    key("servers/ROLE", "labels", Kind::TextMap).example("{tier: front}").doc("Labels over those of the root."),
    key("servers/ROLE", "logging", Kind::Section("logging")).doc("The log driver over that of the root."),
    key("servers/ROLE", "stop_timeout", Kind::Integer).default("the root's").example("21").doc("Seconds that a container of this role may take to stop."),
    key("servers/ROLE", "asset_path", Kind::Text).refused().doc("The folder of assets that two releases share."),
    // -- env
    key("env", "clear", Kind::TextMap).example("{LEVEL: debug}").doc("Variables with their values."),
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
    key("proxy", "forward_headers", Kind::Boolean).default("true").example("false").doc("Whether the client's `X-Forwarded-*` headers are kept."),
    key("proxy", "buffering", Kind::Section("proxy/buffering")).doc("What the proxy holds back."),
    key("proxy", "run", Kind::Section("proxy/run")).doc("How the proxy's container runs."),
    key("proxy", "ssl", Kind::Anything).default("false").refused_unless(false).doc("Whether the proxy serves HTTPS."),
    key("proxy", "ssl_redirect", Kind::Boolean).refused().doc("Whether HTTP is redirected to HTTPS."),
    key("proxy", "logging", Kind::Anything).refused().doc("The headers that the proxy logs."),
    key("proxy/healthcheck", "path", Kind::Text).default("/up").example("/health").doc("The path of the check; answers from 200 to 299 are healthy."),
    key("proxy/healthcheck", "interval", Kind::Integer).default("1").example("2").doc("Seconds between two checks."),
    key("proxy/healthcheck", "timeout", Kind::Integer).default("5").example("3").doc("Seconds that one check may take."),
    key("proxy/buffering", "requests", Kind::Boolean).default("false").refused_unless(false).doc("Whether request bodies are held back until they are complete."),
    key("proxy/buffering", "responses", Kind::Boolean).default("false").refused_unless(false).doc("Whether response bodies are held back until they are complete."),
    key("proxy/buffering", "memory", Kind::Integer).refused().doc("The bytes of a body that are kept in memory."),
    key("proxy/buffering", "max_request_body", Kind::Integer).refused().doc("The greatest request body in bytes."),
    key("proxy/buffering", "max_response_body", Kind::Integer).refused().doc("The greatest response body in bytes."),
    key("proxy/run", "http_port", Kind::Integer).default("80").example("8080").doc("The host's port for HTTP."),
    key("proxy/run", "https_port", Kind::Integer).default("443").example("8443").doc("The host's port for HTTPS."),
    key("proxy/run", "publish", Kind::Boolean).default("true").example("false").doc("Whether the ports are published."),
    key("proxy/run", "bind_ips", TEXTS).default("all").example("[127.0.0.1]").doc("The host's addresses to which the ports are bound."),
    key("proxy/run", "log_max_size", Kind::Text).default("10m").example("50m").doc("The size at which the proxy's log is rotated; empty is never."),
    key("proxy/run", "debug", Kind::Boolean).default("false").example("true").doc("Whether the proxy logs at debug level."),
    key("proxy/run", "metrics_port", Kind::Integer).refused().doc("The port of the metrics."),
    key("proxy/run", "registry", Kind::Text).refused_because("remove it: freehold brings its own proxy").doc("The registry of kamal-proxy's image."),
    key("proxy/run", "repository", Kind::Text).refused_because("remove it: freehold brings its own proxy").doc("The name of kamal-proxy's image."),
    key("proxy/run", "version", Kind::Text).refused_because("remove it: freehold brings its own proxy").doc("The version of kamal-proxy."),
    key("proxy/run", "options", Kind::Anything).refused().doc("Flags of `docker run` for the proxy."),
    // -- builder
    key("builder", "arch", Kind::Either(&[Kind::Text, TEXTS])).default("that of the hosts").example("amd64").doc("The architectures: `amd64`, `arm64`."),
    key("builder", "context", Kind::Text).default("a clone of the git repository").example(".").doc("The folder that is built; `.` builds the working tree with uncommitted changes."),
    key("builder", "dockerfile", Kind::Text).default("Dockerfile").example("docker/app.Dockerfile").doc("The Dockerfile."),
    key("builder", "target", Kind::Text).default("the last stage").example("production").doc("The stage that is built."),
    key("builder", "args", Kind::TextMap).example("{RUBY_VERSION: \"3.4\"}").doc("Build arguments."),
    key("builder", "secrets", TEXTS).example("[GITHUB_TOKEN]").doc("Secrets that the build may mount."),
    key("builder", "on", Kind::Text).default("local").example("203.0.113.1").doc("Freehold's own: where the image is built, `local` or a host of the project."),
    key("builder", "ssh", Kind::Text).refused().doc("The SSH agent that the build may use."),
    key("builder", "cache", Kind::Anything).refused().doc("The cache of the build."),
    key("builder", "driver", Kind::Text).refused().doc("The driver of `docker buildx`."),
    key("builder", "remote", Kind::Text).refused_because("name one of the project's hosts with `builder: {on: HOST}`").doc("The engine of another machine."),
    key("builder", "local", Kind::Boolean).refused().doc("Whether this machine may build."),
    key("builder", "pack", Kind::Anything).refused().doc("Cloud Native Buildpacks."),
    key("builder", "provenance", Kind::Either(&[Kind::Text, Kind::Boolean])).refused().doc("The provenance attestation."),
    key("builder", "sbom", Kind::Either(&[Kind::Text, Kind::Boolean])).refused().doc("The bill of materials."),
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
    key("ssh", "log_level", Kind::Text).refused_because("remove it and use `--verbose`").doc("The log level of Kamal's SSH library."),
    // -- boot
    key("boot", "limit", Kind::Either(&[Kind::Integer, Kind::Text])).default("all at once").example("2").doc("The size of a batch: a number of hosts, or a share such as `25%`."),
    key("boot", "wait", Kind::Integer).default("0").example("5").doc("Seconds between two batches."),
    key("boot", "parallel_roles", Kind::Boolean).default("false").refused_unless(false).doc("Whether the roles of a host boot at the same time."),
    // -- logging
    key("logging", "driver", Kind::Text).default("the engine's").example("local").doc("The driver's name."),
    key("logging", "options", Kind::TextMap).default("`max-size: 10m` without a driver").example("{max-size: 20m}").doc("The driver's options."),
];
