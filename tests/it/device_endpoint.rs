//! The device HTTP endpoint from outside: what is taken, what is refused, and when the answer leaves.

use crate::http_support::{self as support, Answer, OutboxActor, Record, send};
use actix::Actor as _;
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tidegate::{
    admin::listener::{ListenError, Serving},
    device_endpoint::{self, Settings},
};
use tidegate_schemas::{
    agreement::IntakeTerms,
    config::devices::{DEVICES_FILE, DeviceCredential, Devices, hash_secret},
    messages::{
        outbox::{EnqueueError, IntakeLimit, StoreError},
        registry::Broken,
    },
    route::{IdSource, PayloadHandling, Route, Routes},
    submission::{BODY_BYTES_MAX, Origin, Redelivery},
};
use tokio::sync::Semaphore;

const SECRET: &str = "a secret of the patient's monitor";
const PAPER: &str = r#"{"device":"patient","topic":"tension/mmHg","payload":"Tension: 120.00 mmHg "}"#;

struct World {
    serving: Serving,
    address: SocketAddr,
    record: Arc<Mutex<Record>>,
    gate: Arc<Semaphore>,
    state: TempDir,
}

#[derive(Default)]
struct Start {
    refuse: Option<EnqueueError>,
    requests_per_minute: Option<u32>,
    credentials: bool,
    outbox_down: bool,
    /// This destination can't be used any more.
    broken: Option<&'static str>,
}

/// The route of the paper: what `{device}` says about two levels goes to cardiology.
fn routes() -> Routes {
    Routes(vec![Route {
        filter: "{device}/+/+".parse().unwrap(),
        device: IdSource::Capture,
        destination: IdSource::Fixed("cardiology".parse().unwrap()),
        allow: Some(vec!["cardiology".parse().unwrap()]),
        payload: PayloadHandling::PrivateIot,
        retained: false,
        priority: tidegate_schemas::submission::Priority::Normal,
    }])
}

fn write_credentials(folder: &Path) {
    let mut devices = Devices::default();
    devices.put(DeviceCredential {
        device: "patient".parse().unwrap(),
        secret_sha256: hash_secret(SECRET).unwrap(),
        destinations: vec!["cardiology".parse().unwrap()],
    });
    fs::write(folder.join(DEVICES_FILE), devices.to_text()).unwrap();
}

async fn start(how: Start) -> World {
    let state = tempfile::tempdir().unwrap();
    if how.credentials {
        write_credentials(state.path());
    }
    let mut registry = support::registry(routes());
    if let Some(name) = how.broken {
        registry.snapshot.destinations.remove(&name.parse().unwrap());
        let broken = Broken { reason: "its time zone is gone".into(), intake: IntakeTerms::default() };
        registry.snapshot.broken.insert(name.parse().unwrap(), broken);
    }
    let registry = registry.start();
    let gate = Arc::new(Semaphore::new(1_000));
    let mut outbox = OutboxActor::new(gate.clone());
    outbox.refuse = how.refuse;
    let record = outbox.record.clone();
    let outbox = outbox.start();
    let serving = device_endpoint::start(Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        requests_per_minute: how.requests_per_minute.unwrap_or(1_000),
        devices_file: state.path().join(DEVICES_FILE),
        reach: support::reach(Some(&registry), (!how.outbox_down).then_some(&outbox)),
    })
    .unwrap();
    World { address: serving.address(), serving, record, gate, state }
}

impl World {
    async fn put(&self, path: &str, headers: &[(&str, &str)], body: impl Into<bytes::Bytes>) -> Answer {
        send(self.address, "PUT", path, headers, body).await
    }
    fn stored(&self) -> usize {
        self.record.lock().unwrap().stored.len()
    }
    async fn stop(self) {
        self.serving.stop(false).await;
    }
}

#[actix::test]
async fn the_papers_body_takes_the_papers_route() {
    let world = start(Start::default()).await;
    let answer = world.put("/", &[], PAPER).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.json()["entry"], "cardiology/1");
    assert_eq!((answer.json()["id"].as_str().unwrap().len(), &answer.json()["duplicate"]), (36, &false.into()));
    {
        let record = world.record.lock().unwrap();
        let stored = &record.stored[0];
        assert_eq!((stored.device.as_str(), stored.label.as_deref()), ("patient", Some("mmHg")));
        assert_eq!((&stored.payload.reveal()[..], stored.origin), (&b"120.00 mmHg"[..], Origin::Http));
    }
    // As curl sends it, and with a number.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let number = r#"{"device":"patient","topic":"beats/bpm","payload":70.00}"#;
    assert_eq!(world.put("/", &form, number).await.status, 201);
    assert_eq!(&world.record.lock().unwrap().stored[1].payload.reveal()[..], b"70.00");
    world.stop().await;
}

#[actix::test]
async fn what_is_meant_for_a_destination_that_can_not_be_used_any_more_is_taken() {
    let world = start(Start { broken: Some("cardiology"), ..Start::default() }).await;
    for (path, body) in [("/", PAPER), ("/v1/messages/cardiology?device=patient", "70")] {
        let answer = world.put(path, &[], body).await;
        assert_eq!(answer.status, 201, "{path}: {}", answer.body);
    }
    assert_eq!(world.stored(), 2);
    world.stop().await;
}

#[actix::test]
async fn a_direct_message_keeps_its_bytes_and_its_type() {
    let world = start(Start::default()).await;
    let body: Vec<u8> = (0..=255).cycle().take(BODY_BYTES_MAX).collect();
    let headers = [("content-type", "image/png")];
    let answer = world.put("/v1/messages/lab?device=camera", &headers, body.clone()).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    {
        let record = world.record.lock().unwrap();
        let stored = &record.stored[0];
        assert_eq!((stored.destination.as_str(), stored.device.as_str()), ("lab", "camera"));
        assert_eq!(stored.content_type, "image/png");
        assert_eq!(stored.payload.reveal(), &body);
    }
    assert_eq!(world.put("/v1/messages/lab?device=camera", &[], "").await.status, 201);
    assert_eq!(world.record.lock().unwrap().stored[1].content_type, "application/octet-stream");
    world.stop().await;
}

#[actix::test]
async fn what_is_bad_gets_a_clear_4xx_and_is_not_stored() {
    let world = start(Start::default()).await;
    let long_key = "k".repeat(256);
    type Case<'c> = (&'c str, &'c str, Vec<(&'c str, &'c str)>, String, u16, &'c str);
    let cases: Vec<Case<'_>> = vec![
        ("PUT", "/", vec![], "not json".into(), 400, "bad-request"),
        ("PUT", "/", vec![], String::new(), 400, "bad-request"),
        ("PUT", "/", vec![], r#"{"device":"patient","topic":"a/b"}"#.into(), 400, "bad-request"),
        ("PUT", "/", vec![], r#"{"device":"a b","topic":"a/b","payload":"1"}"#.into(), 400, "bad-request"),
        ("PUT", "/", vec![], r#"{"device":"patient","topic":"a/+","payload":"1"}"#.into(), 400, "bad-request"),
        ("PUT", "/", vec![], r#"{"device":"patient","topic":"a/b","payload":[1]}"#.into(), 400, "bad-request"),
        ("PUT", "/", vec![], r#"{"device":"patient","topic":"a/b","payload":" : "}"#.into(), 400, "bad-request"),
        ("PUT", "/", vec![], r#"{"device":"patient","topic":"deep/er/still","payload":"1"}"#.into(), 404, "not-found"),
        ("PUT", "/", vec![("idempotency-key", "a b")], PAPER.into(), 400, "bad-request"),
        ("PUT", "/", vec![("idempotency-key", &long_key)], PAPER.into(), 400, "bad-request"),
        ("PUT", "/", vec![("origin", "http://evil.example")], PAPER.into(), 403, "forbidden"),
        ("PUT", "/v1/messages/nowhere?device=d", vec![], "1".into(), 404, "not-found"),
        ("PUT", "/v1/messages/NOWHERE?device=d", vec![], "1".into(), 404, "not-found"),
        ("PUT", "/v1/messages/lab", vec![], "1".into(), 400, "bad-request"),
        ("PUT", "/v1/messages/lab?device=a%2Fb", vec![], "1".into(), 400, "bad-request"),
        ("PUT", "/v1/messages/lab?device=d&colour=red", vec![], "1".into(), 400, "bad-request"),
        ("PUT", "/v1/messages/lab?device=d", vec![], "x".repeat(BODY_BYTES_MAX + 1), 413, "too-large"),
        ("PUT", "/v1/messages/lab?device=d", vec![], "x".repeat(3 * 1024 * 1024), 413, "too-large"),
        ("PUT", "/", vec![], "x".repeat(2 * 1024 * 1024), 413, "too-large"),
        ("POST", "/", vec![], PAPER.into(), 405, "method"),
        ("GET", "/v1/messages/lab", vec![], String::new(), 405, "method"),
        ("PUT", "/elsewhere", vec![], PAPER.into(), 404, "not-found"),
    ];
    for (method, path, headers, body, status, kind) in cases {
        let answer = send(world.address, method, path, &headers, body).await;
        answer.is_problem(status, kind);
    }
    let huge_header = "h".repeat(200 * 1024);
    let answer = world.put("/", &[("x-huge", &huge_header)], PAPER).await;
    assert!([400, 431].contains(&answer.status), "{}", answer.status);
    assert_eq!((world.stored(), world.record.lock().unwrap().enqueued), (0, 0));
    assert_eq!(world.put("/", &[], PAPER).await.status, 201, "the next good one is taken");
    world.stop().await;
}

#[actix::test]
async fn one_too_many_is_told_when_to_come_back() {
    let world = start(Start { requests_per_minute: Some(5), ..Start::default() }).await;
    for _ in 0..5 {
        assert_eq!(world.put("/", &[], PAPER).await.status, 201);
    }
    let answer = world.put("/", &[], PAPER).await;
    answer.is_problem(429, "too-many");
    let wait: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=13).contains(&wait), "{wait}");
    assert_eq!(world.stored(), 5);
    world.stop().await;
}

#[actix::test]
async fn a_repeated_request_is_the_same_message_and_equal_content_is_not() {
    let world = start(Start::default()).await;
    let key = [("idempotency-key", "\"reading-1\"")];
    let first = world.put("/", &key, PAPER).await;
    let again = world.put("/", &key, PAPER).await;
    assert_eq!((first.status, again.status), (201, 200));
    assert_eq!(first.json()["id"], again.json()["id"]);
    assert_eq!(again.json()["duplicate"], true);
    assert_eq!(
        world.record.lock().unwrap().stored[0].redelivery,
        Some(Redelivery::Key("reading-1".into())),
        "the quotes are the header's"
    );
    let other = PAPER.replace("120.00", "121.00");
    world.put("/", &key, other).await.is_problem(422, "key-reused");
    assert_eq!(world.stored(), 1);
    for _ in 0..3 {
        assert_eq!(world.put("/", &[], PAPER).await.status, 201);
    }
    assert_eq!(world.stored(), 4);
    world.stop().await;
}

#[actix::test]
async fn the_2xx_leaves_only_after_the_outbox_has_answered() {
    let world = start(Start::default()).await;
    world.gate.forget_permits(1_000);
    let request = actix::spawn({
        let address = world.address;
        async move { send(address, "PUT", "/", &[], PAPER).await }
    });
    // The submission is with the Outbox, which is still flushing: there is no answer.
    while world.stored() == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!request.is_finished());
    world.gate.add_permits(1);
    assert_eq!(request.await.unwrap().status, 201);
    world.stop().await;
}

#[actix::test]
async fn a_gateway_that_can_not_take_it_says_so_and_when_to_try_again() {
    let full = EnqueueError::Refused { limit: IntakeLimit::Destination, recorded: false };
    for (refuse, status, kind) in [
        (full, 507, "destination-full"),
        (EnqueueError::Store(StoreError::Full), 507, "disk-full"),
        (EnqueueError::Store(StoreError::Io("/secret".into())), 503, "unavailable"),
        (EnqueueError::Store(StoreError::Unavailable), 503, "unavailable"),
    ] {
        let world = start(Start { refuse: Some(refuse), ..Start::default() }).await;
        let answer = world.put("/", &[], PAPER).await;
        answer.is_problem(status, kind);
        assert!(answer.header("retry-after").is_some() && !answer.body.contains("/secret"));
        world.stop().await;
    }
    let world = start(Start { outbox_down: true, ..Start::default() }).await;
    let answer = world.put("/", &[], PAPER).await;
    answer.is_problem(503, "unavailable");
    assert!(answer.header("retry-after").is_some());
    world.stop().await;
}

#[actix::test]
async fn a_device_with_credentials_speaks_for_itself_and_reaches_its_own_destinations() {
    let world = start(Start { credentials: true, ..Start::default() }).await;
    let basic = format!("Basic {}", data_encoding::BASE64.encode(format!("patient:{SECRET}").as_bytes()));
    let bearer = format!("Bearer patient:{SECRET}");
    for right in [&basic, &bearer] {
        let right = [("authorization", right.as_str())];
        assert_eq!(world.put("/", &right, PAPER).await.status, 201);
        assert_eq!(world.put("/v1/messages/cardiology", &right, "1").await.status, 201);
        assert_eq!(world.put("/v1/messages/cardiology?device=patient", &right, "1").await.status, 201);
        world.put("/", &right, PAPER.replace("patient", "other")).await.is_problem(403, "forbidden");
        world.put("/v1/messages/cardiology?device=other", &right, "1").await.is_problem(403, "forbidden");
        world.put("/v1/messages/lab", &right, "1").await.is_problem(403, "forbidden");
        world.put("/v1/messages/nowhere", &right, "1").await.is_problem(404, "not-found");
    }
    assert!(world.record.lock().unwrap().stored.iter().all(|stored| stored.device.as_str() == "patient"));
    assert_eq!(world.stored(), 6);
    let wrong = format!("Bearer patient:{SECRET}!");
    for headers in
        [vec![], vec![("authorization", wrong.as_str())], vec![("authorization", "Bearer nobody:at all, of length")]]
    {
        let answer = world.put("/", &headers, PAPER).await;
        answer.is_problem(401, "credentials");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Basic "));
    }
    assert_eq!(world.stored(), 6);
    world.stop().await;
}

#[actix::test]
async fn a_device_that_is_added_while_the_gateway_runs_closes_the_door_to_strangers() {
    let world = start(Start::default()).await;
    assert_eq!(world.put("/", &[], PAPER).await.status, 201);
    write_credentials(world.state.path());
    tokio::time::sleep(Duration::from_millis(600)).await;
    world.put("/", &[], PAPER).await.is_problem(401, "credentials");
    let bearer = format!("Bearer patient:{SECRET}");
    assert_eq!(world.put("/", &[("authorization", &bearer)], PAPER).await.status, 201);
    world.stop().await;
}

#[actix::test]
async fn beyond_loopback_it_starts_only_with_credentials() {
    let state = tempfile::tempdir().unwrap();
    let registry = support::registry(routes()).start();
    let settings = Settings {
        listen: "0.0.0.0:0".parse().unwrap(),
        requests_per_minute: 10,
        devices_file: state.path().join(DEVICES_FILE),
        reach: support::reach(Some(&registry), None),
    };
    let error = device_endpoint::start(settings.clone()).unwrap_err();
    assert!(matches!(error, ListenError::NoCredentials { .. }), "{error}");
    assert!(error.to_string().contains("tidegate device add"));
    fs::write(state.path().join(DEVICES_FILE), "version = 1\n[[device]]\nname = 7\n").unwrap();
    assert!(matches!(device_endpoint::start(settings), Err(ListenError::Devices(_))));
}
