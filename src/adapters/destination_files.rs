//! The check of destinations that are made through the admin API: as that of the config, with the files of their keys.
//!
//! Those files lie in the folder of the config, or below: whoever has the admin token shall not have the gateway read, and send to an
//! onion service of their own, whatever file of the machine they name.

use crate::cli::config_files;
use std::{
    path::{Component, Path, PathBuf},
    sync::Arc,
};
use tidegate_actors::ports::{
    clock::Clock,
    destination_check::{DestinationCheck, PATH},
};
use tidegate_schemas::{
    config::{
        Problem, Problems,
        check::{CheckedDestination, Occasion, Surroundings, check_destination},
        raw::{RawDestination, RawSecret},
    },
    id::DestinationId,
};

/// The check.
pub struct DestinationFiles {
    /// The folder of the config file.
    pub base_dir: PathBuf,
    /// The state folder.
    pub state_dir: PathBuf,
    /// Now, for the openings of the year to come.
    pub clock: Arc<dyn Clock>,
}

impl DestinationCheck for DestinationFiles {
    fn check(
        &self,
        id: &DestinationId,
        raw: &RawDestination,
        occasion: Occasion,
    ) -> Result<CheckedDestination, Problems> {
        let mut problems = Problems::default();
        for (secret, key) in [(&raw.client_auth, "client_auth"), (&raw.write_key, "write_key")] {
            if let Some(RawSecret { file }) = secret
                && !is_below(file)
            {
                let message = "the file of a key lies in the folder of the config, or below, and is named from there";
                problems.push(Problem::new(format!("{PATH}.{key}.file"), message, "such as \"cardiology.write_key\""));
            }
        }
        problems.into_result(())?;
        let around = Surroundings {
            base_dir: &self.base_dir,
            state_dir: &self.state_dir,
            occasion,
            now: self.clock.now(),
            mqtt_tls: cfg!(feature = "mqtt-tls"),
            read_file: &config_files::read_file,
            read_registry: &config_files::read_registry,
        };
        check_destination(id, raw, &around, PATH)
    }
}

fn is_below(file: &Path) -> bool {
    file.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::adapters::system_clock::SystemClock;

    #[test]
    fn keys_are_read_from_the_folder_of_the_config_and_from_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "swordfish-swordfish").unwrap();
        let check = DestinationFiles {
            base_dir: folder.path().to_owned(),
            state_dir: folder.path().join("state"),
            clock: Arc::new(SystemClock::default()),
        };
        let with = |file: &str| RawDestination {
            onion: Some("2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion".into()),
            write_key: Some(RawSecret { file: file.into() }),
            ..RawDestination::default()
        };
        let id = "a".parse().unwrap();
        assert_eq!(
            check.check(&id, &with("key"), Occasion::New).unwrap().destination.keys.write_key.as_deref(),
            Some("swordfish-swordfish")
        );
        for elsewhere in ["/etc/hostname", "../key", "x/../../key"] {
            let problems = check.check(&id, &with(elsewhere), Occasion::New).unwrap_err();
            assert!(
                problems.to_string().starts_with("destination.write_key.file: the file of a key lies"),
                "{problems}"
            );
        }
    }
}
