//! The Registry over a store in memory: what is in force, what survives, and that a failing disk changes nothing.
#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::{
    supervision::{Death, Exit, Running, Wake},
    testing::{
        memory_registry::MemoryRegistry, seeded_entropy::SeededEntropy, sim_clock::SimClock, toy_registry::destination,
    },
};
use std::{collections::HashSet, time::Duration};
use tidegate_schemas::{agreement::ServiceAgreement, window::RawWindow};

struct House {
    registry: Addr<Registry>,
    death: Death,
    bell: Bell,
    // Keeps the means by which the kernel could cut the actor off.
    _running: Running,
}

fn start(store: &Arc<MemoryRegistry>, names: &[&str], seed: u64) -> House {
    start_with(store, names.iter().map(|name| destination(name, ServiceAgreement::default())).collect(), seed)
}

fn start_with(store: &Arc<MemoryRegistry>, destinations: Vec<Destination>, seed: u64) -> House {
    let bell = Bell::default();
    let parts = RegistryParts {
        destinations,
        routes: Arc::default(),
        store: Arc::clone(store) as Arc<dyn RegistryStore>,
        clock: Arc::new(SimClock::at("2026-11-23T12:00:00Z".parse().unwrap())),
        entropy: Arc::new(SeededEntropy::new(seed)),
        bells: vec![bell.clone()],
    };
    let (watch, death) = DeathWatch::pair("registry", 1, Bell::default());
    let (registry, running) = Running::start(Registry::new(parts, watch));
    House { registry, death, bell, _running: running }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    actix::System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
    })
    .block_on(test)
}

fn nightly() -> RawWindows {
    let window = RawWindow { from: Some("22:00".into()), to: Some("02:00".into()), ..RawWindow::default() };
    RawWindows { timezone: Some("Europe/Madrid".into()), allow: vec![window], ..RawWindows::default() }
}

fn set(name: &str, windows: Option<RawWindows>) -> SetWindows {
    SetWindows { destination: name.parse().unwrap(), windows }
}

async fn windows_of(house: &House, name: &str) -> (RawWindows, bool) {
    let current = house.registry.send(Current).await.unwrap();
    let registered = &current.destinations[&name.parse().unwrap()];
    (registered.destination.agreement.windows.raw().clone(), registered.windows_overridden)
}

async fn rung(house: &House) -> bool {
    house.bell.wait_at_most(Duration::from_millis(1)).await == Wake::Rung
}

#[test]
fn identities_are_drawn_once_and_no_two_are_alike() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let keys = async |house: &House| -> Vec<_> {
            let current = house.registry.send(Current).await.unwrap();
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
        assert_eq!(store.saves(), 2);
        // One that is gone for a while comes back as the same.
        assert_eq!(keys(&start(&store, &["ward"], 3)).await[..], second[2..]);
        assert_eq!(keys(&start(&store, &["cardiology", "lab", "ward"], 4)).await, second);
        assert_eq!(store.saves(), 2);
    });
}

#[test]
fn windows_set_at_run_time_are_in_force_at_once_and_after_a_restart() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &["cardiology", "lab"], 1);
        let before = house.registry.send(Current).await.unwrap();
        assert!(!rung(&house).await);
        let in_force = house.registry.send(set("cardiology", Some(nightly()))).await.unwrap().unwrap();
        assert_eq!(in_force.raw(), &nightly());
        assert_eq!(store.state().windows.len(), 1, "on disk before the answer");
        assert!(rung(&house).await);
        assert_eq!(windows_of(&house, "cardiology").await, (nightly(), true));
        assert_eq!(windows_of(&house, "lab").await, (RawWindows::default(), false));
        let after = house.registry.send(Current).await.unwrap();
        assert!(after.revision > before.revision);

        let house = start(&store, &["cardiology", "lab"], 2);
        assert_eq!(windows_of(&house, "cardiology").await, (nightly(), true));
        let in_force = house.registry.send(set("cardiology", None)).await.unwrap().unwrap();
        assert_eq!(in_force, WindowSet::default());
        assert_eq!(windows_of(&house, "cardiology").await, (RawWindows::default(), false));
        assert!(store.state().windows.is_empty());
    });
}

#[test]
fn a_failing_disk_changes_nothing() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &["cardiology"], 1);
        let before = house.registry.send(Current).await.unwrap();
        store.set_failing(true);
        let refused = house.registry.send(set("cardiology", Some(nightly()))).await.unwrap();
        assert!(matches!(refused, Err(SetWindowsError::Store(_))), "{refused:?}");
        assert_eq!(house.registry.send(Current).await.unwrap().revision, before.revision);
        assert_eq!(windows_of(&house, "cardiology").await, (RawWindows::default(), false));
        assert!(!rung(&house).await);
        // The refused change is not written along with the next one.
        store.set_failing(false);
        house.registry.send(set("cardiology", None)).await.unwrap().unwrap();
        assert!(store.state().windows.is_empty());
    });
}

#[test]
fn windows_that_cannot_be_kept_are_refused_before_the_disk_hears_of_them() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &["cardiology"], 1);
        let cron = |cron: &str| {
            let window = RawWindow { cron: Some(cron.into()), lasts: Some("1h".into()), ..RawWindow::default() };
            RawWindows { allow: vec![window], ..RawWindows::default() }
        };
        for (raw, path) in [
            (RawWindows { timezone: Some("Europe/Madird".into()), ..RawWindows::default() }, "windows.timezone"),
            (cron("0 25 * * *"), "windows.allow[0].cron"),
            (cron("0 0 30 2 *"), "windows.allow[0].cron"),
            // Once a year, while messages live 14 days.
            (cron("0 0 1 1 *"), "windows"),
        ] {
            let refused = house.registry.send(set("cardiology", Some(raw))).await.unwrap();
            let Err(SetWindowsError::Windows(problems)) = refused else { panic!("{refused:?}") };
            assert_eq!(problems.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), [path]);
        }
        let unknown = house.registry.send(set("moon", None)).await.unwrap();
        assert_eq!(unknown, Err(SetWindowsError::UnknownDestination("moon".parse().unwrap())));
        assert_eq!(store.saves(), 1, "the identity alone");
    });
}

#[test]
fn changes_take_turns_are_bounded_and_leave_the_registry_answering() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &["cardiology", "lab"], 1);
        house.registry.send(Current).await.unwrap();
        store.set_stalled(true);
        let mut answers = Vec::new();
        for index in 0..CHANGES_MAX + 1 {
            let name = if index % 2 == 0 { "cardiology" } else { "lab" };
            let request = house.registry.send(set(name, (index > 1).then(nightly)));
            answers.push(actix::spawn(request));
            tokio::task::yield_now().await;
        }
        // The disk stands still; the Registry doesn't.
        let observed = house.registry.send(Observe).await.unwrap();
        let expected = RegistryObservation { revision: 1, destinations: 2, routes: 0 };
        assert_eq!(observed, Observation::Registry(expected));
        let last = answers.pop().unwrap().await.unwrap().unwrap();
        assert!(matches!(last, Err(SetWindowsError::Store(_))), "{last:?}");
        // A shutdown waits for what was begun, and lets nothing new begin.
        house.registry.send(Shutdown).await.unwrap();
        let late = house.registry.send(set("lab", None)).await.unwrap();
        assert!(matches!(late, Err(SetWindowsError::Store(_))), "{late:?}");
        store.set_stalled(false);
        for answer in answers {
            answer.await.unwrap().unwrap().unwrap();
        }
        assert_eq!(house.death.ended().await, Exit::Stopped);
        let state = store.state();
        assert_eq!((state.windows.len(), store.saves()), (2, 1 + CHANGES_MAX as u64));
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
        let newer = RegistryState { version: 2, ..RegistryState::default() };
        store.put(newer.clone());
        let house = start(&store, &["cardiology"], 1);
        assert!(matches!(house.death.ended().await, Exit::Resigned { .. }));
        assert_eq!(store.state(), newer);
    });
}

#[test]
fn stored_windows_that_no_longer_fit_the_lifetime_are_in_force_and_told() {
    run(async {
        let weekly = RawWindow { days: Some("mon".into()), ..nightly().allow.remove(0) };
        let weekly = RawWindows { allow: vec![weekly], ..nightly() };
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &["cardiology", "lab"], 1);
        house.registry.send(set("cardiology", Some(weekly.clone()))).await.unwrap().unwrap();
        let flaw = async |house: &House| {
            let current = house.registry.send(Current).await.unwrap();
            assert_eq!(current.destinations[&"lab".parse().unwrap()].windows_flaw, None);
            current.destinations[&"cardiology".parse().unwrap()].windows_flaw.clone()
        };
        assert_eq!(flaw(&house).await, None);

        // Messages live two days from now on, says the config.
        let short = ServiceAgreement {
            lifetime: tidegate_schemas::agreement::Lifetime::of(jiff::SignedDuration::from_hours(48)),
            ..ServiceAgreement::default()
        };
        let house = start_with(
            &store,
            vec![destination("cardiology", short), destination("lab", ServiceAgreement::default())],
            2,
        );
        let told = flaw(&house).await.unwrap();
        assert!(told.starts_with("lifetime.max_age: messages live 48h"), "{told}");
        assert_eq!(windows_of(&house, "cardiology").await, (weekly, true));
        house.registry.send(set("cardiology", Some(nightly()))).await.unwrap().unwrap();
        assert_eq!(flaw(&house).await, None);
    });
}

#[test]
fn stored_windows_that_are_no_longer_readable_stay_stored_while_the_config_is_in_force() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let gone = RawWindows { timezone: Some("Europe/Atlantis".into()), ..RawWindows::default() };
        let windows = [("cardiology".parse().unwrap(), gone.clone())].into();
        store.put(RegistryState { version: 1, windows, ..RegistryState::default() });
        let house = start(&store, &["cardiology", "lab"], 1);
        assert_eq!(windows_of(&house, "cardiology").await, (RawWindows::default(), false));
        house.registry.send(set("lab", Some(nightly()))).await.unwrap().unwrap();
        assert_eq!(store.state().windows.values().next(), Some(&gone));
    });
}
