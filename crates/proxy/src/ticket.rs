//! Session tickets: what lets a client agree again without the whole handshake. The keys can be given to another process.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};

/// How long a key makes tickets; for as long again it reads them.
const KEY_LIFE: Duration = Duration::from_secs(6 * 60 * 60);

const NAME_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;

/// Makes and reads tickets.
pub(crate) struct Tickets {
    keys: Mutex<Vec<Key>>,
    random: SystemRandom,
}

/// A key, by whose name a ticket says which one it is of.
struct Key {
    name: [u8; NAME_BYTES],
    secret: [u8; SECRET_BYTES],
    made: SystemTime,
    cipher: LessSafeKey,
}

/// A key on its way to another process of this proxy, and nowhere else.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TicketKey {
    /// Name and secret, in base64.
    key: String,
    made_unix_seconds: u64,
}

impl std::fmt::Debug for TicketKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TicketKey").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl Key {
    fn of(name: [u8; NAME_BYTES], secret: [u8; SECRET_BYTES], made: SystemTime) -> Option<Self> {
        let cipher = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &secret).ok()?);
        Some(Self { name, secret, made, cipher })
    }

    fn is_within(&self, life: Duration) -> bool {
        // A clock that went back makes no key older.
        self.made.elapsed().is_ok_and(|age| age < life) || self.made > SystemTime::now()
    }
}

impl Tickets {
    /// Goes on with the keys of another process; makes one with the first ticket where there is none.
    pub(crate) fn new(inherited: &[TicketKey]) -> Self {
        let keys = inherited.iter().filter_map(|inherited| {
            let text = STANDARD.decode(&inherited.key).ok()?;
            let (name, secret) = text.split_at_checked(NAME_BYTES)?;
            let made = SystemTime::UNIX_EPOCH + Duration::from_secs(inherited.made_unix_seconds);
            Key::of(name.try_into().ok()?, secret.try_into().ok()?, made)
        });
        Self { keys: Mutex::new(keys.collect()), random: SystemRandom::new() }
    }

    /// Returns the keys for another process.
    pub(crate) fn keys(&self) -> Vec<TicketKey> {
        let keys = self.keys.lock();
        let given = keys.iter().map(|key| TicketKey {
            key: STANDARD.encode([&key.name[..], &key.secret].concat()),
            made_unix_seconds: key.made.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
        });
        given.collect()
    }

    fn make_key(&self) -> Option<Key> {
        let (mut name, mut secret) = ([0; NAME_BYTES], [0; SECRET_BYTES]);
        self.random.fill(&mut name).ok()?;
        self.random.fill(&mut secret).ok()?;
        Key::of(name, secret, SystemTime::now())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(2 * KEY_LIFE.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut keys = self.keys.lock();
        if !keys.last().is_some_and(|key| key.is_within(KEY_LIFE)) {
            keys.retain(|key| key.is_within(2 * KEY_LIFE));
            keys.push(self.make_key()?);
        }
        let key = keys.last()?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let (aad, number) = (Aad::from(key.name), Nonce::assume_unique_for_key(nonce));
        key.cipher.seal_in_place_append_tag(number, aad, &mut sealed).ok()?;
        Some([&key.name[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME_BYTES)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.keys.lock();
        let key = keys.iter().find(|key| key.name == name && key.is_within(2 * KEY_LIFE))?;
        let mut opened = sealed.to_vec();
        let number = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let length = key.cipher.open_in_place(number, Aad::from(key.name), &mut opened).ok()?.len();
        opened.truncate(length);
        Some(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_reads_the_tickets_and_nobody_else() {
        let first = Tickets::new(&[]);
        let ticket = first.encrypt(b"session").unwrap();
        assert_eq!(first.decrypt(&ticket).unwrap(), b"session");
        let keys: Vec<TicketKey> =
            serde_json::from_str(&serde_json::to_string(&first.keys()).unwrap()).unwrap();
        let second = Tickets::new(&keys);
        assert_eq!(second.decrypt(&ticket).unwrap(), b"session");
        assert_eq!(second.decrypt(&second.encrypt(b"").unwrap()).unwrap(), b"");
        assert_eq!(second.keys().len(), 1, "it goes on with the same key");
        assert!(Tickets::new(&[]).decrypt(&ticket).is_none());
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert!(first.decrypt(&changed).is_none() && first.decrypt(&ticket[..at]).is_none(), "{at}");
        }
        assert!(!format!("{keys:?}").contains(&keys[0].key));
    }

    #[test]
    fn keys_grow_old() {
        let tickets = Tickets::new(&[]);
        let ticket = tickets.encrypt(b"x").unwrap();
        tickets.keys.lock()[0].made -= KEY_LIFE;
        assert!(tickets.decrypt(&ticket).is_some(), "it still reads");
        let later = tickets.encrypt(b"y").unwrap();
        assert_ne!(ticket[..NAME_BYTES], later[..NAME_BYTES], "another key makes");
        tickets.keys.lock()[0].made -= KEY_LIFE;
        assert!(tickets.decrypt(&ticket).is_none() && tickets.decrypt(&later).is_some());
    }
}
