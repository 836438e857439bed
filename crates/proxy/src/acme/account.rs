//! Certificate authorities, and our accounts at them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use instant_acme::{Account, AccountCredentials, NewAccount};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::fleet::Fleet;
use super::managed::Managed;
use super::order::OrderError;
use super::store::{Progress, Store};
use super::{ExternalAccount, Keeper, USUAL_DIRECTORY};
use crate::control::chain;
use crate::log::Log;

/// A certificate authority, with the account there and the certificates that it has issued.
pub(super) struct Authority {
    /// Empty for the usual one.
    pub(super) directory: String,
    pub(super) contact: Option<String>,
    pub(super) store: Store,
    /// The other proxies with which it is shared.
    pub(super) fleet: Option<Arc<Fleet>>,
    /// The first pause after a failure, in seconds.
    pub(super) retry: i64,
    /// How orders stood when the proxy started.
    pub(super) stored: BTreeMap<String, Progress>,
    pub(super) names: Mutex<BTreeMap<String, Arc<Managed>>>,
    /// Those that clients asked for and somebody has allowed.
    pub(super) on_demand: Mutex<BTreeMap<String, Arc<Managed>>>,
    account: tokio::sync::Mutex<Option<Account>>,
    /// Before when it wants to hear nothing more.
    pub(super) not_before: Arc<Mutex<Option<SystemTime>>>,
}

/// Where an authority's files are.
pub(super) struct Place<'a> {
    pub(super) certificates: &'a Path,
    pub(super) fleet: Option<Arc<Fleet>>,
    pub(super) retry: i64,
}

/// The account as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredAccount {
    contact: Option<String>,
    credentials: AccountCredentials,
}
impl Authority {
    /// Makes an authority that was not talked to yet.
    pub(super) fn new(directory: &str, contact: Option<String>, place: Place<'_>, log: &Log) -> Self {
        let Place { certificates, fleet, retry } = place;
        let store = Store::new(certificates, directory, fleet.clone());
        // What cannot be read costs no more than a few orders more.
        let stored = store.orders().unwrap_or_else(|error| {
            log.error("Certificate orders not read", &[("error", &chain(&error))]);
            BTreeMap::new()
        });
        Self {
            directory: directory.to_owned(),
            contact,
            store,
            fleet,
            retry,
            stored,
            names: Mutex::default(),
            on_demand: Mutex::default(),
            account: tokio::sync::Mutex::default(),
            not_before: Arc::default(),
        }
    }

    /// Returns where its directory is.
    pub(super) fn url(&self) -> &str {
        if self.directory.is_empty() { USUAL_DIRECTORY } else { &self.directory }
    }

    /// Stores how its orders stand.
    pub(super) fn save(&self, log: &Log) {
        let on_demand: Vec<_> = self.on_demand.lock().values().cloned().collect();
        let names = self.names.lock();
        let known = names
            .values()
            .chain(&on_demand)
            .map(|managed| (managed.name.clone(), managed.progress.lock().clone()));
        // Those of names that no service wants just now stay as they are.
        let orders = self.stored.clone().into_iter().chain(known).collect();
        if let Err(error) = self.store.put_orders(&orders) {
            log.error("Certificate orders not stored", &[("error", &chain(&error))]);
        }
    }
}
impl Keeper {
    fn client(&self, authority: &Authority) -> Box<Client> {
        Box::new(Client {
            resolver: Arc::clone(&self.resolver),
            tls: self.tls.clone(),
            limit: self.limits.acme_request,
            not_before: Arc::clone(&authority.not_before),
        })
    }

    /// Returns our account, by turns the one at hand, the stored one, and a new one.
    pub(super) async fn account(&self, authority: &Authority) -> Result<Account, OrderError> {
        let mut slot = authority.account.lock().await;
        if let Some(account) = &*slot {
            return Ok(account.clone());
        }
        self.fetch_account(authority).await;
        let stored = authority.store.account::<StoredAccount>().unwrap_or_else(|error| {
            self.log.error("Account at the certificate authority not read", &[("error", &chain(&error))]);
            None
        });
        let account = match stored {
            None => self.create_account(authority).await?,
            Some(StoredAccount { contact, credentials }) => {
                let builder = Account::builder_with_http(self.client(authority));
                let account = builder.from_credentials(credentials).await?;
                if contact != authority.contact {
                    let contacts: Vec<String> = contacts(authority);
                    let contacts: Vec<&str> = contacts.iter().map(String::as_str).collect();
                    account.update_contacts(&contacts).await?;
                    self.note_contact(authority);
                }
                account
            }
        };
        *slot = Some(account.clone());
        Ok(account)
    }

    /// Fetches the account of the fleet, where there is one and none is stored: some authorities bind only one to a key.
    async fn fetch_account(&self, authority: &Authority) {
        let Some(fleet) = &authority.fleet else { return };
        if matches!(authority.store.account::<StoredAccount>(), Ok(Some(_))) {
            return;
        }
        let subject = authority.store.account_subject();
        let stored = fleet.ask(&subject).await.into_iter().find_map(|state| state.stored);
        if let Some(Err(error)) = stored.map(|text| authority.store.put(&subject, &text)) {
            self.log.error("Account at the certificate authority not stored", &[("error", &chain(&error))]);
        }
    }

    /// Makes a new account, in place of one that the authority does not know.
    pub(super) async fn new_account(&self, authority: &Authority) -> Result<Account, OrderError> {
        let mut slot = authority.account.lock().await;
        let account = self.create_account(authority).await?;
        *slot = Some(account.clone());
        Ok(account)
    }

    async fn create_account(&self, authority: &Authority) -> Result<Account, OrderError> {
        let contacts = contacts(authority);
        let contacts: Vec<&str> = contacts.iter().map(String::as_str).collect();
        let wanted =
            NewAccount { contact: &contacts, terms_of_service_agreed: true, only_return_existing: false };
        // The account that exists already is one at the authority that the proxy was started for.
        let is_usual = authority.directory == self.config.directory
            || (authority.directory.is_empty() && self.config.directory == USUAL_DIRECTORY);
        let external = self.config.external_account.as_ref().filter(|_| is_usual);
        let external = external.map(ExternalAccount::key).transpose()?;
        let builder = Account::builder_with_http(self.client(authority));
        let url = authority.url().to_owned();
        let (account, credentials) = builder.create(&wanted, url, external.as_ref()).await?;
        let stored = StoredAccount { contact: authority.contact.clone(), credentials };
        if let Err(error) = authority.store.put_account(&stored) {
            self.log.error("Account at the certificate authority not stored", &[("error", &chain(&error))]);
        }
        Ok(account)
    }

    fn note_contact(&self, authority: &Authority) {
        let stored = authority.store.account::<StoredAccount>().ok().flatten();
        let Some(stored) = stored else { return };
        let stored = StoredAccount { contact: authority.contact.clone(), ..stored };
        if let Err(error) = authority.store.put_account(&stored) {
            self.log.error("Account at the certificate authority not stored", &[("error", &chain(&error))]);
        }
    }
}
fn contacts(authority: &Authority) -> Vec<String> {
    authority.contact.iter().map(|contact| format!("mailto:{contact}")).collect()
}
