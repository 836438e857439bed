//! Decides: a project and what was observed on its hosts become stages of steps.
//!
//! Nothing here waits, reads a clock or draws a random number: identifiers, time and random bytes come in as
//! arguments, so that the same inputs give the same plan and `freehold plan` prints the very plan that `deploy` runs.
//!
//! Start with [`rollout`], which replaces the running release over the whole fleet, and [`Plan`], the value that the
//! executor walks through, that is printed, saved for `resume` and compared in tests.

mod accessory;
mod build_tool;
mod canary;
pub mod doctor;
mod gate;
mod guard;
mod hardening;
mod images;
mod kamal_proxy;
mod lifecycle;
mod naming;
mod observed;
mod peer;
mod plan;
mod proxy;
mod removal;
mod request;
mod retention;
mod rollback;
mod rollout;
mod schedule;
mod stages;
mod tidy;
mod title;

pub use accessory::{
    AccessoryError, AccessoryRequest, AccessoryStep, AccessoryVerb, CONFIGURATION_LABEL, ObservedAccessories,
    ObservedAccessory, accessory, accessory_configuration,
};
pub use build_tool::{
    BuildTool, Buildx, BuildxCommand, BuildxKind, PackCommand, build_tool, expand_variables,
};
pub use canary::{
    CanaryError, CanaryPromotion, ObservedCanary, ObservedSide, ObservedVerdict, VerdictState, canary_abort,
    canary_promote, canary_start,
};
pub use gate::{Gate, GateError, set_gate};
pub use guard::{
    GuardError, GuardPolicy, GuardRule, GuardRules, GuardVerdict, HostNetwork, InterfaceAddress,
    SshEndpoints, guard, is_of_containers, ruleset, unguarded,
};
pub use hardening::{
    HardeningAction, HardeningChange, HardeningItem, HardeningPlan, PackageManager, ParseFactsError,
    ServerFacts, SshdFacts, harden, hardening_sysctl_names,
};
pub use images::{BuiltImage, built_images, hosts_of_image, image_of, registry_name, repositories};
pub use kamal_proxy::{KamalDeploy, kamal_deploy, kamal_flags, probe_service};
pub use lifecycle::{LifecycleError, start, stop};
pub use naming::{
    APPS_CONFIG, APPS_CONFIG_IN_PROXY, NETWORK, RELEASE_LABEL, canary_file, latest_image, role_labels,
    state_directory,
};
pub use observed::{
    CertificateState, ContainerState, Holder, Observed, ObservedCertificate, ObservedContainer, ObservedHost,
    ObservedImage, ObservedProxy, ObservedRoute, ProxyMaker, Route,
};
pub use peer::introduce;
pub use plan::{Action, Lane, OnFailure, Plan, PlanKind, Stage, StageKind, Step, StepId, Undo};
pub use proxy::{
    Bridging, Handover, Incoming, PROXY_BEFORE, ProxyPlanError, ProxyVerb, handover, kamal_image, proxy,
    remove_proxy,
};
pub use removal::remove;
pub use request::{
    AssetBridge, BuildPlaceName, ContainerRequest, ImageAge, ImageOrigin, ImagePlace, ImageScan,
    PlacedDirectory, PlacedFile, ProxyFiles, Readiness, ReleaseCommand, Subject,
};
pub use rollback::{RollbackError, RollbackTarget, rollback};
pub use rollout::{ImageSource, Namesakes, ProxyBoot, RolloutError, RolloutRequest, rollout};
pub use schedule::{
    JOB_LABEL, ObservedAgent, ObservedSchedule, SCHEDULE_LABEL, ScheduleRequest, schedule_name,
};
pub use tidy::{AppPart, Prune, StaleContainer, prune, remove_part, stale_containers, stop_stale};
