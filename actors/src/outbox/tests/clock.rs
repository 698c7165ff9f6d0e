//! No message ends because of a clock, wherever the process is stopped: a model of wall clocks that go wrong.

use super::*;
use proptest::prelude::*;

const DAY_S: i64 = 86_400;

/// A gateway whose process is killed and started, with a wall clock that is not always right.
struct World {
    rig: Rig,
    outbox: Addr<Outbox>,
    /// By how many days the wall clock is wrong.
    wrong: i64,
    /// The part of it that no sweep and no write has seen.
    unseen: i64,
}

impl World {
    /// Starts in 1970 with one message in custody, two weeks to live.
    async fn new() -> Self {
        let mut rig = Rig::new();
        let agreement = ServiceAgreement {
            lifetime: Lifetime::of(SignedDuration::from_hours(14 * 24)),
            ..ServiceAgreement::default()
        };
        rig.registry = ToyRegistry(snapshot(vec![destination("ward", agreement)])).start().recipient();
        rig.clock = Arc::new(SimClock::at("1970-01-01T00:00:10Z".parse().unwrap()));
        rig.clock.set_trusted(false);
        let outbox = rig.start();
        let mut world = Self { rig, outbox, wrong: 0, unseen: 0 };
        world.accept().await;
        world
    }

    async fn accept(&mut self) {
        enqueue(&self.outbox, submission("p", "x")).await.unwrap();
        self.unseen = 0;
    }

    fn step(&mut self, days: i64) {
        self.rig.clock.step(SignedDuration::from_secs(days * DAY_S));
        (self.wrong, self.unseen) = (self.wrong + days, self.unseen + days);
    }

    /// The time server has spoken.
    async fn boot(&mut self) {
        self.rig
            .clock
            .step("2026-11-23T12:00:00Z".parse::<jiff::Timestamp>().unwrap().duration_since(self.rig.clock.now()));
        self.rig.clock.set_trusted(true);
        self.run(31).await;
    }

    async fn run(&mut self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        if seconds > 30 {
            self.unseen = 0;
        }
    }

    /// The process ends, the clock is stepped while nobody looks, the process starts.
    async fn restart(&mut self, kill: bool, stop_s: u64, days: i64) {
        let killed_with = self.rig.store.contents();
        self.outbox.send(Shutdown).await.unwrap();
        while self.outbox.connected() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if kill {
            self.rig.store = Arc::new(MemoryStore::with_contents(1, killed_with));
            self.rig.lease = Lease::default();
        } else {
            self.unseen = 0;
        }
        self.step(days);
        tokio::time::sleep(Duration::from_secs(stop_s)).await;
        self.outbox = self.rig.start();
        ready(&self.outbox).await;
        let unseen = std::mem::take(&mut self.unseen);
        if unseen > 0 && self.wrong > 0 {
            // Gone wrong where nobody could see it: it has to be corrected within the hour.
            self.run(3_000).await;
            self.step(-unseen.min(self.wrong));
            self.run(31).await;
        }
    }

    async fn expired(&self) -> u64 {
        observe(&self.outbox).await.account.expired
    }
}

#[derive(Debug, Clone)]
enum Turn {
    Accept,
    Step(i64),
    Run(u64),
    Restart { kill: bool, stop_s: u64, days: i64 },
}

fn days() -> impl Strategy<Value = i64> {
    prop::sample::select(vec![0, 0, -60, -30, -15, 15, 30, 60])
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        1 => Just(Turn::Accept),
        3 => days().prop_map(Turn::Step),
        3 => prop::sample::select(vec![1, 31, 900, 3_700]).prop_map(Turn::Run),
        3 => (any::<bool>(), 0_u64..3_600, days()).prop_map(|(kill, stop_s, days)| Turn::Restart { kill, stop_s, days }),
    ]
}

async fn play(early: usize, turns: Vec<Turn>) -> Result<(), TestCaseError> {
    let mut world = World::new().await;
    for (n, turn) in turns.into_iter().enumerate() {
        if n == early {
            world.boot().await;
        }
        match turn {
            Turn::Accept => world.accept().await,
            Turn::Step(days) if n >= early => world.step(days),
            Turn::Step(_) => {}
            Turn::Run(seconds) => world.run(seconds).await,
            Turn::Restart { kill, stop_s, days } => {
                world.restart(kill, stop_s, if n >= early { days } else { 0 }).await;
            }
        }
        prop_assert_eq!(world.expired().await, 0, "turn {}", n);
    }
    // Long enough for every hour of doubt, and short enough for nothing to be two weeks old.
    world.run(3 * 3_600).await;
    prop_assert_eq!(world.expired().await, 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn nothing_expires_because_of_a_clock_wherever_the_process_is_stopped(
        early in 0_usize..4,
        turns in prop::collection::vec(turn(), 1..24),
    ) {
        actix::System::new().block_on(async move {
            tokio::time::pause();
            play(early, turns).await
        })?;
    }
}

#[actix::test]
async fn a_jump_seen_by_a_sweep_is_on_disk_though_nothing_else_is_written() {
    tokio::time::pause();
    let mut world = World::new().await;
    world.boot().await;
    world.run(2 * 3_600).await;
    world.step(30);
    world.run(31).await;
    world.restart(true, 60, 0).await;
    world.run(4 * 3_600).await;
    assert_eq!(world.expired().await, 0);
}

#[actix::test]
async fn a_clock_that_is_wrong_at_the_start_expires_nothing_before_it_is_corrected() {
    tokio::time::pause();
    let mut world = World::new().await;
    world.boot().await;
    world.run(2 * 3_600).await;
    // Stepped while the process was down; corrected within the hour by the model.
    world.restart(true, 60, 30).await;
    world.run(4 * 3_600).await;
    assert_eq!(world.expired().await, 0);
}

#[actix::test]
async fn a_clock_set_back_before_and_corrected_during_a_stop_expires_nothing() {
    tokio::time::pause();
    let mut world = World::new().await;
    world.boot().await;
    world.step(-30);
    world.run(2 * 3_600).await;
    world.restart(false, 60, 0).await;
    world.run(2 * 3_600).await;
    world.restart(true, 60, 30).await;
    world.run(4 * 3_600).await;
    assert_eq!(world.expired().await, 0);
}

#[actix::test]
async fn a_real_stop_of_three_weeks_counts_after_an_hour_of_agreement() {
    tokio::time::pause();
    let mut world = World::new().await;
    world.boot().await;
    world.run(2 * 3_600).await;
    world.restart(false, 21 * 86_400, 0).await;
    world.accept().await;
    world.run(3_000).await;
    assert_eq!(world.expired().await, 0, "not yet");
    world.run(1_200).await;
    assert_eq!(world.expired().await, 1, "the one from before the stop");
}
