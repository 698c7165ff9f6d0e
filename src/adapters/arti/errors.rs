//! What arti's errors mean for a delivery, and for the operator.
//!
//! [`classify`] goes by arti's stable error kinds. Two of them say less than they seem to: `BadApiUsage` is what arti
//! says of a stream on a circuit that has just died, and a rendezvous that timed out is the remote network's time-out.
//! A kind that a later arti adds counts as a failed rendezvous: the destination is tried again, on a fresh circuit.

use std::{io, path::PathBuf};

use arti_client::{Error, HasKind as _};
use tidegate_schemas::outcome::DeliveryError;
use tor_error::{ErrorKind, ErrorReport as _};

use super::runtime::TaskEnded;

/// Why the Tor client could not be started or asked. Shown to operators; holds paths, never an onion address.
#[derive(Debug, thiserror::Error)]
pub enum ArtiError {
    /// A setting that arti refuses.
    #[error("cannot configure the Tor client: {reason}")]
    Config {
        /// arti's words.
        reason: String,
    },
    /// No threads, or no folder.
    #[error("cannot start the Tor client")]
    System(#[from] io::Error),
    /// Another process uses the state folder.
    #[error("another process uses the Tor client's state folder: stop it, or give this one a data folder of its own")]
    InUse,
    /// arti refuses to start.
    #[error("cannot start the Tor client: {reason}")]
    Start {
        /// arti's words, with its hint where it has one.
        reason: String,
    },
    /// The Tor network wants a newer arti.
    #[error("this version's Tor code is too old for the Tor network: update tidegate")]
    Obsolete,
    /// The processes before this one ended soon after Tor was started, as arti ends one that is too old.
    #[error(
        "the last {starts} starts of Tor each ended with the whole process, as happens when this version is too old for the Tor \
         network: update tidegate. Tor is tried again after {} minutes; to try at once, remove {} and start again",
        super::breadcrumb::HOLD.as_secs() / 60,
        .file.display()
    )]
    Suspected {
        /// How many.
        starts: u32,
        /// The file that counts them.
        file: PathBuf,
    },
    /// No connection to the Tor network.
    #[error("cannot connect to the Tor network: {reason}")]
    Bootstrap {
        /// What keeps it.
        reason: String,
    },
    /// A client authorization key could not be stored or removed.
    #[error("cannot change the client authorization keys of the Tor client: {reason}")]
    Keys {
        /// arti's words.
        reason: String,
    },
    /// The onion service could not be launched.
    #[error("cannot launch the onion service: {reason}")]
    Host {
        /// arti's words.
        reason: String,
    },
    /// A defect: a task of the Tor client panicked.
    #[error(transparent)]
    Ended(#[from] TaskEnded),
}

impl ArtiError {
    /// An error of creating the client.
    pub(super) fn start(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::LocalResourceAlreadyInUse => Self::InUse,
            ErrorKind::SoftwareDeprecated => Self::Obsolete,
            _ => Self::Start { reason: in_words(error) },
        }
    }

    /// An error of connecting to the network.
    pub(super) fn bootstrap(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::SoftwareDeprecated => Self::Obsolete,
            _ => Self::Bootstrap { reason: in_words(error) },
        }
    }
}

/// arti's report of the whole chain of causes, and its hint (how to mend permissions, for example).
pub(super) fn in_words(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{} ({hint})", error.report()),
        None => error.report().to_string(),
    }
}

/// How an attempt that ended with this error failed.
#[must_use]
pub fn classify(error: &Error) -> DeliveryError {
    classify_kind(error.kind())
}

fn classify_kind(kind: ErrorKind) -> DeliveryError {
    use ErrorKind as Kind;
    match kind {
        // No directory of the service's has it, or none would answer.
        Kind::OnionServiceNotFound | Kind::TorDirectoryError => DeliveryError::DescriptorNotFound,
        Kind::OnionServiceNotRunning | Kind::OnionServiceConnectionFailed => DeliveryError::IntroductionFailed,
        Kind::OnionServiceMissingClientAuth => DeliveryError::ClientAuthMissing,
        Kind::OnionServiceWrongClientAuth => DeliveryError::ClientAuthWrong,
        // The circuit to the service stands; what it forwards to doesn't, or it has no such port.
        Kind::RemoteStreamError
        | Kind::RemoteStreamClosed
        | Kind::RemoteStreamReset
        | Kind::RemoteConnectionRefused
        | Kind::RemoteHostNotFound
        | Kind::RemoteHostResolutionFailed
        | Kind::ExitPolicyRejected => DeliveryError::ServiceDown,
        Kind::RemoteNetworkTimeout | Kind::TorNetworkTimeout | Kind::ExitTimeout => DeliveryError::ConnectTimeout,
        // Our own side isn't there.
        Kind::TorAccessFailed
        | Kind::BootstrapRequired
        | Kind::DirectoryExpired
        | Kind::TorDirectoryUnusable
        | Kind::ClockSkew
        | Kind::LocalNetworkError
        | Kind::LocalResourceExhausted
        | Kind::LocalResourceAlreadyInUse
        | Kind::PersistentStateAccessFailed
        | Kind::PersistentStateCorrupted
        | Kind::CacheAccessFailed
        | Kind::CacheCorrupted
        | Kind::FsPermissions
        | Kind::ReactorShuttingDown
        | Kind::ArtiShuttingDown
        | Kind::SoftwareDeprecated => DeliveryError::UplinkNotReady,
        Kind::Internal
        | Kind::InvalidStreamTarget
        | Kind::ForbiddenStreamTarget
        | Kind::OnionServiceAddressInvalid
        | Kind::InvalidConfig
        | Kind::InvalidConfigTransition
        | Kind::FeatureDisabled
        | Kind::NotImplemented
        | Kind::KeystoreAccessFailed
        | Kind::KeystoreCorrupted => DeliveryError::Internal,
        // CircuitCollapse, CircuitRefused, RelayTooBusy, TransientFailure, BadApiUsage, ... and NoPath, which a service can
        // bring about by its choice of introduction points: so it is the destination that waits.
        _ => DeliveryError::RendezvousFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_schemas::outcome::Disposition;

    #[test]
    fn what_our_side_lacks_is_not_held_against_the_destination() {
        for kind in [ErrorKind::BootstrapRequired, ErrorKind::TorAccessFailed, ErrorKind::DirectoryExpired] {
            assert_eq!(classify_kind(kind).disposition(), Disposition::Snooze, "{kind:?}");
        }
    }

    #[test]
    fn what_the_service_lacks_is_told_apart() {
        for (kind, error) in [
            (ErrorKind::OnionServiceNotFound, DeliveryError::DescriptorNotFound),
            (ErrorKind::OnionServiceConnectionFailed, DeliveryError::IntroductionFailed),
            (ErrorKind::OnionServiceMissingClientAuth, DeliveryError::ClientAuthMissing),
            (ErrorKind::OnionServiceWrongClientAuth, DeliveryError::ClientAuthWrong),
            (ErrorKind::RemoteStreamError, DeliveryError::ServiceDown),
            (ErrorKind::RemoteNetworkTimeout, DeliveryError::ConnectTimeout),
            (ErrorKind::BadApiUsage, DeliveryError::RendezvousFailed),
        ] {
            assert_eq!(classify_kind(kind), error, "{kind:?}");
        }
    }
}
