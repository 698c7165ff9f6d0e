//! Reloads: all of it or nothing, and the same as a fresh start.
use super::*;
use proptest::prelude::*;

fn reload(declared: &Arc<Declared>) -> Reload {
    Reload { declared: Arc::clone(declared), dry_run: false }
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
        assert_eq!(told, done);
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
