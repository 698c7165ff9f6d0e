//! The child process: rumqttd behind the front door, until standard input ends.

use super::{credentials::Guard, front_door::FrontDoor};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use std::{
    collections::HashMap,
    io::{self, BufRead as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};
use tidegate_schemas::submission::PACKET_BYTES_MAX;

/// Most clients at once (a count).
pub const CONNECTIONS_MAX: usize = 512;
/// Longest that rumqttd may take to listen.
const UP_MAX: Duration = Duration::from_secs(5);
/// Longest that rumqttd waits for a client's first packet, in milliseconds; the door has seen it by then.
const CONNECT_MS_MAX: u16 = 5_000;
/// Packets of a client that rumqttd reads at a time (a count).
const READ_PACKETS_MAX: usize = 200;
/// One piece of a topic filter's log, in bytes.
const SEGMENT_BYTES: usize = 1024 * 1024;
/// Pieces of a topic filter's log; the oldest is overwritten.
const SEGMENTS: usize = 32;

/// Why the child ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Any device of the network could publish as another.
    #[error("the embedded broker has no access rules and does not listen on {0}")]
    NotLoopback(SocketAddr),
    /// A port could not be had.
    #[error("the embedded broker could not listen on {listen}: {source}")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// rumqttd did not come up.
    #[error("the embedded broker did not come up within {} s", UP_MAX.as_secs())]
    NotUp,
    /// A thread could not be started, or standard input not be read.
    #[error("the embedded broker could not be set up: {0}")]
    SetUp(#[from] io::Error),
    /// A thread of the broker ended.
    #[error("the embedded broker broke down")]
    BrokeDown,
}

/// What ends the child.
enum End {
    /// The gateway closed our standard input, or is gone.
    Gateway,
    /// Something in here broke.
    BrokeDown,
}

/// Runs the broker until standard input ends. Its first line is the gateway's client id, its second the gateway's own
/// credential as `NAME:SHA256-IN-HEX`.
///
/// # Errors
/// [`ServeError`] when it can't start, and when a part of it breaks: the caller ends the process, the gateway starts another.
pub fn serve(listen: SocketAddr, credentials_file: Option<PathBuf>) -> Result<(), ServeError> {
    if !listen.ip().is_loopback() {
        return Err(ServeError::NotLoopback(listen));
    }
    let (ends, end) = sync_channel(4);
    let mut hello = Vec::new();
    for line in io::stdin().lock().lines().take(2) {
        hello.push(line?);
    }
    let [gateway_client_id, gateway_login] = <[String; 2]>::try_from(hello).unwrap_or_default();
    watch_standard_input(ends.clone())?;
    watch_panics(ends.clone());

    let (v311, v5) = (free_port()?, free_port()?);
    let guard = credentials_file.map(|file| Guard::new(file, &gateway_login));
    let mut broker = Broker::new(config(v311, v5, guard.as_ref()));
    let broke = ends.clone();
    thread::Builder::new().name("broker".to_owned()).spawn(move || {
        // It returns only when its listeners are gone.
        let _ = broker.start();
        let _ = broke.try_send(End::BrokeDown);
    })?;
    await_up(&[v311, v5])?;
    let door = FrontDoor { v311, v5, gateway_client_id, clients_max: CONNECTIONS_MAX };
    open_door(door, listen, ends)?;
    match end.recv() {
        Ok(End::Gateway) | Err(_) => Ok(()),
        Ok(End::BrokeDown) => Err(ServeError::BrokeDown),
    }
}

fn watch_standard_input(ends: SyncSender<End>) -> io::Result<()> {
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        // Nothing more is expected; the end, or an error, is what counts.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = ends.try_send(End::Gateway);
    })?;
    Ok(())
}

/// rumqttd's threads unwrap; a broker without its router would take connections and answer nothing.
fn watch_panics(ends: SyncSender<End>) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        let _ = ends.try_send(End::BrokeDown);
    }));
}

/// A port that was free a moment ago. Should another take it, the child ends and the next one tries others.
fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn await_up(listeners: &[SocketAddr]) -> Result<(), ServeError> {
    let until = Instant::now() + UP_MAX;
    while !listeners.iter().all(|listener| TcpStream::connect(listener).is_ok()) {
        if Instant::now() > until {
            return Err(ServeError::NotUp);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn open_door(door: FrontDoor, listen: SocketAddr, ends: SyncSender<End>) -> Result<(), ServeError> {
    let failed = |source| ServeError::Listen { listen, source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind(listen)).map_err(failed)?;
    thread::Builder::new().name("door".to_owned()).spawn(move || {
        runtime.block_on(door.serve(listener));
        let _ = ends.try_send(End::BrokeDown);
    })?;
    Ok(())
}

fn config(v311: SocketAddr, v5: SocketAddr, guard: Option<&Guard>) -> Config {
    let router = RouterConfig {
        // Twice: a client that comes back is known before its old connection is gone.
        max_connections: CONNECTIONS_MAX * 2,
        max_outgoing_packet_count: 200,
        max_segment_size: SEGMENT_BYTES,
        max_segment_count: SEGMENTS,
        ..RouterConfig::default()
    };
    let server = |name: &str, listen| {
        let mut settings = ServerSettings {
            name: name.to_owned(),
            listen,
            tls: None,
            next_connection_delay_ms: 0,
            connections: ConnectionSettings {
                connection_timeout_ms: CONNECT_MS_MAX,
                max_payload_size: PACKET_BYTES_MAX,
                max_inflight_count: READ_PACKETS_MAX,
                auth: None,
                external_auth: None,
                dynamic_filters: false,
            },
        };
        if let Some(guard) = guard.cloned() {
            settings.set_auth_handler(move |_client_id, name: String, secret: String| {
                let guard = guard.clone();
                async move { guard.admits(&name, &secret).await }
            });
        }
        Some(HashMap::from([(name.to_owned(), settings)]))
    };
    Config { router, v4: server("mqtt-3.1.1", v311), v5: server("mqtt-5", v5), ..Config::default() }
}
