use std::fmt::Write as _;

/// The deploy file of a test: what tests vary, rendered as a person would write it.
#[derive(Debug, Clone)]
pub(crate) struct DeployFile {
    pub(crate) service: String,
    pub(crate) hosts: Vec<String>,
    /// A variable for the containers of one host only: host, name, value.
    pub(crate) fault: Option<(String, &'static str, &'static str)>,
    pub(crate) secrets: Vec<String>,
    pub(crate) clear: Vec<(String, String)>,
    pub(crate) proxy_hosts: Vec<String>,
    /// More keys of `proxy`, as text.
    pub(crate) proxy_more: String,
    pub(crate) deploy_timeout: u32,
    pub(crate) soak: u32,
    /// More root keys, as text.
    pub(crate) more: String,
}

impl DeployFile {
    pub(crate) fn new(hosts: &[&str]) -> Self {
        Self {
            service: "hello".to_owned(),
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            fault: None,
            secrets: Vec::new(),
            clear: Vec::new(),
            proxy_hosts: Vec::new(),
            proxy_more: String::new(),
            deploy_timeout: 20,
            soak: 0,
            more: String::new(),
        }
    }

    /// Gives the containers of a host a variable that the others do not have.
    pub(crate) fn with_fault(mut self, host: &str, name: &'static str, value: &'static str) -> Self {
        self.fault = Some((host.to_owned(), name, value));
        self
    }

    pub(crate) fn render(&self) -> String {
        let mut text = format!("service: {0}\nimage: {0}\nservers:\n", self.service);
        for host in &self.hosts {
            let is_faulty = self.fault.as_ref().is_some_and(|fault| fault.0 == *host);
            writeln!(text, "  - {host}{}", if is_faulty { ": faulty" } else { "" }).unwrap();
        }
        text.push_str(
            "proxy:\n  app_port: 80\n  healthcheck:\n    path: /up\n    interval: 1\n    timeout: 2\n",
        );
        if !self.proxy_hosts.is_empty() {
            writeln!(text, "  hosts: [{}]", self.proxy_hosts.join(", ")).unwrap();
        }
        text.push_str(&self.proxy_more);
        text.push_str("env:\n  clear:\n    GREETING: Hello\n");
        for (name, value) in &self.clear {
            writeln!(text, "    {name}: \"{value}\"").unwrap();
        }
        if !self.secrets.is_empty() {
            writeln!(text, "  secret: [{}]", self.secrets.join(", ")).unwrap();
        }
        if let Some((_, name, value)) = &self.fault {
            writeln!(text, "  tags:\n    faulty:\n      {name}: \"{value}\"").unwrap();
        }
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        write!(
            text,
            "builder:\n  arch: {arch}\n  context: .\ndeploy_timeout: {}\ndrain_timeout: 10\nsoak: {}\n{}",
            self.deploy_timeout, self.soak, self.more
        )
        .unwrap();
        text
    }
}
