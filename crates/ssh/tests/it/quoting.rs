use std::path::Path;
use std::process::{Command, Stdio};

use freehold_ssh::{RemoteCommand, quote};
use proptest::prelude::*;

/// The shells of this machine to which a command may be given; `sh` must be there.
fn shells() -> Vec<Vec<&'static str>> {
    let all =
        [vec!["/bin/sh"], vec!["/bin/bash"], vec!["/bin/dash"], vec!["/bin/busybox", "sh"], vec!["/bin/zsh"]];
    let found: Vec<_> = all.into_iter().filter(|words| Path::new(words[0]).exists()).collect();
    assert!(found.contains(&vec!["/bin/sh"]));
    found
}

fn run(shell: &[&str], line: &str) -> Vec<u8> {
    let output =
        Command::new(shell[0]).args(&shell[1..]).args(["-c", line]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{shell:?} {line} {output:?}");
    output.stdout
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,40}",
        "[\\\\'\"$`!*?~#&|;<>(){}\\[\\]\n\t =-]{0,20}",
        "\\PC{0,20}",
        Just("\r\n\u{7f}\u{1}\u{1b}".to_owned()),
        Just("-n".to_owned()),
        Just("if".to_owned()),
        Just("A=b".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn words_survive_every_shell(words in prop::collection::vec(word(), 1..5)) {
        let words: Vec<String> = words.into_iter().map(|word| word.replace('\0', "")).collect();
        let mut all = vec!["printf".to_owned(), "%s\\001".to_owned()];
        all.extend(words.clone());
        let line = RemoteCommand::arguments(all).line().unwrap();
        let expected: Vec<u8> =
            words.iter().flat_map(|word| [word.as_bytes(), b"\x01"].concat()).collect();
        for shell in shells() {
            prop_assert_eq!(&run(&shell, &line), &expected, "{:?}: {}", shell, line);
        }
    }

    #[test]
    fn a_script_arrives_whole(text in word()) {
        let script = format!("printf %s {}", quote(&text.replace('\0', "")));
        let line = RemoteCommand::script(&script).line().unwrap();
        for shell in shells() {
            let seen = run(&shell, &line);
            let expected = text.replace('\0', "");
            prop_assert_eq!(seen, expected.as_bytes(), "{:?}: {}", shell, line);
        }
    }
}
