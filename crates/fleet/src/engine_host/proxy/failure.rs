//! What asking the proxy for something can end in.

use std::sync::Arc;

use freehold_model::{Diagnose, ErrorKind, HostName};
use freehold_wire::{ErrorCode, ProxyError};

use crate::host::{HostError, StepError};

/// What asking the proxy for something can end in.
pub(in crate::engine_host) enum ProxyFailure {
    Host(HostError),
    Proxy { operation: String, error: ProxyError },
}

impl ProxyFailure {
    /// Says whether the proxy answered that it does not understand the question.
    pub(in crate::engine_host) fn is_of_another_version(&self) -> bool {
        let Self::Proxy { error, .. } = self else { return false };
        matches!(
            error,
            ProxyError::Malformed { .. } | ProxyError::Refused { code: ErrorCode::UnknownRequest, .. }
        )
    }

    pub(in crate::engine_host) fn into_host_error(self, host: &HostName) -> HostError {
        match self {
            Self::Host(error) => error,
            Self::Proxy { operation, error } if error.kind() == ErrorKind::Unreachable => {
                let operation = format!("ask the proxy to {operation}");
                HostError::Lost { host: host.clone(), operation, source: Some(Arc::new(error)) }
            }
            Self::Proxy { operation, error } => HostError::Engine {
                host: host.clone(),
                operation: format!("ask the proxy to {operation}"),
                source: Arc::new(error),
            },
        }
    }

    /// A broken stream is a lost connection like any other: a step that may be done twice is tried again.
    pub(in crate::engine_host) fn into_step_error(self, host: &HostName) -> StepError {
        match self {
            Self::Host(error) => StepError::Host(error),
            Self::Proxy {
                operation,
                error: error @ (ProxyError::Closed { .. } | ProxyError::Transport { .. }),
            } => {
                let operation = format!("ask the proxy to {operation}");
                let source: Option<Arc<dyn std::error::Error + Send + Sync>> = Some(Arc::new(error));
                StepError::Host(HostError::Lost { host: host.clone(), operation, source })
            }
            Self::Proxy { operation, error } => {
                StepError::Proxy { host: host.clone(), operation, source: Arc::new(error) }
            }
        }
    }
}
