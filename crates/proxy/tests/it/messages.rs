//! What the proxy's own commands say.

use freehold_model::Diagnose;
use freehold_proxy::{Console, Invocation, run};

use crate::command_line::call;
use crate::rig::{LogText, Rig};
use crate::target::Target;

#[tokio::test]
async fn our_own_error_of_an_unhealthy_deploy_says_where_and_how_often_was_looked() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    target.shared.health.store(404, std::sync::atomic::Ordering::SeqCst);
    let (address, socket) = (target.address(), rig.socket());
    let environment = [("KAMAL_PROXY_SOCKET", socket.to_str().unwrap())];
    let targets = format!("{address},127.0.0.1:1");
    let arguments =
        ["deploy", "a", "--target", &targets, "--deploy-timeout=100ms", "--health-check-interval=10m"];
    let error = call(Invocation::Freehold, &arguments, &environment).await.result.unwrap_err();
    assert_eq!(error.kind().exit_code(), 6);
    let text = error.to_string();
    for wanted in [
        "the proxy did not deploy service `a`: target failed to become healthy within configured timeout (100ms)",
        &format!("; `{address}` answered 404 to `GET /up`, the last of "),
        "; `127.0.0.1:1` refused the connection to `GET /up`, the last of ",
        " checks",
    ] {
        assert!(text.contains(wanted), "{text}");
    }
}

#[tokio::test]
async fn the_table_has_no_colours_for_a_file_or_who_wants_none() {
    let (rig, target) = (Rig::start(), Target::start("t").await);
    rig.deploy(&target).await;
    let socket = rig.socket();
    let socket = ("KAMAL_PROXY_SOCKET", socket.to_str().unwrap().to_owned());
    for (is_terminal, no_color, has_colours) in
        [(false, "", false), (true, "", true), (true, "1", false), (false, "1", false)]
    {
        let output = LogText::default();
        let console = Console {
            input: Box::new(std::io::empty()),
            output: Box::new(output.clone()),
            errors: Box::new(std::io::sink()),
            is_terminal,
        };
        let environment = [socket.clone(), ("NO_COLOR", no_color.to_owned())];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).into();
        let list = move || run(vec!["list".into()], Invocation::KamalProxy, &environment, console);
        assert_eq!(tokio::task::spawn_blocking(list).await.unwrap().unwrap(), 0);
        let text = output.text();
        assert_eq!(text.contains('\u{1b}'), has_colours, "{text:?}");
        assert!(text.contains("shop.example.com") && !text.contains("Health"), "{text:?}");
    }
    let environment = [(socket.0, socket.1.as_str())];
    let text = call(Invocation::Freehold, &["list"], &environment).await.output;
    assert!(text.contains("Health") && text.contains("healthy") && text.contains("Certificate"), "{text}");
}
