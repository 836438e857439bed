use freehold_model::{Diagnose, ErrorKind, HostName};
use freehold_ssh::{Authentication, AuthenticationError, ConnectError, HopError, HopFailure};

use crate::support::{Agent, Client, Key, Pretender, Rules, Sshd, TokenAgent, authority_signs};

fn origin(authentication: &Authentication) -> &str {
    match authentication {
        Authentication::PublicKey { origin, .. } => origin,
        other => panic!("{other:?}"),
    }
}

async fn refusal(client: &Client) -> AuthenticationError {
    match client.connect().await {
        Err(ConnectError::Hop(HopError { failure: HopFailure::Authentication(source), .. })) => source,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn default_key_files_of_every_type_let_us_in() {
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let mut client = Client::bare();
        let key = Key::new(&client.ssh(), &format!("id_{kind}"), kind);
        // SHA-1 signatures would be refused by this server.
        let server = Sshd::start(&key);
        let session = client.knows(&server).connect().await.unwrap();
        assert_eq!(origin(session.authentication()), format!("key file {}", key.path.display()));
    }
}

#[tokio::test]
async fn keys_of_one_of_several_agents_let_us_in() {
    let mut client = Client::bare();
    let elsewhere = tempfile::tempdir().unwrap();
    for kind in ["ed25519", "rsa"] {
        let key = Key::new(elsewhere.path(), kind, kind);
        let (empty, full) = (
            Agent::start(elsewhere.path(), &format!("a{kind}")),
            Agent::start(elsewhere.path(), &format!("b{kind}")),
        );
        full.add(&key);
        client.environment.ssh_auth_sock = Some(full.socket.clone());
        fs_err::write(client.ssh().join("config"), format!("IdentityAgent {}\n", empty.socket.display()))
            .unwrap();
        let server = Sshd::start(&key);
        let session = client.knows(&server).connect().await.unwrap();
        assert_eq!(origin(session.authentication()), format!("agent key `{kind}`"));
    }
}

#[tokio::test]
async fn keys_named_in_the_deploy_file_or_given_as_text_are_used() {
    let mut client = Client::bare();
    let key = Key::new(client.home.path(), "deploy_key", "ed25519");
    let server = Sshd::start(&key);
    client.knows(&server);
    client.settings.keys = vec!["deploy_key".into()];
    let session = client.connect().await.unwrap();
    assert!(origin(session.authentication()).ends_with("/deploy_key"));
    client.settings.keys = vec!["~/deploy_key".into()];
    client.connect().await.unwrap();
    client.settings.keys.clear();
    client.key_data = vec![key.private().into()];
    client.settings.key_data = vec!["KEY".parse().unwrap()];
    let session = client.connect().await.unwrap();
    assert_eq!(origin(session.authentication()), "key 1 of `key_data`");
}

#[tokio::test]
async fn an_encrypted_key_is_unlocked_once_for_all_hosts_and_connections() {
    let mut client = Client::bare();
    let key = Key::encrypted(&client.ssh(), "id_ed25519", "ed25519", "open sesame");
    let (one, two) = (Sshd::start(&key), Sshd::start(&key));
    client.knows(&one);
    client.remember(&two.known_as(&format!("[127.0.0.1]:{}", two.port)));
    client.config(&format!("Host second\n  HostName 127.0.0.1\n  Port {}\n", two.port));
    client.person.answers.lock().extend(["wrong".to_owned(), "open sesame".to_owned()]);
    let connector = client.connector();
    let mut second = client.settings.clone();
    second.port = None;
    let (first_host, second_host) =
        (HostName::parse("127.0.0.1").unwrap(), HostName::parse("second").unwrap());
    let (one, two) = tokio::join!(
        connector.connect(&first_host, &client.settings, &[]),
        connector.connect(&second_host, &second, &[])
    );
    two.unwrap();
    one.unwrap().reconnect().await.unwrap();
    let question = format!("secret: Passphrase of key file {}", key.path.display());
    assert_eq!(client.person.asked(), [question.clone(), format!("{question} (attempt 2)")]);
}

#[tokio::test]
async fn a_passphrase_is_only_asked_for_a_key_that_the_host_accepts() {
    let mut client = Client::bare();
    Key::encrypted(&client.ssh(), "id_ecdsa", "ecdsa", "secret");
    let key = Key::new(&client.ssh(), "id_ed25519", "ed25519");
    let server = Sshd::start(&key);
    client.knows(&server).connect().await.unwrap();
    assert!(client.person.asked().is_empty());
    let other = Sshd::start(&Key::new(client.home.path(), "unknown", "ed25519"));
    client.knows(&other);
    refusal(&client).await;
    assert!(client.person.asked().is_empty());
}

#[tokio::test]
async fn an_encrypted_key_without_a_passphrase_says_so() {
    let mut client = Client::bare();
    let key = Key::encrypted(&client.ssh(), "id_ed25519", "ed25519", "secret");
    let server = Sshd::start(&key);
    client.knows(&server);
    let error = refusal(&client).await;
    assert!(error.to_string().contains("it is encrypted and no passphrase was given"), "{error}");
    client.person.answers.lock().extend(["a".to_owned(), "b".to_owned(), "c".to_owned()]);
    let error = refusal(&client).await;
    assert!(error.to_string().contains("the passphrase is wrong"), "{error}");
}

#[tokio::test]
async fn certificates_let_us_in_from_files_and_with_the_agent() {
    for kind in ["ed25519", "rsa"] {
        let mut client = Client::bare();
        let authority = Key::new(client.home.path(), "authority", "ed25519");
        let key = Key::new(&client.ssh(), &format!("id_{kind}"), kind);
        authority_signs(&authority, &key, &["-n", &crate::support::user()]);
        let server =
            Sshd::builder().config(format!("TrustedUserCAKeys {}.pub", authority.path.display())).start();
        let session = client.knows(&server).connect().await.unwrap();
        assert_eq!(origin(session.authentication()), format!("certificate {}", key.certificate().display()));
        // The private key only in the agent, the certificate elsewhere.
        let agent = Agent::start(client.home.path(), "agent");
        let certificate = client.home.path().join("cert.pub");
        fs_err::rename(key.certificate(), &certificate).unwrap();
        agent.add(&key);
        fs_err::remove_file(&key.path).unwrap();
        client.environment.ssh_auth_sock = Some(agent.socket.clone());
        client.config(&format!("CertificateFile {}\n", certificate.display()));
        let session = client.connect().await.unwrap();
        assert_eq!(origin(session.authentication()), format!("certificate {}", certificate.display()));
    }
}

#[tokio::test]
async fn too_many_keys_are_named_as_the_cause_and_keys_only_helps() {
    let mut client = Client::bare();
    let agent = Agent::start(client.home.path(), "agent");
    for index in 0..5 {
        agent.add(&Key::new(client.home.path(), &format!("agent{index}"), "ed25519"));
    }
    let right = Key::new(client.home.path(), "right", "ed25519");
    let server = Sshd::builder().authorize(&right.public()).config("MaxAuthTries 3").start();
    client.knows(&server);
    client.environment.ssh_auth_sock = Some(agent.socket.clone());
    let error = refusal(&client).await;
    let AuthenticationError::TooManyTries { reason, tried, .. } = &error else { panic!("{error:?}") };
    assert!(reason.contains("Too many authentication failures"), "{reason}");
    assert_eq!(tried.len(), 3, "{tried:?}");
    assert!(error.help()[0].contains("keys_only"), "{:?}", error.help());
    // As in OpenSSH, the agent goes before a file that only its configuration names.
    client.config(&format!("IdentityFile {}\n", right.path.display()));
    assert!(matches!(refusal(&client).await, AuthenticationError::TooManyTries { .. }));
    client.config("IdentitiesOnly yes\n");
    client.connect().await.unwrap();
    fs_err::remove_file(client.ssh().join("config")).unwrap();
    client.settings.keys = vec![right.path.clone()];
    client.connect().await.unwrap();
    client.settings.keys_only = true;
    let session = client.connect().await.unwrap();
    assert!(origin(session.authentication()).ends_with("/right"));
}

#[tokio::test]
async fn an_agents_key_is_chosen_by_its_public_part_alone() {
    let mut client = Client::bare();
    let agent = Agent::start(client.home.path(), "agent");
    for index in 0..3 {
        agent.add(&Key::new(client.home.path(), &format!("agent{index}"), "ed25519"));
    }
    let right = Key::new(client.home.path(), "right", "ed25519");
    agent.add(&right);
    fs_err::remove_file(&right.path).unwrap();
    let server = Sshd::builder().authorize(&right.public()).config("MaxAuthTries 2").start();
    client.knows(&server);
    client.environment.ssh_auth_sock = Some(agent.socket.clone());
    client.settings.keys = vec!["right".into()];
    client.settings.keys_only = true;
    let session = client.connect().await.unwrap();
    assert_eq!(origin(session.authentication()), "agent key `right`");
}

#[tokio::test]
async fn a_refusal_says_what_was_tried_and_what_the_host_accepts() {
    let (mut client, _) = Client::new();
    let server = Sshd::start(&Key::new(client.home.path(), "other", "ed25519"));
    client.knows(&server);
    let error = client.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(error.to_string(), "`127.0.0.1` did not let us in");
    let Some(HopFailure::Authentication(source)) = error.failure() else { panic!("{error:?}") };
    let AuthenticationError::Refused { tried, accepts, .. } = source else { panic!("{source:?}") };
    assert_eq!(*tried, [format!("key file {}", client.ssh().join("id_ed25519").display())]);
    assert_eq!(accepts, &["publickey"]);
    fs_err::remove_file(client.ssh().join("id_ed25519")).unwrap();
    fs_err::remove_file(client.ssh().join("id_ed25519.pub")).unwrap();
    let error = refusal(&client).await;
    assert!(error.help()[0].contains("no key to try"), "{:?}", error.help());
}

#[tokio::test]
async fn a_host_that_wants_two_keys_gets_two() {
    let mut client = Client::bare();
    let one = Key::new(&client.ssh(), "id_ed25519", "ed25519");
    let two = Key::new(&client.ssh(), "id_ecdsa", "ecdsa");
    let server = Sshd::builder()
        .authorize(&one.public())
        .authorize(&two.public())
        .config("AuthenticationMethods publickey,publickey")
        .start();
    client.knows(&server).connect().await.unwrap();
}

async fn pretender(rules: Rules) -> (Client, Pretender) {
    let server = Pretender::start(rules).await;
    let mut client = Client::bare();
    client.settings.port = Some(server.address.port());
    client.remember(&format!("* {}\n", server.public));
    (client, server)
}

#[tokio::test]
async fn a_password_is_asked_for_until_it_is_right() {
    let (client, server) = pretender(Rules { password: Some("sesame"), ..Rules::default() }).await;
    client.person.answers.lock().extend(["wrong".to_owned(), "sesame".to_owned()]);
    let session = client.connect().await.unwrap();
    assert_eq!(session.authentication(), &Authentication::Password);
    assert_eq!(session.host_key_fingerprint(), Some(server.fingerprint));
    let question = format!("secret: Password of {}@127.0.0.1", crate::support::user());
    assert_eq!(client.person.asked(), [question.clone(), format!("{question} (attempt 2)")]);
    assert!(session.reconnect().await.is_ok());
    assert_eq!(client.person.asked().len(), 2, "a second connection asks nobody");
    let error = refusal(&client).await;
    assert!(
        matches!(&error, AuthenticationError::Refused { accepts, .. } if accepts == &["password"]),
        "{error:?}"
    );
}

#[tokio::test]
async fn questions_of_the_host_are_asked_with_their_echo() {
    let questions = vec![("Name: ", true, "ada"), ("Code: ", false, "123456")];
    let (client, _server) = pretender(Rules { questions, ..Rules::default() }).await;
    client.person.answers.lock().extend(["ada", "000000", "ada", "123456"].map(str::to_owned));
    let session = client.connect().await.unwrap();
    assert_eq!(session.authentication(), &Authentication::KeyboardInteractive);
    let asked = client.person.asked();
    assert_eq!(asked.len(), 4);
    assert!(asked[0].starts_with("text: ") && asked[0].ends_with("Two questions\nName"), "{asked:?}");
    assert!(asked[1].starts_with("secret: ") && asked[1].ends_with("Two questions\nCode"), "{asked:?}");
}

/// As in CI. A host that waits for its answers is asked nothing else, which it might not answer either.
#[tokio::test]
async fn questions_that_nobody_answers_are_a_refusal() {
    let questions = vec![("Code: ", false, "123456")];
    let (client, _server) = pretender(Rules { questions, ..Rules::default() }).await;
    let error = refusal(&client).await;
    let AuthenticationError::Refused { tried, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*tried, ["keyboard-interactive (nobody answered)"]);
}

#[tokio::test]
async fn nothing_at_all_is_enough_for_a_host_that_knows_us_otherwise() {
    let (client, _server) = pretender(Rules { none: true, ..Rules::default() }).await;
    let session = client.connect().await.unwrap();
    assert_eq!(session.authentication(), &Authentication::None);
    client.config("PreferredAuthentications none,publickey\n");
    Key::new(&client.ssh(), "id_ed25519", "ed25519");
    let session = client.connect().await.unwrap();
    assert_eq!(session.authentication(), &Authentication::None);
}

#[tokio::test]
async fn a_banner_is_shown_without_its_control_characters() {
    let (client, _server) = pretender(Rules { none: true, ..Rules::default() }).await;
    client.connect().await.unwrap();
    let banners = client.person.banners.lock().clone();
    assert_eq!(banners, ["127.0.0.1: welcome\\u{1b}[2J\nvisit https://example.com/check"]);
}

#[tokio::test]
async fn methods_that_openssh_is_told_not_to_use_are_not_used() {
    let (client, _server) = pretender(Rules { password: Some("sesame"), ..Rules::default() }).await;
    client.person.answers.lock().push("sesame".to_owned());
    client.config("PasswordAuthentication no\n");
    refusal(&client).await;
    assert!(client.person.asked().is_empty());
}

/// The agent is made by hand, and its token is software; what verifies the signature is sshd itself.
#[tokio::test]
async fn a_security_key_lets_us_in_through_an_agent_if_it_is_touched() {
    let mut client = Client::bare();
    let touched = TokenAgent::start(client.home.path(), true);
    let untouched = TokenAgent::start(client.home.path(), false);
    let server = Sshd::builder().authorize(&touched.public()).authorize(&untouched.public()).start();
    client.knows(&server);
    client.environment.ssh_auth_sock = Some(touched.socket.clone());
    let session = client.connect().await.unwrap();
    assert_eq!(origin(session.authentication()), "agent key `token`");
    assert_eq!(touched.signatures(), 1);
    session.reconnect().await.unwrap();
    assert_eq!(touched.signatures(), 2, "each connection asks for a touch of its own");
    client.environment.ssh_auth_sock = Some(untouched.socket.clone());
    let error = refusal(&client).await;
    assert!(matches!(error, AuthenticationError::Refused { .. }), "{error:?}");
    assert_eq!(untouched.signatures(), 1);
}

/// Each host asks the agent that OpenSSH's configuration names for it, and no other.
#[tokio::test]
async fn hosts_with_agents_of_their_own_are_let_in_by_them() {
    let mut client = Client::bare();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut servers = Vec::new();
    let mut agents = Vec::new();
    for name in ["one", "two"] {
        let key = Key::new(elsewhere.path(), name, "ed25519");
        let agent = Agent::start(elsewhere.path(), &format!("agent-{name}"));
        agent.add(&key);
        let server = Sshd::builder().authorize(&key.public()).config("MaxAuthTries 1").start();
        client.remember(&server.known_as(&format!("[127.0.0.1]:{}", server.port)));
        client.config(&format!(
            "Host {name}\n  HostName 127.0.0.1\n  Port {}\n  IdentityAgent {}\n",
            server.port,
            agent.socket.display()
        ));
        servers.push(server);
        agents.push(agent);
    }
    client.settings.port = None;
    let connector = client.connector();
    for name in ["one", "two"] {
        let host = HostName::parse(name).unwrap();
        let session = connector.connect(&host, &client.settings, &[]).await.unwrap();
        assert_eq!(origin(session.authentication()), format!("agent key `{name}`"));
    }
}
