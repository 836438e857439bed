use crate::sandbox::Sandbox;

/// kamal-compat §12.2 row 12: of Freehold, not of Kamal.
#[test]
fn the_version_is_told_in_four_ways() {
    let sandbox = Sandbox::new();
    let version = env!("CARGO_PKG_VERSION");
    for words in [&["version"][..], &["--version"], &["-V"]] {
        let shown = sandbox.run(words);
        assert!(shown.ends_with(&format!("--- stdout\nfreehold {version}\n--- exit code 0")), "{shown}");
    }
    let shown = sandbox.run(&["version", "--json"]);
    assert!(shown.contains(&format!("\"result\":{{\"version\":\"{version}\"}}")), "{shown}");
}

/// kamal-compat §12.2 row 1.
#[test]
fn init_writes_what_is_missing_and_keeps_what_is_there() {
    let sandbox = Sandbox::new();
    insta::assert_snapshot!("init", sandbox.run(&["init"]));
    let deploy_file = fs_err::read_to_string(sandbox.path().join("config/deploy.yml")).unwrap();
    assert!(deploy_file.contains("service: shop\n"));
    fs_err::write(sandbox.path().join("config/deploy.yml"), "service: mine\n").unwrap();
    insta::assert_snapshot!("init_again", sandbox.run(&["init"]));
    assert_eq!(fs_err::read_to_string(sandbox.path().join("config/deploy.yml")).unwrap(), "service: mine\n");
}

#[test]
fn what_init_writes_is_a_valid_deploy_file() {
    let sandbox = Sandbox::new();
    sandbox.run(&["init"]);
    let shown = sandbox.run(&["plan"]);
    assert!(shown.contains("missing Dockerfile"), "{shown}");
}

#[test]
fn completions_know_the_commands() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        let shown = sandbox.run(&["completion", shell]);
        assert!(shown.contains("rollback") && shown.ends_with("exit code 0"), "{shell}");
    }
}

#[test]
fn every_page_of_the_reference_is_there() {
    let sandbox = Sandbox::new();
    for page in ["cli", "exit-codes", "environment", "json", "deploy-file", "deploy-file-schema"] {
        let shown = sandbox.run(&["reference", page]);
        assert!(shown.lines().count() > 10 && shown.ends_with("exit code 0"), "{shown}");
    }
}
