//! The lab itself: a private Tor network comes up, serves a consensus, hosts a service, and leaves nothing behind.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests; the times are worth seeing")]

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::lab::ports::loopback;
use tidegate::lab::{ClientOptions, HiddenServiceOptions, Lifetime, TorNetwork, TorNetworkOptions, consensus};

/// A server that answers each connection with `answer` and closes it.
fn answering(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _gone = stream.unwrap().write_all(answer);
        }
    });
    address
}

/// What a SOCKS5 client (RFC 1928) reads through `socks` from `host`:80. A circuit may fail, and tor then thinks about it for two
/// minutes; a client that is in earnest asks again.
fn read_through_socks(socks: SocketAddr, host: &str) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match try_to_read(socks, host) {
            Ok(content) => return content,
            Err(error) => assert!(Instant::now() < deadline, "nothing came through the circuit: {error}"),
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn try_to_read(socks: SocketAddr, host: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(socks)?;
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    stream.write_all(&[5, 1, 0])?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen)?;
    let mut request = vec![5, 1, 0, 3, u8::try_from(host.len()).unwrap()];
    request.extend(host.bytes());
    request.extend([0, 80]);
    stream.write_all(&request)?;
    let mut reply = [0; 10];
    stream.read_exact(&mut reply)?;
    if reply[1] != 0 {
        return Err(io::Error::other(format!("the SOCKS reply {}", reply[1])));
    }
    let mut content = Vec::new();
    stream.read_to_end(&mut content)?;
    Ok(content)
}

fn pids_below(folder: &std::path::Path) -> usize {
    let ids = std::fs::read_dir("/proc").unwrap();
    let ids = ids.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|&pid| tidegate::lab::process::runs(pid, folder)).count()
}

#[test]
fn a_private_network_comes_up_serves_and_leaves_nothing_behind() {
    let began = Instant::now();
    let progress = Box::new(move |step| println!("{:5.1} s  {step}", began.elapsed().as_secs_f32()));
    let network = TorNetwork::start(TorNetworkOptions { progress, ..TorNetworkOptions::default() }).unwrap();
    let folder = network.folder().to_owned();
    let authorities = network.authorities();
    let document = consensus::fetch(loopback(authorities[0].dir_port), Duration::from_secs(2)).unwrap();
    assert_eq!(document.relays.len(), authorities.len());
    assert!(document.relays.iter().all(consensus::RelayEntry::is_usable));

    let service = network.hidden_service(HiddenServiceOptions::to(answering(b"over onion"))).unwrap();
    println!("{:5.1} s  the service's descriptor is out", began.elapsed().as_secs_f32());
    let client = network.client(ClientOptions::default()).unwrap();
    println!("{:5.1} s  the client has circuits", began.elapsed().as_secs_f32());
    assert_eq!(read_through_socks(client.socks_address(), service.onion_address()), b"over onion");
    println!("{:5.1} s  fetched", began.elapsed().as_secs_f32());

    assert_eq!(pids_below(&folder), authorities.len() + 2);
    drop((service, client, network));
    assert_eq!(pids_below(&folder), 0, "every process ends");
    assert!(!folder.exists(), "the temporary folder goes");
}

#[test]
fn a_detached_network_is_attached_stopped_and_started_again() {
    let kept = tempfile::tempdir().unwrap();
    let folder = kept.path().join("net");
    let options = || TorNetworkOptions {
        folder: Some(folder.clone()),
        lifetime: Lifetime::Detached,
        ..TorNetworkOptions::default()
    };
    let started = TorNetwork::start(options()).unwrap();
    let settings = started.arti_settings();
    let target = answering(b"kept");
    let named = || HiddenServiceOptions { name: Some("kept".to_owned()), ..HiddenServiceOptions::to(target) };
    let address = started.hidden_service(named()).unwrap().onion_address().to_owned();
    drop(started);
    assert_eq!(pids_below(&folder), 6, "it runs on");
    TorNetwork::start(options()).unwrap_err();

    let attached = TorNetwork::attach(&folder).unwrap();
    assert_eq!(attached.arti_settings(), settings);
    attached.stop().unwrap();
    assert_eq!(pids_below(&folder), 0, "it has stopped");
    TorNetwork::attach(&folder).unwrap_err();

    let again = TorNetwork::start(TorNetworkOptions { lifetime: Lifetime::Owned, ..options() }).unwrap();
    println!("started again in {:.1} s", again.started_in().as_secs_f32());
    assert_eq!(again.arti_settings(), settings);
    let service = again.hidden_service(named()).unwrap();
    assert_eq!(service.onion_address(), address);
    let client = again.client(ClientOptions::default()).unwrap();
    assert_eq!(read_through_socks(client.socks_address(), service.onion_address()), b"kept");
    drop((service, client, again));
    assert_eq!(pids_below(&folder), 0, "an owned one ends with its owner");
}

#[test]
fn lag_is_felt_on_every_link() {
    let network = TorNetwork::start(TorNetworkOptions { lag_ms: 25, ..TorNetworkOptions::default() }).unwrap();
    println!("started with lag in {:.1} s", network.started_in().as_secs_f32());
    let service = network.hidden_service(HiddenServiceOptions::to(answering(b"late"))).unwrap();
    let client = network.client(ClientOptions::default()).unwrap();
    read_through_socks(client.socks_address(), service.onion_address());
    // The circuit is there now: a stream over six links costs a round trip of at least 2 x 6 x 25 ms.
    let began = Instant::now();
    assert_eq!(read_through_socks(client.socks_address(), service.onion_address()), b"late");
    println!("a stream took {:?}", began.elapsed());
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
}
