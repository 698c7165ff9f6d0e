//! The embedded broker as a child process.

use super::bench::{Gateway, LIMIT, config, mark, publish_with, text};
use std::{
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tidegate::{
    adapters::embedded_broker::{
        BrokerSpec, EmbeddedBroker, EmbeddedBrokerError,
        serve::{ServeError, serve},
    },
    lab::ports::{free_ports, loopback},
};
use tidegate_actors::{ports::source::Source as _, testing::seeded_entropy::SeededEntropy};
use tidegate_schemas::{
    config::{
        devices::{DeviceCredential, Devices, hash_secret},
        file::MqttProtocol,
    },
    submission::Origin,
};

const LISTEN: &str = "TIDEGATE_TEST_EMBEDDED_LISTEN";
const CREDENTIALS: &str = "TIDEGATE_TEST_EMBEDDED_CREDENTIALS";

/// Two tests in one: by itself, that the child refuses to listen to everybody; and, where the environment says so, the child of
/// the other tests, which are this very program.
#[test]
fn the_child_listens_on_loopback_alone() {
    match std::env::var(LISTEN) {
        Ok(listen) => {
            let credentials = std::env::var_os(CREDENTIALS).map(PathBuf::from);
            serve(listen.parse().unwrap(), credentials).unwrap();
        }
        Err(_) => {
            let everybody = "0.0.0.0:1883".parse().unwrap();
            for credentials in [None, Some(PathBuf::from("devices.toml"))] {
                assert!(matches!(serve(everybody, credentials), Err(ServeError::NotLoopback(_))));
            }
        }
    }
}

/// The child as `env VAR=... this-program --exact NAME`.
fn spec(listen: SocketAddr, credentials_file: Option<PathBuf>, gateway_client_id: &str) -> BrokerSpec {
    let mut args = vec![format!("{LISTEN}={listen}").into()];
    if let Some(file) = &credentials_file {
        args.push(format!("{CREDENTIALS}={}", file.display()).into());
    }
    args.push(std::env::current_exe().unwrap().into());
    args.extend(["--exact".into(), "mqtt::embedded::the_child_listens_on_loopback_alone".into(), "--nocapture".into()]);
    BrokerSpec {
        program: "/usr/bin/env".into(),
        args,
        listen,
        credentials_file,
        gateway_client_id: gateway_client_id.to_owned(),
    }
}

fn entropy() -> Arc<SeededEntropy> {
    Arc::new(SeededEntropy::new(7))
}

fn free_address() -> SocketAddr {
    loopback(free_ports(1).unwrap()[0])
}

async fn publish(broker: SocketAddr, body: &'static str, args: &'static [&'static str]) -> Option<i32> {
    let publish = move || publish_with(broker, "ward/bpm", body.as_bytes(), args);
    tokio::task::spawn_blocking(publish).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_on_one_port_and_back_after_a_kill() {
    for protocol in [MqttProtocol::V5, MqttProtocol::V311] {
        let (address, folder) = (free_address(), tempfile::tempdir().unwrap());
        let id = tidegate::adapters::mqtt::client_id(folder.path(), &*entropy()).unwrap();
        let broker = EmbeddedBroker::start(spec(address, None, &id), entropy()).unwrap();
        assert!(broker.ready(LIMIT).await);
        let mut gateway = Gateway::start_on(config(address, protocol), folder.path(), &["+/+"], Some(&broker));
        gateway.connected().await;
        assert_eq!(publish(address, "v5", &["-q", "1", "-V", "mqttv5"]).await, Some(0));
        assert_eq!(publish(address, "v311", &["-q", "1", "-V", "mqttv311"]).await, Some(0));
        for body in ["v5", "v311"] {
            let (publication, token) = gateway.publication().await;
            assert_eq!((text(&publication).as_str(), publication.origin), (body, Origin::MqttQos1));
            assert!(gateway.source.ack(token.unwrap()));
        }

        let pid = broker.status().look().pid.unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        let (_, session_present, session_expected) = gateway.connected().await;
        assert!(!session_present && session_expected, "its sessions end with it");
        assert_eq!(publish(address, "back", &["-q", "1"]).await, Some(0));
        assert_eq!(gateway.take_until(b"back").await, []);
        let status = gateway.source.embedded().unwrap();
        assert!(status.restarts == 1 && status.pid != Some(pid) && status.last_error.is_some(), "{status:?}");

        broker.stop().await;
        assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
        gateway.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_wait_for_the_gateway_so_that_nothing_is_acknowledged_into_the_void() {
    let (address, folder) = (free_address(), tempfile::tempdir().unwrap());
    let id = tidegate::adapters::mqtt::client_id(folder.path(), &*entropy()).unwrap();
    let broker = EmbeddedBroker::start(spec(address, None, &id), entropy()).unwrap();
    assert!(broker.ready(LIMIT).await);
    let early = tokio::spawn(publish(address, "early", &["-q", "1"]));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!early.is_finished());
    let mut gateway = Gateway::start(config(address, MqttProtocol::V5), folder.path(), &["+/+"]);
    assert_eq!(gateway.take_until(b"early").await, []);
    assert_eq!(early.await.unwrap(), Some(0));
    broker.stop().await;
    gateway.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_asked_for_where_there_are_some() {
    let (address, folder) = (free_address(), tempfile::tempdir().unwrap());
    let mut devices = Devices::default();
    devices.put(DeviceCredential {
        device: "pacemaker".parse().unwrap(),
        secret_sha256: hash_secret("a secret that is long enough").unwrap(),
        destinations: vec![],
    });
    let file = folder.path().join("devices.toml");
    std::fs::write(&file, devices.to_text()).unwrap();
    let id = tidegate::adapters::mqtt::client_id(folder.path(), &*entropy()).unwrap();
    let broker = EmbeddedBroker::start(spec(address, Some(file.clone()), &id), entropy()).unwrap();
    assert!(broker.ready(LIMIT).await);
    let mut gateway = Gateway::start_on(config(address, MqttProtocol::V5), folder.path(), &["+/+"], Some(&broker));
    gateway.connected().await;
    for version in ["mqttv5", "mqttv311"] {
        let wrong: &[&[&str]] = &[
            &[],
            &["-u", "pacemaker", "-P", "a wrong secret, long enough"],
            &["-u", "x", "-P", "a secret that is long enough"],
        ];
        for login in wrong {
            let args: Vec<&str> = ["-q", "1", "-V", version].into_iter().chain(login.iter().copied()).collect();
            assert_ne!(publish_with(address, "ward/bpm", b"no", &args), Some(0), "{args:?}");
        }
        let args = ["-q", "1", "-V", version, "-u", "pacemaker", "-P", "a secret that is long enough"];
        assert_eq!(publish_with(address, "ward/bpm", b"yes", &args), Some(0));
        assert_eq!(gateway.take_until(b"yes").await, [], "{version}");
    }
    broker.stop().await;
    gateway.kill().await;
    let everybody = spec("0.0.0.0:1883".parse().unwrap(), Some(file), &id);
    assert!(matches!(EmbeddedBroker::start(everybody, entropy()), Err(EmbeddedBrokerError::NotLoopback(_))));
}

#[test]
fn the_child_ends_with_the_pipe_from_its_parent() {
    let address = free_address();
    let spec = spec(address, None, "");
    let mut child =
        Command::new(&spec.program).args(&spec.args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n\n").unwrap();
    let until = Instant::now() + LIMIT;
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < until && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(child.stdin.take());
    let asked = Instant::now();
    assert!(child.wait().unwrap().success());
    assert!(asked.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_above_the_limit_costs_its_sender_the_connection_and_nobody_else() {
    let (address, folder) = (free_address(), tempfile::tempdir().unwrap());
    let id = tidegate::adapters::mqtt::client_id(folder.path(), &*entropy()).unwrap();
    let broker = EmbeddedBroker::start(spec(address, None, &id), entropy()).unwrap();
    assert!(broker.ready(LIMIT).await);
    let mut gateway = Gateway::start(config(address, MqttProtocol::V5), folder.path(), &["+/+"]);
    gateway.connected().await;
    let large = vec![b'x'; 2 * 1024 * 1024];
    let args = ["-q", "1"];
    assert_ne!(publish_with(address, "ward/bpm", &large, &args), Some(0));
    let large = vec![b'x'; 900_000];
    assert_eq!(publish_with(address, "ward/bpm", &large, &args), Some(0));
    let (publication, _) = gateway.publication().await;
    assert_eq!(publication.payload.len(), 900_000);
    let _ = mark(&publication);
    broker.stop().await;
    gateway.kill().await;
}
