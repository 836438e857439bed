use crate::errors::without_times;
use crate::sandbox::{Sandbox, snapshot_name};

const NEEDY: &str = "service: shop
image: shop
servers: [localhost]
proxy: {app_port: 3000}
builder: {context: ., secrets: [TOKEN]}
env: {secret: [TOKEN, 'DB:DATABASE_PASSWORD', EMPTY]}
";

/// kamal-compat §19.5, to the letter.
/// kamal-compat §11.3 row 3; kamal-compat §12.2 row 42; kamal-compat §19 rows 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
#[test]
fn secrets_print_is_the_recorded_table() {
    let text = r#"A=plain value # trailing
B='single $HOME # x \n'
C="double $HOME # y \n end"
D=$UNSET-${OVR}
OVR=dest
E=$(echo hi; echo there)
G=a\ b\$c\(d
export H=x
I: yaml
K=
O=a"b"c
Q='it''s'
U=a#b
R=$(exit 3)
N=`echo hi`
Z="\$HOME \$(echo no)"
X.Y=dot
"#;
    let expected = r#"A=plain value
B=single $HOME # x \n
C=double /h # y \n end
D=-env
OVR=dest
E=hi
there
G=a b$c(d
H=x
I=yaml
K=
O=a"b"c
Q=it''s
U=a
R=
N=`echo hi`
Z=$HOME $(echo no)
X.Y=dot
"#;
    let sandbox = Sandbox::with_deploy_file(NEEDY).file(".kamal/secrets", text);
    let output = sandbox.command(&["secrets", "print"]).env("HOME", "/h").env("OVR", "env").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn secrets_of_a_destination_and_lines_that_define_nothing() {
    let sandbox = Sandbox::with_deploy_file(NEEDY)
        .file("config/deploy.staging.yml", "{}\n")
        .file(".kamal/secrets-common", "A=common\nB=common\n")
        .file(".kamal/secrets", "B=plain\n")
        .file(
            ".kamal/secrets.staging",
            "# staging\nB=staging\nnot a definition\nW=$(echo $KAMAL_DESTINATION)\n",
        );
    insta::assert_snapshot!(
        "secrets_print_staging",
        without_times(&sandbox.run(&["secrets", "print", "-d", "staging"]))
    );
}

#[test]
fn values_keep_every_character() {
    let value = "a\\\\$x\t'\"\n #ä€\u{1f511}\n";
    let quoted = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
    let sandbox =
        Sandbox::with_deploy_file(NEEDY).file(".kamal/secrets", &format!("A=\"{quoted}\"\nB=$(cat value)\n"));
    let sandbox = sandbox.file("value", value);
    let output = sandbox.command(&["secrets", "print"]).env("PATH", "/usr/bin:/bin").output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("A={value}\nB={}\n", value.trim_end_matches('\n'))
    );
}

/// kamal-compat §11.3 rows 1, 2; kamal-compat §12.2 row 42
#[test]
fn secrets_are_fetched_and_extracted() {
    let sandbox = Sandbox::new();
    let fetch = ["secrets", "fetch", "--adapter", "test", "--account", "me", "--from", "vault", "A$\"", "B"];
    insta::assert_snapshot!("secrets_fetch", sandbox.run(&fetch));
    let fetched = sandbox.command(&fetch).output().unwrap();
    let json = String::from_utf8(fetched.stdout).unwrap();
    insta::assert_snapshot!("secrets_extract", sandbox.run(&["secrets", "extract", "A$\"", json.trim()]));
    for (name, words) in [
        ("fetch without adapter", &["secrets", "fetch", "A"][..]),
        ("fetch with an unknown adapter", &["secrets", "fetch", "-a", "dashlane", "A"]),
        ("fetch without account", &["secrets", "fetch", "-a", "1password", "V/I"]),
        ("fetch without the program", &["secrets", "fetch", "-a", "1password", "--account", "x", "V/I"]),
        ("extract what is not there", &["secrets", "extract", "C", json.trim()]),
        ("extract from nothing", &["secrets", "extract", "C", "m4rk"]),
        ("print without a deploy file", &["secrets", "print"]),
    ] {
        insta::assert_snapshot!(snapshot_name("secrets", name), sandbox.run(words));
    }
}

#[test]
fn a_check_tells_everything_but_the_values() {
    let text = "TOKEN=\"m4rk\n\"\nDATABASE_PASSWORD=$(echo m4rk)\nEMPTY=$NOTHING\nHOOK_ONLY=m4rk\n";
    let sandbox = Sandbox::with_deploy_file(NEEDY).file(".kamal/secrets", text);
    insta::assert_snapshot!("secrets_check", sandbox.run(&["secrets", "check", "--local"]));
    let shown = sandbox.run(&["secrets", "check"]);
    assert!(!shown.contains("m4rk") && shown.ends_with("exit code 0"), "{shown}");
    let is_print = |word: &&str| word.len() == 16 && word.chars().all(|digit| digit.is_ascii_hexdigit());
    let prints: Vec<&str> = shown.split_whitespace().filter(is_print).collect();
    assert_eq!(prints.len(), 3, "{shown}");
    let json = sandbox.run(&["secrets", "check", "--local", "--json"]);
    assert!(json.contains("\"length\":5") && !json.contains("m4rk"), "{json}");
}

#[test]
fn a_check_finds_what_is_missing_and_what_failed() {
    let sandbox = Sandbox::with_deploy_file(NEEDY).file(".kamal/secrets", "TOKEN=$(exit 7)\nEMPTY=\n");
    insta::assert_snapshot!("secrets_check_problems", sandbox.run(&["secrets", "check", "--local"]));
    let nothing = Sandbox::with_deploy_file("service: shop\nimage: shop\nservers: [localhost]\n");
    insta::assert_snapshot!("secrets_check_nothing", nothing.run(&["secrets", "check"]));
}

/// kamal-compat §18 row 4
#[test]
fn a_command_of_ours_that_fails_stops_before_anything_else() {
    let sandbox = Sandbox::with_deploy_file(NEEDY)
        .file("Dockerfile", "FROM scratch\n")
        .file(".kamal/secrets", "TOKEN=$(kamal secrets fetch --adapter 1password --account me V/I/TOKEN)\n");
    insta::assert_snapshot!("secrets_inline_failure", sandbox.run(&["deploy", "--version", "1"]));
}
