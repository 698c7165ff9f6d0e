//! The rules of trust, case by case, and by properties over any evidence.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use proptest::prelude::*;

const HOUR_S: u64 = 3_600;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * HOUR_S)
}

/// Noon, and nobody says anything.
fn silence() -> ClockEvidence {
    ClockEvidence {
        wall: at("2026-12-01T12:00:00Z"),
        built: at("2026-11-23T00:00:00Z"),
        kernel: KernelWord::Unsynchronised,
        consensus: None,
        jumped_ago: None,
        policy: TrustPolicy::Auto,
    }
}

/// Tor's word: a consensus of three hours that began at this time.
fn consensus(valid_after: &str, fetched: bool, ago: Duration) -> Option<ConsensusSeen> {
    let valid_after = at(valid_after);
    let valid_until = valid_after + SignedDuration::from_hours(3);
    Some(ConsensusSeen { times: ConsensusTimes { valid_after, valid_until, fetched }, ago })
}

#[test]
fn any_of_the_three_is_enough_and_silence_is_not() {
    assert_eq!(silence().judge(), ClockTrust::Unvouched);
    assert_eq!(ClockEvidence { kernel: KernelWord::Unknown, ..silence() }.judge(), ClockTrust::Unvouched);
    let kernel = ClockEvidence { kernel: KernelWord::Synchronised, ..silence() };
    assert_eq!(kernel.judge(), ClockTrust::KernelSynchronised);
    let tor = ClockEvidence { consensus: consensus("2026-12-01T11:00:00Z", true, Duration::ZERO), ..silence() };
    assert_eq!(tor.judge(), ClockTrust::WithinConsensus);
    let assumed = ClockEvidence { policy: TrustPolicy::Assume, ..silence() };
    assert_eq!(assumed.judge(), ClockTrust::Assumed);
    // The kernel's word goes before Tor's, and both before what is assumed.
    assert_eq!(ClockEvidence { consensus: tor.consensus, ..kernel }.judge(), ClockTrust::KernelSynchronised);
    assert_eq!(ClockEvidence { consensus: tor.consensus, ..assumed }.judge(), ClockTrust::WithinConsensus);
}

#[test]
fn the_bounds_of_a_consensus_are_its_times_and_30_minutes() {
    let judged = |wall: &str| {
        let consensus = consensus("2026-12-01T11:00:00Z", true, Duration::ZERO);
        ClockEvidence { wall: at(wall), consensus, kernel: KernelWord::Synchronised, ..silence() }.judge()
    };
    assert_eq!(judged("2026-12-01T10:29:59Z"), ClockTrust::Apart);
    assert_eq!(judged("2026-12-01T10:30:00Z"), ClockTrust::KernelSynchronised);
    assert_eq!(judged("2026-12-01T14:30:00Z"), ClockTrust::KernelSynchronised);
    assert_eq!(judged("2026-12-01T14:30:01Z"), ClockTrust::Apart);
}

#[test]
fn a_tor_that_was_down_for_a_day_still_vouches_and_still_contradicts() {
    let day_old = consensus("2026-11-30T11:00:00Z", true, hours(24));
    assert_eq!(ClockEvidence { consensus: day_old, ..silence() }.judge(), ClockTrust::WithinConsensus);
    let synchronised = ClockEvidence { consensus: day_old, kernel: KernelWord::Synchronised, ..silence() };
    assert_eq!(synchronised.judge(), ClockTrust::KernelSynchronised);
    let stepped = ClockEvidence { wall: at("2026-12-02T12:00:00Z"), ..synchronised };
    assert_eq!(stepped.judge(), ClockTrust::Apart, "a time server that lies by a day");
}

#[test]
fn a_cached_consensus_vouches_for_nothing_but_the_past() {
    // The clock of a board stood still with its last consensus, for who knows how long.
    let cached = consensus("2026-12-01T11:00:00Z", false, Duration::ZERO);
    assert_eq!(ClockEvidence { consensus: cached, ..silence() }.judge(), ClockTrust::Unvouched);
    // Started after a long stop: the clock is far past the end of the cached one, and that is as it should be.
    let old = consensus("2026-11-28T11:00:00Z", false, Duration::ZERO);
    let synchronised = ClockEvidence { kernel: KernelWord::Synchronised, ..silence() };
    assert_eq!(ClockEvidence { consensus: old, ..synchronised }.judge(), ClockTrust::KernelSynchronised);
    // But no clock is before a signed document.
    let future = consensus("2026-12-01T13:00:00Z", false, Duration::ZERO);
    assert_eq!(ClockEvidence { consensus: future, ..synchronised }.judge(), ClockTrust::Apart);
}

#[test]
fn after_a_jump_somebody_has_to_vouch_anew() {
    let jumped = ClockEvidence { jumped_ago: Some(hours(1)), ..silence() };
    assert_eq!(jumped.judge(), ClockTrust::Jumped);
    let kernel = ClockEvidence { kernel: KernelWord::Synchronised, jumped_ago: Some(Duration::ZERO), ..silence() };
    assert_eq!(kernel.judge(), ClockTrust::KernelSynchronised, "at once");
    let before = ClockEvidence { consensus: consensus("2026-12-01T10:00:00Z", true, hours(2)), ..jumped };
    assert_eq!(before.judge(), ClockTrust::Jumped, "Tor spoke before the jump");
    let since = ClockEvidence { consensus: consensus("2026-12-01T11:00:00Z", true, Duration::from_secs(60)), ..jumped };
    assert_eq!(since.judge(), ClockTrust::WithinConsensus);
    let assumed = |ago| ClockEvidence { policy: TrustPolicy::Assume, jumped_ago: Some(ago), ..silence() }.judge();
    assert_eq!(assumed(Duration::from_secs(3_599)), ClockTrust::Jumped);
    assert_eq!(assumed(hours(1)), ClockTrust::Assumed, "an operator set it, and it has gone well for an hour");
}

#[test]
fn what_is_not_believed_says_what_to_do() {
    for trust in ClockTrust::ALL {
        assert_eq!(trust.trusted() && trust != ClockTrust::Assumed, trust.hint().is_empty(), "{trust:?}");
        assert_eq!(serde_json::to_value(trust).unwrap(), trust.name());
        assert!(!trust.is_alarm() || !trust.trusted());
    }
}

fn moments() -> impl Strategy<Value = Timestamp> {
    // Around the build date, from hours to decades.
    (-40_i64..40, -90_000_i64..90_000).prop_map(|(years, seconds)| {
        at("2026-11-23T00:00:00Z") + SignedDuration::from_secs(years * years * years.signum() * 400_000 + seconds)
    })
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![4 => (0_u64..100_000).prop_map(Duration::from_secs), 1 => any::<u64>().prop_map(Duration::from_secs)]
}

prop_compose! {
    fn consensuses()(after in moments(), length in 1_i64..20_000, fetched: bool, ago in durations()) -> ConsensusSeen {
        let valid_until = after + SignedDuration::from_secs(length);
        ConsensusSeen { times: ConsensusTimes { valid_after: after, valid_until, fetched }, ago }
    }
}

prop_compose! {
    fn evidence()(
        wall in moments(),
        kernel in prop::sample::select(vec![KernelWord::Synchronised, KernelWord::Unsynchronised, KernelWord::Unknown]),
        consensus in prop::option::of(consensuses()),
        near: bool,
        jumped_ago in prop::option::of(durations()),
        assume: bool,
    ) -> ClockEvidence {
        // Half of them near the time that Tor tells, where the bounds are.
        let told = consensus.filter(|_| near).and_then(|seen| {
            let ago = SignedDuration::try_from(seen.ago).ok()?;
            let offset = SignedDuration::from_secs(wall.as_second() % 8_000);
            seen.times.valid_after.checked_add(ago).ok()?.checked_add(offset).ok()
        });
        ClockEvidence {
            wall: told.unwrap_or(wall),
            built: at("2026-11-23T00:00:00Z"),
            kernel,
            consensus,
            jumped_ago,
            policy: if assume { TrustPolicy::Assume } else { TrustPolicy::Auto },
        }
    }
}

/// What Tor says, reckoned by plain seconds: (not before, not after).
fn bounds(seen: ConsensusSeen) -> (i128, i128) {
    let ago = i128::from(seen.ago.as_secs());
    let second = |time: Timestamp| i128::from(time.as_second());
    (second(seen.times.valid_after) + ago - 1_800, second(seen.times.valid_until) + ago + 1_800)
}

proptest! {
    #[test]
    fn distrust_wins(evidence in evidence()) {
        let trust = evidence.judge();
        let wall = i128::from(evidence.wall.as_second());
        let contradicted = evidence.consensus.is_some_and(|seen| {
            let (not_before, not_after) = bounds(seen);
            wall < not_before || (seen.times.fetched && wall > not_after)
        });
        prop_assert_eq!(evidence.wall < evidence.built, trust == ClockTrust::BeforeBuild);
        prop_assert_eq!(contradicted && evidence.wall >= evidence.built, trust == ClockTrust::Apart);
    }

    #[test]
    fn it_is_believed_only_by_somebodys_word(evidence in evidence()) {
        match evidence.judge() {
            ClockTrust::KernelSynchronised => prop_assert_eq!(evidence.kernel, KernelWord::Synchronised),
            ClockTrust::WithinConsensus => {
                let seen = evidence.consensus.unwrap();
                let (not_before, not_after) = bounds(seen);
                prop_assert!(seen.times.fetched && evidence.jumped_ago.is_none_or(|jumped_ago| seen.ago < jumped_ago));
                prop_assert!((not_before..=not_after).contains(&i128::from(evidence.wall.as_second())));
            }
            ClockTrust::Assumed => prop_assert_eq!(evidence.policy, TrustPolicy::Assume),
            _ => {}
        }
    }

    #[test]
    fn more_words_for_it_never_take_trust_away_and_assuming_overrides_no_other_word(evidence in evidence()) {
        let trust = evidence.judge();
        let vouched = ClockEvidence { kernel: KernelWord::Synchronised, ..evidence }.judge();
        prop_assert!(vouched.trusted() || !trust.trusted());
        let assumed = ClockEvidence { policy: TrustPolicy::Assume, ..evidence }.judge();
        prop_assert!(assumed.trusted() || !trust.trusted());
        if matches!(trust, ClockTrust::BeforeBuild | ClockTrust::Apart) {
            prop_assert_eq!((vouched, assumed), (trust, trust));
        }
    }
}
