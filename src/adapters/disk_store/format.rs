//! The marker file `FORMAT`: what kind of store the folder holds.
//!
//! Both sled 0.34 and its successor open each other's folders as *empty* databases without a word; the marker is what stops
//! that. It also tells a store whose first opening never came to its end (which holds nothing, since no commit has returned)
//! from one whose data file has gone.

use super::engine::files;
use crate::crash_point::{self, CrashPoint};
use std::{fs, io::Write as _, path::Path};
use tidegate_schemas::{config::file::OutboxEngine, messages::outbox::StoreError};
use uuid::Uuid;

const FILE: &str = "FORMAT";
/// The next one, before it counts.
const DRAFT: &str = "FORMAT.new";
/// Of a store whose data lies in the folder itself.
const LAYOUT: &str = "1";
/// Of one whose data lies in the folder of a generation: a program that knows none of them must not make an empty one beside it.
const LAYOUT_OF_GENERATIONS: &str = "2";

/// What the marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// What the data is written by.
    pub engine: OutboxEngine,
    /// This store and no other: also in its data file and its checkpoint.
    pub id: Uuid,
    /// Whether the first opening came to its end; before that, the folder holds nothing.
    pub ready: bool,
    /// Which [generation](super::generations) of the data counts.
    pub generation: u64,
}

impl Format {
    /// A new store's.
    pub fn new(engine: OutboxEngine) -> Self {
        Self { engine, id: Uuid::new_v4(), ready: false, generation: 0 }
    }

    /// Reads the marker; `None` when there is none. `engine` is the one that is wanted.
    pub fn read(dir: &Path, engine: OutboxEngine) -> Result<Option<Self>, StoreError> {
        match fs::read(dir.join(FILE)) {
            Ok(bytes) => Self::parse(&String::from_utf8_lossy(&bytes), engine).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::Io(format!("reading {FILE}: {error}"))),
        }
    }

    /// Writes the marker, whole and durably.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        self.draft(dir)?;
        Self::turn(dir)
    }

    /// Writes what the marker is to say beside it, durably. What it says is not changed by that.
    pub fn draft(&self, dir: &Path) -> std::io::Result<()> {
        let state = if self.ready { "ready" } else { "creating" };
        let (layout, generation) = match self.generation {
            0 => (LAYOUT, String::new()),
            number => (LAYOUT_OF_GENERATIONS, format!("generation={number}\n")),
        };
        let backend = files(self.engine).backend;
        let text = format!("backend={backend}\nlayout={layout}\nuuid={}\nstate={state}\n{generation}", self.id);
        let mut file = fs::File::create(dir.join(DRAFT))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        crash_point::hit(CrashPoint::MarkerDrafted)
    }

    /// Makes the draft the marker. After an error it is not known which of the two it is.
    pub fn turn(dir: &Path) -> std::io::Result<()> {
        fs::rename(dir.join(DRAFT), dir.join(FILE))?;
        crash_point::hit(CrashPoint::MarkerReplaced)?;
        fs::File::open(dir)?.sync_all()
    }

    fn parse(text: &str, engine: OutboxEngine) -> Result<Self, StoreError> {
        let value = |name: &str| {
            text.lines().find_map(|line| line.split_once('=').filter(|(key, _)| *key == name)).map(|(_, value)| value)
        };
        let (backend, layout) = (value("backend"), value("layout"));
        let generation = match layout {
            Some(LAYOUT) => Some(0),
            Some(LAYOUT_OF_GENERATIONS) => value("generation").and_then(|number| number.parse().ok()),
            _ => None,
        };
        let (Some(generation), true) = (generation, backend == Some(files(engine).backend)) else {
            let shown =
                |value: Option<&str>| value.map_or("unknown".to_owned(), |text| text.chars().take(32).collect());
            return Err(mismatch(format!("backend={} layout={}", shown(backend), shown(layout)), engine));
        };
        let id = value("uuid").and_then(|text| Uuid::try_parse(text).ok());
        let ready = match value("state") {
            Some("ready") => Some(true),
            Some("creating") => Some(false),
            _ => None,
        };
        match (id, ready) {
            (Some(id), Some(ready)) => Ok(Self { engine, id, ready, generation }),
            _ => Err(StoreError::Corrupt(format!("its file {FILE} has no valid uuid or state"))),
        }
    }
}

/// "This is not ours", in the words of the error.
pub(super) fn mismatch(found: String, engine: OutboxEngine) -> StoreError {
    StoreError::Format { found, wanted: format!("backend={} layout={LAYOUT}", files(engine).backend) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    const SLED: OutboxEngine = OutboxEngine::Sled;

    #[test]
    fn it_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Format::read(dir.path(), SLED), Ok(None));
        for (ready, generation) in [(false, 0), (true, 0), (true, 7)] {
            let format = Format { ready, generation, ..Format::new(SLED) };
            format.write(dir.path()).unwrap();
            assert_eq!(Format::read(dir.path(), SLED), Ok(Some(format)));
        }
    }

    #[test]
    fn another_backend_or_layout_is_named() {
        let other = Format::parse("backend=redb-4\nlayout=7\n", SLED).unwrap_err().to_string();
        assert_eq!(
            other,
            "the outbox has format backend=redb-4 layout=7, this version reads backend=sled-0.34 layout=1"
        );
        assert!(matches!(Format::parse("", SLED), Err(StoreError::Format { .. })));
        assert!(matches!(Format::parse("backend=sled-0.34\nlayout=1\n", SLED), Err(StoreError::Corrupt(_))));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = Format::parse(&text, SLED);
        }
    }
}
