use freehold_secrets::{Adapter, FetchError};

use crate::project::report;
use crate::stand_in::{StandIn, request};

fn told(outcome: Result<String, FetchError>) -> String {
    match outcome {
        Ok(json) => format!("{json}\n"),
        Err(error) => report(&error),
    }
}

/// kamal-compat §11.4 row 1
#[tokio::test]
async fn one_password() {
    let op = StandIn::new(
        "op",
        r#"
case "$*" in
  --version) exit 0;;
  "account get --account known") exit 0;;
  "account get "*) exit 1;;
  "signin --account new --force --raw") echo token-1; exit 0;;
  "signin "*) exit 1;;
  *"--fields label=password"*) echo '{"reference":"op://V/i tem/password","value":"p\"w$d"}'; exit 0;;
  *"--fields label=A,label=sec.B"*) echo '[{"reference":"op://V/I/A","value":"1"},{"reference":"op://V/I/sec/B","value":"2"}]'; exit 0;;
  "item get I --vault V --format json --account known")
    echo '{"id":"x","fields":[{"reference":"op://V/I/A","value":"1"},{"reference":"op://V/I/password"},{"label":"none"}]}'; exit 0;;
esac"#,
    );
    let mut shown = String::new();
    for (account, from, names) in [
        ("known", None, &["op://V/i tem"][..]),
        ("new", Some("V/I"), &["A", "sec/B"]),
        ("known", Some("op://V/I"), &[]),
        ("known", None, &["V/Other/A"]),
        ("stranger", None, &["V/I"]),
        ("known", None, &["V"]),
        ("known", None, &[]),
    ] {
        let outcome = op.fetch(&request(Adapter::OnePassword, Some(account), from, names)).await;
        shown.push_str(&format!("{account} {from:?} {names:?}\n{}{}\n", op.calls(), told(outcome)));
    }
    insta::assert_snapshot!(shown);
}

/// kamal-compat §11.4 row 2
#[tokio::test]
async fn lastpass() {
    let lpass = StandIn::new(
        "lpass",
        r#"
case "$*" in
  --version) exit 0;;
  "status --color never") echo "Logged in as me@example.com."; exit 0;;
  "login other@example.com") exit 0;;
  "login "*) exit 1;;
  "show"*) echo '[{"fullname":"F/A","password":"1"},{"fullname":"F/B","password":"2"}]'; exit 0;;
esac"#,
    );
    let mut shown = String::new();
    for (account, from, names) in [
        ("me@example.com", None, &["F/A", "F/B"][..]),
        ("other@example.com", Some("F"), &["A"]),
        ("third@example.com", None, &["F/A"]),
        ("me@example.com", None, &["F/A", "F/C", "D"]),
        ("me@example.com", None, &[]),
    ] {
        let outcome = lpass.fetch(&request(Adapter::LastPass, Some(account), from, names)).await;
        shown.push_str(&format!("{account} {from:?} {names:?}\n{}{}\n", lpass.calls(), told(outcome)));
    }
    insta::assert_snapshot!(shown);
}

/// The session of `bw` is never an argument.
/// kamal-compat §11.4 row 3
#[tokio::test]
async fn bitwarden() {
    let bw = StandIn::new(
        "bw",
        r#"
case "$*" in
  --version) exit 0;;
  status)
    if [ -n "$BW_SESSION" ]; then now=unlocked; else now=$(cat "$state" 2>/dev/null || echo unauthenticated); fi
    echo "{\"status\":\"$now\"}"; exit 0;;
  "login me@example.com") echo locked > "$state"; echo "You are logged in!"; exit 0;;
  "login "*) exit 1;;
  "unlock --raw") echo session-1; exit 0;;
  sync) [ -n "$BW_SESSION" ] && exit 0; exit 1;;
  "get item login") echo '{"login":{"password":"p1"},"fields":[{"name":"F","value":"f1"},{"name":"G","value":null}]}'; exit 0;;
  "get item note") echo '{"fields":[{"name":"X","value":"x"},{"name":"Y","value":"y"}]}'; exit 0;;
  "get item bare") echo '{"login":{"password":null}}'; exit 0;;
  "get item "*) echo "Not found."; exit 1;;
esac"#,
    );
    let mut shown = String::new();
    for (account, from, names) in [
        ("me@example.com", None, &["login", "note"][..]),
        ("me@example.com", Some("login"), &["F", "G"]),
        ("me@example.com", None, &["login/F", "login"]),
        ("me@example.com", None, &["login/H"]),
        ("me@example.com", None, &["bare"]),
        ("me@example.com", None, &["nothing"]),
    ] {
        let outcome = bw.fetch(&request(Adapter::Bitwarden, Some(account), from, names)).await;
        shown.push_str(&format!("{account} {from:?} {names:?}\n{}{}\n", bw.calls(), told(outcome)));
    }
    let stranger = StandIn::new(
        "bw",
        "case \"$*\" in --version) exit 0;; status) echo '{\"status\":\"unauthenticated\"}'; exit 0;; esac; exit 1",
    );
    let outcome = stranger.fetch(&request(Adapter::Bitwarden, Some("x"), None, &["login"])).await;
    shown.push_str(&format!("stranger\n{}{}\n", stranger.calls(), told(outcome)));
    insta::assert_snapshot!(shown);
}

/// kamal-compat §11.4 row 4
#[tokio::test]
async fn bitwarden_secrets_manager() {
    let bws = StandIn::new(
        "bws",
        r#"
case "$*" in
  --version) exit 0;;
  "project list") [ -n "$BWS_ACCESS_TOKEN" ] || exit 1; echo '[]'; exit 0;;
  "secret list") echo '[{"key":"A","value":"1"},{"key":"B","value":"2"}]'; exit 0;;
  "secret list 82aeb5bd") echo '[{"key":"A","value":"1"}]'; exit 0;;
  "secret get "*) echo "{\"key\":\"K$3\",\"value\":\"v\"}"; exit 0;;
esac"#,
    )
    .with("BWS_ACCESS_TOKEN", "0.x");
    let mut shown = String::new();
    for (from, names) in [
        (None, &["all"][..]),
        (None, &["82aeb5bd/all"]),
        (Some("82aeb5bd"), &["all"]),
        (None, &["1", "2"]),
        (None, &["unknown/all"]),
        (None, &[]),
    ] {
        let outcome = bws.fetch(&request(Adapter::BitwardenSecretsManager, None, from, names)).await;
        shown.push_str(&format!("{from:?} {names:?}\n{}{}\n", bws.calls(), told(outcome)));
    }
    let bws = bws.with("BWS_ACCESS_TOKEN", "");
    let outcome = bws.fetch(&request(Adapter::BitwardenSecretsManager, None, None, &["all"])).await;
    shown.push_str(&format!("no token\n{}{}", bws.calls(), told(outcome)));
    insta::assert_snapshot!(shown);
}

/// kamal-compat §11.4 row 5
#[tokio::test]
async fn aws_secrets_manager() {
    let aws = StandIn::new(
        "aws",
        r#"
case "$*" in
  --version) exit 0;;
  *"--secret-id-list a b"*) cat <<'END'
{"SecretValues":[{"Name":"a","SecretString":"{\"K\":\"v\\\"$\",\"N\":5,\"L\":[1]}"},{"Name":"b","SecretString":"plain"},
 {"Name":"c","SecretString":"5"}],"Errors":[]}
END
    exit 0;;
  *"missing"*) echo '{"SecretValues":[],"Errors":[{"SecretId":"missing","Message":"cannot find it"}]}'; exit 0;;
  *"odd"*) echo 'not json'; exit 0;;
  *) exit 254;;
esac"#,
    );
    let mut shown = String::new();
    for (account, from, names) in [
        (None, None, &["a", "b"][..]),
        (Some("prod"), Some("app"), &["x"]),
        (Some("prod"), None, &["a", "b"]),
        (None, None, &["missing"]),
        (None, None, &["odd"]),
        (None, None, &[]),
    ] {
        let outcome = aws.fetch(&request(Adapter::AwsSecretsManager, account, from, names)).await;
        shown.push_str(&format!("{account:?} {from:?} {names:?}\n{}{}\n", aws.calls(), told(outcome)));
    }
    insta::assert_snapshot!(shown);
}

/// kamal-compat §11.4 row 6
#[tokio::test]
async fn doppler() {
    let doppler = StandIn::new(
        "doppler",
        r#"
case "$*" in
  --version) exit 0;;
  "me --json") [ -e "$state" ]; exit $?;;
  "login -y") touch "$state"; exit 0;;
  "secrets get A B --json"*) echo '{"A":{"computed":"1","raw":"${X}"},"B":{"computed":"2"}}'; exit 0;;
  *) exit 1;;
esac"#,
    );
    let mut shown = String::new();
    for (from, names) in [
        (Some("p/c"), &["A", "B"][..]),
        (None, &["p/c/A", "p/c/B"]),
        (None, &["A", "B"]),
        (Some("p/c"), &["C"]),
        (Some("p/c"), &[]),
    ] {
        let outcome = doppler.fetch(&request(Adapter::Doppler, None, from, names)).await;
        shown.push_str(&format!("{from:?} {names:?}\n{}{}\n", doppler.calls(), told(outcome)));
    }
    let doppler = doppler.with("DOPPLER_TOKEN", "dp.st.prd.x");
    let outcome = doppler.fetch(&request(Adapter::Doppler, None, None, &["A", "B"])).await;
    shown.push_str(&format!("token of a service\n{}{}", doppler.calls(), told(outcome)));
    insta::assert_snapshot!(shown);
}

/// kamal-compat §11.4 row 7
#[tokio::test]
async fn gcp_secret_manager() {
    let gcloud = StandIn::new(
        "gcloud",
        r#"
case "$*" in
  --version) exit 0;;
  "auth list --format=json") cat "$state" 2>/dev/null || echo '[]'; exit 0;;
  "auth login") echo '[{"account":"me"}]' > "$state"; exit 0;;
  *--secret=gone*) exit 1;;
  "secrets versions access "*) echo '{"name":"x","payload":{"data":"c8OkJCJ4Cg=="}}'; exit 0;;
esac"#,
    );
    let mut shown = String::new();
    for (account, from, names) in [
        ("default", None, &["one", "default/two", "p/three/7"][..]),
        ("me@x.com", Some("p"), &["one", "two/3"]),
        ("me@x.com|sa@x.com,sb@x.com", None, &["one"]),
        ("default", None, &["gone"]),
    ] {
        let outcome = gcloud.fetch(&request(Adapter::GcpSecretManager, Some(account), from, names)).await;
        shown.push_str(&format!("{account} {from:?} {names:?}\n{}{}\n", gcloud.calls(), told(outcome)));
    }
    insta::assert_snapshot!(shown);
}

/// kamal-compat §11.4 row 8
#[tokio::test]
async fn enpass() {
    let enpass = StandIn::new(
        "enpass-cli",
        r#"
case "$*" in
  version) exit 0;;
  "-json -vault /v show Twice") echo '[{"title":"Twice","label":"","password":"1"},{"title":"Twice","password":"2"}]'; exit 0;;
  "-json -vault /v show "*) echo '[{"title":"Foo","label":"A","password":"1"},{"title":"Foo","label":"B","password":"2"},
    {"title":"Foo","label":"C","password":""},{"title":"Bar","password":"3"}]'; exit 0;;
  *) exit 1;;
esac"#,
    );
    let mut shown = String::new();
    for (from, names) in [
        (Some("/v"), &["Foo/A", "Foo/B", "Bar"][..]),
        (Some("/v"), &["Foo"]),
        (Some("/v"), &["Twice"]),
        (Some("/w"), &["Foo"]),
        (None, &["Foo"]),
    ] {
        let outcome = enpass.fetch(&request(Adapter::Enpass, None, from, names)).await;
        shown.push_str(&format!("{from:?} {names:?}\n{}{}\n", enpass.calls(), told(outcome)));
    }
    insta::assert_snapshot!(shown);
}

/// kamal-compat §11.4 row 9
#[tokio::test]
async fn passbolt() {
    let passbolt = StandIn::new(
        "passbolt",
        r#"
case "$*" in
  --version) exit 0;;
  verify) [ ! -e "$state" ]; exit $?;;
  'list folders --filter Name == "app" || Name == "x\"y" --json') echo '[{"id":"f9","folder_parent_id":"f0","name":"app"},
    {"id":"f1","folder_parent_id":"","name":"app"},{"id":"f3","folder_parent_id":"","name":"x\"y"}]'; exit 0;;
  'list folders --filter Name == "app" --json') echo '[{"id":"f1","folder_parent_id":"","name":"app"}]'; exit 0;;
  'list folders --filter Name == "web" && FolderParentID == "f1" --json') echo '[{"id":"f2","folder_parent_id":"f1","name":"web"}]'; exit 0;;
  'list folders '*) echo '[]'; exit 0;;
  'list resources '*) echo '[{"name":"A","password":"1"},{"name":"B","password":"2"},{"name":"C","password":"3"}]'; exit 0;;
esac"#,
    );
    let mut shown = String::new();
    for (from, names) in [
        (None, &["A"][..]),
        (Some("app"), &["A", "web/B"]),
        (None, &["app/web/A", "app/B", "x\"y/C"]),
        (None, &["app/jobs/A"]),
        (None, &["nowhere/A"]),
        (None, &["A", "D"]),
        (None, &[]),
    ] {
        let outcome = passbolt.fetch(&request(Adapter::Passbolt, None, from, names)).await;
        shown.push_str(&format!("{from:?} {names:?}\n{}{}\n", passbolt.calls(), told(outcome)));
    }
    insta::assert_snapshot!(shown);
}

/// kamal-compat §11.4 row 10
#[tokio::test]
async fn the_test_adapter() {
    let none = StandIn::new("unused", "");
    let outcome = none.fetch(&request(Adapter::Test, Some("a"), Some("v"), &["A", "ä$\""])).await;
    assert_eq!(outcome.unwrap(), r#"{"v/A":"A/v","v/ä$\"":"\"$ä/v"}"#);
    assert_eq!(none.calls(), "");
}

#[tokio::test]
async fn a_command_line_that_is_not_installed() {
    let none = StandIn::new("unused", "").with("PATH", "/nowhere");
    let broken = StandIn::new("op", "exit 1");
    let mut shown = String::new();
    for adapter in Adapter::ALL.into_iter().filter(|adapter| *adapter != Adapter::Test) {
        let outcome = none.fetch(&request(adapter, Some("a"), Some("v/w"), &["A"])).await;
        shown.push_str(&told(outcome));
    }
    shown.push_str(&told(broken.fetch(&request(Adapter::OnePassword, Some("a"), None, &["V/I"])).await));
    insta::assert_snapshot!(shown);
}

#[tokio::test]
async fn an_account_that_is_missing() {
    let none = StandIn::new("unused", "");
    for adapter in Adapter::ALL {
        let error = none.fetch(&request(adapter, None, Some("v/w"), &["A"])).await;
        let needs_account = matches!(&error, Err(FetchError::Incomplete { what: "`--account`", .. }));
        let expected = ["1password", "lastpass", "bitwarden", "gcp", "test"].contains(&adapter.name());
        assert_eq!(needs_account, expected, "{}", adapter.name());
        assert_eq!(Adapter::parse(adapter.name()).unwrap(), adapter);
    }
}
