//! What was acknowledged survives kill -9: a receiver in a process of its own is killed while readings pour in.

use super::harness::{self, connect, folder, pressure, start, try_send_over};
use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};
use tidegate::receiver::{Entrance, Receiver};
use tidegate_actors::ports::clock::Clock;
use tidegate_schemas::{
    agreement::Destination,
    entry::Entry,
    wire::{WireFormat, encode},
};

/// Tells the test that it is the child, and where.
const CHILD: &str = "TIDEGATE_TEST_RECEIVER_FOLDER";
const NAME: &str = "receiver::crash::what_was_acknowledged_survives_kill_9";
/// How often the receiver is killed.
const ROUNDS: u64 = 4;
/// Readings that are acknowledged before a kill.
const READINGS: u64 = 60;

struct KilledOnDrop(Child);
impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return child(Path::new(&folder)).await;
    }
    let (_guard, path) = folder();
    let first = start(&path).await;
    let (key, basic, introduction) = (first.write_key(), first.basic(), first.introduction.clone());
    let destination = harness::destination(&introduction, Some(key), WireFormat::CloudeventsBatch);
    first.stop().await;

    let acknowledged: Arc<Mutex<Vec<Entry>>> = Arc::default();
    for round in 0..ROUNDS {
        let (child, address) = spawn(&path).await;
        let senders = (0..4).map(|sender| {
            let first = (round * 10 + sender) * 1_000_000;
            // Two send a given number, the others until the receiver is gone.
            let last = if sender < 2 { first + READINGS } else { u64::MAX };
            tokio::spawn(deliver(address, destination.clone(), first..last, acknowledged.clone()))
        });
        let mut senders: Vec<_> = senders.collect();
        for sender in senders.drain(..2) {
            sender.await.unwrap();
        }
        drop(child);
        for sender in senders {
            sender.await.unwrap();
        }
    }

    let last = start(&path).await;
    let stored = harness::readings(last.address, &basic).await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    for entry in &acknowledged {
        let id = entry.envelope.id.to_string();
        let found: Vec<_> = stored.iter().filter(|reading| reading["id"] == id).collect();
        assert_eq!(found.len(), 1, "an acknowledged reading is there, once");
        assert_eq!(found[0]["text"].as_str().unwrap().as_bytes(), &entry.body.reveal()[..]);
    }
    assert!(acknowledged.len() as u64 >= ROUNDS * READINGS * 2, "{}", acknowledged.len());
    last.stop().await;
}

/// Delivers readings with these numbers, one by one, and notes those that were acknowledged.
async fn deliver(
    address: SocketAddr,
    destination: Destination,
    numbers: std::ops::Range<u64>,
    acknowledged: Arc<Mutex<Vec<Entry>>>,
) {
    let mut connection = connect(address).await;
    for number in numbers {
        let entry = pressure(number);
        let request = encode(std::slice::from_ref(&entry), &destination, harness::clock().now()).unwrap();
        let headers: Vec<_> = request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let body = request.body.reveal().clone();
        let Ok(answer) = try_send_over(&mut connection, request.method, &request.path, &headers, body).await else {
            return;
        };
        assert_eq!(answer.status, 201);
        acknowledged.lock().unwrap().push(entry);
    }
}

/// The child: a receiver that says where it listens, until it is killed.
async fn child(folder: &Path) {
    let receiver = Receiver::open(harness::options(folder, harness::clock())).await.unwrap();
    let (entrance, address) = Entrance::loopback("127.0.0.1:0".parse().unwrap()).await.unwrap();
    std::fs::write(folder.join("address"), format!("{address}\n")).unwrap();
    receiver.serve(vec![entrance], std::future::pending()).await.unwrap();
}

async fn spawn(folder: &Path) -> (KilledOnDrop, SocketAddr) {
    let place = folder.join("address");
    let _ = std::fs::remove_file(&place);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let child = KilledOnDrop(child);
    for _ in 0..1_000 {
        let written = std::fs::read_to_string(&place).unwrap_or_default();
        if let Some(address) = written.strip_suffix('\n') {
            return (child, address.parse().unwrap());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the receiver did not start");
}
