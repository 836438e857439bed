use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use freehold_model::{Destination, Diagnose, SecretName};
use freehold_secrets::{SecretFiles, SecretsError, load};
use secrecy::ExposeSecret;
use tempfile::TempDir;

/// A project with its files.
struct Project(TempDir);

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(folder.path().join(".kamal")).unwrap();
        for (name, text) in files {
            fs_err::write(folder.path().join(".kamal").join(name), text).unwrap();
        }
        Self(folder)
    }

    async fn load(
        &self,
        destination: Option<&str>,
        names: &[&str],
    ) -> Result<BTreeMap<String, String>, SecretsError> {
        let destination = destination.map(|name| Destination::parse(name).unwrap());
        let files = SecretFiles {
            project: self.0.path(),
            base: Path::new(".kamal/secrets"),
            destination: destination.as_ref(),
            command_timeout: Duration::from_secs(20),
        };
        let environment =
            [("HOME", "/h"), ("OVR", "env"), ("PATH", "/usr/bin:/bin"), ("KAMAL_DESTINATION", "stale")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let needed: Vec<SecretName> = names.iter().map(|name| SecretName::parse(*name).unwrap()).collect();
        let values = load(&files, &environment, &needed).await?;
        Ok(values.iter().map(|(name, value)| (name.to_string(), value.expose_secret().to_owned())).collect())
    }
}

fn report(error: &SecretsError) -> String {
    let mut text = format!("error: {error}\n");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!("caused by: {cause}\n"));
        source = cause.source();
    }
    error.help().iter().for_each(|line| text.push_str(&format!("help: {line}\n")));
    text.push_str(&format!("kind: {:?}\n", error.kind()));
    text
}

/// kamal-compat §19.5, recorded from Kamal 2.12.
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

#[tokio::test]
async fn what_a_command_prints_is_taken_literally() {
    let password = "pa$word ${HOME} $(id) \\n \"q\" 'q' #x ä\n\nlast";
    let text = "P=$(cat .kamal/password)\nQ=\"<${P}>\"\n";
    let project = Project::new(&[("secrets", text), ("password", &format!("{password}\n"))]);
    let found = project.load(None, &["P", "Q"]).await.unwrap();
    assert_eq!((found["P"].as_str(), found["Q"].clone()), (password, format!("<{password}>")));
}

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
    let folder = project.0.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(staging["B"], "staging");
    assert_eq!(staging["SEES"], "x", "the values of the common file are not seen");
    assert_eq!(staging["WHERE"], "staging");
    assert_eq!(staging["PWD_IS"], folder);
    let error = project.load(Some("staging"), &["PLAIN"]).await.unwrap_err();
    insta::assert_snapshot!(report(&error));
}

#[tokio::test]
async fn nothing_is_run_if_nothing_is_needed() {
    let project = Project::new(&[("secrets", "A=$(touch was-run)\n")]);
    assert!(project.load(None, &[]).await.unwrap().is_empty());
    assert!(!project.0.path().join("was-run").exists());
    project.load(None, &["A"]).await.unwrap();
    assert!(project.0.path().join("was-run").exists());
}

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

#[tokio::test]
async fn a_failed_command_matters_where_its_value_is_needed() {
    let text = "A=fine\nB=$(echo marked-value; exit 3)\nC=x${B}y\nD=$(echo $B)\nE=$(kill -9 $$)\n";
    let project = Project::new(&[("secrets", text)]);
    assert_eq!(project.load(None, &["A"]).await.unwrap()["A"], "fine");
    let error = project.load(None, &["A", "B", "C", "D", "E", "F"]).await.unwrap_err();
    insta::assert_snapshot!(report(&error));
}

#[tokio::test]
async fn a_command_of_kamal_is_refused_by_name() {
    let text = "A=1\nB=\"$(kamal secrets fetch --adapter 1password X)\"\n";
    let error = Project::new(&[("secrets", text)]).load(None, &["A"]).await.unwrap_err();
    insta::assert_snapshot!(report(&error));
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
    let files = SecretFiles {
        project: project.0.path(),
        base: Path::new(".kamal/secrets"),
        destination: None,
        command_timeout: Duration::from_millis(50),
    };
    let environment = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
    let error = load(&files, &environment, &[SecretName::parse("A").unwrap()]).await.unwrap_err();
    assert!(matches!(&error, SecretsError::TimedOut { place, .. } if place.line == 2), "{error}");
}

#[tokio::test]
async fn output_that_is_not_text_is_refused() {
    let error = Project::new(&[("secrets", "A=$(printf '\\\\377')\n")]).load(None, &["A"]).await.unwrap_err();
    insta::assert_snapshot!(report(&error));
}

#[tokio::test]
async fn a_folder_in_the_place_of_a_file() {
    let project = Project::new(&[]);
    fs_err::create_dir_all(project.0.path().join(".kamal/secrets")).unwrap();
    let error = project.load(None, &["A"]).await.unwrap_err();
    assert!(
        matches!(&error, SecretsError::Read { file, .. } if file == Path::new(".kamal/secrets")),
        "{error}"
    );
}

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
        "A=m4rk3d\nB=$(printf \"$A\\\\0\")\n",
        "m4rk3d this line defines nothing\nA=1\n",
    ];
    for text in files {
        let project = Project::new(&[("secrets", text)]);
        let files = SecretFiles {
            project: project.0.path(),
            base: Path::new(".kamal/secrets"),
            destination: None,
            command_timeout: Duration::from_secs(20),
        };
        let environment = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
        for names in [&["A"][..], &["A", "B"], &["A", "B", "C"]] {
            let needed: Vec<SecretName> =
                names.iter().map(|name| SecretName::parse(*name).unwrap()).collect();
            let shown = match load(&files, &environment, &needed).await {
                Ok(values) => format!("{values:?}"),
                Err(error) => format!("{error:?} {}", report(&error)),
            };
            assert!(!shown.contains(MARK), "{shown}");
        }
    }
}
