//! arti and the SOCKS adapter on a private network of real tor processes.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests; the times are worth seeing")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::adapters::arti::{
    ArtiClient, ArtiError, ArtiSettings, ArtiTransport, ClientKey, HostedService, HostingOptions, LazyArti,
};
use tidegate::adapters::http_lane::BoxedStream;
use tidegate::adapters::socks::SocksTransport;
use tidegate::adapters::system_clock::SystemClock;
use tidegate::lab::ports::{free_ports, loopback};
use tidegate::lab::{ClientOptions, HiddenService, HiddenServiceOptions};
use tidegate_actors::ports::clock::Clock as _;
use tidegate_actors::ports::transport::{Isolation, Target, Transport};
use tidegate_schemas::clock::ClockTrust;
use tidegate_schemas::config::file::Vanguards;
use tidegate_schemas::onion::{OnionAddress, OnionEndpoint};
use tidegate_schemas::outcome::DeliveryError;
use tidegate_schemas::submission::Payload;
use tidegate_schemas::view::UplinkStatus;
use tidegate_schemas::wire::WireRequest;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::tor_net::{network, on_network};

/// Answers one connection's requests, each with its number on the connection, until the client closes.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut seen = Vec::new();
    for number in 1_u32.. {
        while !seen.ends_with(b"reading") {
            let Ok(byte) = stream.read_u8().await else { return };
            seen.push(byte);
        }
        seen.clear();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{number}", number.to_string().len());
        if stream.write_all(answer.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// A web server on loopback; it goes when the handle is aborted.
async fn web_server() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    (address, task)
}

/// Serves an arti-hosted service until the handle is aborted.
fn serve_hosted(mut service: HostedService) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(stream) = service.accept().await {
            tokio::spawn(serve(stream));
        }
    })
}

async fn arti(folder: &Path) -> Arc<ArtiClient> {
    let settings = ArtiSettings::below(folder, Vanguards::Lite).on_testnet(network().await.arti_settings());
    let client = ArtiClient::open(settings).await.unwrap();
    client.bootstrap().await.unwrap();
    client
}

/// As the gateway has it.
async fn lazy_arti(folder: &Path) -> Arc<LazyArti> {
    let settings = ArtiSettings::below(folder, Vanguards::Lite).on_testnet(network().await.arti_settings());
    let lazy = LazyArti::new(settings, folder);
    lazy.bootstrap().await.unwrap();
    lazy
}

fn isolation(number: u8) -> Isolation {
    Isolation([number; 16])
}

fn endpoint(address: &OnionAddress, port: u16) -> OnionEndpoint {
    OnionEndpoint { address: address.clone(), port }
}

fn target(address: &OnionAddress, client_auth: Option<[u8; 32]>) -> Target {
    Target { destination: "ward".parse().unwrap(), endpoint: endpoint(address, 80), client_auth }
}

fn reading() -> WireRequest {
    WireRequest { method: "PUT", path: "/".to_owned(), headers: vec![], body: Payload::new("reading") }
}

/// Opens a lane and exchanges `count` requests on it; the last answer's body.
async fn deliver(
    transport: &dyn Transport,
    target: Target,
    isolation: Isolation,
    count: u32,
) -> Result<String, DeliveryError> {
    let mut lane = transport.open(target, isolation).await?;
    let mut last = String::new();
    for _ in 0..count {
        let answer = lane.exchange(reading()).await?;
        assert_eq!(answer.status, 200);
        last = String::from_utf8(answer.body.to_vec()).unwrap();
    }
    Ok(last)
}

/// Delivers as soon as a service that was just launched can be reached; tells the time and the attempts.
async fn deliver_when_up(transport: &dyn Transport, target: Target) -> String {
    let began = Instant::now();
    for number in 1..40 {
        // As a courier does it: an own deadline, and a new isolation after a failure.
        let attempt = deliver(transport, target.clone(), isolation(100 + number), 1);
        match tokio::time::timeout(Duration::from_secs(10), attempt).await {
            Ok(Ok(_)) => return format!("{:?}, {number} attempts", began.elapsed()),
            failed => println!("{:?}: {failed:?}, {:?}", began.elapsed(), transport.status()),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    panic!("the service was not reached");
}

/// A valid address under which nothing was ever published.
fn nobody() -> OnionAddress {
    OnionAddress::from_public_key(*ed25519_dalek::SigningKey::from_bytes(&[5; 32]).verifying_key().as_bytes())
}

fn address_of(service: &HiddenService) -> OnionAddress {
    service.onion_address().parse().unwrap()
}

/// The rendezvous circuits that clients have to a C tor onion service now.
fn rendezvous_circuits(service: &HiddenService) -> BTreeSet<String> {
    let status = service.control().unwrap().info("circuit-status").unwrap();
    let joined = |line: &&str| line.contains("HS_STATE=HSSR_JOINED");
    status.lines().filter(joined).filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[tokio::test]
async fn both_adapters_reach_services_of_both_kinds_and_name_what_fails() {
    let folders = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let lazy = lazy_arti(&folders.path().join("gateway")).await;
    println!("arti bootstrapped in {:?}", began.elapsed());
    assert_eq!(lazy.status(), UplinkStatus::Ready);
    let client = lazy.client().unwrap();
    let transport = ArtiTransport::new(lazy);

    // The service that arti hosts, in another client, as the receiver does.
    let host = arti(&folders.path().join("receiver")).await;
    let hosted = host.host(HostingOptions::named("receiver")).await.unwrap();
    let arti_hosted = hosted.address().clone();
    let serving = serve_hosted(hosted);
    println!("arti-hosted service reached after {:?}", deliver_when_up(&transport, target(&arti_hosted, None)).await);
    assert_eq!(deliver(&transport, target(&arti_hosted, None), isolation(1), 5).await.unwrap(), "5");
    let wrong_port = client.connect(endpoint(&arti_hosted, 81), isolation(2), None).await.err().unwrap();
    println!("a port that isn't served: {wrong_port:?}");
    assert!(wrong_port.spoils_the_lane());

    // The service behind a C tor.
    let (web, web_task) = web_server().await;
    let c_hosted = on_network(move |n| n.hidden_service(HiddenServiceOptions::to(web)).unwrap()).await;
    let c_address = address_of(&c_hosted);
    let began = Instant::now();
    assert_eq!(deliver(&transport, target(&c_address, None), isolation(3), 3).await.unwrap(), "3");
    println!("C-tor-hosted service served in {:?}", began.elapsed());

    // The same two by SOCKS.
    let options = ClientOptions { extended_errors: true, ..ClientOptions::default() };
    let c_client = on_network(move |n| n.client(options).unwrap()).await;
    let socks = SocksTransport::new(c_client.socks_address()).unwrap();
    socks.bootstrap().await.unwrap();
    assert_eq!(socks.status(), UplinkStatus::Ready);
    for address in [&arti_hosted, &c_address] {
        assert_eq!(deliver(&socks, target(address, None), isolation(4), 2).await.unwrap(), "2");
    }

    // Never published.
    for (transport, name) in [(&transport as &dyn Transport, "arti"), (&socks, "socks")] {
        let began = Instant::now();
        let error = deliver(transport, target(&nobody(), None), isolation(5), 1).await.unwrap_err();
        println!("{name}, never published: {error:?} after {:?}", began.elapsed());
        assert_eq!(error, DeliveryError::DescriptorNotFound);
    }

    // The onion service is up, the web server behind it isn't.
    web_task.abort();
    let _aborted = web_task.await;
    for (transport, name) in [(&transport as &dyn Transport, "arti"), (&socks, "socks")] {
        let began = Instant::now();
        let error = deliver(transport, target(&c_address, None), isolation(6), 1).await.unwrap_err();
        println!("{name}, web server down: {error:?} after {:?}", began.elapsed());
        assert_eq!(error, DeliveryError::ServiceDown);
    }

    // The host is dead, its descriptor still out.
    on_network(move |_| c_hosted.kill().unwrap()).await;
    for (transport, name) in [(&transport as &dyn Transport, "arti"), (&socks, "socks")] {
        let began = Instant::now();
        let attempt = deliver(transport, target(&c_address, None), isolation(7), 1);
        let error = tokio::time::timeout(Duration::from_secs(60), attempt)
            .await
            .map_or(DeliveryError::ConnectTimeout, Result::unwrap_err);
        println!("{name}, host dead: {error:?} after {:?}", began.elapsed());
        assert!(
            matches!(
                error,
                DeliveryError::IntroductionFailed | DeliveryError::RendezvousFailed | DeliveryError::ConnectTimeout
            ),
            "{error:?}"
        );
    }
    serving.abort();
}

#[tokio::test]
async fn isolations_do_not_share_circuits() {
    let folders = tempfile::tempdir().unwrap();
    let client = arti(folders.path()).await;
    let (web, _web_task) = web_server().await;
    let service = on_network(move |n| n.hidden_service(HiddenServiceOptions::to(web)).unwrap()).await;
    let address = address_of(&service);
    let options = ClientOptions::default();
    let c_client = on_network(move |n| n.client(options).unwrap()).await;
    let socks = SocksTransport::new(c_client.socks_address()).unwrap();

    let mut before = rendezvous_circuits(&service).len();
    for adapter in ["arti", "socks"] {
        // Two streams on each of two isolations, all open at once: two circuits arrive at the service.
        let mut streams: Vec<BoxedStream> = Vec::new();
        for number in [1, 2, 1, 2] {
            let endpoint = endpoint(&address, 80);
            streams.push(match adapter {
                "arti" => client.connect(endpoint, isolation(number), None).await.unwrap(),
                _ => socks.connect(&endpoint, isolation(number)).await.unwrap(),
            });
        }
        let circuits = rendezvous_circuits(&service).len();
        println!("{adapter}: {} circuits for 4 streams on 2 isolations", circuits - before);
        assert_eq!(circuits - before, 2, "{adapter}");
        before = circuits;
        drop(streams);
    }
}

#[tokio::test]
async fn a_circuit_that_the_service_ended_is_told_from_the_one_that_follows() {
    let folders = tempfile::tempdir().unwrap();
    let transport = ArtiTransport::new(lazy_arti(folders.path()).await);
    let (web, _web_task) = web_server().await;
    let service = on_network(move |n| n.hidden_service(HiddenServiceOptions::to(web)).unwrap()).await;
    let address = address_of(&service);
    let circuit = async |number| {
        let mut lane = transport.open(target(&address, None), isolation(number)).await.unwrap();
        assert_eq!(lane.exchange(reading()).await.unwrap().status, 200);
        lane.circuit().expect("arti tells circuits apart")
    };
    let first = circuit(1).await;
    assert_eq!(circuit(1).await, first, "the circuit outlives its connection");
    assert_ne!(circuit(2).await, first, "another isolation");
    let mut control = service.control().unwrap();
    for id in rendezvous_circuits(&service) {
        control.ask(&format!("CLOSECIRCUIT {id}")).unwrap();
    }
    // Until the end of the circuits has come to the client.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_ne!(circuit(1).await, first, "the service made us build another one");
}

#[tokio::test]
async fn client_authorization_tells_no_key_wrong_key_and_right_key_apart() {
    let folders = tempfile::tempdir().unwrap();
    let lazy = lazy_arti(&folders.path().join("gateway")).await;
    let transport = ArtiTransport::new(lazy);
    let right = ClientKey::from_secret([11; 32]);
    let wrong = ClientKey::from_secret([12; 32]);

    let (web, _web_task) = web_server().await;
    let options =
        HiddenServiceOptions { authorized_clients: vec![right.public_line()], ..HiddenServiceOptions::to(web) };
    let c_hosted = on_network(move |n| n.hidden_service(options).unwrap()).await;
    let host = arti(&folders.path().join("receiver")).await;
    let options = HostingOptions { authorized_clients: vec![right.public_line()], ..HostingOptions::named("receiver") };
    let hosted = host.host(options).await.unwrap();
    let arti_hosted = hosted.address().clone();
    let serving = serve_hosted(hosted);
    deliver_when_up(&transport, target(&arti_hosted, Some(right.reveal()))).await;

    for (number, address) in [(10, address_of(&c_hosted)), (20, arti_hosted.clone())] {
        let attempt = async |key: Option<&ClientKey>, number: u8| {
            let began = Instant::now();
            let target = target(&address, key.map(ClientKey::reveal));
            let result = deliver(&transport, target, isolation(number), 1).await;
            println!("service {address}: {result:?} after {:?}", began.elapsed());
            result
        };
        assert_eq!(attempt(None, number).await, Err(DeliveryError::ClientAuthMissing));
        assert_eq!(attempt(Some(&wrong), number + 1).await, Err(DeliveryError::ClientAuthWrong));
        assert_eq!(attempt(Some(&right), number + 2).await, Ok("1".to_owned()));
        // The same isolation, the key gone again: no cached circuit lets us in.
        assert_eq!(attempt(None, number + 2).await, Err(DeliveryError::ClientAuthMissing));
    }

    // A C tor client reads the key from its own folder.
    let onion = arti_hosted.reveal();
    let private = right.private_line(&arti_hosted);
    let secret = private.rsplit(':').next().unwrap().to_owned();
    let options = ClientOptions { extended_errors: true, ..ClientOptions::default() };
    let without = on_network(move |n| n.client(options).unwrap()).await;
    let options = ClientOptions { onion_keys: vec![(onion, secret)], ..ClientOptions::default() };
    let with = on_network(move |n| n.client(options).unwrap()).await;
    let socks = SocksTransport::new(without.socks_address()).unwrap();
    let refused = deliver(&socks, target(&arti_hosted, None), isolation(1), 1).await;
    println!("socks without a key: {refused:?}");
    assert_eq!(refused, Err(DeliveryError::ClientAuthMissing));
    let socks = SocksTransport::new(with.socks_address()).unwrap();
    assert_eq!(deliver(&socks, target(&arti_hosted, None), isolation(1), 1).await, Ok("1".to_owned()));

    // Everything on disk, and nothing of the keys in what is shown.
    serving.abort();
    assert_eq!(format!("{right:?}{:?}", target(&arti_hosted, Some(right.reveal()))).matches("descriptor").count(), 0);
}

#[tokio::test]
async fn a_client_without_a_network_says_so_and_a_second_one_is_kept_out() {
    let mut settings = network().await.arti_settings();
    // Nothing listens there.
    for (fallback, port) in settings.fallbacks.iter_mut().zip(free_ports(9).unwrap()) {
        fallback.or_address = loopback(port);
    }
    let folder = tempfile::tempdir().unwrap();
    let settings = || ArtiSettings::below(folder.path(), Vanguards::Lite).on_testnet(settings.clone());
    let client = ArtiClient::open(settings()).await.unwrap();
    assert_eq!(client.status(), UplinkStatus::Starting);
    let early = client.connect(endpoint(&nobody(), 80), isolation(1), None).await.err().unwrap();
    assert_eq!(early, DeliveryError::UplinkNotReady, "before the bootstrap");
    let attempt = tokio::time::timeout(Duration::from_secs(5), client.bootstrap()).await;
    println!("bootstrap without a network: {attempt:?}, status {:?}", client.status());
    assert_ne!(client.status(), UplinkStatus::Ready);
    let second = ArtiClient::open(settings()).await;
    assert!(matches!(second, Err(ArtiError::InUse)));
    client.close().await;
    ArtiClient::open(settings()).await.unwrap();
}

/// When the newest consensus in arti's cache begins, by its own words.
fn newest_on_disk(folder: &Path) -> Option<jiff::Timestamp> {
    let begin = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix("valid-after "))?.to_owned();
        format!("{}Z", line.replace(' ', "T")).parse().ok()
    };
    let files = std::fs::read_dir(folder.join("tor/cache/dir_blobs")).unwrap().map(|file| file.unwrap());
    let consensuses = files.filter(|file| file.file_name().to_str().unwrap().starts_with("con_"));
    consensuses.filter_map(|file| begin(std::fs::read_to_string(file.path()).unwrap())).max()
}

#[tokio::test]
async fn a_consensus_from_the_network_is_news_of_the_time_and_one_from_the_cache_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ArtiSettings::below(folder.path(), Vanguards::Lite).on_testnet(network().await.arti_settings());
    let client = ArtiClient::open(settings.clone()).await.unwrap();
    assert_eq!(client.consensus(), None, "it knows nothing yet");
    client.bootstrap().await.unwrap();
    let times = client.consensus().unwrap();
    let clock = SystemClock::default();
    let slack = jiff::SignedDuration::from_mins(1);
    assert!(times.fetched && times.valid_after - slack < clock.now() && clock.now() < times.valid_until + slack);
    // Without a word of Tor it depends on this machine's kernel.
    assert!(matches!(clock.trust(), ClockTrust::KernelSynchronised | ClockTrust::Unvouched), "{:?}", clock.trust());
    clock.told_by_tor(times);
    assert!(clock.trusted(), "{:?}", clock.trust());

    client.close().await;
    let cached = newest_on_disk(folder.path()).expect("arti keeps its consensus where it is looked for");
    let client = ArtiClient::open(settings).await.unwrap();
    client.bootstrap().await.unwrap();
    // The network votes every 20 seconds, so a newer one may have come.
    let times = client.consensus().unwrap();
    println!("from the cache: {}", !times.fetched);
    assert_eq!(times.fetched, times.valid_after > cached);
}
