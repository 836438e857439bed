use std::future::Future;
use std::io;
use std::time::Duration;

use freehold_model::HostName;

use crate::environment::Prompt;

/// How patient a lookup of a name is, and who hears of it.
pub(crate) struct Lookups<'a> {
    /// How many times a name that did not resolve is looked up again.
    pub(crate) retries: u32,
    /// Hears of it.
    pub(crate) person: &'a dyn Prompt,
    /// The host that is connected to.
    pub(crate) host: &'a HostName,
}

/// The first pause; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// No pause is longer, but for the jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What is added to a pause at most, so that clients that lost the same name server do not come back all at once.
const JITTER: Duration = Duration::from_millis(100);

/// Looks a name up, again after a pause where it does not resolve: resolvers of laptops and of fresh hosts are late.
///
/// # Cancel safety
/// Changes nothing.
pub(super) async fn look_up<T, F>(ask: impl Fn() -> F, name: &str, lookups: &Lookups<'_>) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut attempt = 0;
    loop {
        match ask().await {
            Err(error) if attempt < lookups.retries => {
                attempt += 1;
                let pause = pause(attempt, random_share());
                let notice = format!(
                    "Retrying DNS for {name} (attempt {attempt}/{}) in {:.2}s: {error}",
                    lookups.retries,
                    pause.as_secs_f64()
                );
                lookups.person.notice(lookups.host, &notice);
                tracing::warn!(name, attempt, %error, "name not resolved, trying again");
                tokio::time::sleep(pause).await;
            }
            answer => return answer,
        }
    }
}

/// Returns the pause before an attempt: 0.1 s · 2ⁿ⁻¹, at most 2 s, and up to 0.1 s more.
fn pause(attempt: u32, share: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    doubled.min(LONGEST_PAUSE) + JITTER.mul_f64(share)
}

/// Returns a random number from 0 to 1.
fn random_share() -> f64 {
    let mut byte = [0];
    // Without randomness there is no jitter, which is no reason not to try again.
    if getrandom::fill(&mut byte).is_err() {
        return 0.0;
    }
    f64::from(byte[0]) / f64::from(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use parking_lot::Mutex;
    use secrecy::SecretString;

    #[derive(Default)]
    struct Person(Mutex<Vec<String>>);

    #[async_trait]
    impl Prompt for Person {
        async fn confirm(&self, _question: &str) -> bool {
            false
        }

        async fn secret(&self, _question: &str) -> Option<SecretString> {
            None
        }

        async fn text(&self, _question: &str) -> Option<String> {
            None
        }

        fn banner(&self, _host: &HostName, _text: &str) {}

        fn notice(&self, host: &HostName, text: &str) {
            self.0.lock().push(format!("{host}: {text}"));
        }
    }

    async fn ask(failures: usize, retries: u32) -> (io::Result<&'static str>, usize, Vec<String>) {
        let (asked, person) = (Mutex::new(0), Person::default());
        let host = HostName::parse("h1").unwrap();
        let ask = || async {
            *asked.lock() += 1;
            if *asked.lock() > failures { Ok("found") } else { Err(io::Error::other("no such name")) }
        };
        let lookups = Lookups { retries, person: &person, host: &host };
        let answer = look_up(ask, "web-1", &lookups).await;
        (answer, asked.into_inner(), person.0.into_inner())
    }

    /// kamal-compat §9 sshkit row 1
    #[tokio::test]
    async fn a_name_is_looked_up_again_so_many_times() {
        let (answer, asked, notices) = ask(2, 3).await;
        assert_eq!((answer.unwrap(), asked), ("found", 3));
        assert_eq!(notices.len(), 2);
        assert!(notices[0].starts_with("h1: Retrying DNS for web-1 (attempt 1/3) in 0.1"), "{notices:?}");
        assert!(notices[1].ends_with("s: no such name"), "{notices:?}");
        let (answer, asked, _) = ask(9, 1).await;
        assert_eq!((answer.unwrap_err().to_string().as_str(), asked), ("no such name", 2));
        let (answer, asked, notices) = ask(1, 0).await;
        assert!(answer.is_err() && asked == 1 && notices.is_empty());
    }

    #[test]
    fn pauses_grow_up_to_two_seconds() {
        let milliseconds = |attempt| pause(attempt, 0.0).as_millis();
        assert_eq!([1, 2, 3, 5, 6, 100].map(milliseconds), [100, 200, 400, 1600, 2000, 2000]);
        assert_eq!(pause(1, 1.0), Duration::from_millis(200));
    }
}
