//! The admin endpoint from outside: who is let in, what is answered, how pages and problems look.

mod agreements;
mod console;
mod scopes;

use crate::http_support::{self as support, Answer, OutboxActor, Record, RegistryActor, StandingClock, send};
use actix::{Actor as _, Addr};
use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tidegate::admin::{self, Settings, access::Reach, listener::Serving, status::StatusView, token::AdminToken};
use tidegate_actors::testing::seeded_entropy::SeededEntropy;
use tidegate_schemas::{
    clock::ClockTrust,
    entry::{EntryState, Event},
    onion::OnionAddress,
    route::Routes,
};
use tokio::sync::Semaphore;

struct World {
    serving: Serving,
    address: SocketAddr,
    token: String,
    record: Arc<Mutex<Record>>,
    state: TempDir,
}

async fn start_with(registry: Option<RegistryActor>, outbox: bool) -> World {
    let registry: Option<Addr<RegistryActor>> = registry.map(|registry| registry.start());
    let actor = OutboxActor::new(Arc::new(Semaphore::new(100)));
    let record = actor.record.clone();
    let outbox = outbox.then(|| actor.start());
    serve(support::reach(registry.as_ref(), outbox.as_ref()), record)
}

fn serve(reach: Reach, record: Arc<Mutex<Record>>) -> World {
    let state = tempfile::tempdir().unwrap();
    let token = AdminToken::open_or_create(state.path(), &SeededEntropy::new(1)).unwrap();
    let serving = admin::start(Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        hosts: vec!["gateway.home".into()],
        token: token.clone(),
        audit: support::audit_log(state.path()),
        reach,
        clock: Arc::new(StandingClock("2027-01-04T12:00:00Z".parse().unwrap())),
        reloader: None,
        drain: Arc::default(),
        state_dir: state.path().to_owned(),
    })
    .unwrap();
    World { address: serving.address(), serving, token: token.reveal().to_owned(), record, state }
}

async fn start() -> World {
    start_with(Some(support::registry(Routes::default())), true).await
}

impl World {
    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let authorization = format!("Bearer {}", self.token);
        let mut headers = vec![("authorization", authorization.as_str())];
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        send(self.address, method, path, &headers, body.to_owned()).await
    }
    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }
    async fn stop(self) {
        self.serving.stop(false).await;
    }
}

/// A path that a pattern of the table stands for.
fn example(pattern: &str) -> String {
    pattern
        .replace("{destination}", "cardiology")
        .replace("{seq}", "1")
        .replace("{act}", "hold")
        .replace("{id}", "00000000-0000-4000-8000-000000000000")
}

#[actix::test]
async fn nobody_gets_past_the_guard_on_any_route_by_any_of_the_tricks() {
    let world = start().await;
    let right = format!("Bearer {}", world.token);
    let own = world.address.to_string();
    let cut = format!("Bearer {}", &world.token[..42]);
    let foreign = "http://evil.example";
    // Headers beside the right token, and the status that each must lead to.
    type Trick<'t> = (&'t str, Vec<(&'t str, &'t str)>, u16);
    let tricks: Vec<Trick<'_>> = vec![
        ("rebound name", vec![("authorization", &right), ("host", "evil.example")], 403),
        ("rebound name with the port", vec![("authorization", &right), ("host", "evil.example:8088")], 403),
        ("two names", vec![("authorization", &right), ("host", &own), ("host", "evil.example")], 400),
        ("foreign origin", vec![("authorization", &right), ("origin", foreign)], 403),
        ("sandboxed origin", vec![("authorization", &right), ("origin", "null")], 403),
        ("cross-site", vec![("authorization", &right), ("sec-fetch-site", "cross-site")], 403),
        ("same-site", vec![("authorization", &right), ("sec-fetch-site", "same-site")], 403),
        ("no token", vec![], 401),
        ("the token as a cookie", vec![("cookie", &right)], 401),
        ("another scheme", vec![("authorization", "Basic YWRtaW46YWRtaW4=")], 401),
    ];
    let mut allowed = 0;
    let routes = admin::route_list();
    for (method, pattern) in &routes {
        let path = example(pattern);
        for (trick, headers, status) in &tricks {
            if *status == 401 && admin::is_public(&path) {
                continue;
            }
            let answer = send(world.address, method, &path, headers, "").await;
            assert!(answer.status == *status || answer.status == 403, "{trick}: {method} {path}: {}", answer.status);
            allowed += u32::from(answer.status < 400);
        }
        for (method, kind) in [(method.as_str(), "application/x-www-form-urlencoded"), ("POST", "text/plain")] {
            let answer = send(world.address, method, &path, &[("content-type", kind)], "token=1").await;
            let is_read = method == "GET" && admin::is_public(&path);
            assert!(answer.status >= 400 || is_read, "form {method} {path}: {}", answer.status);
            let headers = [("authorization", right.as_str()), ("content-type", kind)];
            let answer = send(world.address, method, &path, &headers, "token=1").await;
            assert!(method == "GET" || answer.status == 415, "form {method} {path}: {}", answer.status);
            allowed += u32::from(method != "GET" && answer.status < 400);
        }
    }
    writeln!(std::io::stdout(), "figure routes_unguarded {allowed} routes").unwrap();
    assert_eq!((allowed, routes.len()), (0, 36));
    assert!(world.record.lock().unwrap().operated.is_empty());
    // Wrong tokens come last: after a few of them the answer is 429, and the right token passes all the same.
    let mut last = 0;
    for _ in 0..7 {
        last = send(world.address, "GET", "/api/v1/status", &[("authorization", &cut)], "").await.status;
        assert!([401, 429].contains(&last));
    }
    assert_eq!(last, 429);
    assert_eq!(world.get("/api/v1/status").await.status, 200);
    world.stop().await;
}

#[actix::test]
async fn the_right_token_is_let_in_under_every_name_that_is_ours() {
    let world = start().await;
    let port = world.address.port();
    let right = format!("Bearer {}", world.token);
    for host in [
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        "gateway.home".into(),
        format!("Gateway.Home:{port}"),
    ] {
        let headers = [("authorization", right.as_str()), ("host", &host), ("sec-fetch-site", "same-origin")];
        let answer = send(world.address, "GET", "/api/v1/status", &headers, "").await;
        assert_eq!(answer.status, 200, "{host}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let headers = [("authorization", right.as_str()), ("origin", &format!("http://localhost:{port}"))];
    assert_eq!(send(world.address, "GET", "/api/v1/status", &headers, "").await.status, 200);
    let challenge = send(world.address, "GET", "/api/v1/status", &[], "").await;
    challenge.is_problem(401, "credentials");
    assert_eq!(challenge.header("www-authenticate"), Some("Bearer realm=\"tidegate admin\""));
    world.stop().await;
}

#[actix::test]
async fn alive_and_ready_need_no_token_and_say_nothing_else() {
    let world = start().await;
    for path in ["/livez", "/readyz"] {
        let answer = send(world.address, "GET", path, &[], "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"status":"ok"}"#));
    }
    world.stop().await;
    let world = start_with(None, true).await;
    assert_eq!(send(world.address, "GET", "/livez", &[], "").await.status, 200);
    let answer = send(world.address, "GET", "/readyz", &[], "").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, r#"{"status":"degraded"}"#));
    world.stop().await;
}

#[actix::test]
async fn the_status_shows_every_line_up_or_down() {
    let world = start_with(Some(support::registry(Routes::default())), false).await;
    let answer = world.get("/api/v1/status").await;
    let status: StatusView = serde_json::from_str(&answer.body).unwrap();
    assert!(!status.ready && status.clock.trusted);
    assert_eq!(status.clock.reason, ClockTrust::KernelSynchronised);
    assert_eq!(status.lines.len(), 2);
    assert!(status.lines[0].observation.is_some() && status.lines[1].observation.is_none());
    // The rest of the answers needs the Outbox, and says that it is being restarted.
    for path in ["/api/v1/outbox", "/api/v1/outbox/cardiology/1", "/api/v1/quarantine", "/api/v1/ledger"] {
        let answer = world.get(path).await;
        answer.is_problem(503, "unavailable");
        assert!(answer.header("retry-after").is_some());
    }
    let answer = world.get("/api/v1/destinations").await;
    assert_eq!((answer.status, &answer.json()["items"][0]["load"]), (200, &serde_json::Value::Null));
    world.stop().await;
}

#[actix::test]
async fn windows_are_set_and_reset_and_each_wrong_value_is_pointed_at() {
    let world = start().await;
    let path = "/api/v1/destinations/cardiology/windows";
    let body = r#"{"timezone":"Europe/Madrid","allow":[{"days":"mon-fri","from":"22:00","to":"02:00"}]}"#;
    let answer = world.ask("PUT", path, body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let change = answer.json();
    assert_eq!((&change["kind"], &change["impact"]["openings_before"]), (&"changed".into(), &serde_json::json!([])));
    assert_eq!(change["impact"]["openings_after"][2]["start"], "2027-01-06T21:00:00Z");
    let view = world.get("/api/v1/destinations/cardiology").await.json();
    assert_eq!(
        (&view["now"]["open"], &view["version"], &view["source"]["kind"]),
        (&false.into(), &2.into(), &"api".into())
    );
    assert_eq!(view["now"]["next_opening"], "2027-01-04T21:00:00Z");
    assert_eq!(world.ask("DELETE", &format!("{path}?dry_run=true"), "").await.status, 200);
    assert_eq!(world.get("/api/v1/destinations/cardiology").await.json()["now"]["open"], false);
    assert_eq!(world.ask("DELETE", path, "").await.status, 200);
    assert_eq!(world.get("/api/v1/destinations/cardiology").await.json()["now"]["open"], true);

    let body = r#"{"timezone":"Europe/Madird","allow":[{"from":"22:00"},{"cron":"0 25 * * *","for":"20m"}]}"#;
    let answer = world.ask("PUT", path, body).await;
    answer.is_problem(422, "values");
    let errors = answer.json()["errors"].clone();
    let pointers: Vec<&str> = errors.as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/timezone", "/allow/1/cron"]);

    world.ask("PUT", path, r#"{"timezon":"UTC"}"#).await.is_problem(400, "bad-request");
    world.ask("PUT", path, "{").await.is_problem(400, "bad-request");
    world.ask("PUT", path, &format!("{{\"timezone\":\"{}\"}}", "x".repeat(70_000))).await.is_problem(413, "too-large");
    world.ask("PUT", "/api/v1/destinations/nowhere/windows", "{}").await.is_problem(404, "not-found");
    world.stop().await;

    let mut failing = support::registry(Routes::default());
    failing.fail = true;
    let world = start_with(Some(failing), true).await;
    let answer = world.ask("PUT", path, "{}").await;
    answer.is_problem(503, "unavailable");
    assert!(!answer.body.contains("secret"));
    world.stop().await;
}

#[actix::test]
async fn a_destination_is_put_with_what_it_means_and_each_wrong_value_is_pointed_at() {
    let world = start().await;
    let path = "/api/v1/destinations/cardiology";
    let onion = OnionAddress::from_public_key([3; 32]).reveal();
    let mut body = serde_json::json!({
        "onion": onion,
        "lifetime": { "max_age": "9h" },
        "windows": { "allow": [{ "from": "21:00", "to": "13:00" }, { "from": "13:00", "to": "15:00" }] },
    });
    let change = world.ask("PUT", &format!("{path}?dry_run=true"), &body.to_string()).await;
    assert_eq!(change.status, 200, "{}", change.body);
    assert_eq!(change.json()["waiting"], support::ENTRIES);
    assert_eq!(change.json()["impact"]["forecast"]["end_before_opening"], 0);
    assert_eq!(world.get(path).await.json()["version"], 1, "a dry run");
    body["lifetime"]["max_age"] = "9h".into();
    body["windows"] =
        serde_json::json!({ "allow": [{ "from": "21:00", "to": "12:00" }, { "from": "20:59", "to": "21:00" }] });
    let change = world.ask("PUT", path, &body.to_string()).await;
    // It opens in 8 h 59 min, and what waits is a minute old.
    assert_eq!(change.json()["impact"]["forecast"]["end_before_opening"], support::ENTRIES, "{}", change.body);
    assert_eq!(change.json()["warnings"][0], "destination.receiver_memory: it is not declared", "{}", change.body);
    assert_eq!(world.get(path).await.json()["version"], 2);

    let wrong = r#"{"onion":"example.org","lanes":99,"windows":{"allow":[{"cron":"0 25 * * *","for":"20m"}]}}"#;
    let answer = world.ask("PUT", path, wrong).await;
    answer.is_problem(422, "values");
    let errors = answer.json()["errors"].clone();
    let pointers: Vec<&str> = errors.as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/onion", "/windows/allow/0/cron", "/lanes"]);
    world.ask("PUT", path, r#"{"onoin":"x"}"#).await.is_problem(400, "bad-request");
    let answer = world.ask("PUT", "/api/v1/destinations/lab", &body.to_string()).await;
    answer.is_problem(409, "declared");
    assert!(answer.body.contains("conf.d/lab.toml:7"), "{}", answer.body);
    let new = body.to_string();
    world.ask("PUT", &format!("{path}?expect=absent"), &new).await.is_problem(409, "exists");
    world.ask("PUT", "/api/v1/destinations/moon?expect=present", &new).await.is_problem(404, "not-found");
    world.ask("PUT", &format!("{path}?expects=absent"), &new).await.is_problem(400, "bad-request");
    let history = world.get(&format!("{path}/history")).await;
    assert_eq!((history.status, &history.json()["items"][0]["who"]), (200, &"admin".into()));
    world.get("/api/v1/destinations/moon/history").await.is_problem(404, "not-found");
    assert!(!history.body.contains(&onion[..20]));
    world.stop().await;
}

#[actix::test]
async fn a_signal_is_given_in_any_of_its_forms_and_shown_and_limited() {
    let world = start().await;
    let path = "/api/v1/destinations/cardiology/signal";
    // It is 2027-01-04T12:00:00Z.
    for (body, ready, left_ms) in [
        (r#"{"ready_for":"10m"}"#, true, 600_000),
        (r#"{"ready_until":"2027-01-04T13:00:00+01:00"}"#, true, 0),
        (r#"{"ready_until":"2027-01-04T12:20:00Z"}"#, true, 1_200_000),
        (r#"{"not_now_for":"30m"}"#, false, 1_800_000),
    ] {
        let answer = world.ask("POST", path, body).await;
        if left_ms == 0 {
            answer.is_problem(422, "values");
            assert_eq!(answer.json()["errors"][0]["pointer"], "/ready_until");
            continue;
        }
        assert_eq!(answer.status, 200, "{}", answer.body);
        let signal = answer.json()["load"]["signal"].clone();
        let shown = (&signal["ready"], &signal["left_ms"], &signal["from"]);
        assert_eq!(shown, (&ready.into(), &left_ms.into(), &"operator".into()), "{body}");
    }
    assert_eq!(world.ask("POST", path, r#"{"clear":true}"#).await.json()["load"]["signal"], serde_json::Value::Null);
    let used_up = world.ask("POST", path, r#"{"ready_for":"10m"}"#).await;
    used_up.is_problem(429, "too-many");
    assert_eq!(used_up.header("retry-after"), Some("1234"));
    assert!(world.record.lock().unwrap().signalled.iter().all(|signal| signal.sequence.is_none()));

    for (body, status, kind) in [
        ("{}", 400, "bad-request"),
        (r#"{"ready_for":"1m","clear":true}"#, 400, "bad-request"),
        (r#"{"ready_for":"25h"}"#, 422, "values"),
        (r#"{"not_now_for":"soon"}"#, 422, "values"),
        (&format!("{{\"ready_for\":\"1m\"{}}}", " ".repeat(1_000)), 413, "too-large"),
    ] {
        world.ask("POST", path, body).await.is_problem(status, kind);
    }
    world.ask("POST", "/api/v1/destinations/lab/signal", r#"{"clear":true}"#).await.is_problem(409, "not-agreed");
    world.ask("POST", "/api/v1/destinations/nowhere/signal", r#"{"clear":true}"#).await.is_problem(404, "not-found");
    world.stop().await;
}

#[actix::test]
async fn removing_a_destination_asks_for_the_fate_of_what_waits() {
    let world = start().await;
    let path = "/api/v1/destinations/cardiology";
    let answer = world.ask("DELETE", path, "").await;
    answer.is_problem(409, "waiting");
    assert!(answer.body.contains("120 queued, 0 held"), "{}", answer.body);
    world.ask("DELETE", &format!("{path}?queued=burn"), "").await.is_problem(400, "bad-request");
    world.ask("DELETE", "/api/v1/destinations/lab?queued=purge", "").await.is_problem(409, "declared");
    let told = world.ask("DELETE", &format!("{path}?dry_run=true"), "").await;
    assert_eq!(
        (told.status, &told.json()["waiting"], &told.json()["kind"]),
        (200, &support::ENTRIES.into(), &"removed".into())
    );
    assert_eq!(world.get(path).await.status, 200);

    let held = world.ask("DELETE", &format!("{path}?queued=hold"), "").await;
    assert_eq!((held.status, &held.json()["purged"]), (200, &serde_json::Value::Null), "{}", held.body);
    assert!(world.record.lock().unwrap().operated.is_empty());
    world.get(path).await.is_problem(404, "not-found");
    assert_eq!(world.get("/api/v1/status").await.json()["absent"][0]["waiting"], support::ENTRIES);
    // What was kept can still be purged, and so can what a purge that was cut off has left.
    world.ask("DELETE", path, "").await.is_problem(404, "not-found");
    let purged = world.ask("DELETE", &format!("{path}?queued=purge"), "").await;
    assert_eq!((purged.status, &purged.json()["purged"]), (200, &support::ENTRIES.into()), "{}", purged.body);
    let operated = world.record.lock().unwrap().operated.clone();
    assert!(operated.len() as u64 == support::ENTRIES && operated.iter().all(|act| act.event == Event::Purge));
    world.ask("POST", "/api/v1/reload", "").await.is_problem(503, "unavailable");
    world.stop().await;
}

#[actix::test]
async fn a_destination_is_paused_and_resumed_and_no_other_name_is_kept() {
    let world = start().await;
    for (act, paused) in [("pause", true), ("resume", false), ("pause", true)] {
        let answer = world.ask("POST", &format!("/api/v1/destinations/cardiology/{act}"), "").await;
        assert_eq!((answer.status, &answer.json()["load"]["paused"]), (200, &paused.into()), "{act}");
    }
    world.ask("POST", "/api/v1/destinations/nowhere/resume", "").await.is_problem(404, "not-found");
    assert!(world.record.lock().unwrap().paused);
    world.stop().await;
}

#[actix::test]
async fn what_comes_is_foreseen_and_explained() {
    let world = start().await;
    let cardiology = "/api/v1/destinations/cardiology";
    let openings = world.get(&format!("{cardiology}/openings?count=3")).await.json();
    assert_eq!((&openings["now"]["open"], &openings["openings"]), (&true.into(), &serde_json::json!([])));
    world.get(&format!("{cardiology}/openings?count=5000")).await.is_problem(400, "bad-request");
    world.get("/api/v1/destinations/nowhere/openings").await.is_problem(404, "not-found");
    let forecast = world.get(&format!("{cardiology}/forecast")).await.json();
    assert_eq!((&forecast["messages"], &forecast["over_now"]), (&support::ENTRIES.into(), &0.into()));

    // A minute old, and the next opening is in nine hours.
    let other = r#"{"windows":{"allow":[{"from":"21:00","to":"13:00"},{"from":"13:00","to":"14:00"}]},"lifetime":{"max_age":"8h"}}"#;
    let simulated = world.ask("POST", &format!("{cardiology}/simulate?count=2"), other).await;
    assert_eq!(simulated.status, 200, "{}", simulated.body);
    let told = simulated.json();
    assert_eq!(told["after"]["openings"][0]["end"], "2027-01-04T14:00:00Z");
    assert_eq!(
        (&told["before"]["forecast"]["over_now"], &told["after"]["forecast"]["over_now"]),
        (&0.into(), &0.into())
    );
    let shorter = r#"{"lifetime":{"max_age":"60s"}}"#;
    let told = world.ask("POST", &format!("{cardiology}/simulate"), shorter).await.json();
    assert_eq!(told["after"]["forecast"]["over_now"], support::ENTRIES);
    assert_eq!(world.get(cardiology).await.json()["version"], 1, "nothing has changed");
    let wrong = world.ask("POST", &format!("{cardiology}/simulate"), r#"{"lanes":99}"#).await;
    wrong.is_problem(422, "values");
    assert_eq!(wrong.json()["errors"][0]["pointer"], "/lanes");

    let explained = world.get("/api/v1/outbox/cardiology/7/explain").await.json();
    assert_eq!(explained["entry"]["kind"], "waiting");
    let what = explained["chain"][0]["what"].as_str().unwrap();
    assert!(what.contains("is being restarted"), "the toys have no dispatcher: {explained}");
    world.get("/api/v1/outbox/cardiology/9000/explain").await.is_problem(404, "not-found");
    world.stop().await;
}

#[actix::test]
async fn destinations_show_no_onion_address() {
    let world = start().await;
    let list = world.get("/api/v1/destinations").await;
    assert_eq!(list.json()["items"].as_array().unwrap().len(), 2);
    let one = world.get("/api/v1/destinations/cardiology").await;
    assert_eq!((one.status, &one.json()["load"]["queued"]), (200, &support::ENTRIES.into()));
    world.get("/api/v1/destinations/nowhere").await.is_problem(404, "not-found");
    let metrics = world.get("/metrics").await;
    for body in [&list.body, &one.body, &metrics.body] {
        assert!(!body.contains("onion"), "{body}");
    }
    world.stop().await;
}

#[actix::test]
async fn the_outbox_is_paged_to_its_end_with_the_filters_kept() {
    let world = start().await;
    let mut query = "?destination=cardiology&state=queued,parked&device=patient&limit=50".to_owned();
    let mut seen = Vec::new();
    let mut pages = 0;
    loop {
        let answer = world.get(&format!("/api/v1/outbox{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        pages += 1;
        for item in answer.json()["items"].as_array().unwrap() {
            seen.push(item["entry"].as_str().unwrap().to_owned());
        }
        match answer.header("link") {
            Some(link) => query = link.trim_start_matches('<').split('>').next().unwrap().to_owned(),
            None => break,
        }
    }
    let expected: Vec<String> = (1..=support::ENTRIES).map(|seq| format!("cardiology/{seq}")).collect();
    assert_eq!((seen, pages), (expected, 3));
    let listed = world.record.lock().unwrap().listed[2].clone();
    assert_eq!(listed.states, [EntryState::Queued, EntryState::Parked]);
    assert_eq!(listed.device.as_ref().map(|device| device.as_str()), Some("patient"));

    for bad in ["limit=0", "limit=501", "limit=x", "state=alive", "cursor=7", "destination=A", "colour=red"] {
        world.get(&format!("/api/v1/outbox?{bad}")).await.is_problem(400, "bad-request");
    }
    for (path, numbers) in [("/api/v1/ledger", [3, 2]), ("/api/v1/quarantine", [3, 2])] {
        let page = world.get(&format!("{path}?limit=2")).await.json();
        let found: Vec<u64> = page["items"].as_array().unwrap().iter().map(|i| i["no"].as_u64().unwrap()).collect();
        assert_eq!((found, &page["next"]), (numbers.to_vec(), &"2".into()));
        let page = world.get(&format!("{path}?limit=2&cursor=2")).await.json();
        assert_eq!((page["items"][0]["no"].as_u64(), &page["next"]), (Some(1), &serde_json::Value::Null));
    }
    world.stop().await;
}

#[actix::test]
async fn one_entry_is_shown_and_acted_on() {
    let world = start().await;
    assert_eq!(world.get("/api/v1/outbox/cardiology/7").await.json()["kind"], "waiting");
    let ended = world.get(&format!("/api/v1/outbox/{}", support::ledger(1).id)).await;
    assert_eq!(ended.json()["kind"], "ended");
    for missing in ["cardiology/999", "cardiology/x", "not-a-uuid", "00000000-0000-4000-8000-000000000000"] {
        world.get(&format!("/api/v1/outbox/{missing}")).await.is_problem(404, "not-found");
    }
    let held = world.ask("POST", "/api/v1/outbox/cardiology/7/hold", "").await;
    assert_eq!((held.status, &held.json()["state"]), (200, &"held".into()));
    assert_eq!(world.record.lock().unwrap().operated[0].event, Event::Hold);
    let purged = world.ask("POST", "/api/v1/outbox/cardiology/7/purge", "{}").await;
    assert_eq!(purged.json()["state"], "purged");
    world.ask("POST", "/api/v1/outbox/cardiology/7/release", "").await.is_problem(409, "state");
    world.ask("POST", "/api/v1/outbox/cardiology/7/explode", "").await.is_problem(404, "not-found");
    world.ask("POST", "/api/v1/outbox/cardiology/999/hold", "").await.is_problem(404, "not-found");
    let refused = world.ask("DELETE", "/api/v1/outbox/cardiology/7", "").await;
    assert_eq!(refused.header("allow"), Some("GET"), "RFC 9110 section 15.5.6");
    refused.is_problem(405, "method");
    world.get("/api/v2/outbox").await.is_problem(404, "not-found");
    world.stop().await;
}

#[actix::test]
async fn the_metrics_are_open_metrics_with_the_account_in_it() {
    let world = start().await;
    let answer = world.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    for line in [
        "tidegate_outbox_accepted_total 127",
        "tidegate_outbox_messages{state=\"queued\"} 120",
        "tidegate_outbox_ended_total{state=\"delivered\"} 7",
        "tidegate_outbox_gap 0",
        "tidegate_destination_messages{destination=\"cardiology\",state=\"queued\"} 120",
        "tidegate_destination_delivered_total{destination=\"cardiology\"} 7",
        "tidegate_destination_window_open{destination=\"lab\"} 1",
        "tidegate_actor_up{actor=\"outbox\"} 1",
        "tidegate_actor_restarts_total{actor=\"outbox\"} 0",
        "tidegate_clock_trusted 1",
        "tidegate_clock_trust{reason=\"kernel_synchronised\"} 1",
        "tidegate_clock_trust{reason=\"apart\"} 0",
        "# EOF",
    ] {
        assert!(answer.body.lines().any(|l| l == line), "{line} is not in\n{}", answer.body);
    }
    world.stop().await;
}

#[actix::test]
async fn the_documentation_names_every_route() {
    let text = include_str!("../../docs/admin-api.md");
    for (method, path) in admin::route_list() {
        assert!(text.contains(&format!("`{method} {path}`")), "docs/admin-api.md does not name `{method} {path}`");
    }
}
