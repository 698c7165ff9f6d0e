//! What the tests of the two HTTP endpoints share: a plain HTTP client, and small actors that record what they are asked.

use actix::prelude::*;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};
use tidegate::{
    admin::access::{Access, Line, Reach, Situation},
    audit::AuditLog,
};
use tidegate_actors::{
    ports::{clock::Clock, destination_check::DestinationCheck as _},
    testing::toy_check::ToyCheck,
};
use tidegate_schemas::{
    agreement::{Destination, DestinationKeys, ServiceAgreement, SignalPolicy},
    clock::{ClockTrust, ConsensusTimes},
    config::{Problem, check::Occasion, file::DestinationSource},
    custody::{CustodyTime, Odometer},
    entry::{Account, EntryState, Envelope},
    forecast::Foreseer,
    history::{AgreementChange, ChangeKind},
    id::{DestinationId, EntryRef, MessageId},
    messages::{
        gateway::Observe,
        outbox::{
            Accepted, Enqueue, EnqueueError, EntryName, EntryPage, Foresee, Foreseen, List, ListLedger, ListQuarantine,
            Loads, Operate, OperateError, SetPaused, Show, Signal, SignalError, SignalTaken, SignalWord, StoreError,
        },
        registry::{
            ChangeError, Changed, Current, Expect, History, PutDestination, PutWindows, RegisteredDestination,
            RegistrySnapshot, RemoveDestination, Written, WrittenAgreement,
        },
        tools::{CountStats, DestinationStats, Stats},
    },
    onion::{OnionAddress, OnionEndpoint},
    record::Throughput,
    route::Routes,
    submission::{Origin, Priority, QuarantineReason, Redelivery, Submission},
    view::{
        DestinationLoad, EntryView, LedgerView, Observation, OutboxObservation, QuarantineView, RegistryObservation,
        Shown, SignalView,
    },
    window::WindowSet,
};
use tokio::{net::TcpStream, sync::Semaphore};

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
    /// That this is a problem of this kind, with all that RFC 9457 asks for.
    pub fn is_problem(&self, status: u16, kind: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:tidegate:problem:{kind}"), "{problem}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    }
}

/// Sends one request over a connection of its own. `Host` is the address unless a header says otherwise.
pub async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<bytes::Bytes>,
) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let connection = actix::spawn(connection);
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header("host", address.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    connection.abort();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
}

/// The audit log of a gateway whose clock stands at noon of 4 January 2027.
pub fn audit_log(state_dir: &Path) -> Arc<AuditLog> {
    AuditLog::in_folder(state_dir, 30, Arc::new(StandingClock("2027-01-04T12:00:00Z".parse().unwrap())))
}

/// A clock that stands.
pub struct StandingClock(pub Timestamp);
impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        self.0
    }
    fn trust(&self) -> ClockTrust {
        ClockTrust::KernelSynchronised
    }
    fn told_by_tor(&self, _: ConsensusTimes) {}
}

/// Destinations `cardiology` and `lab`, whose windows can be set; a store that fails on demand.
pub struct RegistryActor {
    pub snapshot: RegistrySnapshot,
    pub fail: bool,
}

pub fn registry(routes: Routes) -> RegistryActor {
    let destinations = ["cardiology", "lab"].map(|name| {
        let id: DestinationId = name.parse().unwrap();
        let endpoint = OnionEndpoint { address: OnionAddress::from_public_key([7; 32]), port: 80 };
        // The lab's agreement knows no signals.
        let accept = name == "cardiology";
        let signal = SignalPolicy { accept, ..SignalPolicy::default() };
        let agreement = ServiceAgreement { signal, ..ServiceAgreement::default() };
        let destination = Destination { id: id.clone(), endpoint, agreement, keys: DestinationKeys::default() };
        (id, Arc::new(RegisteredDestination { destination, source: DestinationSource::Api, version: 1 }))
    });
    let destinations = BTreeMap::from(destinations);
    let routes = Arc::new(routes);
    let snapshot = RegistrySnapshot { revision: 1, destinations, routes, ..RegistrySnapshot::default() };
    RegistryActor { snapshot, fail: false }
}

impl Actor for RegistryActor {
    type Context = Context<Self>;
}
impl Handler<Current> for RegistryActor {
    type Result = MessageResult<Current>;
    fn handle(&mut self, _: Current, _: &mut Self::Context) -> Self::Result {
        MessageResult(Arc::new(self.snapshot.clone()))
    }
}
impl RegistryActor {
    /// As the Registry would: the files' `lab` can't be changed, a store that fails keeps nothing.
    fn change(
        &mut self,
        id: DestinationId,
        dry_run: bool,
        make: impl FnOnce(Option<&Destination>) -> Result<Option<Destination>, ChangeError>,
    ) -> Result<Changed, ChangeError> {
        if self.fail {
            return Err(ChangeError::Store("/var/secret: disk on fire".into()));
        }
        if id.as_str() == "lab" {
            let source_of = DestinationSource::File { file: "conf.d/lab.toml".into(), line: 7 };
            return Err(ChangeError::Declared { id, source_of });
        }
        let before = self.snapshot.destinations.get(&id).map(|found| found.destination.clone());
        let after = make(before.as_ref())?;
        if !dry_run {
            match after.clone() {
                Some(destination) => {
                    let registered = RegisteredDestination { destination, source: DestinationSource::Api, version: 2 };
                    self.snapshot.destinations.insert(id.clone(), Arc::new(registered));
                }
                None => drop(self.snapshot.destinations.remove(&id)),
            }
        }
        let kind = match (&before, &after) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            _ => ChangeKind::Changed,
        };
        let agreement = |destination: Destination| Box::new(destination.agreement);
        Ok(Changed {
            destination: id,
            kind: Some(kind),
            changes: vec![],
            version: 2,
            before: before.map(agreement),
            after: after.map(agreement),
            warnings: vec![Problem::new("destination.receiver_memory", "it is not declared", "")],
        })
    }
}
impl Handler<PutWindows> for RegistryActor {
    type Result = Result<Changed, ChangeError>;
    fn handle(&mut self, message: PutWindows, _: &mut Self::Context) -> Self::Result {
        let id = message.destination.clone();
        self.change(message.destination, message.dry_run, |before| {
            let mut destination = before.cloned().ok_or(ChangeError::Unknown(id))?;
            destination.agreement.windows =
                WindowSet::from_raw(message.windows, "destination.windows").map_err(ChangeError::Values)?;
            Ok(Some(destination))
        })
    }
}
impl Handler<PutDestination> for RegistryActor {
    type Result = Result<Changed, ChangeError>;
    fn handle(&mut self, message: PutDestination, _: &mut Self::Context) -> Self::Result {
        let id = message.destination.clone();
        self.change(message.destination, message.dry_run, |before| {
            match (message.expect, before) {
                (Expect::Absent, Some(_)) => return Err(ChangeError::Exists(id)),
                (Expect::Present, None) => return Err(ChangeError::Unknown(id)),
                _ => {}
            }
            let check = ToyCheck(Arc::new(StandingClock("2027-01-04T12:00:00Z".parse().unwrap())));
            let checked = check.check(&id, &message.raw, Occasion::New).map_err(ChangeError::Values)?;
            Ok(Some(checked.destination))
        })
    }
}
impl Handler<RemoveDestination> for RegistryActor {
    type Result = Result<Changed, ChangeError>;
    fn handle(&mut self, message: RemoveDestination, _: &mut Self::Context) -> Self::Result {
        let id = message.destination.clone();
        let gone = |before: Option<&Destination>| before.map(|_| None).ok_or(ChangeError::Unknown(id));
        self.change(message.destination, message.dry_run, gone)
    }
}
impl Handler<History> for RegistryActor {
    type Result = Result<Option<Vec<AgreementChange>>, ChangeError>;
    fn handle(&mut self, message: History, _: &mut Self::Context) -> Self::Result {
        let change = AgreementChange {
            version: 1,
            at: "2027-01-04T11:00:00Z".parse().unwrap(),
            who: "admin".into(),
            kind: ChangeKind::Added,
            changes: vec![],
        };
        Ok(self.snapshot.destinations.contains_key(&message.destination).then(|| vec![change]))
    }
}
impl Handler<Written> for RegistryActor {
    type Result = Result<Option<WrittenAgreement>, ChangeError>;
    fn handle(&mut self, message: Written, _: &mut Self::Context) -> Self::Result {
        let found = self.snapshot.destinations.get(&message.destination);
        Ok(found.map(|found| {
            let windows = serde_json::to_value(found.destination.agreement.windows.raw()).unwrap();
            let keys = [("windows".to_owned(), windows)].into_iter().collect();
            WrittenAgreement { keys, version: found.version, source: found.source.clone(), broken: None }
        }))
    }
}
impl Handler<Observe> for RegistryActor {
    type Result = MessageResult<Observe>;
    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        let destinations = self.snapshot.destinations.len() as u64;
        MessageResult(Observation::Registry(RegistryObservation {
            revision: 1,
            destinations,
            ..RegistryObservation::default()
        }))
    }
}

/// What an [`OutboxActor`] was given and did.
#[derive(Default)]
pub struct Record {
    pub stored: Vec<Submission>,
    pub enqueued: u64,
    pub operated: Vec<Operate>,
    pub listed: Vec<List>,
    pub signalled: Vec<Signal>,
    pub paused: bool,
}

/// Keeps what it is given in memory. Its answers to `Enqueue` wait for permits of `gate`.
pub struct OutboxActor {
    pub record: Arc<Mutex<Record>>,
    pub gate: Arc<Semaphore>,
    pub refuse: Option<EnqueueError>,
    keys: HashMap<(String, String), (bytes::Bytes, Accepted)>,
}

impl OutboxActor {
    pub fn new(gate: Arc<Semaphore>) -> Self {
        Self { record: Arc::default(), gate, refuse: None, keys: HashMap::new() }
    }
}

impl Actor for OutboxActor {
    type Context = Context<Self>;
}
impl Handler<Enqueue> for OutboxActor {
    type Result = ResponseFuture<Result<Accepted, EnqueueError>>;
    fn handle(&mut self, message: Enqueue, _: &mut Self::Context) -> Self::Result {
        let mut record = self.record.lock().unwrap();
        record.enqueued += 1;
        let submission = message.submission;
        let key = match &submission.redelivery {
            Some(Redelivery::Key(key)) => Some((submission.device.to_string(), key.clone())),
            _ => None,
        };
        let known = key.as_ref().and_then(|key| self.keys.get(key));
        let answer = match (&self.refuse, known) {
            (Some(error), _) => Err(error.clone()),
            (None, Some((body, _))) if body != submission.payload.reveal() => Err(EnqueueError::KeyReused),
            (None, Some((_, accepted))) => Ok(Accepted { duplicate: true, ..accepted.clone() }),
            (None, None) => {
                let seq = record.stored.len() as u64 + 1;
                let entry = EntryRef { destination: submission.destination.clone(), seq };
                let accepted = Accepted { id: MessageId::from_random([9; 16]), entry, duplicate: false };
                if let Some(key) = key {
                    self.keys.insert(key, (submission.payload.reveal().clone(), accepted.clone()));
                }
                record.stored.push(submission);
                Ok(accepted)
            }
        };
        let gate = self.gate.clone();
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            answer
        })
    }
}

pub fn entry(seq: u64) -> EntryView {
    EntryView {
        entry: EntryRef { destination: "cardiology".parse().unwrap(), seq },
        id: MessageId::from_random([3; 16]),
        device: "patient".parse().unwrap(),
        state: EntryState::Queued,
        accepted_ms: 1_800_000_000_000,
        clock_trusted: true,
        age_ms: 5_000,
        origin: Origin::MqttQos1,
        body_bytes: 11,
        content_type: "text/plain".into(),
        reason: None,
        refusals: 0,
        due_in_ms: 0,
        priority: tidegate_schemas::submission::Priority::Normal,
    }
}

/// There are this many entries.
pub const ENTRIES: u64 = 120;

impl Handler<List> for OutboxActor {
    type Result = Result<EntryPage, StoreError>;
    fn handle(&mut self, message: List, _: &mut Self::Context) -> Self::Result {
        self.record.lock().unwrap().listed.push(message.clone());
        let first = message.after.map_or(1, |after| after.seq + 1);
        let last = ENTRIES.min(first + message.limit as u64 - 1);
        let entries: Vec<EntryView> = (first..=last).map(entry).collect();
        let next = entries.last().filter(|_| last < ENTRIES).map(|view| view.entry.clone());
        Ok(EntryPage { entries, next })
    }
}
impl Handler<Foresee> for OutboxActor {
    type Result = Result<Foreseen, StoreError>;
    fn handle(&mut self, message: Foresee, _: &mut Self::Context) -> Self::Result {
        // All of them are a minute old.
        let time = CustodyTime { now_ms: 1_000_000, ..CustodyTime::default() };
        let now = "2027-01-04T12:00:00Z".parse().unwrap();
        let mut foreseer = Foreseer::new(&message.agreement, now, time, Odometer::default(), &Throughput::default())
            .about(message.about.unwrap_or(0));
        for seq in 1..=ENTRIES {
            let envelope = Envelope {
                id: MessageId::from_random([1; 16]),
                device: "p".parse().unwrap(),
                label: None,
                content_type: "text/plain".into(),
                origin: Origin::MqttQos1,
                accepted_ms: 0,
                clock_trusted: true,
                accepted_custody_ms: 940_000,
                expires_custody_ms: None,
                body_bytes: 11,
                priority: Priority::Normal,
                reply_to: None,
                odometer: Odometer::default(),
            };
            foreseer.add(seq, &envelope);
        }
        Ok(Foreseen { forecast: foreseer.finish(), behind: None })
    }
}
impl Handler<Show> for OutboxActor {
    type Result = Result<Option<Shown>, StoreError>;
    fn handle(&mut self, message: Show, _: &mut Self::Context) -> Self::Result {
        Ok(match message.name {
            EntryName::Place(place) if place.seq <= ENTRIES => Some(Shown::Waiting(entry(place.seq))),
            EntryName::Id(id) if id == ledger(1).id => Some(Shown::Ended(ledger(1))),
            _ => None,
        })
    }
}
impl Handler<Operate> for OutboxActor {
    type Result = Result<EntryState, OperateError>;
    fn handle(&mut self, message: Operate, _: &mut Self::Context) -> Self::Result {
        self.record.lock().unwrap().operated.push(message.clone());
        if message.entry.seq > ENTRIES {
            return Err(OperateError::Unknown(message.entry));
        }
        Ok(EntryState::Queued.on(message.event)?)
    }
}
impl Handler<Signal> for OutboxActor {
    type Result = Result<SignalTaken, SignalError>;
    fn handle(&mut self, message: Signal, _: &mut Self::Context) -> Self::Result {
        let mut record = self.record.lock().unwrap();
        if !message.policy.accept {
            return Err(SignalError::NotAccepted);
        }
        if record.signalled.len() >= usize::from(message.policy.per_hour) {
            return Err(SignalError::TooMany { wait_s: 1_234 });
        }
        record.signalled.push(message);
        Ok(SignalTaken { holds_s: 600 })
    }
}
impl Handler<SetPaused> for OutboxActor {
    type Result = Result<(), StoreError>;
    fn handle(&mut self, message: SetPaused, _: &mut Self::Context) -> Self::Result {
        self.record.lock().unwrap().paused = message.paused;
        Ok(())
    }
}
impl Handler<Loads> for OutboxActor {
    type Result = MessageResult<Loads>;
    fn handle(&mut self, _: Loads, _: &mut Self::Context) -> Self::Result {
        let record = self.record.lock().unwrap();
        let holds = record.signalled.last().and_then(|signal| match signal.word {
            SignalWord::Ready(ttl_s) => Some((true, ttl_s)),
            SignalWord::NotNow(ttl_s) => Some((false, ttl_s)),
            SignalWord::Clear => None,
        });
        let signal = holds.map(|(ready, ttl_s)| SignalView {
            ready,
            since_ms: 0,
            left_ms: u64::from(ttl_s) * 1_000,
            from: record.signalled.last().unwrap().from,
        });
        MessageResult(vec![DestinationLoad {
            destination: "cardiology".parse().unwrap(),
            queued: ENTRIES,
            held: 0,
            parked: 0,
            dead: 0,
            delivered: 7,
            waiting_bytes: 1_320,
            due_in_ms: 0,
            snoozed_ms: 0,
            last_failure_ago_ms: None,
            last_success_ago_ms: None,
            paused: record.paused,
            signal,
            urgent: 0,
            break_glass: 0,
            refused_waiting: 0,
            throughput: Throughput::default(),
            failures: 2,
            last_error: None,
            everything_refused: false,
            fresh_circuits_last_hour: 3,
            oldest_age_ms: Some(60_000),
        }])
    }
}
impl Handler<ListQuarantine> for OutboxActor {
    type Result = Result<Vec<QuarantineView>, StoreError>;
    fn handle(&mut self, message: ListQuarantine, _: &mut Self::Context) -> Self::Result {
        let record = |no| QuarantineView {
            id: None,
            device: None,
            no,
            reason: QuarantineReason::NoRoute,
            topic: "a/<script>alert(1)</script>".into(),
            body_bytes: 1,
            origin: Origin::MqttQos0,
            at_ms: 0,
        };
        let first = message.before.unwrap_or(4) - 1;
        Ok((1..=first).rev().take(message.limit).map(record).collect())
    }
}
impl Handler<ListLedger> for OutboxActor {
    type Result = Result<Vec<LedgerView>, StoreError>;
    fn handle(&mut self, message: ListLedger, _: &mut Self::Context) -> Self::Result {
        let first = message.before.unwrap_or(4) - 1;
        Ok((1..=first).rev().take(message.limit).map(ledger).collect())
    }
}
impl Handler<CountStats> for OutboxActor {
    type Result = Result<Stats, StoreError>;
    fn handle(&mut self, _: CountStats, _: &mut Self::Context) -> Self::Result {
        let waiting = DestinationStats {
            destination: "cardiology".parse().unwrap(),
            queued: ENTRIES,
            held: 0,
            parked: 0,
            dead: 0,
            body_bytes: 1_320,
            oldest_s: Some(60),
            by_age: [ENTRIES, 0, 0, 0],
        };
        Ok(Stats { destinations: vec![waiting], records: ENTRIES, ..Stats::default() })
    }
}
impl Handler<Observe> for OutboxActor {
    type Result = MessageResult<Observe>;
    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        let account = Account { accepted: 127, queued: ENTRIES, delivered: 7, ..Account::default() };
        MessageResult(Observation::Outbox(OutboxObservation { account, ..OutboxObservation::default() }))
    }
}

pub fn ledger(no: u64) -> LedgerView {
    LedgerView {
        no,
        entry: EntryRef { destination: "cardiology".parse().unwrap(), seq: no },
        id: MessageId::from_random([5; 16]),
        device: "patient".parse().unwrap(),
        state: EntryState::Delivered,
        accepted_ms: 0,
        ended_ms: 1,
        attempts: 1,
        receipt: true,
        reason: None,
        ended_by: None,
        break_glass: false,
    }
}

/// The way to these two; either may be down.
pub fn reach(registry: Option<&Addr<RegistryActor>>, outbox: Option<&Addr<OutboxActor>>) -> Reach {
    let mut access = Access::default();
    if let Some(registry) = registry {
        access.current = Some(registry.clone().recipient());
        access.put = Some(registry.clone().recipient());
        access.put_windows = Some(registry.clone().recipient());
        access.remove = Some(registry.clone().recipient());
        access.history = Some(registry.clone().recipient());
        access.written = Some(registry.clone().recipient());
        access.observers.push(("registry".into(), registry.clone().recipient()));
    }
    if let Some(outbox) = outbox {
        access.enqueue = Some(outbox.clone().recipient());
        access.list = Some(outbox.clone().recipient());
        access.foresee = Some(outbox.clone().recipient());
        access.show = Some(outbox.clone().recipient());
        access.operate = Some(outbox.clone().recipient());
        access.loads = Some(outbox.clone().recipient());
        access.signal = Some(outbox.clone().recipient());
        access.set_paused = Some(outbox.clone().recipient());
        access.quarantine = Some(outbox.clone().recipient());
        access.ledger = Some(outbox.clone().recipient());
        access.count_stats = Some(outbox.clone().recipient());
        access.observers.push(("outbox".into(), outbox.clone().recipient()));
    }
    let line = |name: &str, up: bool| Line {
        name: name.into(),
        up,
        state: if up { "running" } else { "restarting" }.into(),
        ..Line::default()
    };
    let lines = vec![line("registry", registry.is_some()), line("outbox", outbox.is_some())];
    let situation = Situation { phase: "running".into(), access, lines };
    Reach::new(move || situation.clone())
}
