//! A receiver that runs, a gateway that writes to it, and a browser without JavaScript.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};
use tidegate::receiver::{Entrance, Introduction, Receiver, ReceiverError, ReceiverLimits, ReceiverOptions};
use tidegate_actors::{ports::clock::Clock, testing::seeded_entropy::SeededEntropy};
use tidegate_schemas::{
    agreement::{Destination, DestinationKeys, ServiceAgreement, Success},
    clock::{ClockTrust, ConsensusTimes},
    entry::{Entry, EntryState, Envelope},
    id::MessageId,
    onion::{OnionAddress, OnionEndpoint},
    submission::{Origin, Payload},
    wire::{WireAnswer, WireFormat, WireRequest, encode},
};
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle};

pub const FORMATS: [WireFormat; 4] =
    [WireFormat::PrivateIot, WireFormat::Raw, WireFormat::Cloudevents, WireFormat::CloudeventsBatch];

/// A clock that goes only when it is told to.
pub struct HandClock(AtomicI64);
impl HandClock {
    pub fn step(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}
impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
    fn trust(&self) -> ClockTrust {
        ClockTrust::KernelSynchronised
    }
    fn told_by_tor(&self, _: ConsensusTimes) {}
}

/// A running receiver.
pub struct Running {
    pub address: SocketAddr,
    pub introduction: Introduction,
    pub clock: Arc<HandClock>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ReceiverError>>,
}

pub fn options(folder: &Path, clock: Arc<HandClock>) -> ReceiverOptions {
    ReceiverOptions {
        folder: folder.to_owned(),
        title: "Cardiology <ward>".to_owned(),
        gateways: vec!["home".parse().unwrap()],
        open_private_iot: false,
        new_password: false,
        limits: ReceiverLimits::default(),
        clock,
        entropy: Arc::new(SeededEntropy::new(u64::from(std::process::id()) + 1)),
    }
}

pub fn clock() -> Arc<HandClock> {
    Arc::new(HandClock(AtomicI64::new(1_795_406_759)))
}

pub async fn start(folder: &Path) -> Running {
    start_with(folder, |_| {}).await
}

pub async fn start_with(folder: &Path, change: impl FnOnce(&mut ReceiverOptions)) -> Running {
    let clock = clock();
    let mut options = options(folder, clock.clone());
    change(&mut options);
    let receiver = Receiver::open(options).await.unwrap();
    let introduction = receiver.introduction().clone();
    let (entrance, address) = Entrance::loopback("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(receiver.serve(vec![entrance], async {
        let _ = stopped.await;
    }));
    Running { address, introduction, clock, stop, task }
}

impl Running {
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
    pub fn write_key(&self) -> String {
        self.introduction.fresh.write_keys[0].key.reveal().to_owned()
    }
    pub fn password(&self) -> String {
        self.introduction.fresh.password.as_ref().unwrap().reveal().to_owned()
    }
    pub fn basic(&self) -> String {
        basic(&self.password())
    }

    /// The agreement of a gateway that asks for receipts.
    pub fn destination(&self, format: WireFormat) -> Destination {
        destination(&self.introduction, Some(self.write_key()), format)
    }

    /// Sends entries as a gateway does.
    pub async fn deliver(&self, entries: &[Entry], format: WireFormat) -> WireAnswer {
        let request = encode(entries, &self.destination(format), self.clock.now()).unwrap();
        send_wire(self.address, &request).await
    }

    /// All readings, by the API.
    pub async fn readings(&self) -> Vec<serde_json::Value> {
        readings(self.address, &self.basic()).await
    }
}

pub fn basic(password: &str) -> String {
    format!("Basic {}", data_encoding::BASE64.encode(format!("reader:{password}").as_bytes()))
}

pub async fn readings(address: SocketAddr, basic: &str) -> Vec<serde_json::Value> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let path = format!("/v1/readings?after={after}&limit=500");
        let answer = send(address, "GET", &path, &[("authorization", basic)], "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let mut page = answer.json();
        let readings = page["readings"].as_array_mut().unwrap();
        if readings.is_empty() {
            return all;
        }
        all.append(readings);
        after = page["next_after"].as_u64().unwrap();
    }
}

pub fn destination(introduction: &Introduction, write_key: Option<String>, format: WireFormat) -> Destination {
    let receipt_key = data_encoding::BASE64.decode(introduction.receipt_key.as_bytes()).unwrap();
    Destination {
        id: "cardiology".parse().unwrap(),
        endpoint: OnionEndpoint { address: OnionAddress::from_public_key([1; 32]), port: 80 },
        agreement: ServiceAgreement { format, success: Success::Receipt, ..ServiceAgreement::default() },
        keys: DestinationKeys {
            write_key,
            receipt_key: Some(receipt_key.try_into().unwrap()),
            signing_seed: [3; 32],
            pseudonym: [4; 16],
            client_auth: None,
        },
    }
}

/// An entry of the device `pacemaker`.
pub fn entry(number: u64, label: Option<&str>, content_type: &str, body: impl Into<Bytes>) -> Entry {
    let body = Payload::new(body.into());
    let mut id = [0x5a; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Entry {
        seq: number,
        state: EntryState::Queued,
        refusals: 0,
        envelope: Envelope {
            id: MessageId::from_random(id),
            device: "pacemaker".parse().unwrap(),
            label: label.map(str::to_owned),
            content_type: content_type.to_owned(),
            origin: Origin::MqttQos1,
            accepted_ms: 0,
            clock_trusted: true,
            accepted_custody_ms: 0,
            expires_custody_ms: None,
            body_bytes: u32::try_from(body.len()).unwrap(),
            priority: tidegate_schemas::submission::Priority::Normal,
            reply_to: None,
            odometer: tidegate_schemas::custody::Odometer::default(),
        },
        body,
    }
}

/// A blood pressure of the paper.
pub fn pressure(number: u64) -> Entry {
    entry(number, Some("mmHg"), "text/plain", format!("{}.00 mmHg", 110 + number % 20))
}

/// An answer, whole.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}
impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// One request over a connection of its own.
pub async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    send_over(&mut connect(address).await, method, path, headers, body).await
}

pub async fn send_over(
    sender: &mut SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    try_send_over(sender, method, path, headers, body).await.unwrap()
}

/// The same with a receiver that may die.
pub async fn try_send_over(
    sender: &mut SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Answer, hyper::Error> {
    let mut request = Request::builder().method(method).uri(path).header("host", "receiver");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender.ready().await?;
    let answer = sender.send_request(request.body(Full::new(body.into())).unwrap()).await?;
    let (parts, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}

/// Sends a request as a lane does.
pub async fn send_wire(address: SocketAddr, request: &WireRequest) -> WireAnswer {
    let headers: Vec<(&str, &str)> = request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = send(address, request.method, &request.path, &headers, request.body.reveal().clone()).await;
    let headers = answer.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    WireAnswer { status: answer.status, headers: headers.collect(), body: answer.body.clone() }
}

/// Logs in and returns the cookie to send.
pub async fn log_in(running: &Running) -> String {
    let form = format!("password={}&next=%2F", running.password());
    let answer = send(running.address, "POST", "/login", &[], form).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")));
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

pub fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("receiver");
    (folder, path)
}
