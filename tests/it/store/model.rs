//! Random histories of the whole Outbox on each engine, against the plain model that the memory store is held against, too: what is
//! acknowledged is there after every failed commit, end and crash.

use super::{OnDisk, cases, crashed_copy, open_with};
use proptest::prelude::*;
use std::sync::Arc;
use tidegate_actors::{
    ports::outbox_store::OutboxStore,
    testing::{
        outbox_model::{Act, play},
        store_conformance::Fixture,
    },
};
use tidegate_schemas::{agreement::HeadOfLine, config::file::OutboxEngine};

/// Ends in order, and as a crash does, in turns: then what lies on the disk at that moment is all that is left.
struct Ending {
    disk: OnDisk,
    ends: u32,
}

impl Fixture for Ending {
    fn store(&self) -> Arc<dyn OutboxStore> {
        self.disk.store()
    }
    fn restart(&mut self) {
        self.ends += 1;
        if self.ends.is_multiple_of(2) {
            return self.disk.restart();
        }
        let left = tempfile::tempdir().unwrap();
        crashed_copy(&self.disk.dir(), &left.path().join("outbox"));
        self.disk.store = None;
        self.disk.folder = left;
        self.disk.store = Some(open_with(self.disk.engine, &self.disk.dir()).unwrap());
    }
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn every_acknowledged_entry_is_in_exactly_one_state_on_each_engine(
        head_of_line in prop::sample::select(vec![
            HeadOfLine::Block, HeadOfLine::Rotate, HeadOfLine::ParkAfter(1), HeadOfLine::ParkAfter(3),
        ]),
        acts in prop::collection::vec(any::<[u16; 4]>(), 1..=50),
    ) {
        for engine in [OutboxEngine::Sled, OutboxEngine::Redb] {
            let acts = acts.iter().copied().map(Act::from_numbers).collect();
            actix::System::new().block_on(async move {
                tokio::time::pause();
                play(&mut Ending { disk: OnDisk::on(engine), ends: 0 }, head_of_line, acts).await;
            });
        }
    }
}
