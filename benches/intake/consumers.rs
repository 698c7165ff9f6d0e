//! Who takes the load: the gateway, and those it is compared with, each a process of its own behind a broker of its own.

use super::{
    rivals,
    support::{behind_broker::BehindBroker, devices::Device, wait_for},
};
use rumqttc::v5::{
    AsyncClient, Event, MqttOptions,
    mqttbytes::{QoS, v5::Packet},
};
use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};
use tidegate::lab::{Mosquitto, MosquittoOptions, ports::loopback};

/// Devices that publish at once, each waiting for the broker before the next reading, as devices do.
const DEVICES: u64 = 16;
const WINDOW: u64 = 1;
/// Bytes of a reading.
const BODY_BYTES: usize = 64;
/// The role of this program as the bare consumer.
pub const BARE: &str = "consume";
/// Where all readings go.
const FILTER: &str = "ward/+/pulse";
/// A destination that is never open: it is intake that is measured.
const CLOSED: &str = "[destination.ward]\n\
    onion = \"2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion:80\"\n\
    windows = { allow = [{ cron = \"0 0 1 1 *\", for = \"1m\" }] }\nlifetime = { max_age = \"400d\" }\n\
    limits = { messages = 1000000, bytes = \"512MiB\" }\n";

/// Who takes the load.
#[derive(Clone, Copy)]
pub enum Consumer {
    /// `tidegate run`.
    Gateway,
    /// rumqttc, which acknowledges at once and stores nothing.
    Bare,
    /// paho-mqtt with SQLite.
    Sqlite,
    /// Node-RED with a queue in a file context.
    NodeRed {
        /// Its session at the broker outlives its connection, as ours does: what is published while it is away waits there, and what the
        /// broker saves for us it saves for it. Not so unless its user says so.
        lasting: bool,
    },
}

/// A program that says `done` on its standard output. It ends with its value.
pub struct Talker {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Talker {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the consumer");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, lines }
    }

    fn wait_until_done(&mut self) {
        let mut line = String::new();
        while !line.trim_end().ends_with("done") {
            line.clear();
            assert!(self.lines.read_line(&mut line).expect("what it says") > 0, "the consumer ended");
        }
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // Nothing is left to be said if it has gone already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

enum Running {
    Gateway(BehindBroker),
    Other(Talker),
}

/// Messages a second that this consumer takes, from the first publication to the last acknowledgement.
pub fn trial(consumer: Consumer, broker_settings: &[(&str, &str)], count: u64) -> f64 {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let log = folder.path().join("broker.log");
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let mut settings: Vec<_> = broker_settings.iter().map(own).collect();
    settings.push(("log_type".to_owned(), "subscribe".to_owned()));
    settings.push(("log_dest".to_owned(), format!("file {}", log.display())));
    let data = folder.path().join("broker");
    let options = MosquittoOptions { settings, folder: Some(data), ..MosquittoOptions::default() };
    let broker = Mosquitto::start(&options).expect("mosquitto");
    let mut running = start(consumer, folder.path(), broker.address(), count);
    wait_for("the consumer's subscription", || fs::read_to_string(&log).ok()?.contains("/pulse").then_some(()));
    let began = publish(broker.address(), count);
    match &mut running {
        Running::Other(talker) => talker.wait_until_done(),
        Running::Gateway(gateway) => {
            while gateway.admin.account("accepted") < count {
                gateway.check();
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
    let took = began.elapsed();
    if let Running::Gateway(gateway) = &mut running {
        let outbox = gateway.admin.observation("outbox").expect("its account");
        assert_eq!((&outbox["account"]["queued"], &outbox["gap"]), (&count.into(), &0.into()), "{outbox}");
        gateway.stop();
    }
    count as f64 / took.as_secs_f64()
}

fn start(consumer: Consumer, folder: &Path, broker: SocketAddr, count: u64) -> Running {
    match consumer {
        Consumer::Gateway => {
            // Nothing is delivered, so nothing listens there.
            let mut gateway = BehindBroker::new(folder, broker, loopback(1), CLOSED);
            gateway.start();
            Running::Gateway(gateway)
        }
        Consumer::Bare => {
            let program = std::env::current_exe().expect("this program");
            let (port, count) = (broker.port().to_string(), count.to_string());
            Running::Other(Talker::start(Command::new(program).args([BARE, &port, &count])))
        }
        Consumer::Sqlite => Running::Other(rivals::sqlite(folder, broker, count)),
        Consumer::NodeRed { lasting } => Running::Other(rivals::node_red(folder, broker, count, lasting)),
    }
}

/// Publishes all; returns the moment of the first.
fn publish(broker: SocketAddr, count: u64) -> Instant {
    let together = Barrier::new(usize::try_from(DEVICES).expect("few") + 1);
    thread::scope(|scope| {
        for number in 0..DEVICES {
            let together = &together;
            scope.spawn(move || {
                let (name, topic) = (format!("bed-{number}"), format!("ward/bed-{number}/pulse"));
                let mut device = Device::connect(broker, &name, &topic).expect("the broker");
                together.wait();
                let share = count / DEVICES + u64::from(number < count % DEVICES);
                device.publish_many(share, BODY_BYTES, WINDOW).expect("the broker takes it");
            });
        }
        together.wait();
        Instant::now()
    })
}

/// The bare consumer: the client, session and thread that the gateway has, without anything behind them.
pub fn consume(port: u16, count: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut options = MqttOptions::new("bare", "127.0.0.1", port);
        let mut network = rumqttc::NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options
            .set_network_options(network)
            .set_manual_acks(true)
            .set_clean_start(false)
            .set_session_expiry_interval(Some(3_600));
        let (client, mut events) = AsyncClient::new(options, 65_536);
        client.try_subscribe(FILTER, QoS::AtLeastOnce).expect("a subscription");
        let mut taken = 0;
        loop {
            if let Event::Incoming(Packet::Publish(publish)) = events.poll().await.expect("the broker") {
                client.try_ack(&publish).expect("an acknowledgement");
                taken += 1;
                if taken == count {
                    super::support::print("done");
                }
            }
        }
    });
}
