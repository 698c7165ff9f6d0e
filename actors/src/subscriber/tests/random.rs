//! Random schedules: whatever happens, what was published at QoS 1 is in custody once, and nothing is acknowledged before.

use super::house::{House, Manner, lock, pass, until};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Publish(u8),
    PublishAtMostOnce,
    Disconnect,
    Store(bool),
    Replies([u16; 4]),
    Restart,
    Pass(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u8..40).prop_map(Step::Publish),
        1 => Just(Step::PublishAtMostOnce),
        1 => Just(Step::Disconnect),
        1 => any::<bool>().prop_map(Step::Store),
        1 => proptest::array::uniform4(0_u16..3_000).prop_map(Step::Replies),
        1 => Just(Step::Restart),
        3 => (0_u16..5_000).prop_map(Step::Pass),
    ]
}

async fn play(steps: Vec<Step>) {
    let mut house = House::up();
    let mut manner = Manner::default();
    let mut published = 0_u32;
    for step in steps {
        match step {
            Step::Publish(count) => {
                for _ in 0..count {
                    house.broker.publish("cardiology/bpm", format!("{published}"));
                    published += 1;
                }
            }
            Step::PublishAtMostOnce => house.broker.publish_at_most_once("cardiology/bpm", "at most once"),
            Step::Disconnect => house.broker.disconnect("a hiccup", false),
            Step::Store(works) => manner.fails = !works,
            Step::Replies(reply_ms) => manner.reply_ms = reply_ms.map(u64::from),
            Step::Restart => {
                house.shut_down().await;
                house = House::on(house.broker.clone(), house.journal.clone());
            }
            Step::Pass(ms) => pass(u64::from(ms)).await,
        }
        house.set_manner(manner);
    }
    house.set_manner(Manner::default());
    until(async || house.broker.kept() == 0).await;
    assert_eq!(house.broker.acks_out_of_order(), 0);
    let journal = lock(&house.journal);
    let mut seen: Vec<u32> =
        journal.custody.iter().filter_map(|(content, _)| std::str::from_utf8(content).unwrap().parse().ok()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..published).collect::<Vec<_>>(), "each exactly once");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn cu_1_and_nothing_lost_nothing_twice(steps in proptest::collection::vec(step(), 1..30)) {
        // The hook of the house asserts CU-1 at every acknowledgement.
        actix::System::new().block_on(play(steps));
    }
}
