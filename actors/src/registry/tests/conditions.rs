//! Changes that are bound to a version: of two writers one hears of the other, and what was not shown is kept.

use super::*;
use tidegate_schemas::{condition::version_tag, messages::registry::Everything};

/// A change of what is at this version.
fn of(version: u64, put: PutDestination) -> PutDestination {
    PutDestination { condition: Condition::version(version), ..put }
}

#[test]
fn of_two_writers_of_one_version_exactly_one_is_heard() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &[], 1);
        house.put("lab", nightly()).await.unwrap();
        for round in 1..=20 {
            // Both have read the same version, and both are on their way before the first is decided.
            let lanes = |lanes| {
                let raw = RawDestination { lanes: Some(lanes), ..raw("lab", nightly()) };
                of(round, PutDestination { raw: Box::new(raw), ..put("lab", nightly()) })
            };
            let (one, other) = (1 + u8::try_from(round % 4).unwrap(), 5 + u8::try_from(round % 4).unwrap());
            let answers =
                futures_util::future::join(house.registry.send(lanes(one)), house.registry.send(lanes(other))).await;
            let (first, second) = (answers.0.unwrap(), answers.1.unwrap());
            let lost = ChangeError::Changed { id: id("lab"), version: Some(round + 1) };
            let won = match (&first, &second) {
                (Ok(_), Err(error)) => (one, error),
                (Err(error), Ok(_)) => (other, error),
                both => panic!("{both:?}"),
            };
            assert_eq!(*won.1, lost);
            let found = house.current().await.destinations[&id("lab")].clone();
            assert_eq!(
                (found.version, found.destination.agreement.lanes),
                (round + 1, won.0),
                "nothing is lost unseen"
            );
        }
    });
}

#[test]
fn each_change_is_made_of_the_version_that_it_names_or_not_at_all() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &["cardiology"], 1);
        house.put("lab", nightly()).await.unwrap();
        house.put("lab", RawWindows::default()).await.unwrap();
        let saves = store.saves();
        let stale = Condition::version(1);
        let changed = |version| Err(ChangeError::Changed { id: id("lab"), version });
        for dry_run in [true, false] {
            let put = PutDestination { condition: stale.clone(), dry_run, ..put("lab", nightly()) };
            assert_eq!(house.registry.send(put).await.unwrap(), changed(Some(2)));
            let windows = PutWindows { condition: stale.clone(), dry_run, ..set_windows("lab", nightly()) };
            assert_eq!(house.registry.send(windows).await.unwrap(), changed(Some(2)));
            let gone = RemoveDestination { condition: stale.clone(), dry_run, ..remove("lab") };
            assert_eq!(house.registry.send(gone).await.unwrap(), changed(Some(2)));
        }
        // What refuses it anyway comes first: a condition can't hold of what isn't there to be changed.
        let declared = house.registry.send(of(9, put("cardiology", nightly()))).await.unwrap();
        assert!(matches!(declared, Err(ChangeError::Declared { .. })), "{declared:?}");
        let gone = RemoveDestination { condition: stale, ..remove("moon") };
        assert_eq!(house.registry.send(gone).await.unwrap(), Err(ChangeError::Unknown(id("moon"))));
        let new = PutDestination { condition: Condition::absent(), ..put("lab", nightly()) };
        assert_eq!(house.registry.send(new).await.unwrap(), changed(Some(2)));
        assert_eq!(store.saves(), saves);

        let windows = PutWindows { condition: Condition::version(2), ..set_windows("lab", nightly()) };
        assert_eq!(house.registry.send(windows).await.unwrap().unwrap().version, 3);
        let gone = RemoveDestination { condition: Condition::version(3), ..remove("lab") };
        assert_eq!(house.registry.send(gone).await.unwrap().unwrap().version, 4);
        // A tag of before its removal does not bring it back.
        assert_eq!(house.registry.send(of(4, put("lab", nightly()))).await.unwrap(), changed(None));
        let new = PutDestination { condition: Condition::absent(), ..put("lab", nightly()) };
        assert_eq!(house.registry.send(new).await.unwrap().unwrap().version, 5);
    });
}

#[test]
fn what_is_written_is_told_without_the_address_and_put_back_as_it_was() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &["cardiology"], 1);
        house.put("lab", nightly()).await.unwrap();
        let written = async |name: &str| house.registry.send(Written { destination: id(name) }).await.unwrap().unwrap();
        let told = written("lab").await.unwrap();
        assert_eq!((told.version, told.source.to_string().as_str()), (1, "the admin API"));
        let text = serde_json::to_string(&told.keys).unwrap();
        assert!(!text.contains("onion") && text.contains("Europe/Madrid"), "{text}");
        assert_eq!(written("moon").await, None);
        assert_eq!(written("cardiology").await.unwrap().source.to_string(), "tidegate.toml:1");

        // Without a version it is a destination without an address.
        let raw: RawDestination = serde_json::from_str(&text).unwrap();
        let back = PutDestination { raw: Box::new(raw), ..put("lab", nightly()) };
        let refused = house.registry.send(back.clone()).await.unwrap();
        assert!(matches!(refused, Err(ChangeError::Values(_))), "{refused:?}");
        let same = house.registry.send(of(1, back.clone())).await.unwrap().unwrap();
        assert_eq!((same.kind, same.version), (None, 1), "{:?}", same.changes);
        let fewer = RawDestination { windows: RawWindows::default(), ..(*back.raw).clone() };
        let before = house.current().await.destinations[&id("lab")].destination.endpoint.clone();
        let changed = PutDestination { raw: Box::new(fewer), ..of(1, back) };
        assert_eq!(house.registry.send(changed).await.unwrap().unwrap().version, 2);
        assert!(house.current().await.destinations[&id("lab")].destination.endpoint == before);
        assert_eq!(version_tag(2), "2");
    });
}

#[test]
fn a_reload_is_bound_to_the_config_that_it_was_asked_for() {
    run(async {
        let store = Arc::new(MemoryRegistry::default());
        let house = start(&store, &["cardiology"], 1);
        let tag = async || house.registry.send(Everything).await.unwrap().unwrap().tag;
        let bound = |tag: &str| {
            let tags = format!("\"{tag}\"").parse().unwrap();
            Condition { if_match: Some(tags), if_none_match: None }
        };
        let first = tag().await;
        assert_eq!(first, house.current().await.config_tag());
        let wanted = Reload { condition: bound(&first), ..reload_of(declaring(&["cardiology", "ward"])) };
        let dry = house.registry.send(Reload { dry_run: true, ..wanted.clone() }).await.unwrap().unwrap();
        assert_eq!(dry.tag, first);
        // Somebody makes a destination in between.
        house.put("lab", nightly()).await.unwrap();
        let now = tag().await;
        let refused = house.registry.send(wanted.clone()).await.unwrap();
        assert_eq!(refused, Err(ChangeError::ConfigChanged { tag: now.clone() }));
        assert!(!house.current().await.destinations.contains_key(&id("ward")));
        let done = house.registry.send(Reload { condition: bound(&now), ..wanted }).await.unwrap().unwrap();
        assert_ne!(done.tag, now);
        assert_eq!(done.tag, tag().await);
        // A Registry that begins again counts anew, and its tags are others.
        let other = start(&store, &["cardiology", "ward"], 2).current().await.config_tag();
        assert_ne!(other.split('-').next(), first.split('-').next());
    });
}
