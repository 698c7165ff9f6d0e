//! The check of destinations, without any file.

use crate::ports::{
    clock::Clock,
    destination_check::{DestinationCheck, PATH},
};
use std::{io::ErrorKind, path::Path, sync::Arc};
use tidegate_schemas::{
    config::{
        Problems,
        check::{CheckedDestination, Occasion, Surroundings, check_destination},
        raw::RawDestination,
    },
    id::DestinationId,
};

/// Checks by this clock.
pub struct ToyCheck(pub Arc<dyn Clock>);

impl DestinationCheck for ToyCheck {
    fn check(
        &self,
        id: &DestinationId,
        raw: &RawDestination,
        occasion: Occasion,
    ) -> Result<CheckedDestination, Problems> {
        let around = Surroundings {
            base_dir: Path::new("/"),
            state_dir: Path::new("/"),
            occasion,
            now: self.0.now(),
            mqtt_tls: false,
            read_file: &|_| Err(ErrorKind::NotFound.into()),
            read_registry: &|_| Err(ErrorKind::NotFound.into()),
        };
        check_destination(id, raw, &around, PATH)
    }
}
