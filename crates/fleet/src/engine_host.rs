//! The real host: an engine and a shell, over SSH or on this machine.

mod accessory;
mod agent;
mod bootstrap;
mod build;
mod build_program;
mod canary;
mod certificate;
mod connection;
mod container;
mod courier;
mod deliver;
mod expand;
mod explain;
mod files;
mod gate;
mod guard;
mod guard_scripts;
mod guard_state;
mod handover;
mod harden;
mod health;
mod holder;
mod idle;
mod image;
mod kamal_proxy;
mod known;
mod lease_file;
mod link;
mod local_registry;
mod neighbour_scripts;
mod neighbours;
mod observe;
mod one_off;
mod packages;
mod perform;
mod port;
mod program_output;
mod proxy;
mod proxy_files;
mod proxy_list;
mod proxy_upgrade;
mod queries;
mod reachability;
mod registry;
mod release_command;
mod scripts;
mod server;
mod shell;
mod soak;
mod staging;
mod staging_scripts;
#[cfg(test)]
mod state_tests;
mod trust;
mod workshop;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_model::{ConnectionSettings, HostName};
use freehold_plan::{ObservedHost, Plan, Step};

use crate::event::Watch;
use crate::host::{
    Host, HostError, LeaseAttempt, LeaseRequest, LeaseToken, Outcome, Scope, StepContext, StepError,
};
use crate::journal::{JournalEntry, StoredJournal};

pub use bootstrap::EngineState;
pub use connection::{Reach, SshReach};
pub use guard::{
    GuardChange, GuardFailure, GuardMeans, GuardState, GuardUndo, HostSocket, LoadedGuard, PublishedBy,
};
pub use health::Examination;
pub use local_registry::LOCAL_REGISTRY;
pub use one_off::{Attached, AttachedControl, MissingImage, OneOff};
pub use proxy_files::{BootFile, ProxyDetails, ProxyHistory, ServiceDetails};
pub use proxy_list::{ServedCertificate, ServedService, ServedTarget};
pub use reachability::{ReachReport, ReachTarget, Reachability, reach_from_here};
pub use server::{ServerCommand, ServerControl};
pub use trust::ImageTrust;
pub use workshop::{BuildContext, BuildDestination, Stock, Workshop};

/// A host with a container engine, reached over SSH or on this machine.
///
/// It connects when it is first needed and again after the connection broke.
pub struct EngineHost {
    name: HostName,
    reach: Reach,
    workshop: Arc<Workshop>,
    watch: Arc<dyn Watch>,
    link: idle::Slot<link::Link>,
}

impl EngineHost {
    /// Names a host. Nothing is connected yet.
    #[must_use]
    pub fn new(name: HostName, reach: Reach, workshop: Arc<Workshop>, watch: Arc<dyn Watch>) -> Self {
        let link = idle::Slot::new(ConnectionSettings::default().pool_idle_timeout);
        Self { name, reach, workshop, watch, link }
    }

    /// Sets how long a connection that nothing uses stays open.
    #[must_use]
    pub fn with_idle_timeout(mut self, limit: Duration) -> Self {
        self.link = idle::Slot::new(limit);
        self
    }
}

impl std::fmt::Debug for EngineHost {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("EngineHost").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Host for EngineHost {
    fn name(&self) -> &HostName {
        &self.name
    }

    async fn observe(&self, scope: &Scope<'_>) -> Result<ObservedHost, HostError> {
        self.look(scope.project).await
    }

    async fn perform(&self, step: &Step, context: &StepContext<'_>) -> Result<Outcome, StepError> {
        self.do_step(step, context).await
    }

    async fn undo(&self, step: &Step, context: &StepContext<'_>) -> Result<(), StepError> {
        self.undo_step(step, context).await
    }

    async fn acquire_lease(&self, request: &LeaseRequest) -> Result<LeaseAttempt, HostError> {
        self.take_lock(request).await
    }

    async fn renew_lease(&self, token: &LeaseToken) -> Result<bool, HostError> {
        match self.fenced_script("renew the deploy lock", &scripts::renew(token)).await {
            Ok(_) => Ok(true),
            Err(HostError::Fenced { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn release_lease(&self, token: &LeaseToken) -> Result<(), HostError> {
        self.fenced_script("release the deploy lock", &scripts::release(token)).await.map(drop)
    }

    async fn raise_fence(&self, token: &LeaseToken) -> Result<(), HostError> {
        let link = self.link().await?;
        let script = scripts::raise_fence(token, link.session_pid);
        self.fenced_script("register the deploy", &script).await.map(drop)
    }

    async fn read_fence(&self, stem: &str) -> Result<u64, HostError> {
        let output = self.plain_script("read the fencing number", &scripts::read_fence(stem)).await?;
        output.stdout.trim().parse().map_err(|_| HostError::Stored {
            host: self.name.clone(),
            path: format!("{}/fence", freehold_plan::state_directory(stem)),
            message: "not a number".to_owned(),
        })
    }

    async fn begin_journal(&self, token: &LeaseToken, plan: Option<&Plan>) -> Result<(), HostError> {
        let plan = plan.map(serde_json::to_string).transpose().map_err(|error| HostError::Stored {
            host: self.name.clone(),
            path: "plan.json".to_owned(),
            message: error.to_string(),
        })?;
        self.fenced_script("begin the journal", &scripts::begin_journal(token, plan.as_deref()))
            .await
            .map(drop)
    }

    async fn append_journal(&self, token: &LeaseToken, entries: &[JournalEntry]) -> Result<(), HostError> {
        let lines: Result<Vec<String>, _> = entries.iter().map(serde_json::to_string).collect();
        let lines = lines.map_err(|error| HostError::Stored {
            host: self.name.clone(),
            path: "journal".to_owned(),
            message: error.to_string(),
        })?;
        let script = scripts::append_journal(token, &lines.join("\n"));
        self.fenced_script("write the journal", &script).await.map(drop)
    }

    async fn read_journal(&self, stem: &str) -> Result<Option<StoredJournal>, HostError> {
        self.stored_journal(stem).await
    }

    async fn end_journal(&self, token: &LeaseToken) -> Result<(), HostError> {
        self.fenced_script("end the journal", &scripts::end_journal(token)).await.map(drop)
    }

    async fn append_audit(&self, stem: &str, messages: &[String]) -> Result<(), HostError> {
        self.plain_script("write the audit log", &scripts::append_audit(stem, &messages.join("\n")))
            .await
            .map(drop)
    }
}
