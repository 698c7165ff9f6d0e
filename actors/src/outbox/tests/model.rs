//! Random histories against the plain model, over the store in memory. See `testing::outbox_model`.

use crate::testing::{
    cases::cases,
    memory_store::MemoryStore,
    outbox_model::{Act, play},
};
use proptest::prelude::*;
use std::sync::Arc;
use tidegate_schemas::agreement::HeadOfLine;

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn whatever_happens_every_acknowledged_entry_is_in_exactly_one_state_and_comes_in_its_turn(
        head_of_line in prop::sample::select(vec![
            HeadOfLine::Block, HeadOfLine::Rotate, HeadOfLine::ParkAfter(1), HeadOfLine::ParkAfter(3),
        ]),
        acts in prop::collection::vec(any::<[u16; 4]>(), 1..80),
    ) {
        actix::System::new().block_on(async move {
            tokio::time::pause();
            let mut memory = Arc::new(MemoryStore::new(7));
            play(&mut memory, head_of_line, acts.into_iter().map(Act::from_numbers).collect()).await;
        });
    }
}
