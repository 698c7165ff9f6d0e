//! Reloads: all of it or nothing, and the same as a fresh start.
use super::*;
use proptest::prelude::*;
use tidegate_schemas::config::{
    Problem, Problems,
    check::{CheckedDestination, Occasion},
};

fn reload(declared: &Arc<Declared>) -> Reload {
    reload_of(Arc::clone(declared))
}

fn lanes(lanes: u8) -> ServiceAgreement {
    ServiceAgreement { lanes, ..ServiceAgreement::default() }
}

#[test]
fn a_reload_brings_changes_and_drops_destinations_in_one_go() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &["cardiology", "lab", "ward"], 1);
        house.put("home", nightly()).await.unwrap();
        let before = house.current().await;
        let new_key = Destination {
            keys: tidegate_schemas::agreement::DestinationKeys {
                write_key: Some("another".into()),
                ..Default::default()
            },
            ..destination("ward", ServiceAgreement::default())
        };
        let wanted = declared(
            vec![destination("cardiology", lanes(3)), destination("home", lanes(1)), new_key],
            Routes::default(),
        );
        let told = house.registry.send(Reload { dry_run: true, ..reload(&wanted) }).await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&house.current().await, &before), "a dry run");
        assert!(house.rung().await);
        let done = house.registry.send(reload(&wanted)).await.unwrap().unwrap();
        assert_ne!(told.tag, done.tag, "the config in force is another one");
        assert_eq!(Reloaded { tag: done.tag.clone(), ..told }, done);
        let kinds: Vec<_> = done.changed.iter().map(|c| (c.destination.as_str(), c.kind.unwrap(), c.version)).collect();
        use ChangeKind::{Changed, Removed};
        assert_eq!(kinds, [("cardiology", Changed, 2), ("home", Changed, 2), ("lab", Removed, 2)]);
        assert_eq!((done.new_keys, done.shadowed, done.routes_changed), (vec![id("ward")], vec![id("home")], false));
        assert!(house.rung().await);
        assert_eq!(house.current().await.revision, before.revision + 1, "one snapshot");
        assert_eq!(house.shown("home").await.unwrap().1, "tidegate.toml:2");
        assert_eq!(house.history("cardiology").await[0].1, "reload tidegate.toml:1");
        assert_eq!(house.history("lab").await[0].1, "reload");
        let refused = house.put("home", nightly()).await.unwrap_err();
        assert!(matches!(refused, ChangeError::Declared { .. }), "{refused:?}");
        // What the store has comes back when the files drop it.
        let done = house.registry.send(reload(&declaring(&["lab"]))).await.unwrap().unwrap();
        assert!(done.changed.iter().any(|changed| changed.destination == id("home") && changed.after.is_some()));
        assert_eq!(house.shown("home").await, Some((nightly(), "the admin API".into(), 3)));
    });
}

/// Finds this in every key file, or no file.
struct KeyFile(ToyCheck, std::sync::Mutex<Option<&'static str>>);

impl DestinationCheck for KeyFile {
    fn check(
        &self,
        id: &DestinationId,
        raw: &RawDestination,
        occasion: Occasion,
    ) -> Result<CheckedDestination, Problems> {
        let key = *self.1.lock().unwrap();
        if raw.write_key.is_some() && key.is_none() {
            return Err(Problem::new("destination.write_key.file", "no such file", "").into());
        }
        let plain = RawDestination { write_key: None, ..raw.clone() };
        let mut checked = self.0.check(id, &plain, occasion)?;
        checked.destination.keys.write_key = key.map(str::to_owned);
        Ok(checked)
    }
}

#[test]
fn a_reload_looks_at_the_destinations_of_the_store_again() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let check = Arc::new(KeyFile(ToyCheck(clock()), std::sync::Mutex::new(Some("first"))));
        let house = start_checking(&store, declaring(&[]), 1, Arc::clone(&check) as Arc<dyn DestinationCheck>);
        let keyed = RawDestination {
            write_key: Some(tidegate_schemas::config::raw::RawSecret { file: "key".into() }),
            ..raw("lab", nightly())
        };
        house.registry.send(PutDestination { raw: Box::new(keyed), ..put("lab", nightly()) }).await.unwrap().unwrap();
        let found = async || {
            let current = house.current().await;
            current.destinations.get(&id("lab")).map(|found| found.destination.keys.write_key.clone().unwrap())
        };
        let key_is_there = || check.1.lock().unwrap().is_some();
        let again = async |dry_run| {
            let message = Reload { dry_run, ..reload_of(declaring(&[])) };
            let Reloaded { new_keys, broken, mended, changed, warnings, .. } =
                house.registry.send(message).await.unwrap().unwrap();
            assert_eq!(changed, []);
            let usable = broken.is_empty() && key_is_there();
            let paths: Vec<_> = warnings.iter().map(|warning| warning.path.as_str()).collect();
            assert_eq!(paths == ["destination.lab.receiver_memory"], usable, "{paths:?}");
            let broken: Vec<String> = broken.into_iter().map(|broken| broken.reason).collect();
            (new_keys.len(), broken.concat(), mended.len())
        };
        let nothing = (0, String::new(), 0);
        assert_eq!(again(false).await, nothing);
        *check.1.lock().unwrap() = Some("second");
        assert_eq!((again(true).await, found().await.as_deref()), ((1, String::new(), 0), Some("first")), "a dry run");
        assert_eq!((again(false).await, found().await.as_deref()), ((1, String::new(), 0), Some("second")));
        *check.1.lock().unwrap() = None;
        let (keys, broken, mended) = again(false).await;
        assert!(keys == 0 && broken.contains("no such file") && mended == 0, "{broken}");
        assert_eq!(found().await, None);
        assert!(house.current().await.broken.contains_key(&id("lab")));
        assert_eq!(again(false).await, nothing, "it was so before");
        *check.1.lock().unwrap() = Some("third");
        assert_eq!((again(false).await, found().await.as_deref()), ((0, String::new(), 1), Some("third")));
    });
}

#[test]
fn a_registry_that_starts_again_has_what_the_last_reload_brought() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &["cardiology"], 1);
        house.registry.send(reload(&declaring(&["ward"]))).await.unwrap().unwrap();
        let kept = house.cell.lock().unwrap().clone();
        let again = start_with(&store, kept, 2);
        let (begun, reloaded) = (again.current().await, house.current().await);
        assert_eq!(in_force(&begun), in_force(&reloaded));
        assert_eq!(again.history("ward").await.len(), 1, "nothing happened since");
    });
}

/// Some of four destinations, each with an agreement of its own.
fn config() -> impl Strategy<Value = Arc<Declared>> {
    let one = proptest::option::of((1_u8..4, proptest::bool::ANY));
    proptest::collection::vec(one, 4).prop_map(|drawn| {
        let names = ["a", "b", "c", "d"];
        let of = |(name, drawn): (&&str, Option<(u8, bool)>)| {
            let (lanes, night) = drawn?;
            let windows = if night { nightly() } else { RawWindows::default() };
            let windows = tidegate_schemas::window::WindowSet::from_raw(windows, "windows").unwrap();
            Some(destination(name, ServiceAgreement { lanes, windows, ..ServiceAgreement::default() }))
        };
        declared(names.iter().zip(drawn).filter_map(of).collect(), Routes::default())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn reloads_end_where_a_fresh_start_would(
        steps in proptest::collection::vec((config(), proptest::option::of(0_usize..4)), 1..6),
    ) {
        run(async {
            let store = Arc::new(MemoryRegistry::default());
            let house = start(&store, &["a", "b"], 1);
            house.current().await;
            for (wanted, by_api) in &steps {
                if let Some(index) = by_api {
                    // Refused where the files have it.
                    let _ = house.put(["a", "b", "c", "d"][*index], nightly()).await;
                }
                house.registry.send(reload(wanted)).await.unwrap().unwrap();
            }
            let (last, _) = steps.last().unwrap();
            let fresh = start_with(&store, Arc::clone(last), 2);
            let (reloaded, begun) = (house.current().await, fresh.current().await);
            assert_eq!(in_force(&reloaded), in_force(&begun));
            let versions = |snapshot: &RegistrySnapshot| -> Vec<u64> {
                snapshot.destinations.values().map(|found| found.version).collect()
            };
            assert_eq!(versions(&reloaded), versions(&begun), "a start with what is in force is no change");
        });
    }
}
