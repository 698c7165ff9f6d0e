//! The Registry over a store in memory: what is in force, what survives, and that a failing disk changes nothing.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::{
    ports::registry_store::{RegistryState, STATE_VERSION},
    supervision::{Death, Exit, Running, Wake},
    testing::{
        memory_registry::MemoryRegistry,
        seeded_entropy::SeededEntropy,
        sim_clock::SimClock,
        toy_check::ToyCheck,
        toy_registry::{declared, destination},
    },
};
use std::{collections::HashSet, time::Duration};
use tidegate_schemas::{
    agreement::{BreakGlass, Destination, Limits, ServiceAgreement},
    condition::Condition,
    config::raw::RawDestination,
    history::ChangeKind,
    id::DestinationId,
    messages::registry::Expect,
    route::{IdSource, PayloadHandling, Route, Routes},
    window::{RawDenial, RawWindow, RawWindows},
};

mod conditions;
mod reload;

struct House {
    registry: Addr<Registry>,
    cell: DeclaredCell,
    death: Death,
    bell: Bell,
    // Keeps the means by which the kernel could cut the actor off.
    _running: Running,
}

fn start(store: &Arc<MemoryRegistry>, names: &[&str], seed: u64) -> House {
    start_with(store, declaring(names), seed)
}

/// What the files say that declare these, with the defaults.
fn declaring(names: &[&str]) -> Arc<Declared> {
    let of = |name: &&str| destination(name, ServiceAgreement::default());
    declared(names.iter().map(of).collect(), Routes::default())
}

fn clock() -> Arc<SimClock> {
    Arc::new(SimClock::at("2026-11-23T12:00:00Z".parse().unwrap()))
}

fn start_with(store: &Arc<MemoryRegistry>, declared: Arc<Declared>, seed: u64) -> House {
    start_checking(store, declared, seed, Arc::new(ToyCheck(clock())))
}

fn start_checking(
    store: &Arc<MemoryRegistry>,
    declared: Arc<Declared>,
    seed: u64,
    check: Arc<dyn DestinationCheck>,
) -> House {
    let bell = Bell::default();
    let cell = DeclaredCell::new(std::sync::Mutex::new(declared));
    let parts = RegistryParts {
        declared: Arc::clone(&cell),
        store: Arc::clone(store) as Arc<dyn RegistryStore>,
        check,
        clock: clock(),
        entropy: Arc::new(SeededEntropy::new(seed)),
        bells: vec![bell.clone()],
    };
    let (watch, death) = DeathWatch::pair("registry", 1, Bell::default());
    let (registry, running) = Running::start(Registry::new(parts, watch));
    House { registry, cell, death, bell, _running: running }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    actix::System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
    })
    .block_on(test)
}

fn id(name: &str) -> DestinationId {
    name.parse().unwrap()
}

fn nightly() -> RawWindows {
    let window = RawWindow { from: Some("22:00".into()), to: Some("02:00".into()), ..RawWindow::default() };
    RawWindows { timezone: Some("Europe/Madrid".into()), allow: vec![window], ..RawWindows::default() }
}

fn raw(name: &str, windows: RawWindows) -> RawDestination {
    let onion = destination(name, ServiceAgreement::default()).endpoint.reveal();
    RawDestination { onion: Some(onion), windows, ..RawDestination::default() }
}

fn put(name: &str, windows: RawWindows) -> PutDestination {
    PutDestination {
        destination: id(name),
        raw: Box::new(raw(name, windows)),
        expect: Expect::Either,
        condition: Condition::default(),
        dry_run: false,
    }
}

fn set_windows(name: &str, windows: RawWindows) -> PutWindows {
    PutWindows { destination: id(name), windows, condition: Condition::default(), dry_run: false }
}

fn reload_of(declared: Arc<Declared>) -> Reload {
    Reload { declared, condition: Condition::default(), dry_run: false }
}

fn remove(name: &str) -> RemoveDestination {
    RemoveDestination { destination: id(name), condition: Condition::default(), dry_run: false }
}

impl House {
    async fn current(&self) -> Arc<RegistrySnapshot> {
        self.registry.send(Current).await.unwrap()
    }
    async fn put(&self, name: &str, windows: RawWindows) -> Result<Changed, ChangeError> {
        self.registry.send(put(name, windows)).await.unwrap()
    }
    async fn remove(&self, name: &str) -> Result<Changed, ChangeError> {
        self.registry.send(remove(name)).await.unwrap()
    }
    async fn history(&self, name: &str) -> Vec<(u64, String, ChangeKind)> {
        let history = self.registry.send(History { destination: id(name) }).await.unwrap().unwrap();
        let steps = history.unwrap_or_default().into_iter();
        steps.map(|change| (change.version, change.who, change.kind)).collect()
    }
    /// Windows, source in words, version.
    async fn shown(&self, name: &str) -> Option<(RawWindows, String, u64)> {
        let current = self.current().await;
        let found = current.destinations.get(&id(name))?;
        let windows = found.destination.agreement.windows.raw().clone();
        Some((windows, found.source.to_string(), found.version))
    }
    async fn rung(&self) -> bool {
        self.bell.wait_at_most(Duration::from_millis(1)).await == Wake::Rung
    }
}

#[test]
fn identities_are_drawn_once_and_no_two_are_alike() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let keys = async |house: &House| -> Vec<_> {
            let current = house.current().await;
            current.destinations.values().map(|d| d.destination.keys.clone()).collect()
        };
        let first = keys(&start(&store, &["cardiology", "lab"], 1)).await;
        assert_eq!(store.saves(), 1);
        let parts: HashSet<Vec<u8>> =
            first.iter().flat_map(|keys| [keys.signing_seed[..16].to_vec(), keys.pseudonym.to_vec()]).collect();
        assert_eq!(parts.len(), 4, "something is common to two destinations");
        assert!(!parts.contains([0; 16].as_slice()));

        // A new life with other random numbers, one destination more: the old ones keep what they are known by.
        let second = keys(&start(&store, &["cardiology", "lab", "ward"], 2)).await;
        assert_eq!(second[..2], first[..]);
        // One that is gone for a while comes back as the same.
        assert_eq!(keys(&start(&store, &["ward"], 3)).await[..], second[2..]);
        let house = start(&store, &["cardiology", "lab", "ward"], 4);
        assert_eq!(keys(&house).await, second);
        assert_eq!(house.history("lab").await[0], (3, "file tidegate.toml:2".into(), ChangeKind::Added));
        // Nothing new: nothing is written.
        let saves = store.saves();
        assert_eq!(keys(&start(&store, &["cardiology", "lab", "ward"], 5)).await, second);
        assert_eq!(store.saves(), saves);
    });
}

#[test]
fn a_destination_made_at_run_time_is_in_force_at_once_and_after_a_restart() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &["cardiology"], 1);
        let before = house.current().await;
        assert!(!house.rung().await);
        let made = house.put("lab", nightly()).await.unwrap();
        assert_eq!((made.kind, made.version, made.before), (Some(ChangeKind::Added), 1, None));
        let warned: Vec<_> = made.warnings.iter().map(|warning| warning.path.as_str()).collect();
        assert_eq!(warned, ["destination.receiver_memory"]);
        assert!(store.state().destinations.contains_key(&id("lab")), "on disk before the answer");
        assert!(house.rung().await);
        let shown = Some((nightly(), "the admin API".to_owned(), 1));
        assert_eq!(house.shown("lab").await, shown);
        let after = house.current().await;
        assert!(after.revision > before.revision);
        assert_ne!(after.destinations[&id("lab")].destination.keys.signing_seed, [0; 32]);

        let house = start(&store, &["cardiology"], 2);
        assert_eq!(house.shown("lab").await, shown);
        let windows = set_windows("lab", RawWindows::default());
        let changed = house.registry.send(windows).await.unwrap().unwrap();
        let keys: Vec<&str> = changed.changes.iter().map(|change| change.key.as_str()).collect();
        assert_eq!((changed.version, keys), (2, vec!["windows.allow", "windows.timezone"]));
        assert_eq!(house.shown("lab").await.unwrap().2, 2);
        house.remove("lab").await.unwrap();
        assert_eq!(house.shown("lab").await, None);
        // It comes back as the same, and goes on counting.
        house.put("lab", nightly()).await.unwrap();
        let again = house.current().await;
        assert_eq!(again.destinations[&id("lab")].destination.keys, after.destinations[&id("lab")].destination.keys);
        let versions: Vec<_> =
            house.history("lab").await.into_iter().map(|(version, _, kind)| (version, kind)).collect();
        use ChangeKind::{Added, Changed, Removed};
        assert_eq!(versions, [(4, Added), (3, Removed), (2, Changed), (1, Added)]);
    });
}

#[test]
fn a_failing_disk_changes_nothing() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &["cardiology"], 1);
        house.put("lab", nightly()).await.unwrap();
        assert!(house.rung().await);
        let (before, on_disk) = (house.current().await, store.state());
        store.set_failing(true);
        let reload = reload_of(declaring(&["ward"]));
        for refused in [
            house.put("lab", RawWindows::default()).await.map(drop),
            house.put("ward", nightly()).await.map(drop),
            house.remove("lab").await.map(drop),
            house.registry.send(reload).await.unwrap().map(drop),
        ] {
            assert!(matches!(refused, Err(ChangeError::Store(_))), "{refused:?}");
        }
        assert!(Arc::ptr_eq(&house.current().await, &before));
        assert_eq!(store.state(), on_disk);
        assert!(!house.rung().await);
        // The refused changes are not written along with the next one, nor known to the next life.
        store.set_failing(false);
        house.put("home", nightly()).await.unwrap();
        assert_eq!(house.history("lab").await.len(), 1);
        assert_eq!(house.cell.lock().unwrap().destinations.len(), 1);
        let names: Vec<String> = house.current().await.destinations.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["cardiology", "home", "lab"]);
    });
}

#[test]
fn what_cannot_be_kept_is_refused_before_the_disk_hears_of_it() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &["cardiology"], 1);
        house.put("lab", nightly()).await.unwrap();
        let saves = store.saves();
        let cron = |cron: &str| {
            let window = RawWindow { cron: Some(cron.into()), lasts: Some("1h".into()), ..RawWindow::default() };
            RawWindows { allow: vec![window], ..RawWindows::default() }
        };
        for (windows, path) in [
            (RawWindows { timezone: Some("Europe/Madird".into()), ..RawWindows::default() }, "windows.timezone"),
            (cron("0 25 * * *"), "windows.allow[0].cron"),
            (cron("0 0 30 2 *"), "windows.allow[0].cron"),
            // Once a year, while messages live 14 days.
            (cron("0 0 1 1 *"), "lifetime.max_age"),
        ] {
            let change = set_windows("lab", windows.clone());
            for refused in [house.put("lab", windows).await, house.registry.send(change).await.unwrap()] {
                let Err(ChangeError::Values(problems)) = refused else { panic!("{refused:?}") };
                let paths: Vec<&str> = problems.iter().map(|p| p.path.as_str()).collect();
                assert_eq!(paths, [format!("destination.{path}")]);
            }
        }
        let expected = |destination: &str, expect| PutDestination { expect, ..put(destination, nightly()) };
        let send = async |message: PutDestination| house.registry.send(message).await.unwrap();
        assert_eq!(send(expected("moon", Expect::Present)).await, Err(ChangeError::Unknown(id("moon"))));
        assert_eq!(send(expected("lab", Expect::Absent)).await, Err(ChangeError::Exists(id("lab"))));
        assert_eq!(house.remove("moon").await, Err(ChangeError::Unknown(id("moon"))));
        for refused in [house.put("cardiology", nightly()).await, house.remove("cardiology").await] {
            assert!(refused.unwrap_err().to_string().starts_with("cardiology is declared in tidegate.toml:1:"));
        }
        assert_eq!(store.saves(), saves);
    });
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &[], 1);
        house.put("lab", nightly()).await.unwrap();
        let (before, saves) = (house.current().await, store.saves());
        let change = PutDestination { dry_run: true, ..put("lab", RawWindows::default()) };
        let told = house.registry.send(change).await.unwrap().unwrap();
        assert_eq!((told.kind, told.version, told.changes.len()), (Some(ChangeKind::Changed), 2, 2));
        assert_eq!(told.before.unwrap().windows.raw(), &nightly());
        let gone = RemoveDestination { dry_run: true, ..remove("lab") };
        assert_eq!(house.registry.send(gone).await.unwrap().unwrap().after, None);
        assert!(Arc::ptr_eq(&house.current().await, &before));
        assert_eq!(store.saves(), saves);
    });
}

#[test]
fn a_destination_that_a_route_names_is_not_removed() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let route = Route {
            filter: "a/{device}".parse().unwrap(),
            device: IdSource::Capture,
            destination: IdSource::Fixed(id("lab")),
            allow: Some(vec![id("lab")]),
            payload: PayloadHandling::Opaque,
            retained: false,
            priority: tidegate_schemas::submission::Priority::Normal,
        };
        let routed = declared(vec![], Routes(vec![route]));
        let house = start(&store, &[], 1);
        // It went while the files were being checked.
        let reload = reload_of(routed);
        let refused = house.registry.send(reload.clone()).await.unwrap();
        assert_eq!(refused, Err(ChangeError::Unknown(id("lab"))));
        house.put("lab", nightly()).await.unwrap();
        assert!(house.registry.send(reload).await.unwrap().unwrap().routes_changed);
        let refused = house.remove("lab").await.unwrap_err();
        assert_eq!(refused, ChangeError::Routed { id: id("lab"), topic: "a/+".into() });
        assert!(house.shown("lab").await.is_some());
    });
}

#[test]
fn changes_take_turns_are_bounded_and_leave_the_registry_answering() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &["cardiology"], 1);
        house.current().await;
        store.set_stalled(true);
        let mut answers = Vec::new();
        for index in 0..CHANGES_MAX + 1 {
            let name = if index % 2 == 0 { "ward" } else { "lab" };
            let windows = if index > 1 { nightly() } else { RawWindows::default() };
            let request = house.registry.send(put(name, windows));
            answers.push(actix::spawn(request));
            tokio::task::yield_now().await;
        }
        // The disk stands still; the Registry doesn't.
        let observed = house.registry.send(Observe).await.unwrap();
        let expected = RegistryObservation { revision: 1, destinations: 1, ..RegistryObservation::default() };
        assert_eq!(observed, Observation::Registry(expected));
        let last = answers.pop().unwrap().await.unwrap().unwrap();
        assert!(matches!(last, Err(ChangeError::Store(_))), "{last:?}");
        // A shutdown waits for what was begun, and lets nothing new begin.
        house.registry.send(Shutdown).await.unwrap();
        let late = house.put("lab", nightly()).await;
        assert!(matches!(late, Err(ChangeError::Store(_))), "{late:?}");
        store.set_stalled(false);
        for answer in answers {
            answer.await.unwrap().unwrap().unwrap();
        }
        assert_eq!(house.death.ended().await, Exit::Stopped);
        let state = store.state();
        assert_eq!((state.destinations.len(), store.saves()), (2, 1 + CHANGES_MAX as u64));
        assert_eq!(state.agreements[&id("lab")].version, 2);
    });
}

#[test]
fn a_store_that_cannot_be_read_is_a_reason_to_resign_and_is_not_written() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        store.set_failing(true);
        let house = start(&store, &["cardiology"], 1);
        assert!(house.registry.send(Current).await.is_err(), "an empty answer would look like no destinations");
        assert_eq!(house.death.ended().await, Exit::Resigned { reason: "its store could not be read" });

        store.set_failing(false);
        let newer = RegistryState { version: STATE_VERSION + 1, ..RegistryState::default() };
        store.put(newer.clone());
        let house = start(&store, &["cardiology"], 1);
        assert!(matches!(house.death.ended().await, Exit::Resigned { .. }));
        assert_eq!(store.state(), newer);
    });
}

#[test]
fn a_stored_destination_that_can_not_be_used_any_more_is_told_and_kept_until_it_is_put_right() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &[], 1);
        house.put("lab", nightly()).await.unwrap();
        house.put("ward", nightly()).await.unwrap();
        // Its zone is gone, or it was written by a version that knew more.
        let mut state = store.state();
        let spoil = |json: &str| serde_json::from_str(json).unwrap();
        state.destinations.insert(
            id("lab"),
            spoil(r#"{"onion":"x","windows":{"timezone":"Europe/Atlantis"},"limits":{"messages":7}}"#),
        );
        state
            .destinations
            .insert(id("ward"), spoil(r#"{"from_the_future":1,"limits":{"messages":0},"break_glass":{"per_hour":2}}"#));
        store.put(state.clone());
        let house = start(&store, &[], 1);
        let current = house.current().await;
        assert_eq!((current.destinations.len(), current.broken.len()), (0, 2));
        assert!(current.broken[&id("lab")].reason.contains("Europe/Atlantis"), "{:?}", current.broken);
        let Observation::Registry(seen) = house.registry.send(Observe).await.unwrap() else { panic!() };
        assert_eq!(seen.broken.len(), 2);
        // Its messages are taken by what can be read of its agreement.
        let (lab, ward) = (current.intake(&id("lab")).unwrap(), current.intake(&id("ward")).unwrap());
        assert_eq!((lab.limits.messages, lab.break_glass), (7, None));
        assert_eq!((ward.limits, ward.break_glass), (Limits::default(), Some(BreakGlass { per_hour: 2 })));
        assert_eq!(current.intake(&id("moon")), None);
        assert_eq!(store.state().destinations, state.destinations);
        house.put("lab", nightly()).await.unwrap();
        house.remove("ward").await.unwrap();
        let current = house.current().await;
        assert_eq!((current.destinations.len(), current.broken.len()), (1, 0));
    });
}

#[test]
fn what_is_known_of_destinations_that_are_gone_is_bounded_and_the_oldest_goes_first() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &["cardiology"], 1);
        house.put("lab", nightly()).await.unwrap();
        let mut state = store.state();
        let identity = state.identities[&id("lab")].clone();
        let written = tidegate_schemas::history::Canonical::of(&raw("lab", nightly()));
        // The names run against the times.
        let name = |age: usize| id(&format!("gone-{:04}", 9_999 - age));
        let began: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for age in 0..ABSENT_KEPT + 5 {
            let mut log = tidegate_schemas::history::AgreementLog::default();
            let at = began + jiff::SignedDuration::from_secs(i64::try_from(age).unwrap());
            log.note(Some(&written), at, &tidegate_schemas::history::Who::Admin);
            log.note(None, at, &tidegate_schemas::history::Who::Admin);
            state.agreements.insert(name(age), log);
            state.identities.insert(name(age), identity.clone());
        }
        store.put(state);
        let house = start(&store, &["cardiology"], 1);
        house.current().await;
        let known = |store: &MemoryRegistry, id: &DestinationId| {
            let state = store.state();
            assert_eq!(state.agreements.contains_key(id), state.identities.contains_key(id));
            state.agreements.contains_key(id)
        };
        assert!(!known(&store, &name(4)) && known(&store, &name(5)));
        assert_eq!(store.state().agreements.len(), ABSENT_KEPT + 2);
        house.remove("lab").await.unwrap();
        assert!(!known(&store, &name(5)) && known(&store, &name(6)) && known(&store, &id("lab")));
        let reload = reload_of(declaring(&[]));
        house.registry.send(reload).await.unwrap().unwrap();
        assert!(!known(&store, &name(6)) && known(&store, &id("cardiology")));
        assert_eq!(store.state().agreements.len(), ABSENT_KEPT);
    });
}

#[test]
fn a_stored_destination_outlives_what_only_time_brings_into_sight() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &[], 1);
        // As it was accepted by an earlier version, or with a clock that was wrong.
        let denial =
            RawDenial { from: Some("2026-12-01".into()), until: Some("2027-01-01".into()), ..RawDenial::default() };
        let windows = RawWindows { deny: vec![denial], ..nightly() };
        let refused = house.put("lab", windows.clone()).await;
        assert!(matches!(refused, Err(ChangeError::Values(_))), "{refused:?}");
        let mut state = store.state();
        state.destinations.insert(id("lab"), tidegate_schemas::history::Canonical::of(&raw("lab", windows)));
        store.put(state);
        let current = start(&store, &[], 1).current().await;
        assert_eq!((current.destinations.len(), current.broken.len()), (1, 0));
    });
}

/// What a test sees of a destination: all that is in force, but the version.
fn in_force(snapshot: &RegistrySnapshot) -> Vec<(Destination, String)> {
    let each = snapshot.destinations.values();
    each.map(|found| (found.destination.clone(), found.source.to_string())).collect()
}
