//! Certificates of one's own, which the proxy reads from a folder of the host.

use bytes::Bytes;
use freehold_docker::{ContainerFile, Owner};
use freehold_model::SecretName;
use freehold_plan::{APPS_CONFIG, APPS_CONFIG_IN_PROXY};
use freehold_ssh::quote;
use secrecy::ExposeSecret;

use crate::engine_host::EngineHost;
use crate::engine_host::image::PROXY_USER;
use crate::engine_host::link::Link;
use crate::engine_host::proxy::{CERTIFICATE_FILE, PRIVATE_KEY_FILE, PROXY_CONTAINER, USERS_FILE};
use crate::engine_host::scripts::check_fence;
use crate::host::{HostError, LeaseToken, Outcome, StepContext, StepError};

impl EngineHost {
    /// Writes a certificate and its key, which belongs to the proxy's user and is nobody else's to read.
    ///
    /// The engine writes them, through the proxy's container: whatever the login is, and wherever the engine maps users
    /// to, the key never is readable for others, and is no argument of a command. Kamal writes it with mode 644.
    pub(super) async fn write_certificate(
        &self,
        directory: &str,
        (certificate, private_key): (&SecretName, &SecretName),
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let value = |name: &SecretName| {
            let value = context.secrets.value(name);
            value.ok_or_else(|| StepError::Secret { name: name.to_string() })
        };
        let (certificate, private_key) = (value(certificate)?, value(private_key)?);
        let link = self.link().await?;
        let owner = self.proxy_user(&link).await?;
        self.fenced_script("write the certificate", &begin(context.lease, directory, &PAIR)).await?;
        let file = |name: &str, mode: u32, text: &str| ContainerFile {
            name: name.to_owned(),
            mode,
            owner,
            content: Bytes::copy_from_slice(text.as_bytes()),
        };
        let files = [
            file("cert.pem.new", 0o644, certificate.expose_secret()),
            file("key.pem.new", 0o600, private_key.expose_secret()),
        ];
        let folder = directory.replacen(APPS_CONFIG, APPS_CONFIG_IN_PROXY, 1);
        let written = link.engine.write_files(PROXY_CONTAINER, &folder, &files).await;
        written.map_err(|error| self.engine_error("write the certificate", error))?;
        self.fenced_script("write the certificate", &swap(context.lease, directory, &PAIR)).await?;
        Ok(Outcome::Done(None))
    }

    /// Writes the file with those who may come, which belongs to the proxy's user as a key does.
    pub(super) async fn write_users(
        &self,
        directory: &str,
        users: &SecretName,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let text = context.secrets.value(users);
        let text = text.ok_or_else(|| StepError::Secret { name: users.to_string() })?;
        let link = self.link().await?;
        let owner = self.proxy_user(&link).await?;
        let operation = "write who may come";
        self.fenced_script(operation, &begin(context.lease, directory, &USERS)).await?;
        let file = ContainerFile {
            name: format!("{USERS_FILE}.new"),
            mode: 0o600,
            owner,
            content: Bytes::copy_from_slice(text.expose_secret().as_bytes()),
        };
        let folder = directory.replacen(APPS_CONFIG, APPS_CONFIG_IN_PROXY, 1);
        let written = link.engine.write_files(PROXY_CONTAINER, &folder, &[file]).await;
        written.map_err(|error| self.engine_error(operation, error))?;
        self.fenced_script(operation, &swap(context.lease, directory, &USERS)).await?;
        Ok(Outcome::Done(None))
    }

    pub(super) async fn restore_users(
        &self,
        directory: &str,
        context: &StepContext<'_>,
    ) -> Result<(), StepError> {
        let script = restore(context.lease, directory, &USERS);
        self.fenced_script("put back who could come before", &script).await?;
        Ok(())
    }

    /// The user whom the proxy runs as.
    async fn proxy_user(&self, link: &Link) -> Result<Owner, StepError> {
        let details = link.engine.inspect_container(PROXY_CONTAINER).await;
        let details = details.map_err(|error| self.engine_error("look at the proxy", error))?;
        let details = details.ok_or_else(|| HostError::Refused {
            host: self.name.clone(),
            operation: "write the certificate".to_owned(),
            message: "there is no proxy to read it".to_owned(),
        })?;
        let seen = self.owner_of_state(&details).await?;
        let seen = seen.as_deref().and_then(|text| text.split_once(':'));
        let seen = seen
            .and_then(|(user, group)| Some(Owner { user: user.parse().ok()?, group: group.parse().ok()? }));
        Ok(seen.unwrap_or(PROXY_USER))
    }

    pub(super) async fn restore_certificate(
        &self,
        directory: &str,
        context: &StepContext<'_>,
    ) -> Result<(), StepError> {
        let script = restore(context.lease, directory, &PAIR);
        self.fenced_script("put the certificate back", &script).await?;
        Ok(())
    }
}

/// The files of a certificate.
const PAIR: [&str; 2] = [CERTIFICATE_FILE, PRIVATE_KEY_FILE];

/// The file with those who may come.
const USERS: [&str; 1] = [USERS_FILE];

/// Returns the names of new files, as words of a shell.
fn new(files: &[&str]) -> String {
    files.iter().map(|file| format!("{file}.new")).collect::<Vec<_>>().join(" ")
}

/// Makes room for new files.
fn begin(token: &LeaseToken, directory: &str, files: &[&str]) -> String {
    format!(
        "{}umask 022; mkdir -p {directory} && cd {directory} && rm -f {}",
        check_fence(token),
        new(files),
        directory = quote(directory),
    )
}

/// Gives new files their names. What was there before stands in `before` until the rollout is over; an empty `before` says
/// that there was nothing. It is moved, because only the proxy's user may copy a key.
fn swap(token: &LeaseToken, directory: &str, files: &[&str]) -> String {
    let moves: Vec<String> = files.iter().map(|file| format!("mv -f {file}.new {file}")).collect();
    format!(
        r#"{}umask 022; cd {} || exit 1
if ! [ -d before ]; then
  mkdir -p before.new || exit 1
  for file in {}; do
    if [ -e "$file" ] && ! [ -e "before.new/$file" ]; then mv -f "$file" before.new/ || exit 1; fi
  done
  mv before.new before || exit 1
fi
{}"#,
        check_fence(token),
        quote(directory),
        files.join(" "),
        moves.join(" && ")
    )
}

fn restore(token: &LeaseToken, directory: &str, files: &[&str]) -> String {
    let names = files.join(" ");
    format!(
        r#"{}cd {} 2>/dev/null || exit 0
[ -d before ] || exit 0
if ! [ -e before/begun ]; then rm -f {names} {} && : > before/begun || exit 1; fi
for file in {names}; do if [ -e "before/$file" ]; then mv -f "before/$file" "$file" || exit 1; fi; done
rm -rf before"#,
        check_fence(token),
        quote(directory),
        new(files)
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// A home with the folder of a certificate, and the lock's number.
    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            let home = Self(tempfile::tempdir().unwrap());
            home.write(".kamal/freehold/apps/app/fence", "1\n");
            home
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }

        fn run(&self, script: &str) {
            let status = Command::new("sh").args(["-c", script]).current_dir(self.path()).status().unwrap();
            assert!(status.success(), "{script}");
        }

        /// Writes a pair as a step does.
        fn step(&self, pair: &str) {
            self.run(&begin(&token(), "tls", &PAIR));
            self.write("tls/cert.pem.new", pair);
            self.write("tls/key.pem.new", pair);
            self.run(&swap(&token(), "tls", &PAIR));
        }

        fn files(&self) -> Vec<(String, String)> {
            let mut files: Vec<(String, String)> = fs_err::read_dir(self.path().join("tls"))
                .unwrap()
                .map(|entry| entry.unwrap())
                .map(|entry| {
                    let text = if entry.path().is_dir() {
                        String::new()
                    } else {
                        fs_err::read_to_string(entry.path()).unwrap()
                    };
                    (entry.file_name().into_string().unwrap(), text)
                })
                .collect();
            files.sort();
            files
        }
    }

    fn token() -> LeaseToken {
        LeaseToken { stem: "app".to_owned(), fence: 1 }
    }

    fn pair(text: &str) -> Vec<(String, String)> {
        ["cert.pem", "key.pem"].map(|name| (name.to_owned(), text.to_owned())).to_vec()
    }

    #[test]
    fn the_first_pair_goes_and_a_later_one_gives_way_to_the_one_before() {
        let home = Home::new();
        home.step("one");
        home.run(&restore(&token(), "tls", &PAIR));
        assert_eq!(home.files(), []);
        home.step("one");
        fs_err::remove_dir_all(home.path().join("tls/before")).unwrap();
        // Twice, as after a lost connection.
        home.step("two");
        home.step("two");
        assert_eq!(home.files()[1..], pair("two"));
        for _ in 0..2 {
            home.run(&restore(&token(), "tls", &PAIR));
            assert_eq!(home.files(), pair("one"));
        }
    }

    #[test]
    fn the_users_of_before_come_back() {
        let home = Home::new();
        for text in ["one", "two"] {
            home.run(&begin(&token(), "tls", &USERS));
            home.write("tls/users.new", text);
            home.run(&swap(&token(), "tls", &USERS));
            assert_eq!(home.files().last(), Some(&("users".to_owned(), text.to_owned())));
            if text == "one" {
                fs_err::remove_dir_all(home.path().join("tls/before")).unwrap();
            }
        }
        for _ in 0..2 {
            home.run(&restore(&token(), "tls", &USERS));
            assert_eq!(home.files(), [("users".to_owned(), "one".to_owned())]);
        }
    }

    #[test]
    fn nothing_is_lost_where_a_step_was_cut_off_half_way() {
        let home = Home::new();
        home.step("one");
        fs_err::remove_dir_all(home.path().join("tls/before")).unwrap();
        // One of two files was kept.
        fs_err::create_dir(home.path().join("tls/before.new")).unwrap();
        fs_err::rename(home.path().join("tls/cert.pem"), home.path().join("tls/before.new/cert.pem"))
            .unwrap();
        home.step("two");
        // One of two files was put back.
        fs_err::remove_file(home.path().join("tls/key.pem")).unwrap();
        fs_err::rename(home.path().join("tls/before/cert.pem"), home.path().join("tls/cert.pem")).unwrap();
        home.write("tls/before/begun", "");
        home.run(&restore(&token(), "tls", &PAIR));
        assert_eq!(home.files(), pair("one"));
    }
}
