//! The files by which Kamal 2.0 kept how the proxy's container runs (kamal-compat §7.1).

use freehold_model::{ProxyImage, ProxyRun, RestartPolicy};

use crate::docker_flag::{ALIASES, FLAGS, Setter};
use crate::shell_word::{InvalidWords, split_literal_words};

/// A file of `proxy boot_config` that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ProxyBootError {
    /// It cannot be split into words.
    #[error("`{text}`: {source}")]
    Words {
        /// The file's text.
        text: String,
        /// What is wrong.
        source: InvalidWords,
    },
    /// A flag of `docker run` or of `kamal-proxy run` that is not supported.
    #[error("the flag `{flag}` of the proxy is not supported by this version of freehold")]
    Flag {
        /// The flag.
        flag: String,
    },
    /// A value that is wrong.
    #[error("the flag `{flag}` of the proxy: {message}")]
    Value {
        /// The flag.
        flag: String,
        /// What is wrong.
        message: String,
    },
}

/// Reads the texts of `.kamal/proxy/options`, `run_command`, `image` and `image_version`, each of which may be missing.
///
/// # Errors
/// [`ProxyBootError`] with the flag that cannot be followed.
pub fn parse_proxy_boot(
    (options, command): (Option<&str>, Option<&str>),
    (image, version): (Option<&str>, Option<&str>),
) -> Result<ProxyRun, ProxyBootError> {
    let mut run = ProxyRun::default();
    if let Some(options) = options {
        // What is written replaces the default as a whole.
        run.publish = false;
        run.log_max_size = String::new();
        read_options(&mut run, options)?;
    }
    read_command(&mut run, command.unwrap_or_default())?;
    if image.is_some() || version.is_some() {
        run.image = Some(ProxyImage {
            registry: None,
            repository: image.unwrap_or("basecamp/kamal-proxy").trim().to_owned(),
            version: version.unwrap_or("v0.9.2").trim().to_owned(),
        });
    }
    Ok(run)
}

fn words(text: &str) -> Result<Vec<String>, ProxyBootError> {
    split_literal_words(text).map_err(|source| ProxyBootError::Words { text: text.to_owned(), source })
}

fn read_options(run: &mut ProxyRun, text: &str) -> Result<(), ProxyBootError> {
    let mut words = words(text)?.into_iter();
    while let Some(word) = words.next() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        let name = match flag.as_str() {
            "-p" => "publish",
            "-l" => "label",
            "-v" => "volume",
            "-e" => "env",
            other => other.strip_prefix("--").unwrap_or_default(),
        };
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
        let unknown = || ProxyBootError::Flag { flag: flag.clone() };
        let wrong = |message: String| ProxyBootError::Value { flag: flag.clone(), message };
        let known = FLAGS.iter().find(|known| known.name == name);
        if let Some(Setter::Switch(set)) = known.map(|known| &known.setter) {
            set(&mut run.options, value.as_deref() != Some("false"));
            continue;
        }
        let Some(value) = value.or_else(|| words.next()) else {
            return Err(wrong("a value is missing".to_owned()));
        };
        match (name, known.map(|known| &known.setter)) {
            ("log-opt", _) => match value.strip_prefix("max-size=") {
                Some(size) => size.clone_into(&mut run.log_max_size),
                None => return Err(unknown()),
            },
            ("label", _) => {
                let (key, text) = value.split_once('=').unwrap_or((&value, ""));
                run.labels.insert(key.to_owned(), text.to_owned());
            }
            ("restart", _) if value == "unless-stopped" => run.options.restart = RestartPolicy::UnlessStopped,
            (_, Some(Setter::Value(set) | Setter::Each(set))) => {
                set(&mut run.options, &value).map_err(|problem| wrong(problem.message))?;
            }
            _ => return Err(unknown()),
        }
    }
    Ok(())
}

fn read_command(run: &mut ProxyRun, text: &str) -> Result<(), ProxyBootError> {
    let mut words = words(text)?.into_iter();
    for expected in ["kamal-proxy", "run"] {
        match words.next() {
            None => return Ok(()),
            Some(word) if word == expected => {}
            Some(word) => return Err(ProxyBootError::Flag { flag: word }),
        }
    }
    while let Some(word) = words.next() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        match flag.as_str() {
            "--debug" => run.debug = value.as_deref() != Some("false"),
            "--metrics-port" => {
                let value = value.or_else(|| words.next()).unwrap_or_default();
                let port = value.parse().map_err(|_| ProxyBootError::Value {
                    flag,
                    message: format!("`{value}` is not a port"),
                })?;
                run.metrics_port = Some(port).filter(|port| *port > 0);
            }
            _ => return Err(ProxyBootError::Flag { flag }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// kamal-compat §7.1 row 10, kamal-compat §16 row 10
    #[test]
    fn the_files_of_kamal_are_followed() {
        let usual = "--publish 80:80 --publish 443:443 --log-opt max-size=10m";
        let run = parse_proxy_boot((Some(usual), None), (None, None)).unwrap();
        assert_eq!((run.publish, run.log_max_size.as_str()), (false, "10m"));
        assert_eq!(run.options.publish, ["80:80", "443:443"]);

        let options = "--publish 10.0.0.1:8080:80 --expose=9394 --memory \"512m\" --label a=b --init";
        let command = "kamal-proxy run --debug --metrics-port \"9394\"";
        let image = (Some("registry.example.com/ops/kamal-proxy"), Some("v0.9.9"));
        let run = parse_proxy_boot((Some(options), Some(command)), image).unwrap();
        assert_eq!(run.options.publish, ["10.0.0.1:8080:80"]);
        assert_eq!(run.options.memory_bytes, Some(512 * 1024 * 1024));
        assert!(run.options.init && run.debug && run.labels["a"] == "b");
        assert_eq!((run.metrics_port, run.log_max_size.as_str()), (Some(9394), ""));
        let image = run.image.unwrap();
        assert_eq!(
            (image.repository.as_str(), image.version.as_str()),
            ("registry.example.com/ops/kamal-proxy", "v0.9.9")
        );

        assert_eq!(parse_proxy_boot((None, None), (None, None)).unwrap(), ProxyRun::default());
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        let of =
            |options, command| parse_proxy_boot((options, command), (None, None)).unwrap_err().to_string();
        assert_eq!(
            of(Some("--nonsense 1"), None),
            "the flag `--nonsense` of the proxy is not supported by this version of freehold"
        );
        assert_eq!(
            of(Some("--memory much"), None).split(':').next(),
            Some("the flag `--memory` of the proxy")
        );
        assert_eq!(of(Some("--publish"), None), "the flag `--publish` of the proxy: a value is missing");
        assert!(of(Some("--label 'x"), None).contains("has no end"));
        assert!(of(None, Some("sh -c x")).contains("`sh`"));
        assert!(of(None, Some("kamal-proxy run --http3")).contains("`--http3`"));
    }
}
