use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::rand_core::UnwrapErr;
use russh::keys::{Algorithm, HashAlg, PrivateKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::pretender::Random;

const KIND: &[u8] = b"sk-ssh-ed25519@openssh.com";
const APPLICATION: &[u8] = b"ssh:";

/// An agent with a FIDO token that is software: what it signs is what a token signs, as `PROTOCOL.u2f` of OpenSSH has it.
pub(crate) struct TokenAgent {
    pub(crate) socket: PathBuf,
    token: Arc<Token>,
    _tasks: JoinSet<()>,
}

struct Token {
    key: PrivateKey,
    /// Whether somebody touches it when it is asked.
    is_touched: bool,
    signatures: AtomicU32,
}

impl TokenAgent {
    pub(crate) fn start(directory: &Path, is_touched: bool) -> Self {
        let socket = directory.join(format!("token-{is_touched}"));
        let key = PrivateKey::random(&mut UnwrapErr(Random), Algorithm::Ed25519).unwrap();
        let token = Arc::new(Token { key, is_touched, signatures: AtomicU32::new(0) });
        let listener = UnixListener::bind(&socket).unwrap();
        let mut tasks = JoinSet::new();
        let held = Arc::clone(&token);
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let token = Arc::clone(&held);
                clients.spawn(async move { drop(token.serve(stream).await) });
            }
        });
        Self { socket, token, _tasks: tasks }
    }

    /// Returns the line of its public key.
    pub(crate) fn public(&self) -> String {
        format!("{} {}", String::from_utf8_lossy(KIND), STANDARD.encode(self.token.public()))
    }

    /// Returns how often it has signed.
    pub(crate) fn signatures(&self) -> u32 {
        self.token.signatures.load(Ordering::SeqCst)
    }
}

impl Token {
    fn public(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        let key = self.key.public_key().key_data().ed25519().unwrap().0;
        [KIND, &key, APPLICATION].into_iter().for_each(|field| put(&mut blob, field));
        blob
    }

    /// Signs as a token does: the application, whether it was touched, a counter, and the data.
    fn sign(&self, data: &[u8]) -> Vec<u8> {
        let counter = self.signatures.fetch_add(1, Ordering::SeqCst) + 1;
        let mut seen = vec![u8::from(self.is_touched)];
        seen.extend(counter.to_be_bytes());
        let signed =
            [HashAlg::Sha256.digest(APPLICATION), seen.clone(), HashAlg::Sha256.digest(data)].concat();
        let raw: Signature = self.key.try_sign(&signed).unwrap();
        let mut signature = Vec::new();
        put(&mut signature, KIND);
        put(&mut signature, raw.as_bytes());
        signature.extend(seen);
        signature
    }

    async fn serve(&self, mut stream: UnixStream) -> std::io::Result<()> {
        loop {
            let length = usize::try_from(stream.read_u32().await?).unwrap();
            let mut request = vec![0; length];
            stream.read_exact(&mut request).await?;
            let mut answer = Vec::new();
            // Numbers of draft-miller-ssh-agent.
            match request.split_first() {
                Some((11, _)) => {
                    answer.push(12);
                    answer.extend(1_u32.to_be_bytes());
                    put(&mut answer, &self.public());
                    put(&mut answer, b"token");
                }
                Some((13, fields)) => {
                    let (_key, rest) = take(fields);
                    answer.push(14);
                    put(&mut answer, &self.sign(take(rest).0));
                }
                _ => answer.push(5),
            }
            stream.write_u32(u32::try_from(answer.len()).unwrap()).await?;
            stream.write_all(&answer).await?;
        }
    }
}

fn put(to: &mut Vec<u8>, field: &[u8]) {
    to.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
    to.extend(field);
}

fn take(fields: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = fields.split_at(4);
    rest.split_at(usize::try_from(u32::from_be_bytes(length.try_into().unwrap())).unwrap())
}
