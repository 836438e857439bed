use std::path::PathBuf;

use freehold_model::{Diagnose, ErrorKind, HostName, JumpHost, SshConfigFiles};
use freehold_ssh::{HopFailure, HostKeyError, RemoteCommand, Route, RouteError};
use tokio::io::AsyncReadExt;

use crate::support::{Agent, Client, Key, PATIENCE, Sshd, background, user, wait_until};

async fn route(client: &Client, host: &str) -> Result<Route, RouteError> {
    Route::resolve(&HostName::parse(host).unwrap(), &client.settings, &client.environment).await
}

/// Returns `user@address:port` of every hop.
async fn way(client: &Client, host: &str) -> Vec<String> {
    let route = route(client, host).await.unwrap();
    route.hops().iter().map(|hop| format!("{}@{}:{}", hop.user, hop.address, hop.port)).collect()
}

fn silent() -> Client {
    let mut client = Client::bare();
    client.settings.user = None;
    client
}

fn jump(user: &str, host: &str, port: Option<u16>) -> JumpHost {
    JumpHost { user: user.to_owned(), host: HostName::parse(host).unwrap(), port }
}

#[tokio::test]
async fn the_deploy_file_wins_then_openssh_then_root_and_22() {
    for program in [Some(PathBuf::from("/usr/bin/ssh")), None] {
        let mut client = silent();
        client.environment.ssh_program = program;
        assert_eq!(way(&client, "web").await, ["root@web:22"]);
        client.config("Host web\n  HostName 10.0.0.7\n  User deploy\n  Port 2200\n");
        assert_eq!(way(&client, "web").await, ["deploy@10.0.0.7:2200"]);
        // The local user's name is a choice like any other if somebody made it.
        client.config("Host db\n  User somebody\n");
        assert_eq!(way(&client, "db").await, ["somebody@db:22"]);
        client.settings.user = Some("admin".to_owned());
        client.settings.port = Some(22);
        assert_eq!(way(&client, "web").await, ["admin@10.0.0.7:22"]);
        client.settings.config = SshConfigFiles::Nothing;
        assert_eq!(way(&client, "web").await, ["admin@web:22"]);
    }
}

#[tokio::test]
async fn our_parser_reads_what_openssh_reads() {
    let configurations = [
        "",
        "Host web db\n  User=deploy\n  Port = 23\nHost *\n  User other\n  IdentityFile ~/.ssh/%n_%r\n",
        "Host *.internal !bad.internal\n  ProxyJump me@gate:2222,inner\n  HostName 10.0.0.1\n",
        "Match host 10.* user deploy\n  Port 99\nMatch originalhost web\n  User \"deploy\"\n  HostName 10.1.1.1\n\
         Match host 10.1.1.1\n  IdentitiesOnly yes\n  CertificateFile %d/c\n",
        "Include more/*.conf\nIdentityAgent none\nStrictHostKeyChecking accept-new\nHashKnownHosts yes\n",
        "HostKeyAlias farm\nUserKnownHostsFile ~/a /tmp/b\nGlobalKnownHostsFile none\nAddressFamily inet6\n\
         ConnectTimeout 7\nPreferredAuthentications publickey\nPasswordAuthentication no\n",
        "ProxyCommand nc -X \"5\" '%h' %p # %r@%n %%\nForwardAgent no\nKbdInteractiveAuthentication no\n",
        "Host web gate\n  ProxyJump none\nHost *\n  ProxyJump gate\nHost gate\n  User g\n",
        "\tHOST\tWEB web\n\tPORT\t44\n# comment\n   #x\nHost !*\nPort 45\n",
    ];
    for text in configurations {
        let mut client = silent();
        // Where the person's real home is looked up, both must look into the same folder.
        fs_err::create_dir(client.ssh().join("more")).unwrap();
        fs_err::write(client.ssh().join("more/a.conf"), "Host web\n  User included\n  Port 8\n").unwrap();
        let text = text.replace("more/", &format!("{}/more/", client.ssh().display()));
        let text = text.replace("~/a", &format!("{}/a", client.home.path().display()));
        fs_err::write(client.ssh().join("config"), &text).unwrap();
        for host in ["web", "db", "a.internal", "bad.internal"] {
            let mut seen = Vec::new();
            for program in [Some(PathBuf::from("/usr/bin/ssh")), None] {
                client.environment.ssh_program = program;
                let described = match route(&client, host).await {
                    Ok(route) => route.hops().iter().map(describe).collect::<Vec<_>>().join("\n"),
                    Err(error) => format!("{error:?}"),
                };
                seen.push(described);
            }
            assert_eq!(seen[0], seen[1], "{host} {text}");
        }
    }
}

/// Describes a hop without the lists of algorithms, which `ssh -G` prints in full and a file does not.
fn describe(hop: &freehold_ssh::Hop) -> String {
    let mut text = format!("{hop:?}");
    // Types that newer clients no longer have.
    for file in
        hop.identities.files.iter().filter(|file| file.ends_with("id_xmss") || file.ends_with("id_dsa"))
    {
        text = text.replace(&format!(", {file:?}"), "");
    }
    text.split(", algorithms:").next().unwrap().to_owned()
}

#[tokio::test]
async fn match_exec_needs_openssh() {
    let mut client = silent();
    client.config("Match host web exec \"test %h = web\"\n  Port 33\n");
    assert_eq!(way(&client, "web").await, ["root@web:33"]);
    client.environment.ssh_program = None;
    let error = route(&client, "web").await.unwrap_err();
    assert!(matches!(error, RouteError::UnsupportedMatch { line: 1, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn a_configuration_that_openssh_refuses_is_an_error_with_its_words() {
    let client = silent();
    client.config("Host *\n  Prot 22\n");
    let error = route(&client, "web").await.unwrap_err();
    assert!(error.to_string().contains("Bad configuration option: prot"), "{error}");
}

#[tokio::test]
async fn users_and_jumps_that_a_shell_could_run_are_refused() {
    let mut client = silent();
    client.settings.user = Some("a;id".to_owned());
    assert!(matches!(route(&client, "web").await, Err(RouteError::InvalidUser { .. })));
    client.settings.user = None;
    client.environment.ssh_program = None;
    client.config("Host bad\n  HostName $(id)\n");
    assert!(matches!(route(&client, "bad").await, Err(RouteError::InvalidValue { keyword: "HostName", .. })));
    client.config("Host *\n  ProxyJump $(id)\n");
    assert!(matches!(route(&client, "web").await, Err(RouteError::InvalidJump { .. })));
}

#[tokio::test]
async fn jumps_of_the_deploy_file_and_of_openssh_make_one_way() {
    let mut client = silent();
    client.config("Host gate\n  ProxyJump outer:2200\n  Port 24\nHost web\n  ProxyJump ignored\n");
    client.settings.proxy = vec![jump("root", "gate", None), jump("ops", "inner", Some(99))];
    assert_eq!(way(&client, "web").await, ["root@outer:2200", "root@gate:24", "ops@inner:99", "root@web:22"]);
    client.settings.proxy.clear();
    assert_eq!(way(&client, "web").await, ["root@ignored:22", "root@web:22"]);
    client.settings.proxy_command = Some("nc %h %p".to_owned());
    let route = route(&client, "web").await.unwrap();
    assert_eq!(route.hops()[0].proxy_command.as_deref(), Some("nc web 22"));
}

#[tokio::test]
async fn a_jump_that_leads_to_itself_ends() {
    let mut client = silent();
    client.config("Host *\n  ProxyJump gate\n");
    // OpenSSH finds the shortest of such circles by itself.
    assert!(route(&client, "web").await.is_err());
    client.environment.ssh_program = None;
    assert!(matches!(route(&client, "web").await, Err(RouteError::TooManyJumps { .. })));
}

/// Three servers, each reached through the one before it, with a key of its own for each.
struct Chain {
    client: Client,
    servers: [Sshd; 3],
}

const NAMES: [&str; 3] = ["outer", "inner", "web"];

fn chain() -> Chain {
    let mut client = silent();
    let servers = NAMES.map(|name| {
        let key = Key::new(&client.ssh(), &format!("key_{name}"), "ed25519");
        let server = Sshd::start(&key);
        client.config(&format!(
            "Host {name}\n  HostName 127.0.0.1\n  Port {}\n  User {}\n  HostKeyAlias {name}\n  IdentityFile {}\n",
            server.port,
            user(),
            key.path.display()
        ));
        client.remember(&server.known_as(name));
        server
    });
    client.settings.proxy = vec![jump(&user(), "outer", None), jump(&user(), "inner", None)];
    Chain { client, servers }
}

#[tokio::test]
async fn two_jumps_each_with_its_own_key_carry_commands() {
    let chain = chain();
    let session = chain.client.connect_to("web").await.unwrap();
    let output =
        session.run(&RemoteCommand::arguments(["echo", "through"]), b"", PATIENCE, 100).await.unwrap();
    assert_eq!(output.stdout, b"through\n");
    for server in &chain.servers {
        assert!(server.log().contains("Accepted publickey"), "{}", server.log());
    }
    let again = session.reconnect().await.unwrap();
    let mut process = again.exec(&RemoteCommand::script("head -c 40000000 /dev/zero"), None).await.unwrap();
    let mut all = Vec::new();
    process.stdout.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), 40_000_000);
    drop((session, again, process));
    for server in &chain.servers {
        wait_until("the jumps to end", || server.session_processes().is_empty()).await;
    }
}

#[tokio::test]
async fn hosts_behind_the_same_jumps_share_one_login_at_each() {
    let chain = chain();
    let connector = chain.client.connector();
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (connector, settings) = (connector.clone(), chain.client.settings.clone());
        let host = HostName::parse("web").unwrap();
        attempts.spawn(async move { connector.connect(&host, &settings, &[]).await.unwrap() });
    }
    let sessions = attempts.join_all().await;
    let logins = || chain.servers.each_ref().map(|server| server.log().matches("Accepted publickey").count());
    assert_eq!(logins(), [1, 1, 6]);
    for session in &sessions {
        let output =
            session.run(&RemoteCommand::arguments(["echo", "hi"]), b"", PATIENCE, 100).await.unwrap();
        assert_eq!(output.stdout, b"hi\n");
    }
    // A stream at a person's pace must not hold up the others: it goes by a way of its own.
    let own = sessions[0].reconnect().await.unwrap();
    assert_eq!(logins(), [2, 2, 7]);
    drop((own, sessions));
    wait_until("the jumps to end", || {
        chain.servers.iter().all(|server| server.session_processes().is_empty())
    })
    .await;
    // The jumps are gone with the last who used them; the next one makes them anew.
    let again = connector.connect(&HostName::parse("web").unwrap(), &chain.client.settings, &[]).await;
    assert_eq!((again.is_ok(), logins()), (true, [3, 3, 8]));
}

#[tokio::test]
async fn a_jump_host_that_is_gone_costs_its_deadline_once_for_all_behind_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut client, _) = Client::new();
    let port = listener.local_addr().unwrap().port();
    client.settings.connect_timeout = std::time::Duration::from_millis(500);
    client.settings.proxy = vec![jump("root", "127.0.0.1", Some(port))];
    let (sender, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let _server = background(async move {
        let mut silent = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            silent.push(stream);
            sender.send(()).unwrap();
        }
    });
    let connector = client.connector();
    let mut attempts = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (connector, settings) = (connector.clone(), client.settings.clone());
        let host = HostName::parse(format!("10.9.9.{number}")).unwrap();
        attempts
            .spawn(async move { connector.connect(&host, &settings, &[]).await.unwrap_err().to_string() });
    }
    let mut errors = attempts.join_all().await;
    errors.sort();
    for (number, error) in errors.iter().enumerate() {
        let expected = format!("`127.0.0.1` (on the way to `10.9.9.{number}`) took the connection but");
        assert!(error.starts_with(&expected), "{error}");
    }
    assert!(begun.recv().await.is_some() && begun.try_recv().is_err(), "one connection for eight hosts");
}

/// sshd drops connections at random above the first number, and all above the last.
#[tokio::test]
async fn a_host_that_drops_connections_is_asked_more_slowly() {
    let (mut client, key) = Client::new();
    let server = Sshd::builder().config("MaxStartups 2:60:4").authorize(&key.public()).start();
    client.knows(&server);
    let connector = client.connector();
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (connector, settings) = (connector.clone(), client.settings.clone());
        let host = HostName::parse("127.0.0.1").unwrap();
        attempts.spawn(async move { connector.connect(&host, &settings, &[]).await.map(drop) });
    }
    for outcome in attempts.join_all().await {
        outcome.unwrap();
    }
    assert!(server.log().contains("MaxStartups"), "nothing was dropped");
}

#[tokio::test]
async fn a_failure_names_its_hop() {
    let mut chain = chain();
    let known = chain.client.read_known_hosts();
    let other = Key::new(chain.client.home.path(), "other", "ed25519").public();
    fs_err::write(chain.client.known_hosts(), known.replace(&chain.servers[1].host_key(), &other)).unwrap();
    let error = chain.client.connect_to("web").await.unwrap_err();
    assert_eq!(error.to_string(), "the identity of `inner` (on the way to `web`) is not certain");
    assert!(matches!(error.failure(), Some(HopFailure::HostKey(HostKeyError::Changed { .. }))), "{error:?}");
    fs_err::write(chain.client.known_hosts(), known).unwrap();
    chain.client.settings.port = Some(1);
    let error = chain.client.connect_to("web").await.unwrap_err();
    assert_eq!(error.to_string(), "cannot reach `web` through `inner`");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

const THROUGH: &str = "bash -c 'exec 3<>/dev/tcp/%h/%p; echo connecting >&2; cat <&3 & cat >&3'";

#[tokio::test]
async fn a_proxy_command_carries_the_connection_and_dies_with_it() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    client.knows(&server);
    let marker = client.home.path().join("marker");
    client.settings.proxy_command = Some(format!("{THROUGH} {}", marker.display()));
    let session = client.connect().await.unwrap();
    let output = session.run(&RemoteCommand::arguments(["echo", "hi"]), b"", PATIENCE, 100).await.unwrap();
    assert_eq!(output.stdout, b"hi\n");
    let marker = marker.to_str().unwrap();
    assert!(mentioned(marker));
    drop(session);
    wait_until("the command to be killed", || !mentioned(marker)).await;
}

#[tokio::test]
async fn a_proxy_command_that_fails_is_quoted() {
    let (mut client, key) = Client::new();
    let server = Sshd::start(&key);
    client.knows(&server);
    client.settings.proxy_command = Some("sh -c 'echo no way to %h >&2; exit 3'".to_owned());
    let error = client.connect().await.unwrap_err();
    assert!(error.to_string().contains("the proxy command said: no way to 127.0.0.1"), "{error}");
}

/// Says whether a process of this machine has an argument.
fn mentioned(argument: &str) -> bool {
    let processes = fs_err::read_dir("/proc").unwrap();
    processes.filter_map(Result::ok).any(|entry| {
        let line = fs_err::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
    })
}

#[tokio::test]
async fn the_agent_is_forwarded_to_sessions_with_a_terminal() {
    let mut client = Client::bare();
    let key = Key::new(client.home.path(), "agent_key", "ed25519");
    let agent = Agent::start(client.home.path(), "agent");
    agent.add(&key);
    client.environment.ssh_auth_sock = Some(agent.socket.clone());
    let server = Sshd::start(&key);
    let session = client.knows(&server).connect().await.unwrap();
    let pty = freehold_ssh::Pty { term: "dumb".to_owned(), columns: 200, rows: 24 };
    let mut process = session.exec(&RemoteCommand::arguments(["ssh-add", "-l"]), Some(pty)).await.unwrap();
    let mut text = String::new();
    process.stdout.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("agent_key"), "{text}");
    client.settings.forward_agent = false;
    let session = client.connect().await.unwrap();
    let pty = freehold_ssh::Pty { term: "dumb".to_owned(), columns: 200, rows: 24 };
    let process = session.exec(&RemoteCommand::arguments(["ssh-add", "-l"]), Some(pty)).await.unwrap();
    assert!(!process.wait().await.unwrap().success());
}
