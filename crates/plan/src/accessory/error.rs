use freehold_model::{AccessoryName, Diagnose, ErrorKind, HostName, InvalidName};

/// Why an operation on accessories could not be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessoryError {
    /// There is no container to start or stop.
    #[error("host `{host}` has no container of accessory `{name}`")]
    NoContainer {
        /// The host.
        host: HostName,
        /// The accessory.
        name: AccessoryName,
    },
    /// A key of the deploy file that only Freehold's proxy has.
    #[error(
        "the kamal-proxy on host `{host}` has nothing like `proxy: {key}`, which accessory `{name}` asks for"
    )]
    OwnProxyOnly {
        /// The host.
        host: HostName,
        /// The accessory.
        name: AccessoryName,
        /// The key below `proxy`.
        key: &'static str,
    },
    /// A name drawn from that of the container breaks Docker's rules.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl Diagnose for AccessoryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoContainer { .. } | Self::OwnProxyOnly { .. } => ErrorKind::Failed,
            Self::Name(_) => ErrorKind::Configuration,
        }
    }

    fn help(&self) -> Vec<String> {
        match self {
            Self::NoContainer { name, .. } => {
                vec![format!("boot it first: `freehold accessory boot {name}`")]
            }
            Self::OwnProxyOnly { key, .. } => {
                vec![format!("let Freehold's proxy take over: `freehold adopt`, or remove `{key}`")]
            }
            Self::Name(_) => Vec::new(),
        }
    }
}
