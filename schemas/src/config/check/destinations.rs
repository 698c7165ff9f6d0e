//! `[destination.NAME]`: the onion service, its keys, and the agreement with it. The same check holds for a destination that is
//! made through the admin API ([`check_destination`]).

use super::{Checker, Surroundings, check_openings};
use crate::{
    agreement::{DESTINATIONS_MAX, Destination, DestinationKeys},
    config::{
        Problem, Problems,
        file::{Declaration, DestinationSource},
        raw::RawDestination,
    },
    history::Canonical,
    id::DestinationId,
    onion::{OnionAddress, OnionEndpoint},
};
use std::collections::BTreeMap;

/// A destination that can be used.
#[derive(Debug, Clone)]
pub struct CheckedDestination {
    /// Checked.
    pub destination: Destination,
    /// What deserves a second look.
    pub warnings: Vec<Problem>,
}

/// Checks one destination by itself; paths of problems begin with `path`.
///
/// # Errors
/// All problems at once.
pub fn check_destination(
    id: &DestinationId,
    raw: &RawDestination,
    around: &Surroundings<'_>,
    path: &str,
) -> Result<CheckedDestination, Problems> {
    let mut checker = Checker::new(around);
    match checker.destination(id.as_str(), raw, path) {
        Some(destination) => {
            let warnings = checker.warnings;
            checker.problems.into_result(CheckedDestination { destination, warnings })
        }
        None => Err(checker.problems),
    }
}

/// What was written of each destination. Where it stands, the text knows.
pub(super) fn declarations(raw: &BTreeMap<String, RawDestination>) -> BTreeMap<DestinationId, Declaration> {
    let nowhere = DestinationSource::File { file: String::new(), line: 0 };
    let named = raw.iter().filter_map(|(name, raw)| {
        Some((name.parse().ok()?, Declaration { raw: Canonical::of(raw), source: nowhere.clone() }))
    });
    named.collect()
}

impl Checker<'_> {
    pub(super) fn destinations(&mut self, raw: BTreeMap<String, RawDestination>) -> Vec<Destination> {
        if raw.len() > DESTINATIONS_MAX {
            self.refuse("destination", format!("more than {DESTINATIONS_MAX} destinations"), "");
        }
        let mut services: BTreeMap<String, DestinationId> = BTreeMap::new();
        let mut checked = Vec::with_capacity(raw.len());
        for (name, raw) in raw {
            let path = format!("destination.{name}");
            let Some(destination) = self.destination(&name, &raw, &path) else { continue };
            if let Some(other) = services.insert(destination.endpoint.reveal(), destination.id.clone()) {
                let message = format!("the same onion service as {other}: it can tell that both are this gateway's");
                self.warn(format!("{path}.onion"), message, "use one destination, unless that is meant");
            }
            checked.push(destination);
        }
        checked
    }

    fn destination(&mut self, name: &str, raw: &RawDestination, path: &str) -> Option<Destination> {
        let id = name.parse().map_err(|error| {
            self.refuse(path, format!("{name:?} can't be the alias of a destination: {error}"), "");
        });
        let endpoint = self.endpoint(raw.onion.as_deref(), path);
        let keys = self.keys(raw, path, endpoint.as_ref().map(|endpoint| &endpoint.address));
        let agreement = raw.agreement().check(path, raw.receipt_key.is_some());
        let agreement = self.problems.collect(agreement)?;
        let openings = check_openings(
            &agreement,
            self.around.occasion,
            self.around.now,
            &format!("{path}.windows"),
            &format!("{path}.lifetime.max_age"),
        );
        let warnings = self.problems.collect(openings)?;
        self.warnings.extend(warnings);
        if agreement.receiver_memory.is_none() {
            self.warn(
                format!("{path}.receiver_memory"),
                "it is not declared for how long the receiver remembers message ids: a message that is sent again after that is stored twice",
                "ask its operator, and add receiver_memory = \"30d\", say",
            );
        }
        Some(Destination { id: id.ok()?, endpoint: endpoint?, agreement, keys })
    }

    fn endpoint(&mut self, onion: Option<&str>, path: &str) -> Option<OnionEndpoint> {
        let Some(onion) = onion else {
            let hint = "add onion = \"...onion\", which `tidegate receiver` prints at its start";
            self.refuse(format!("{path}.onion"), "a destination needs the address of its onion service", hint);
            return None;
        };
        // People copy addresses from a browser.
        let onion = onion.trim();
        let onion = onion.strip_prefix("http://").unwrap_or(onion).trim_end_matches('/');
        let parsed = onion.parse();
        if let Err(error) = &parsed {
            let error: &crate::onion::ParseOnionEndpointError = error;
            let hint = "write 56 characters and \".onion\", with \":PORT\" unless it is 80";
            self.refuse(format!("{path}.onion"), error.to_string(), hint);
        }
        parsed.ok()
    }

    fn keys(&mut self, raw: &RawDestination, path: &str, address: Option<&OnionAddress>) -> DestinationKeys {
        let client_auth = raw
            .client_auth
            .as_ref()
            .and_then(|secret| self.client_auth(secret, &format!("{path}.client_auth"), address));
        let write_key = raw.write_key.as_ref().and_then(|secret| self.write_key(secret, &format!("{path}.write_key")));
        let receipt_key =
            raw.receipt_key.as_ref().and_then(|text| self.receipt_key(text, &format!("{path}.receipt_key")));
        DestinationKeys { client_auth, write_key, receipt_key, ..DestinationKeys::default() }
    }
}
