use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::ssh_key::rand_core::UnwrapErr;
use russh::keys::{Algorithm, HashAlg, PrivateKey};
use russh::server::{Auth, Config, Handler, PublicKeyOffer, Response, run_stream};
use russh::{MethodKind, MethodSet};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What a [`Pretender`] wants.
#[derive(Clone, Default)]
pub(crate) struct Rules {
    /// Whether `none` is enough.
    pub(crate) none: bool,
    /// The password.
    pub(crate) password: Option<&'static str>,
    /// Questions, whether the answer may be seen, and the answer.
    pub(crate) questions: Vec<(&'static str, bool, &'static str)>,
    /// Whether it never answers a request to authenticate.
    pub(crate) silent: bool,
}

/// An SSH server in this process, for what sshd does only with the system's password database.
pub(crate) struct Pretender {
    pub(crate) address: SocketAddr,
    pub(crate) fingerprint: String,
    pub(crate) public: String,
    _tasks: JoinSet<()>,
}

impl Pretender {
    pub(crate) async fn start(rules: Rules) -> Self {
        let mut random = UnwrapErr(Random);
        let key = PrivateKey::random(&mut random, Algorithm::Ed25519).unwrap();
        let public = key.public_key().to_openssh().unwrap().split(' ').take(2).collect::<Vec<_>>().join(" ");
        let fingerprint = key.public_key().fingerprint(HashAlg::Sha256).to_string();
        let config = Arc::new(Config {
            keys: vec![key],
            auth_rejection_time: Duration::ZERO,
            methods: rules.methods(),
            ..Config::default()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (config, rules) = (Arc::clone(&config), rules.clone());
                sessions.spawn(async move {
                    if let Ok(session) = run_stream(config, stream, Guard { rules }).await {
                        drop(session.await);
                    }
                });
            }
        });
        Self { address, fingerprint, public, _tasks: tasks }
    }
}

impl Rules {
    fn methods(&self) -> MethodSet {
        let mut methods = MethodSet::empty();
        if self.password.is_some() {
            methods.push(MethodKind::Password);
        }
        if !self.questions.is_empty() {
            methods.push(MethodKind::KeyboardInteractive);
        }
        if self.silent || self.none {
            methods.push(MethodKind::PublicKey);
        }
        methods
    }
}

struct Guard {
    rules: Rules,
}

impl Guard {
    async fn stay_silent(&self) {
        if self.rules.silent {
            std::future::pending::<()>().await;
        }
    }

    fn verdict(&self, right: bool) -> Auth {
        if right {
            Auth::Accept
        } else {
            Auth::Reject { proceed_with_methods: Some(self.rules.methods()), partial_success: false }
        }
    }
}

impl Handler for Guard {
    type Error = russh::Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, russh::Error> {
        Ok(Some("welcome\u{1b}[2J\r\nvisit https://example.com/check".to_owned()))
    }

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, russh::Error> {
        self.stay_silent().await;
        Ok(self.verdict(self.rules.none))
    }

    async fn auth_password(&mut self, _user: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(self.verdict(self.rules.password == Some(password)))
    }

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        _key: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(self.verdict(false))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        self.stay_silent().await;
        if self.rules.questions.is_empty() {
            return Ok(self.verdict(false));
        }
        let Some(response) = response else {
            let prompts = self.rules.questions.iter().map(|(text, echo, _)| (Cow::Borrowed(*text), *echo));
            return Ok(Auth::Partial {
                name: Cow::Borrowed("Two questions"),
                instructions: Cow::Borrowed(""),
                prompts: prompts.collect::<Vec<_>>().into(),
            });
        };
        let given: Vec<Vec<u8>> = response.map(|answer| answer.to_vec()).collect();
        let expected = self.rules.questions.iter().map(|(_, _, answer)| answer.as_bytes().to_vec());
        Ok(self.verdict(given == expected.collect::<Vec<_>>()))
    }
}

pub(crate) struct Random;

impl russh::keys::ssh_key::rand_core::TryRng for Random {
    type Error = getrandom::Error;

    fn try_next_u32(&mut self) -> Result<u32, getrandom::Error> {
        getrandom::u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, getrandom::Error> {
        getrandom::u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), getrandom::Error> {
        getrandom::fill(bytes)
    }
}

impl russh::keys::ssh_key::rand_core::TryCryptoRng for Random {}
