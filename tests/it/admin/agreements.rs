//! Changes of agreements that are bound to a version (RFC 9110, section 13), over the real Registry.

use super::{World, serve};
use crate::http_support::{self as support, Answer, OutboxActor, StandingClock, send};
use actix::{Actor as _, Addr};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use serde_json::{Value, json};
use std::sync::Arc;
use tidegate::admin::access::Reach;
use tidegate_actors::{
    registry::{Registry, RegistryParts},
    supervision::{Bell, Death, DeathWatch},
    testing::{
        memory_registry::MemoryRegistry,
        seeded_entropy::SeededEntropy,
        toy_check::ToyCheck,
        toy_registry::{declared_cell, destination},
    },
};
use tidegate_schemas::{agreement::ServiceAgreement, onion::OnionAddress, route::Routes};
use tokio::sync::Semaphore;

/// A gateway with a real Registry: `lab` is declared in a file, the rest is made through the API.
pub(super) struct House {
    pub(super) world: World,
    // Keep it alive.
    _registry: Addr<Registry>,
    _death: Death,
}

pub(super) async fn house() -> House {
    let clock = Arc::new(StandingClock("2027-01-04T12:00:00Z".parse().unwrap()));
    let parts = RegistryParts {
        declared: declared_cell(vec![destination("lab", ServiceAgreement::default())], Routes::default()),
        store: Arc::new(MemoryRegistry::default()),
        check: Arc::new(ToyCheck(clock.clone())),
        clock,
        entropy: Arc::new(SeededEntropy::new(1)),
        bells: vec![],
    };
    let (watch, death) = DeathWatch::pair("registry", 1, Bell::default());
    let registry = Registry::new(parts, watch).start();
    let outbox = OutboxActor::new(Arc::new(Semaphore::new(100)));
    let record = outbox.record.clone();
    let mut situation = support::reach(None, Some(&outbox.start())).look();
    let access = &mut situation.access;
    access.current = Some(registry.clone().recipient());
    access.put = Some(registry.clone().recipient());
    access.put_windows = Some(registry.clone().recipient());
    access.remove = Some(registry.clone().recipient());
    access.history = Some(registry.clone().recipient());
    access.written = Some(registry.clone().recipient());
    access.everything = Some(registry.clone().recipient());
    let world = serve(Reach::new(move || situation.clone()), record);
    House { world, _registry: registry, _death: death }
}

pub(super) fn onion() -> String {
    OnionAddress::from_public_key([3; 32]).reveal()
}

impl House {
    /// With a header more.
    pub(super) async fn ask(&self, method: &str, path: &str, header: (&str, &str), body: &Value) -> Answer {
        let authorization = format!("Bearer {}", self.world.token);
        let mut headers = vec![("authorization", authorization.as_str()), header];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        send(self.world.address, method, path, &headers, body).await
    }

    pub(super) async fn make(&self, name: &str, more: Value) {
        let mut body = json!({ "onion": onion(), "receiver_memory": "30d" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let path = format!("/api/v1/destinations/{name}");
        let answer = self.ask("PUT", &path, ("if-none-match", "*"), &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    pub(super) async fn version(&self, name: &str) -> Value {
        self.world.get(&format!("/api/v1/destinations/{name}")).await.json()["version"].clone()
    }
}

const WARD: &str = "/api/v1/destinations/ward";
const AGREEMENT: &str = "/api/v1/destinations/ward/agreement";

#[actix::test]
async fn a_change_of_another_version_is_refused_with_the_present_one_and_nothing_changes() {
    let house = house().await;
    house.make("ward", json!({ "lanes": 2 })).await;
    let windows = format!("{WARD}/windows");
    let body = json!({ "onion": onion(), "lanes": 3 });
    assert_eq!(house.ask("PUT", WARD, ("if-match", "\"1\""), &body).await.status, 200);
    let nothing = Value::Null;
    for (method, path, body) in [
        ("PUT", WARD, &body),
        ("DELETE", WARD, &nothing),
        ("PUT", windows.as_str(), &json!({ "timezone": "Europe/Madrid" })),
        ("DELETE", windows.as_str(), &nothing),
    ] {
        for path in [format!("{path}?dry_run=true"), path.to_owned()] {
            for header in
                [("if-match", "\"1\""), ("if-match", "W/\"2\""), ("if-none-match", "*"), ("if-none-match", "\"2\"")]
            {
                let answer = house.ask(method, &path, header, body).await;
                answer.is_problem(412, "changed");
                assert_eq!(
                    (&answer.json()["version"], answer.header("etag")),
                    (&2.into(), Some("\"2\"")),
                    "{method} {path}"
                );
            }
            house.ask(method, &path, ("if-match", "2"), body).await.is_problem(400, "bad-request");
        }
    }
    assert_eq!(house.version("ward").await, 2);
    // What refuses it anyway comes before its condition, and what it says after it.
    house.ask("PUT", "/api/v1/destinations/lab", ("if-match", "\"9\""), &body).await.is_problem(409, "declared");
    house
        .ask("DELETE", "/api/v1/destinations/moon", ("if-match", "\"9\""), &nothing)
        .await
        .is_problem(404, "not-found");
    house.ask("PUT", WARD, ("if-match", "\"1\""), &json!({ "lanes": 99 })).await.is_problem(412, "changed");
    let none = house.ask("PUT", "/api/v1/destinations/moon", ("if-match", "*"), &body).await;
    none.is_problem(412, "changed");
    assert_eq!((&none.json()["version"], none.header("etag")), (&Value::Null, None));
    // A dry run tells what the real one can be bound to.
    let dry = house.ask("DELETE", &format!("{windows}?dry_run=true"), ("if-match", "*"), &nothing).await;
    assert_eq!((dry.status, dry.header("etag")), (200, Some("\"2\"")), "{}", dry.body);
    assert_eq!(house.ask("DELETE", WARD, ("if-match", "\"2\", \"1\""), &nothing).await.status, 200);
    house.world.stop().await;
}

#[actix::test]
async fn of_two_writers_of_one_version_one_is_told_of_the_other() {
    let house = house().await;
    house.make("ward", json!({})).await;
    for round in 1..=10 {
        let tag = format!("\"{round}\"");
        let [one, other] =
            [1, 2].map(|writer| json!({ "onion": onion(), "limits": { "messages": 100 * round + writer } }));
        let (first, second) = futures_util::future::join(
            house.ask("PUT", WARD, ("if-match", &tag), &one),
            house.ask("PUT", WARD, ("if-match", &tag), &other),
        )
        .await;
        let (won, lost) = if first.status == 200 { (one, second) } else { (other, first) };
        lost.is_problem(412, "changed");
        assert_eq!(lost.json()["version"], round + 1);
        let kept = house.world.get(AGREEMENT).await;
        assert_eq!(kept.json()["limits"], won["limits"]);
        assert_eq!(kept.header("etag"), Some(format!("\"{}\"", round + 1).as_str()));
    }
    house.world.stop().await;
}

#[actix::test]
async fn an_agreement_is_told_as_it_is_written_without_its_address_and_not_twice() {
    let house = house().await;
    house.make("ward", json!({ "retry": { "steps": ["15s", "1m"] }, "order": "none" })).await;
    let told = house.world.get(AGREEMENT).await;
    let expected = json!({
        "format": "cloudevents", "order": "none", "receiver_memory": "30d", "retry": { "steps": ["15s", "1m"] },
    });
    assert_eq!((told.status, told.json(), told.header("etag")), (200, expected, Some("\"1\"")));
    assert!(!told.body.contains(&onion()[..16]));
    for (tags, status) in [("\"1\"", 304), ("W/\"1\"", 304), ("*", 304), ("\"0\", \"1\"", 304), ("\"0\"", 200)] {
        let again = house.ask("GET", AGREEMENT, ("if-none-match", tags), &Value::Null).await;
        assert_eq!((again.status, again.header("etag"), again.body.is_empty()), (status, Some("\"1\""), status == 304));
    }
    house.ask("GET", AGREEMENT, ("if-match", "\"0\""), &Value::Null).await.is_problem(412, "changed");
    house.world.get("/api/v1/destinations/moon/agreement").await.is_problem(404, "not-found");
    // One of a file is told too.
    let lab = house.world.get("/api/v1/destinations/lab/agreement").await;
    assert_eq!((lab.status, &lab.json()["onion"]), (200, &Value::Null));
    house.world.stop().await;
}

/// Agreements with any of many keys.
fn agreements() -> impl Strategy<Value = Value> {
    let some = |value: Value| proptest::option::of(Just(value));
    (
        proptest::option::of(1_u8..8),
        some(json!({ "timezone": "Europe/Madrid", "allow": [{ "days": "mon-fri", "from": "22:00", "to": "02:00", "note": "é" }] })),
        some(json!({ "steps": ["15s", "1h"], "jitter": 0.25 })),
        some(json!({ "max_age": "9d", "ages": "while_open" })),
        some(json!({ "messages": 50_000, "bytes": "64MiB", "device": { "per_minute": 6 } })),
        some(json!({ "accept": true, "ttl_max": "15m" })),
        some(json!({ "park_after": 3 })),
        some(json!(["1d", "3d"])),
        some(json!({ "ok": [304] })),
    )
        .prop_map(|(lanes, windows, retry, lifetime, limits, signal, head_of_line, notify_after, status)| {
            let mut made = json!({ "format": "raw" });
            let mut set = |key: &str, value: Option<Value>| {
                if let Some(value) = value {
                    made[key] = value;
                }
            };
            set("lanes", lanes.map(Value::from));
            set("windows", windows);
            set("retry", retry);
            set("lifetime", lifetime);
            set("limits", limits);
            set("signal", signal);
            set("head_of_line", head_of_line);
            set("notify_after", notify_after);
            set("status", status);
            made
        })
}

#[actix::test]
async fn what_is_read_and_put_back_changes_nothing_whatever_was_agreed() {
    let house = house().await;
    let mut runner = TestRunner::deterministic();
    for index in 0..40 {
        let name = format!("ward-{index}");
        let agreed = agreements().new_tree(&mut runner).unwrap().current();
        house.make(&name, agreed.clone()).await;
        let path = format!("/api/v1/destinations/{name}");
        let read = house.world.get(&format!("{path}/agreement")).await;
        let tag = read.header("etag").unwrap().to_owned();
        let back = house.ask("PUT", &path, ("if-match", &tag), &read.json()).await;
        assert_eq!(back.status, 200, "{agreed}: {}", back.body);
        assert_eq!(
            (&back.json()["kind"], &back.json()["version"]),
            (&Value::Null, &1.into()),
            "{agreed}: {}",
            back.body
        );
        assert_eq!(house.version(&name).await, 1);
        // Without a version, nobody says whose address is meant.
        let refused = house.world.ask("PUT", &path, &read.body).await;
        refused.is_problem(422, "values");
        assert_eq!(refused.json()["errors"][0]["pointer"], "/onion");
    }
    house.world.stop().await;
}

#[actix::test]
async fn the_config_in_force_says_where_each_key_stands_and_shows_no_address() {
    let house = house().await;
    house.make("ward", json!({ "lanes": 3, "lifetime": { "attempts": 30 } })).await;
    let told = house.world.get("/api/v1/config").await;
    let tag = told.header("etag").unwrap().to_owned();
    assert!(!told.body.contains(&onion()[..16]), "{}", told.body);
    let config = told.json();
    let key = |config: &Value, name: &str| {
        let keys = config["keys"].as_array().unwrap();
        keys.iter().find(|key| key["key"] == name).cloned().unwrap_or_default()
    };
    assert_eq!(
        key(&config, "mqtt.port"),
        json!({ "key": "mqtt.port", "value": 1883, "origin": { "kind": "default" } })
    );
    assert_eq!(key(&config, "destination.ward.lanes")["origin"]["kind"], "api");
    let onion = json!({
        "key": "destination.lab.onion", "hidden": true,
        "origin": { "kind": "file", "file": "tidegate.toml", "line": 1 },
    });
    assert_eq!(key(&config, "destination.lab.onion"), onion);
    assert_eq!(house.ask("GET", "/api/v1/config", ("if-none-match", &tag), &Value::Null).await.status, 304);

    let ward = house.world.get("/api/v1/config?destination=ward").await.json();
    assert_eq!(key(&ward, "destination.ward.lanes")["value"], 3);
    assert_eq!(
        key(&ward, "destination.ward.order"),
        json!({
            "key": "destination.ward.order", "value": "per_device", "origin": { "kind": "default" },
        })
    );
    // There is one kind of lifetime.
    assert_eq!(key(&ward, "destination.ward.lifetime.max_age"), Value::Null);
    house.world.get("/api/v1/config?destination=moon").await.is_problem(404, "not-found");

    house.make("moon", json!({})).await;
    let after = house.ask("GET", "/api/v1/config", ("if-none-match", &tag), &Value::Null).await;
    assert_eq!(after.status, 200);
    assert_ne!(after.header("etag"), Some(tag.as_str()));
    house.world.stop().await;
}
