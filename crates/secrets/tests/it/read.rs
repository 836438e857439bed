use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use freehold_model::{Destination, SecretName};
use freehold_secrets::{Definitions, ProgramError, SecretFiles, SecretsError, Source, Surroundings, read};
use secrecy::ExposeSecret;

use crate::project::{Project, report};

fn environment() -> BTreeMap<String, String> {
    [("HOME", "/h"), ("OVR", "env"), ("PATH", "/usr/bin:/bin"), ("KAMAL_DESTINATION", "stale")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn names(names: &[&str]) -> Vec<SecretName> {
    names.iter().map(|name| SecretName::parse(*name).unwrap()).collect()
}

impl Project {
    async fn read(&self, destination: Option<&str>) -> Result<Definitions, SecretsError> {
        let destination = destination.map(|name| Destination::parse(name).unwrap());
        let files = SecretFiles { base: Path::new(".kamal/secrets"), destination: destination.as_ref() };
        let environment = environment();
        let surroundings = Surroundings {
            project: self.path(),
            environment: &environment,
            command_timeout: Duration::from_secs(20),
        };
        read(files, surroundings).await
    }

    async fn load(
        &self,
        destination: Option<&str>,
        needed: &[&str],
    ) -> Result<BTreeMap<String, String>, SecretsError> {
        let values = self.read(destination).await?.select(&names(needed))?;
        Ok(values.iter().map(|(name, value)| (name.to_string(), value.expose_secret().to_owned())).collect())
    }
}

/// kamal-compat §19.5, recorded from Kamal 2.12.
/// kamal-compat §19 rows 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
#[tokio::test]
async fn recorded_vectors() {
    let text = r#"
A=plain value # trailing
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
R=$(exit 3)
U=a#b
N=`echo hi`
Z="\$HOME \$(echo no)"
X.Y=dot
"#;
    let expected = [
        ("A", "plain value"),
        ("B", "single $HOME # x \\n"),
        ("C", "double /h # y \\n end"),
        ("D", "-env"),
        ("E", "hi\nthere"),
        ("G", "a b$c(d"),
        ("H", "x"),
        ("I", "yaml"),
        ("K", ""),
        ("N", "`echo hi`"),
        ("O", "a\"b\"c"),
        ("OVR", "dest"),
        ("Q", "it''s"),
        ("R", ""),
        ("U", "a"),
        ("X.Y", "dot"),
        ("Z", "$HOME $(echo no)"),
    ];
    let project = Project::new(&[("secrets", text)]);
    let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    let found = project.load(None, &names).await.unwrap();
    let found: Vec<(&str, &str)> =
        found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(found, expected);
}

/// kamal-compat §18 row 1
#[tokio::test]
async fn what_a_command_prints_is_taken_literally() {
    let password = "pa$word ${HOME} $(id) \\n \"q\" 'q' #x ä\n\nlast";
    let text = "P=$(cat .kamal/password)\nQ=\"<${P}>\"\n";
    let project = Project::new(&[("secrets", text), ("password", &format!("{password}\n"))]);
    let found = project.load(None, &["P", "Q"]).await.unwrap();
    assert_eq!((found["P"].as_str(), found["Q"].clone()), (password, format!("<{password}>")));
}

/// kamal-compat §11.1 rows 1, 2, 3
#[tokio::test]
async fn the_files_are_those_of_the_destination() {
    let project = Project::new(&[
        ("secrets-common", "A=common\nB=common\nONLY=$B\n"),
        ("secrets", "B=plain\nPLAIN=1\n"),
        (
            "secrets.staging",
            "B=staging\nSEES=${A}x\nWHERE=$(echo $KAMAL_DESTINATION)\nPWD_IS=$(basename $(pwd))\n",
        ),
    ]);
    let plain = project.load(None, &["A", "B", "ONLY", "PLAIN"]).await.unwrap();
    assert_eq!(plain.values().collect::<Vec<_>>(), ["common", "plain", "common", "1"]);
    let staging = project.load(Some("staging"), &["A", "B", "SEES", "WHERE", "PWD_IS"]).await.unwrap();
    let folder = project.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(staging["B"], "staging");
    assert_eq!(staging["SEES"], "x", "the values of the common file are not seen");
    assert_eq!(staging["WHERE"], "staging");
    assert_eq!(staging["PWD_IS"], folder);
    let error = project.load(Some("staging"), &["PLAIN"]).await.unwrap_err();
    insta::assert_snapshot!(report(&error));
}

/// kamal-compat §4 row 8
#[tokio::test]
async fn every_missing_secret_is_named_at_once() {
    let error = Project::new(&[("secrets", "A=1\n")]).load(None, &["Z", "A", "Y", "Z"]).await.unwrap_err();
    insta::assert_snapshot!(report(&error));
}

#[tokio::test]
async fn no_secrets_file_at_all() {
    let error = Project::new(&[]).load(None, &["A"]).await.unwrap_err();
    insta::assert_snapshot!(report(&error));
}

/// kamal-compat §11.2: the exit status is ignored. Whoever needs the value is told.
/// kamal-compat §11.2 row 5
#[tokio::test]
async fn a_failed_command_gives_what_it_printed_and_is_remembered() {
    let text = "A=fine\nB=$(echo part; exit 3)\nC=x${B}y\nD=$(echo $B)\nE=$(kill -9 $$)\n";
    let definitions = Project::new(&[("secrets", text)]).read(None).await.unwrap();
    let needed = names(&["A", "B", "C", "D", "E"]);
    let values = definitions.select(&needed).unwrap();
    let values: Vec<&str> = values.iter().map(|(_, value)| value.expose_secret()).collect();
    assert_eq!(values, ["fine", "part", "xparty", "part", ""]);
    let failures: Vec<String> = definitions
        .failures(&needed)
        .into_iter()
        .map(|(command, names)| format!("{} {} {names:?}", command.place, command.status))
        .collect();
    insta::assert_debug_snapshot!(failures);
    assert!(definitions.failures(&names(&["A"])).is_empty());
}

#[tokio::test]
async fn it_is_known_where_a_value_comes_from() {
    let text = "A=x\nB=a$OVR\nC=$(echo $A)\nD=$C\nE=$UNSET\nS=$(kamal secrets fetch -a test --account x K)\n\
                K=$(kamal secrets extract K $S)\nbroken line\n";
    let definitions = Project::new(&[("secrets", text)]).read(None).await.unwrap();
    let sources: Vec<(&str, usize, Source)> =
        definitions.iter().map(|(name, defined)| (name, defined.place.line, defined.source)).collect();
    assert_eq!(
        sources,
        [
            ("A", 1, Source::File),
            ("B", 2, Source::Environment),
            ("C", 3, Source::Command),
            ("D", 4, Source::Command),
            ("E", 5, Source::File),
            ("S", 6, Source::PasswordManager),
            ("K", 7, Source::PasswordManager),
        ]
    );
    assert_eq!(definitions.ignored_lines().iter().map(|place| place.line).collect::<Vec<_>>(), [8]);
}

#[tokio::test]
async fn the_order_is_that_in_which_names_first_appear() {
    let project = Project::new(&[("secrets-common", "Z=1\nA=1\n"), ("secrets", "B=2\nZ=2\n")]);
    let definitions = project.read(None).await.unwrap();
    let pairs: Vec<(&str, &str)> =
        definitions.iter().map(|(name, defined)| (name, defined.value.expose_secret())).collect();
    assert_eq!(pairs, [("Z", "2"), ("A", "1"), ("B", "2")]);
}

/// kamal-compat §11.3: what `fetch` gives stays one word, unquoted, and nothing in it is substituted again.
#[tokio::test]
async fn our_own_commands_run_in_this_process() {
    let text = "ITEM=i\n\
        SECRETS=$(kamal secrets fetch --adapter test --account a --from v/$ITEM 'P\\$A \"w\"' B)\n\
        P=$(kamal secrets extract 'P\\$A \"w\"' $SECRETS)\n\
        B=$(freehold  secrets extract B $SECRETS)x\n\
        IN_SHELL=$(printf %s $SECRETS)\n";
    let found = Project::new(&[("secrets", text)]).load(None, &["P", "B", "SECRETS", "IN_SHELL"]).await;
    let found = found.unwrap();
    assert_eq!(found["P"], "\"w\" A$P/i/v");
    assert_eq!(found["B"], "B/i/vx");
    assert_eq!(found["IN_SHELL"], r#"{"v/i/P$A \"w\"":"\"w\" A$P/i/v","v/i/B":"B/i/v"}"#);
    assert!(found["SECRETS"].starts_with("\\{\\\"v/i/P\\$A\\ "), "{}", found["SECRETS"]);
}

#[tokio::test]
async fn our_own_commands_that_fail_end_the_reading() {
    let mut reports = String::new();
    for command in [
        "kamal secrets fetch --adapter nothing A",
        "kamal secrets fetch A",
        "kamal secrets fetch --adapter test A",
        "kamal secrets fetch --adapter 1password --account a V/I",
        "kamal secrets fetch --adapter test --account a --form v A",
        "kamal secrets fetch --adapter",
        "kamal secrets fetch --adapter 'test",
        "kamal secrets print",
        "kamal secrets extract A",
        "kamal secrets extract A {}",
        "kamal secrets extract A nothing",
    ] {
        let project = Project::new(&[("secrets", &format!("A=1\nB=$({command})\n"))]);
        let error = project.load(None, &["A"]).await.unwrap_err();
        reports.push_str(&format!("$({command})\n{}\n", report(&error)));
    }
    insta::assert_snapshot!(reports);
}

#[tokio::test]
async fn an_export_without_a_value() {
    let project = Project::new(&[("secrets", "A=1\nexport A\nexport B\n")]);
    insta::assert_snapshot!(report(&project.load(None, &["A"]).await.unwrap_err()));
    let fine = Project::new(&[("secrets", "A=1\nexport A\n")]);
    assert_eq!(fine.load(None, &["A"]).await.unwrap()["A"], "1");
}

#[tokio::test]
async fn a_command_that_hangs_is_ended() {
    let project = Project::new(&[("secrets", "\nA=$(exec sleep 600)\n")]);
    let files = SecretFiles { base: Path::new(".kamal/secrets"), destination: None };
    let environment = environment();
    let command_timeout = Duration::from_millis(50);
    let surroundings = Surroundings { project: project.path(), environment: &environment, command_timeout };
    let error = read(files, surroundings).await.unwrap_err();
    let SecretsError::Command { place, source: ProgramError::TimedOut { .. } } = &error else {
        panic!("{error}")
    };
    assert_eq!(place.line, 2);
}

#[tokio::test]
async fn output_that_is_not_text_is_refused() {
    let error = Project::new(&[("secrets", "A=$(printf '\\\\377')\n")]).load(None, &["A"]).await.unwrap_err();
    insta::assert_snapshot!(report(&error));
}

#[tokio::test]
async fn a_folder_in_the_place_of_a_file() {
    let project = Project::new(&[]);
    fs_err::create_dir_all(project.path().join(".kamal/secrets")).unwrap();
    let error = project.load(None, &["A"]).await.unwrap_err();
    assert!(
        matches!(&error, SecretsError::Read { file, .. } if file == Path::new(".kamal/secrets")),
        "{error}"
    );
}

/// kamal-compat §1 row 11
#[tokio::test]
async fn legacy_line_breaks() {
    let text = "A=\"x\\ny\"\nDOTENV_LINEBREAK_MODE=legacy\nB=\"x\\ny\"\n";
    let found = Project::new(&[("secrets", text)]).load(None, &["A", "B"]).await.unwrap();
    assert_eq!((found["A"].as_str(), found["B"].as_str()), ("x\\ny", "x\ny"));
}

/// A marked value passes through every way in and every way to fail; nothing that can be printed shows it.
#[tokio::test]
async fn no_error_and_no_debug_shows_a_value() {
    const MARK: &str = "m4rk3d";
    let files: &[&str] = &[
        "A=m4rk3d\nB=${A}\n",
        "A='m4rk3d'\nB=$(echo $A; exit 1)\n",
        "A=m4rk3d\nexport B\n",
        "A=m4rk3d\nB=$(kamal secrets extract $A)\n",
        "A=m4rk3d\nB=$(kamal secrets extract B $A)\n",
        "A={\\\"C\\\":\\\"m4rk3d\\\"}\nB=$(kamal secrets extract B $A)\n",
        "A=m4rk3d\nB=$(printf \"$A\\\\0\")\n",
        "m4rk3d this line defines nothing\nA=1\n",
    ];
    for text in files {
        let project = Project::new(&[("secrets", text)]);
        for needed in [&["A"][..], &["A", "B"], &["A", "B", "C"]] {
            let shown = match project.read(None).await {
                Ok(definitions) => match definitions.select(&names(needed)) {
                    Ok(values) => format!("{values:?} {definitions:?}"),
                    Err(error) => format!("{error:?} {}", report(&error)),
                },
                Err(error) => format!("{error:?} {}", report(&error)),
            };
            assert!(!shown.contains(MARK), "{shown}");
        }
    }
}

/// Every sentence of the grammar's table. kamal-compat §11.2 rows 1, 2, 3, 4, 5
#[tokio::test]
async fn the_forms_of_a_value() {
    let text = "ONE='literal $OVR \\n $(echo no)\nover two lines'\n\
                TWO=\"a \\\"quote\\\" \\x and\na real line, ${OVR}, \\$OVR, $(echo in)\"\n\
                THREE=  bare\\ word # trailing\n\
                CUT=a#b\n\
                IN_COMMAND=$(echo a#b)\n\
                DEFAULT=${NOTHING:-x}\n\
                DIGITS_9=$OVR.$NOTHING!\n\
                NESTED=$(echo $(echo deep) '(x)')\n\
                TEXTUAL=$(echo $OVR)\n\
                LITERAL=\\$(echo no)\n\
                TICKS=\"`echo no`\"\n\
                LAST=$(echo x; echo)\n";
    let expected = [
        ("CUT", "a"),
        // A `#` ends a bare value even inside `$(…)`, whose beginning is then text.
        ("IN_COMMAND", "$(echo a"),
        ("LITERAL", "$(echo no)"),
        ("NESTED", "deep (x)"),
        ("ONE", "literal $OVR \\n $(echo no)\nover two lines"),
        ("TEXTUAL", "env"),
        ("THREE", "bare word"),
        ("TICKS", "`echo no`"),
        ("TWO", "a \"quote\" x and\na real line, env, $OVR, in"),
    ];
    let project = Project::new(&[("secrets", text)]);
    let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    let found = project.load(None, &names).await.unwrap();
    let found: Vec<(&str, &str)> =
        found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(found, expected);
    let odd = project.load(None, &["DEFAULT", "DIGITS_9", "LAST"]).await.unwrap();
    assert_eq!(odd["DIGITS_9"], "env.!");
    assert!(
        !odd["DEFAULT"].contains("env") && odd["DEFAULT"].contains(":-x"),
        "no default: {}",
        odd["DEFAULT"]
    );
    assert_eq!(odd["LAST"], "x\n", "one line break goes");
}
