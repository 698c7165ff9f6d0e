//! What the tests of this folder work with: a broker, somebody who publishes, and the adapter with its events.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tidegate::{
    adapters::{
        embedded_broker::EmbeddedBroker,
        mqtt::{MqttSource, client_id},
    },
    lab::{
        mosquitto::{Mosquitto, MosquittoOptions},
        process::find_program,
    },
};
use tidegate_actors::{
    ports::source::{AckToken, Source as _, SourceEvent},
    testing::seeded_entropy::SeededEntropy,
};
use tidegate_schemas::{
    config::file::{MqttConfig, MqttProtocol},
    submission::{Publication, Redelivery},
    tidings::Tidings,
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

/// Longest that anything here may take.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Both versions, with the number that `mosquitto_pub -V` wants.
pub const VERSIONS: [(MqttProtocol, &str); 2] = [(MqttProtocol::V5, "mqttv5"), (MqttProtocol::V311, "mqttv311")];

/// A mosquitto with the durable settings, and these over them.
pub fn mosquitto(settings: &[(&str, &str)]) -> Mosquitto {
    let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Mosquitto::start(&MosquittoOptions { settings, ..MosquittoOptions::default() }).unwrap()
}

/// A config for a broker.
pub fn config(broker: SocketAddr, protocol: MqttProtocol) -> MqttConfig {
    MqttConfig {
        embedded: false,
        host: broker.ip().to_string(),
        address: broker.ip(),
        port: broker.port(),
        protocol,
        username: None,
        password_file: None,
        tls_ca_file: None,
        session_expiry_s: 3_600,
        receive_maximum: 100,
        // Else every subscriber to everything would be told of us, too.
        tidings: Tidings { states: false, ..Tidings::default() },
        signals: false,
    }
}

/// The adapter, running.
pub struct Gateway {
    pub source: Arc<MqttSource>,
    events: mpsc::Receiver<SourceEvent>,
    poller: JoinHandle<()>,
}

impl Gateway {
    /// A new process of the gateway, as far as the adapter is concerned.
    pub fn start(config: MqttConfig, state_dir: &Path, filters: &[&str]) -> Self {
        Self::start_on(config, state_dir, filters, None)
    }

    pub fn start_on(config: MqttConfig, state_dir: &Path, filters: &[&str], embedded: Option<&EmbeddedBroker>) -> Self {
        // Numbers must differ from start to start, as they do in production.
        let seed = std::collections::hash_map::RandomState::new();
        let entropy = Arc::new(SeededEntropy::new(std::hash::BuildHasher::hash_one(&seed, 0)));
        let id = client_id(state_dir, &*entropy).unwrap();
        let source = Arc::new(MqttSource::new(config, id, state_dir, embedded, entropy).unwrap());
        let (sender, events) = mpsc::channel(32);
        let filters = filters.iter().map(|&filter| filter.to_owned()).collect();
        let poller = tokio::spawn(source.run(filters, sender));
        Self { source, events, poller }
    }

    /// The next event.
    pub async fn event(&mut self) -> SourceEvent {
        timeout(LIMIT, self.events.recv()).await.expect("no event came").expect("the poller ended")
    }

    /// An event within this time.
    pub async fn event_within(&mut self, limit: Duration) -> Option<SourceEvent> {
        timeout(limit, self.events.recv()).await.ok().flatten()
    }

    /// Waits for the connection: number, session present, session expected.
    pub async fn connected(&mut self) -> (u64, bool, bool) {
        loop {
            if let SourceEvent::Connected { connection, session_present, session_expected } = self.event().await {
                return (connection, session_present, session_expected);
            }
        }
    }

    /// Waits for the next publication.
    pub async fn publication(&mut self) -> (Publication, Option<AckToken>) {
        loop {
            if let SourceEvent::Publication { publication, token } = self.event().await {
                return (publication, token);
            }
        }
    }

    /// Waits for the end of the connection: why, and whether it was taken over.
    pub async fn disconnected(&mut self) -> (String, bool) {
        loop {
            if let SourceEvent::Disconnected { reason, taken_over } = self.event().await {
                return (reason, taken_over);
            }
        }
    }

    /// Takes and acknowledges until this body comes; returns the others before it.
    pub async fn take_until(&mut self, body: &[u8]) -> Vec<Publication> {
        let mut others = Vec::new();
        loop {
            let (publication, token) = self.publication().await;
            if let Some(token) = token {
                self.source.ack(token);
            }
            if &publication.payload.reveal()[..] == body {
                return others;
            }
            others.push(publication);
        }
    }

    /// Closes the events and waits for the poller to end by itself.
    pub async fn close_and_await_end(self) {
        drop(self.events);
        timeout(LIMIT, self.poller).await.expect("the poller goes on").unwrap();
    }

    /// Ends as a killed process does: the connection is cut.
    pub async fn kill(self) {
        self.poller.abort();
        let _ = self.poller.await;
    }
}

/// Session, packet id and DUP of a publication at QoS 1.
pub fn mark(publication: &Publication) -> (u64, u16, bool) {
    match publication.redelivery {
        Some(Redelivery::Mqtt { session, packet_id, dup }) => (session, packet_id, dup),
        ref other => panic!("not a mark of MQTT: {other:?}"),
    }
}

/// The body as text.
pub fn text(publication: &Publication) -> String {
    String::from_utf8(publication.payload.reveal().to_vec()).unwrap()
}

/// Longest that one publication may take: `mosquitto_pub` tries for ever when a broker closes on it.
const PUBLISH_MAX: Duration = Duration::from_secs(5);

/// Publishes by `mosquitto_pub`, the body through its standard input; returns its exit code, or none if it had to be ended.
pub fn publish_with(broker: SocketAddr, topic: &str, body: &[u8], args: &[&str]) -> Option<i32> {
    let mut command = Command::new(find_program("mosquitto_pub").expect("mosquitto-clients is installed"));
    command.args(["-h", "127.0.0.1", "-p", &broker.port().to_string(), "-t", topic]).args(args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = if body.is_empty() {
        command.arg("-n").stdin(Stdio::null()).spawn().unwrap()
    } else {
        let mut child = command.arg("-s").stdin(Stdio::piped()).spawn().unwrap();
        // A client that gave up early tells so by its exit code.
        let _ = child.stdin.take().unwrap().write_all(body);
        child
    };
    let until = Instant::now() + PUBLISH_MAX;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Publishes at QoS 1 over MQTT 3.1.1, as most devices do.
pub fn publish(broker: SocketAddr, topic: &str, body: &[u8]) {
    assert_eq!(publish_with(broker, topic, body, &["-q", "1"]), Some(0));
}

/// Publishes each line by one `mosquitto_pub`; returns its exit code.
pub fn publish_lines(broker: SocketAddr, topic: &str, lines: &str, args: &[&str]) -> Option<i32> {
    let mut child = Command::new(find_program("mosquitto_pub").expect("mosquitto-clients is installed"))
        .args(["-h", "127.0.0.1", "-p", &broker.port().to_string(), "-t", topic, "-l"])
        .args(args)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait().unwrap().code()
}

/// CONNACK of MQTT 5: accepted, no session, no properties.
pub const GREETED_V5: &[u8] = b"\x20\x03\x00\x00\x00";
/// SUBACK of MQTT 5 to the first packet id: QoS 1.
pub const SUBSCRIBED_V5: &[u8] = b"\x90\x04\x00\x01\x00\x01";

/// Bytes that a broker might send and mosquitto doesn't: to each client, for each packet that comes the next of these, and the
/// last ones at once after their forerunner. Serves one client after the other, until the test ends.
pub fn scripted_broker(answers: Vec<Vec<u8>>) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            for (n, answer) in answers.iter().enumerate() {
                // CONNECT and SUBSCRIBE are waited for; a read brings at least one of them.
                if n < 2 && client.read(&mut [0; 1024]).unwrap_or(0) == 0 {
                    break;
                }
                if client.write_all(answer).is_err() {
                    break;
                }
            }
            // Until the client goes.
            while client.read(&mut [0; 1024]).unwrap_or(0) > 0 {}
        }
    });
    (address, thread)
}
