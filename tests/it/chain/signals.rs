//! Signals over Tor, with every program real: the receiver says that it is ready, its closed window opens, the backlog drains; and what
//! strangers, repetitions and forgeries lead to, which is nothing.

use super::stage::{Options, Stage};
use serde_json::{Value, json};
use std::{fs, sync::Arc, thread, time::Duration};
use tidegate::{
    adapters::{
        arti::{ArtiClient, ArtiSettings, ClientKey},
        http_lane::HttpLane,
    },
    lab::ArtiTestSettings,
    receiver::Speaker,
};
use tidegate_actors::ports::transport::{Isolation, Lane as _};
use tidegate_schemas::{
    config::file::Vanguards,
    messages::outbox::SignalWord,
    outcome::DeliveryError,
    submission::Payload,
    wire::{
        WireAnswer, WireRequest,
        signal::{SIGNAL_PATH, issue},
    },
};
use tokio::runtime::Runtime;

/// Opens once a year, and hears signals.
const CLOSED: &str = "windows = { allow = [{ cron = \"0 0 1 1 *\", for = \"1m\" }] }\nlifetime = { max_age = \"400d\" }\n\
                      signal = { accept = true, ttl_max = \"10m\" }\n";

/// A gateway that runs, and a receiver that has the key to signal to it.
fn stage() -> Stage {
    let more = "[signal_service]\nenabled = true\n".to_owned();
    let mut stage = Stage::without_gateway(Options { ward: CLOSED.to_owned(), more, ..Options::default() });
    stage.open();
    // The running gateway notices the key.
    let made: Value = serde_json::from_str(&stage.tidegate(&["--json", "destination", "signal-key", "ward"])).unwrap();
    fs::write(stage.file("receiver/gateway.signal_key"), made["signal_key"].as_str().unwrap()).unwrap();
    stage.wait_for("the onion service for signals", |stage| {
        stage.gateway_log().contains("its signals are heard over Tor").then_some(())
    });
    stage
}

fn signal(stage: &Stage) -> Option<Value> {
    stage.load("ward").map(|load| load["signal"].clone())
}

fn wait_for_word(stage: &Stage, ready: bool) -> Value {
    stage.wait_for("the signal", |stage| signal(stage).filter(|signal| signal["ready"] == ready))
}

#[test]
fn a_receiver_tells_its_gateway_by_command_and_at_its_start() {
    let mut stage = stage();
    let said = stage.receiver_says(&["--ready", "5m"]);
    assert!(said.contains("was told"), "{said}");
    let holds = wait_for_word(&stage, true);
    assert_eq!(holds["from"], "destination");
    assert!(holds["left_ms"].as_u64().is_some_and(|left| left > 200_000 && left <= 300_000), "{holds}");
    stage.receiver_says(&["--not-now", "5m"]);
    wait_for_word(&stage, false);
    stage.ask("POST", "/api/v1/destinations/ward/signal", Some(&json!({ "clear": true }))).unwrap();
    assert_eq!(signal(&stage), Some(Value::Null));
    // One that starts can say so by itself; one that is down is spoken for by the command alone.
    stage.kill_receiver();
    stage.receiver_says(&["--not-now", "1m"]);
    wait_for_word(&stage, false);
    stage.options.receiver = vec!["--signal-on-start".to_owned(), "5m".to_owned()];
    stage.start_receiver();
    wait_for_word(&stage, true);
}

#[test]
fn a_signal_comes_by_the_broker_where_that_is_switched_on() {
    let mqtt = "signals = true\n".to_owned();
    let stage = Stage::start(Options { ward: CLOSED.to_owned(), mqtt, ..Options::default() });
    stage.publish_to("tidegate/destinations/ward/signal", b"soon");
    stage.publish_to("tidegate/destinations/ward/signal", br#"{"ready_for":"5m"}"#);
    assert_eq!(wait_for_word(&stage, true)["from"], "mqtt");
    let quarantine = stage.ask("GET", "/api/v1/quarantine", None).unwrap();
    assert_eq!(quarantine["items"][0]["reason"], "bad_signal", "{quarantine}");
    // It is no reading.
    assert_eq!((stage.account("queued"), stage.account("quarantined")), (0, 1));
}

#[test]
fn a_signal_from_the_receiver_opens_the_closed_window_and_the_backlog_drains() {
    let stage = stage();
    let payloads: Vec<String> = (0..20).map(|number| format!("pulse {number}")).collect();
    assert!(stage.publish("ward", "patient", &payloads).wait().unwrap().success());
    stage.wait_for("custody of all", |stage| (stage.account("queued") == 20).then_some(()));
    let load = stage.load("ward").unwrap();
    assert_eq!((&load["delivered"], &load["failures"]), (&json!(0), &json!(0)), "{load}");
    stage.receiver_says(&["--ready", "5m"]);
    stage.wait_for_delivered(20);
    assert_eq!(stage.readings().len(), 20);
    // It closes it, too.
    stage.receiver_says(&["--not-now", "5m"]);
    wait_for_word(&stage, false);
    stage.publish_one("while it is closed");
    stage.wait_for("custody", |stage| (stage.account("queued") == 1).then_some(()));
    stage.receiver_says(&["--ready", "1m"]);
    stage.wait_for_delivered(21);
}

/// Somebody who tries things at the onion service for signals.
struct Tester {
    runtime: Runtime,
    client: Arc<ArtiClient>,
    tries: u8,
}

impl Tester {
    fn new(stage: &Stage) -> Self {
        let runtime = Runtime::new().unwrap();
        let network = ArtiTestSettings::load(stage.network_folder()).unwrap();
        let settings = ArtiSettings::below(&stage.file("tester"), Vanguards::Lite).on_testnet(network);
        let client = runtime.block_on(async {
            let client = ArtiClient::open(settings).await.unwrap();
            client.bootstrap().await.unwrap();
            client
        });
        Self { runtime, client, tries: 0 }
    }

    fn post(&mut self, speaker: &Speaker, key: Option<ClientKey>, body: &str) -> Result<WireAnswer, DeliveryError> {
        self.tries += 1;
        let (client, endpoint, isolation) = (&self.client, speaker.endpoint(), Isolation([self.tries; 16]));
        self.runtime.block_on(async {
            let exchange = async {
                let stream = client.connect(endpoint.clone(), isolation, key).await?;
                let mut lane = HttpLane::open(stream, &endpoint, &tokio::runtime::Handle::current()).await?;
                let (method, path) = ("POST", SIGNAL_PATH.to_owned());
                lane.exchange(WireRequest { method, path, headers: vec![], body: Payload::new(body.to_owned()) }).await
            };
            let answer = tokio::time::timeout(Duration::from_secs(15), exchange).await;
            answer.unwrap_or(Err(DeliveryError::ConnectTimeout))
        })
    }

    /// As whoever has the key, until it is answered.
    fn say(&mut self, speaker: &Speaker, body: &str) -> WireAnswer {
        for _ in 0..40 {
            match self.post(speaker, Some(speaker.client_key()), body) {
                Ok(answer) => return answer,
                Err(_) => thread::sleep(Duration::from_millis(250)),
            }
        }
        panic!("the onion service for signals was not reached");
    }
}

#[test]
fn repetitions_forgeries_and_strangers_change_nothing_and_learn_nothing() {
    let mut stage = stage();
    let mut tester = Tester::new(&stage);
    let speaker = Speaker::open(&stage.file("receiver"), &"gateway".parse().unwrap()).unwrap();
    let now = "2026-11-23T12:00:00Z".parse().unwrap();
    let first = speaker.say(SignalWord::Ready(600), now).unwrap();
    let answer = tester.say(&speaker, &first);
    assert_eq!((answer.status, answer.body.len()), (202, 0));
    wait_for_word(&stage, true);

    // It asked for the circuit, so it is in its budget.
    assert!(stage.load("ward").unwrap()["fresh_circuits_last_hour"].as_u64() >= Some(1));

    // Who has no key, or another one, doesn't even find out where the service is.
    assert_eq!(tester.post(&speaker, None, &first), Err(DeliveryError::ClientAuthMissing));
    let other = Some(ClientKey::from_secret([3; 32]));
    assert_eq!(tester.post(&speaker, other, &first), Err(DeliveryError::ClientAuthWrong));

    // Who has it, and not the receipt key, is not believed.
    let forged = issue(&[1; 32], &speaker.endpoint().address, SignalWord::Clear, u64::MAX);
    assert_eq!(tester.say(&speaker, &forged), answer);
    logged(&stage, "is not signed by its receipt key", 1);
    assert!(signal(&stage).is_some_and(|signal| signal["ready"] == true));

    // What was said once is not said again, not even after a restart.
    let clear = || stage.ask("POST", "/api/v1/destinations/ward/signal", Some(&json!({ "clear": true })));
    clear().unwrap();
    assert_eq!(tester.say(&speaker, &first), answer);
    logged(&stage, "this signal was heard before", 1);
    assert_eq!(signal(&stage), Some(Value::Null));
    let before = stage.gateway_log();
    stage.stop_gateway();
    stage.start_gateway();
    assert_eq!(tester.say(&speaker, &first), answer, "it is at the same address again");
    stage.wait_for("the repetition", |stage| {
        let log = stage.gateway_log();
        // Whether a log begins anew with its process or goes on is all one.
        let log = log.strip_prefix(&before).unwrap_or(&log).to_owned();
        log.contains("this signal was heard before").then_some(())
    });
    assert_eq!(signal(&stage), Some(Value::Null));
    // The next one is heard.
    let second = speaker.say(SignalWord::NotNow(60), now).unwrap();
    assert_eq!(tester.say(&speaker, &second), answer);
    wait_for_word(&stage, false);

    // Beyond the budget no circuit is built for it.
    stage.stop_gateway();
    stage.options.circuits = Some(1);
    stage.start_gateway();
    let third = speaker.say(SignalWord::Ready(60), now).unwrap();
    stage.wait_for("the end of the budget", |stage| {
        tester.post(&speaker, Some(speaker.client_key()), &third).unwrap_err();
        stage.gateway_log().contains("beyond its budget of circuits").then_some(())
    });
    assert!(signal(&stage).is_none_or(|signal| signal["ready"] != true));

    let address = speaker.endpoint().address.reveal();
    for log in [before, stage.gateway_log(), stage.receiver_log()] {
        assert!(!log.contains(&address[..56]), "the address is in a log");
    }
}

fn logged(stage: &Stage, words: &str, times: usize) {
    stage.wait_for(words, |stage| (stage.gateway_log().matches(words).count() == times).then_some(()));
}
