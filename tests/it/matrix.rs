//! The room on a real Synapse: one event for a notice sent twice, one log-in, outages, a thousand deliveries against Synapse's own
//! limits, and a homeserver behind an onion service. Who looks into the room is a client that shares no code with the gateway's.
#![expect(clippy::print_stdout, reason = "the times are worth seeing")]

use actix::{Actor as _, Addr};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tidegate::{
    adapters::{
        arti::{ArtiSettings, LazyArti},
        disk_store::{DiskOptions, DiskStore},
        matrix::{ACKNOWLEDGEMENT, MatrixRoom, SESSION_FILE},
        system_clock::SystemClock,
        system_entropy::SystemEntropy,
    },
    lab::{
        HiddenServiceOptions, TorNetwork, TorNetworkOptions,
        http::HttpRequest,
        ports::{free_ports, loopback},
        synapse::{RoomClient, Synapse, SynapseOptions},
    },
};
use tidegate_actors::{
    outbox::{Lease, Limits, Outbox, OutboxParts},
    ports::room::{Room, RoomError},
    reporter::{Reporter, ReporterParts},
    supervision::{Bells, DeathWatch},
    testing::{
        submissions::submission,
        toy_registry::{ToyRegistry, destination, snapshot},
    },
};
use tidegate_schemas::{
    agreement::{HeadOfLine, Limits as QueueLimits, RetryPolicy, ServiceAgreement},
    config::file::{Homeserver, MatrixConfig, Vanguards},
    entry::{EntryState, Event},
    id::{EntryRef, MessageId},
    messages::{
        gateway::Observe,
        outbox::{Enqueue, ReportBatch, Settle, Settlement},
    },
    onion::OnionEndpoint,
    view::{LedgerView, Observation},
};

const PASSWORD: &str = "gateway's password";

fn config(folder: &Path, homeserver: Homeserver) -> MatrixConfig {
    config_at(folder, homeserver, "localhost")
}

/// The same with another name of the homeserver.
fn config_at(folder: &Path, homeserver: Homeserver, server_name: &str) -> MatrixConfig {
    let password_file = folder.join("matrix.password");
    fs::write(&password_file, format!("{PASSWORD}\n")).unwrap();
    let invite = vec![format!("@nurse:{server_name}")];
    MatrixConfig { homeserver, user: "gateway".to_owned(), password_file, room: "tidegate".to_owned(), invite }
}

fn open(folder: &Path, synapse: &Synapse) -> MatrixRoom {
    MatrixRoom::open(&config(folder, Homeserver::Address(synapse.address())), folder, None).unwrap()
}

fn batch(transaction_id: &str, numbers: std::ops::Range<u64>) -> ReportBatch {
    let report = |no| LedgerView {
        no,
        entry: EntryRef { destination: "cardiology".parse().unwrap(), seq: no },
        id: message_id(no),
        device: "pacemaker".parse().unwrap(),
        state: EntryState::Delivered,
        accepted_ms: 1_795_409_499_999,
        ended_ms: 1_795_409_499_999,
        attempts: 1,
        receipt: true,
        reason: None,
        ended_by: None,
        break_glass: false,
    };
    let (first, last) = (numbers.start, numbers.end - 1);
    ReportBatch {
        transaction_id: transaction_id.to_owned(),
        first,
        last,
        reports: numbers.map(report).collect(),
        more: 0,
    }
}

fn message_id(no: u64) -> MessageId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&no.to_be_bytes());
    MessageId::from_random(bytes)
}

/// The ids that the notices of a room tell, in order; each list is one notice.
fn told(client: &RoomClient, room: &str) -> Vec<Vec<String>> {
    let notices = client.messages(room).unwrap();
    let ids = |content: &Value| {
        assert_eq!(content["msgtype"], "m.notice");
        let reports = content[ACKNOWLEDGEMENT]["reports"].as_array().unwrap();
        reports.iter().map(|report| report["id"].as_str().unwrap().to_owned()).collect()
    };
    notices.iter().map(ids).collect()
}

fn saved(folder: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join(SESSION_FILE)).unwrap()).unwrap()
}

fn token(folder: &Path) -> String {
    saved(folder)["access_token"].as_str().unwrap().to_owned()
}

fn state_of(events: &[Value], kind: &str) -> Value {
    events.iter().rfind(|event| event["type"] == kind).unwrap()["content"].clone()
}

#[actix::test]
async fn a_notice_sent_twice_is_one_event_and_one_log_in_lasts() {
    let synapse = Synapse::start(&SynapseOptions::default()).unwrap();
    let gateway = synapse.register("gateway", PASSWORD).unwrap();
    let nurse = synapse.register("nurse", "n").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let room = open(folder.path(), &synapse);
    room.post(batch("before-the-nurse", 1..2)).await.unwrap();
    let id = nurse.join("#tidegate:localhost").unwrap();
    assert_eq!(saved(folder.path())["room"], json!(["tidegate", id]));
    let mode = fs::metadata(folder.path().join(SESSION_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let first = room.post(batch("t-1", 2..3)).await.unwrap();
    assert_eq!(room.post(batch("t-1", 2..3)).await.unwrap(), first);
    // A new process without the password: what is kept is enough.
    let kept = token(folder.path());
    drop(room);
    let room = open(folder.path(), &synapse);
    fs::remove_file(folder.path().join("matrix.password")).unwrap();
    assert_eq!(room.post(batch("t-1", 2..3)).await.unwrap(), first);
    assert_ne!(room.post(batch("t-2", 3..103)).await.unwrap(), first);
    assert_eq!(token(folder.path()), kept);

    // The nurse hears what was said since she came.
    let told = told(&nurse, &id);
    let wanted: Vec<Vec<String>> =
        [2..3, 3..103].into_iter().map(|numbers| numbers.map(|no| message_id(no).to_string()).collect()).collect();
    assert_eq!(told, wanted);
    let events = gateway.timeline(&id).unwrap();
    assert_eq!(state_of(&events, "m.room.create")["m.federate"], false);
    assert_eq!(state_of(&events, "m.room.history_visibility")["history_visibility"], "joined");
    assert_eq!(state_of(&events, "m.room.join_rules")["join_rule"], "invite");
    let levels = state_of(&events, "m.room.power_levels");
    assert_eq!((&levels["users"]["@nurse:localhost"], &levels["invite"]), (&json!(50), &json!(50)));
    let notices: Vec<_> = events.iter().filter(|event| event["type"] == "m.room.message").collect();
    assert_eq!(notices.len(), 3);
    assert!(notices.iter().all(|event| event["sender"] == "@gateway:localhost"));
    assert_eq!(
        notices[0]["content"]["body"].as_str().unwrap().matches("pacemaker to cardiology: delivered").count(),
        1
    );
}

#[actix::test]
async fn outages_revoked_tokens_wrong_passwords_and_lost_rooms() {
    let mut synapse = Synapse::start(&SynapseOptions::default()).unwrap();
    let gateway = synapse.register("gateway", PASSWORD).unwrap();
    let nurse = synapse.register("nurse", "n").unwrap();
    let folder = tempfile::tempdir().unwrap();
    synapse.stop().unwrap();
    // An outage at start is no failure.
    let room = open(folder.path(), &synapse);
    assert!(matches!(room.post(batch("t-1", 1..2)).await, Err(RoomError::Unavailable(_))));
    synapse.restart().unwrap();
    let first = room.post(batch("t-1", 1..2)).await.unwrap();
    synapse.kill().unwrap();
    assert!(matches!(room.post(batch("t-1", 1..2)).await, Err(RoomError::Unavailable(_))));
    synapse.restart().unwrap();
    assert_eq!(room.post(batch("t-1", 1..2)).await.unwrap(), first, "known over a restart of the homeserver");

    // The token is revoked: one new log-in, and the transaction is still known.
    let kept = token(folder.path());
    let call = |path: &str| HttpRequest::new("POST", synapse.address(), path.to_owned());
    call("/_matrix/client/v3/logout").bearer(&kept).json(&json!({})).send_ok().unwrap();
    room.post(batch("t-2", 2..3)).await.unwrap();
    assert_ne!(token(folder.path()), kept);
    let kept = token(folder.path());
    call("/_matrix/client/v3/logout").bearer(&kept).json(&json!({})).send_ok().unwrap();
    fs::write(folder.path().join("matrix.password"), "wrong").unwrap();
    let refused = room.post(batch("t-3", 3..4)).await.unwrap_err();
    println!("{refused}");
    assert!(matches!(&refused, RoomError::Refused(why) if why.contains("matrix.password") && !why.contains("wrong")));
    fs::write(folder.path().join("matrix.password"), PASSWORD).unwrap();
    room.post(batch("t-3", 3..4)).await.unwrap();

    // Out of the room, and back by an invitation.
    let id = nurse.join("#tidegate:localhost").unwrap();
    gateway.call("POST", &format!("/rooms/{}/leave", tidegate::lab::http::encode(&id)), Some(&json!({}))).unwrap();
    let refused = room.post(batch("t-4", 4..5)).await.unwrap_err();
    println!("{refused}");
    assert!(matches!(&refused, RoomError::Refused(why) if why.contains("invite @gateway there")));
    nurse.invite(&id, "@gateway:localhost").unwrap();
    room.post(batch("t-4", 4..5)).await.unwrap();
    let told: Vec<String> = told(&gateway, &id).into_iter().flatten().collect();
    assert_eq!(told, (1..5).map(|no| message_id(no).to_string()).collect::<Vec<_>>());
}

/// A real outbox on disk, and a real Reporter above it.
struct House {
    outbox: Addr<Outbox>,
    _reporter: Addr<Reporter>,
}

impl House {
    fn new(folder: &Path, room: MatrixRoom) -> Self {
        let bells = Bells::default();
        let registry = ToyRegistry(snapshot(vec![destination("cardiology", ServiceAgreement::default())])).start();
        let parts = OutboxParts {
            store: DiskStore::open(&folder.join("outbox"), DiskOptions::default()).unwrap(),
            lease: Lease::default(),
            archive: None,
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::new(SystemEntropy),
            limits: Limits::default(),
            bells: bells.clone(),
        };
        let outbox = Outbox::new(parts, registry.recipient(), DeathWatch::unwatched("outbox")).start();
        let parts = ReporterParts {
            room: Arc::new(room),
            pending: outbox.clone().recipient(),
            reported: outbox.clone().recipient(),
            bell: bells.reporter,
            entropy: Arc::new(SystemEntropy),
        };
        let reporter = Reporter::new(parts, DeathWatch::unwatched("reporter")).start();
        Self { outbox, _reporter: reporter }
    }

    /// Takes custody of so many messages and has them delivered; their ids.
    async fn deliver(&self, count: usize) -> Vec<String> {
        let submission = submission("pacemaker", "cardiology", "a private reading");
        let enqueue = Enqueue { submission, limits: QueueLimits::default(), break_glass_per_hour: None, stream: None };
        let accepted = futures_util::future::join_all((0..count).map(|_| self.outbox.send(enqueue.clone()))).await;
        let accepted: Vec<_> = accepted.into_iter().map(|accepted| accepted.unwrap().unwrap()).collect();
        let settlement = |seq| Settlement { seq, event: Event::Deliver, error: None, receipt: None };
        let settlements = accepted.iter().map(|accepted| settlement(accepted.entry.seq)).collect();
        self.outbox
            .send(Settle {
                destination: "cardiology".parse().unwrap(),
                settlements,
                head_of_line: HeadOfLine::default(),
                retry: RetryPolicy::default(),
                busy_ms: 0,
            })
            .await
            .unwrap()
            .unwrap();
        accepted.into_iter().map(|accepted| accepted.id.to_string()).collect()
    }

    async fn pending(&self) -> u64 {
        match self.outbox.send(Observe).await.unwrap() {
            Observation::Outbox(seen) => seen.reports_pending,
            other => panic!("{other:?}"),
        }
    }
}

#[actix::test]
async fn a_thousand_deliveries_are_acknowledged_within_five_minutes_of_synapses_own_limits() {
    let options = SynapseOptions { default_rate_limits: true, ..SynapseOptions::default() };
    let synapse = Synapse::start(&options).unwrap();
    let gateway = synapse.register("gateway", PASSWORD).unwrap();
    synapse.register("nurse", "n").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let house = House::new(folder.path(), open(folder.path(), &synapse));
    let began = Instant::now();
    let mut wanted = Vec::new();
    for _ in 0..20 {
        wanted.extend(house.deliver(50).await);
    }
    println!("{:?}  a thousand deliveries are in the ledger", began.elapsed());
    while house.pending().await > 0 {
        assert!(began.elapsed() < Duration::from_secs(300), "{} are not acknowledged", house.pending().await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let took = began.elapsed();
    let room = gateway.rooms().unwrap().remove(0);
    let told = told(&gateway, &room);
    println!("{took:?}  all are acknowledged, in {} notices", told.len());
    // Equal in number, and as sets: the ledger orders by end, which a group commit may mix.
    let mut ids: Vec<String> = told.into_iter().flatten().collect();
    ids.sort();
    wanted.sort();
    assert_eq!(ids, wanted);
    let everything = serde_json::to_string(&gateway.timeline(&room).unwrap()).unwrap();
    assert!(!everything.contains("private reading") && !everything.contains(".onion"), "neither payload nor address");
}

#[actix::test]
async fn a_homeserver_behind_an_onion_service_is_reached_through_arti() {
    let port = free_ports(1).unwrap()[0];
    let starting = tokio::task::spawn_blocking(move || {
        let network = TorNetwork::start(TorNetworkOptions::default()).unwrap();
        let service = network.hidden_service(HiddenServiceOptions::to(loopback(port))).unwrap();
        (network, service)
    });
    let (network, service) = starting.await.unwrap();
    // Named by its address, as such homeservers are: every user id and alias then ends with it.
    let onion: OnionEndpoint = service.onion_address().parse().unwrap();
    let name = onion.address.reveal();
    let options = SynapseOptions { port: Some(port), server_name: Some(name.clone()), ..SynapseOptions::default() };
    let synapse = Synapse::start(&options).unwrap();
    let gateway = synapse.register("gateway", PASSWORD).unwrap();
    let nurse = synapse.register("nurse", "n").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let settings = ArtiSettings::below(folder.path(), Vanguards::Lite).on_testnet(network.arti_settings());
    let arti = LazyArti::new(settings, folder.path());
    let config = config_at(folder.path(), Homeserver::Onion(onion), &name);
    let room = MatrixRoom::open(&config, folder.path(), Some(Arc::clone(&arti))).unwrap();
    let early = room.post(batch("t-1", 1..2)).await.unwrap_err();
    println!("before the bootstrap: {early}");
    assert!(matches!(early, RoomError::Unavailable(_)));
    arti.bootstrap().await.unwrap();
    let began = Instant::now();
    let event = room.post(batch("t-1", 1..2)).await.unwrap();
    println!("{:?}  log-in, room and first notice over Tor", began.elapsed());
    let began = Instant::now();
    assert_eq!(room.post(batch("t-1", 1..2)).await.unwrap(), event);
    println!("{:?}  a notice on the kept stream", began.elapsed());
    let id = gateway.rooms().unwrap().remove(0);
    let notices = serde_json::to_string(&gateway.messages(&id).unwrap()).unwrap();
    assert!(serde_json::to_string(&gateway.timeline(&id).unwrap()).unwrap().contains(&event));

    // What goes wrong is told to the log and the admin endpoint, in the homeserver's words too.
    nurse.join(&format!("#tidegate:{name}")).unwrap();
    gateway.call("POST", &format!("/rooms/{}/leave", tidegate::lab::http::encode(&id)), Some(&json!({}))).unwrap();
    let outside = room.post(batch("t-2", 2..3)).await.unwrap_err();
    assert!(matches!(&outside, RoomError::Refused(why) if why.contains("#tidegate") && why.contains("@gateway")));
    let elsewhere = tempfile::tempdir().unwrap();
    let config =
        MatrixConfig { user: format!("@gateway:{name}"), ..config_at(elsewhere.path(), config.homeserver, &name) };
    fs::write(elsewhere.path().join("matrix.password"), "wrong").unwrap();
    let stranger = MatrixRoom::open(&config, elsewhere.path(), Some(arti)).unwrap();
    let wrong = stranger.post(batch("t-3", 3..4)).await.unwrap_err();
    assert!(matches!(&wrong, RoomError::Refused(why) if why.contains("password of gateway")));
    let shown = format!("{notices} {room:?} {early} {outside} {wrong}");
    println!("{early}\n{outside}\n{wrong}");
    assert!(!shown.contains(&name[..16]), "the address is shown nowhere");
}
