//! What each route takes and answers.

use super::operation::{Answer, Operation, json, lines};
use crate::admin::{
    agreements::{DryRun, PutQuery, RemoveQuery},
    config::Part,
    connection_test::When,
    drain::Draining,
    foresight::{Asked, Openings, Simulated},
    health::Health,
    outbox::{Acted, Filter},
    pages::{Newest, Page},
    status::StatusView,
    tools::{BackedUp, Keep, Told},
};
use actix_web::http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;
use std::borrow::Cow;
use tidegate_schemas::{
    agreement::RawAgreement,
    audit::AuditEntry,
    config::raw::RawDestination,
    effective::EffectiveConfig,
    explain::Explanation,
    forecast::Forecast,
    history::AgreementChange,
    messages::tools::{Checked, Compacted, Stats},
    signal::SignalBody,
    view::{ChangeView, ConnectionTest, DestinationView, EntryView, LedgerView, QuarantineView, ReloadView, Shown},
    window::RawWindows,
};

/// Groups of operations, and what they are.
pub(super) const TAGS: [(&str, &str); 5] = [
    ("gateway", "The gateway as a whole"),
    ("destinations", "Agreements, windows, signals, pauses"),
    ("outbox", "Messages in custody"),
    ("records", "What ended, what never became a message, who did what"),
    ("watching", "For monitoring"),
];

/// An agreement as it is written: what may be put, any part of it, and never the address.
struct WrittenKeys;

impl JsonSchema for WrittenKeys {
    fn schema_name() -> Cow<'static, str> {
        "Agreement".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let mut schema = settings.for_deserialize().into_generator().into_root_schema_for::<RawDestination>();
        schema.remove("$schema");
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.remove("onion");
        }
        schema
    }
}

/// All of them, in the order of the table of routes.
pub(super) fn all() -> Vec<Operation> {
    [watching(), destinations(), outbox(), records()].into_iter().flatten().collect()
}

fn get(path: &'static str, about: (&'static str, &'static str, &'static str), answer: Answer) -> Operation {
    Operation::new(Method::GET, path, about, answer)
}
fn post(path: &'static str, about: (&'static str, &'static str, &'static str), answer: Answer) -> Operation {
    Operation::new(Method::POST, path, about, answer)
}
fn put(path: &'static str, about: (&'static str, &'static str, &'static str), answer: Answer) -> Operation {
    Operation::new(Method::PUT, path, about, answer)
}
fn delete(path: &'static str, about: (&'static str, &'static str, &'static str), answer: Answer) -> Operation {
    Operation::new(Method::DELETE, path, about, answer)
}

fn watching() -> Vec<Operation> {
    let metrics = Answer::Text("application/openmetrics-text");
    let described = json::<serde_json::Map<String, Value>>();
    vec![
        get("/livez", ("live", "watching", "Whether the endpoint answers"), json::<Health>()),
        get(
            "/readyz",
            ("ready", "watching", "Whether every part runs; with a token also which do not"),
            json::<Health>(),
        ),
        get("/metrics", ("metrics", "watching", "OpenMetrics; docs/metrics.md has them all"), metrics),
        get("/api/v1/openapi.json", ("openapi", "watching", "This description"), described),
        get(
            "/api/v1/status",
            ("status", "gateway", "How every part is, and whether the clock is believed"),
            json::<StatusView>(),
        ),
        post(
            "/api/v1/reload",
            ("reload", "gateway", "Take over what the config files say now: all of it, or nothing"),
            json::<ReloadView>(),
        )
        .query::<DryRun>()
        .conditional(),
        post("/api/v1/drain", ("drain", "gateway", "End the gateway in order, as SIGTERM does"), json::<Draining>()),
        get(
            "/api/v1/config",
            ("config", "gateway", "What is in force, key by key, and where each stands"),
            json::<EffectiveConfig>(),
        )
        .query::<Part>()
        .conditional(),
    ]
}

fn destinations() -> Vec<Operation> {
    let one = "/api/v1/destinations/{destination}";
    let windows = "/api/v1/destinations/{destination}/windows";
    let tag = "destinations";
    vec![
        get(
            "/api/v1/destinations",
            ("destinations", tag, "All destinations, with what waits for them"),
            json::<Page<DestinationView>>(),
        ),
        get(one, ("destination", tag, "One destination"), json::<DestinationView>()),
        put(one, ("putDestination", tag, "Make a destination, or change one that was made so"), json::<ChangeView>())
            .query::<PutQuery>()
            .body::<RawDestination>()
            .conditional(),
        get(
            "/api/v1/destinations/{destination}/agreement",
            ("agreement", tag, "Its agreement as it is written, without the address: PUT takes it back with If-Match"),
            json::<WrittenKeys>(),
        )
        .conditional(),
        delete(one, ("removeDestination", tag, "Remove one that was made so"), json::<ChangeView>())
            .query::<RemoveQuery>()
            .conditional(),
        get(
            "/api/v1/destinations/{destination}/history",
            ("history", tag, "How its agreement came about"),
            json::<Page<AgreementChange>>(),
        ),
        get("/api/v1/destinations/{destination}/openings", ("openings", tag, "When it opens next"), json::<Openings>())
            .query::<Asked>(),
        get(
            "/api/v1/destinations/{destination}/forecast",
            ("forecast", tag, "What will become of its queue"),
            json::<Forecast>(),
        ),
        post(
            "/api/v1/destinations/{destination}/simulate",
            ("simulate", tag, "What another agreement would mean; nothing changes"),
            json::<Simulated>(),
        )
        .query::<Asked>()
        .body::<RawAgreement>(),
        put(windows, ("setWindows", tag, "Its windows from now on"), json::<ChangeView>())
            .query::<DryRun>()
            .body::<RawWindows>()
            .conditional(),
        delete(windows, ("resetWindows", tag, "No windows: always open"), json::<ChangeView>())
            .query::<DryRun>()
            .conditional(),
        post(
            "/api/v1/destinations/{destination}/signal",
            ("signal", tag, "Ready, or not now, for a time"),
            json::<DestinationView>(),
        )
        .body::<SignalBody>(),
        post(
            "/api/v1/destinations/{destination}/pause",
            ("pause", tag, "Deliver nothing there until it is resumed"),
            json::<DestinationView>(),
        ),
        post("/api/v1/destinations/{destination}/resume", ("resume", tag, "Let it go on"), json::<DestinationView>()),
        post(
            "/api/v1/destinations/{destination}/test",
            ("testConnection", tag, "Connect to it on a fresh circuit, and hang up: nothing is sent"),
            json::<ConnectionTest>(),
        )
        .query::<When>(),
    ]
}

fn outbox() -> Vec<Operation> {
    let tag = "outbox";
    vec![
        get("/api/v1/outbox", ("messages", tag, "A page of messages in custody"), json::<Page<EntryView>>())
            .query::<Filter>(),
        get(
            "/api/v1/outbox/stats",
            ("stats", tag, "What waits, by state and age, and what room it takes"),
            json::<Stats>(),
        ),
        get("/api/v1/outbox/{id}", ("messageById", tag, "One message, also when it has ended"), json::<Shown>()),
        get(
            "/api/v1/outbox/{id}/explain",
            ("explainById", tag, "Why it is where it is, and what comes next"),
            json::<Explanation>(),
        ),
        get("/api/v1/outbox/{destination}/{seq}", ("message", tag, "One message by its place"), json::<Shown>()),
        get(
            "/api/v1/outbox/{destination}/{seq}/explain",
            ("explain", tag, "Why it is where it is, by its place"),
            json::<Explanation>(),
        ),
        post(
            "/api/v1/outbox/{destination}/{seq}/{act}",
            ("act", tag, "Hold, release, retry or purge a message"),
            json::<Acted>(),
        ),
        post(
            "/api/v1/outbox/check",
            ("check", tag, "Read everything, and compare it with the counters"),
            lines::<Told<Checked>>(),
        ),
        post(
            "/api/v1/outbox/backup",
            ("backup", tag, "Write everything to a file in the state folder"),
            lines::<Told<BackedUp>>(),
        )
        .query::<Keep>(),
        post(
            "/api/v1/outbox/compact",
            ("compact", tag, "Write the outbox anew, in as little room as it takes"),
            lines::<Told<Compacted>>(),
        ),
    ]
}

fn records() -> Vec<Operation> {
    let tag = "records";
    vec![
        get(
            "/api/v1/quarantine",
            ("quarantine", tag, "What never became a message, newest first"),
            json::<Page<QuarantineView>>(),
        )
        .query::<Newest>(),
        get("/api/v1/ledger", ("ledger", tag, "What ended lately, newest first"), json::<Page<LedgerView>>())
            .query::<Newest>(),
        get("/api/v1/audit", ("audit", tag, "Who did what, newest first"), json::<Page<AuditEntry>>())
            .query::<Newest>(),
    ]
}
