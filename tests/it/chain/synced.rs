//! No acknowledgement leaves before its message is on the disk: the system calls of the real gateway, behind a real broker.

use super::{
    intake::CLOSED,
    stage::{Options, Place, Stage, TRACE},
};
use crate::strace::{self, Call};
use std::{collections::BTreeSet, fs, net::SocketAddr, path::Path};

const DEVICES: usize = 4;
/// Messages of one device: the first of them wait at the broker when the gateway comes, and are one burst.
const MESSAGES: usize = 15;
const WAITING: usize = 8;
/// Whole buffers, so that each packet and each body can be seen.
const CALLS: &[&str] = &[
    "-yy",
    "-s",
    "2000000",
    "-e",
    "trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,pwritev,fdatasync,fsync",
];

fn marker(device: usize, number: usize) -> String {
    format!("systolic pressure of bed {device}, number {number}.")
}

#[test]
fn each_puback_leaves_after_the_sync_of_its_message() {
    // No Tor: nothing is delivered.
    let more = format!("[tor]\ntransport = \"socks\"\nsocks = \"127.0.0.1:1\"\n{CLOSED}");
    let mut stage = Stage::start(Options { place: Place::Nowhere, more, ..Options::default() });
    stage.stop_gateway();
    let bodies = |device| (0..MESSAGES).map(|number| marker(device, number)).collect::<Vec<_>>();
    let publish = |stage: &Stage, range: std::ops::Range<usize>| {
        let publishing = |device| stage.publish("ward", &format!("bed-{device}"), &bodies(device)[range.clone()]);
        let children: Vec<_> = (0..DEVICES).map(publishing).collect();
        children.into_iter().for_each(|mut child| assert!(child.wait().unwrap().success()));
    };
    publish(&stage, 0..WAITING);
    stage.options.traced = CALLS;
    stage.start_gateway();
    let queued = |wanted: usize| move |stage: &Stage| (stage.account("queued") == wanted as u64).then_some(());
    stage.wait_for("custody of the burst", queued(DEVICES * WAITING));
    publish(&stage, WAITING..MESSAGES);
    let all = DEVICES * MESSAGES;
    stage.wait_for("the last acknowledgement", |stage| {
        (stage.broker_log().matches("Received PUBACK from").count() == all).then_some(())
    });
    stage.wait_for("custody of all", queued(all));
    stage.stop_gateway();

    let trace = fs::read_to_string(stage.file(TRACE)).unwrap();
    let (broker, data) = (stage.broker.address(), stage.file("state/outbox/db").canonicalize().unwrap());
    let calls = strace::calls(&trace);
    let seen = check(&calls, broker, &data).unwrap();
    let markers: BTreeSet<String> = (0..DEVICES).flat_map(bodies).collect();
    assert_eq!((seen.len(), seen.iter().map(|ack| ack.body.clone()).collect::<BTreeSet<_>>()), (all, markers));
    // They came in groups, and there was more than one.
    let syncs: BTreeSet<usize> = seen.iter().map(|ack| ack.synced).collect();
    assert!((2..all).contains(&syncs.len()), "{} syncs", syncs.len());

    // The check can fail. Without syncs:
    let lines: Vec<&str> = trace.lines().collect();
    let of_sync = |call: &&Call| call.is_sync() && call.is_of(&data);
    let of_sync: BTreeSet<usize> = calls.iter().filter(of_sync).flat_map(|call| [call.began, call.ended]).collect();
    let fault = |lines: Vec<&str>| check(&strace::calls(&lines.join("\n")), broker, &data).err().unwrap();
    let said = fault((0..lines.len()).filter(|at| !of_sync.contains(at)).map(|at| lines[at]).collect());
    assert!(said.contains("was not synced"), "{said}");
    // With those between the last acknowledgement and its write put behind it:
    let last = seen.iter().max_by_key(|ack| ack.sent.start).unwrap();
    let too_late: Vec<usize> = of_sync.range(last.written..last.sent.start).copied().collect();
    let kept = |range: std::ops::Range<usize>| range.filter(|at| !too_late.contains(at));
    let order = kept(0..last.sent.end).chain(too_late.clone()).chain(kept(last.sent.end..lines.len()));
    let said = fault(order.map(|at| lines[at]).collect());
    assert!(said.contains("was not synced"), "{said}");
    // With syncs that failed:
    let failed: Vec<String> = (0..lines.len())
        .map(|at| match lines[at].strip_suffix(" = 0") {
            Some(call) if of_sync.contains(&at) => format!("{call} = -1 EIO (Input/output error)"),
            _ => lines[at].to_owned(),
        })
        .collect();
    let said = fault(failed.iter().map(String::as_str).collect());
    assert!(said.contains("was not synced"), "{said}");
    // With bodies that were written elsewhere:
    let said = check(&calls, broker, &data.with_file_name("other")).err().unwrap();
    assert!(said.contains("was not written"), "{said}");
}

/// An acknowledgement that was found in order.
struct Ack {
    body: String,
    /// The line on which the write of its message ended, and the one on which a sync of that did.
    written: usize,
    synced: usize,
    /// The lines of the call that sent it.
    sent: std::ops::Range<usize>,
}

/// Reads a trace: for each PUBACK on a connection to the broker, the publication of its packet id came before; its body was then
/// written to the data file; and a sync of that file began after this write, and returned 0 before the PUBACK began to be sent.
fn check(calls: &[Call], broker: SocketAddr, data: &Path) -> Result<Vec<Ack>, String> {
    let is_write = |call: &&Call| call.name.starts_with("pwrite") && call.is_of(data);
    let writes: Vec<(&Call, Vec<u8>)> = calls.iter().filter(is_write).map(|call| (call, call.bytes())).collect();
    let is_done = |call: &&Call| call.is_sync() && call.is_of(data) && call.result == Some(0);
    let syncs: Vec<&Call> = calls.iter().filter(is_done).collect();
    let to_broker = format!("->{broker}]>");
    let connections: BTreeSet<&str> =
        calls.iter().map(|call| call.first.as_str()).filter(|first| first.ends_with(&to_broker)).collect();
    let mut acks = Vec::new();
    for connection in connections {
        let stream = |names: &[&str]| {
            let is_its = |call: &&Call| call.first == connection && names.contains(&call.name.as_str());
            Stream::of(calls.iter().filter(is_its))
        };
        let received = stream(&["read", "readv", "recvfrom", "recvmsg"]);
        let sent = stream(&["write", "writev", "sendto", "sendmsg"]);
        let publications: Vec<Publication> = received.packets().filter_map(|packet| publication(&packet)).collect();
        for packet in sent.packets().filter(|packet| packet.kind == PUBACK) {
            let id = u16::from_be_bytes([packet.rest[0], packet.rest[1]]);
            let what = format!("the PUBACK of {id} at line {}", packet.first.began);
            let before = |publication: &&Publication| publication.id == id && publication.received < packet.first.began;
            let publication =
                publications.iter().rfind(before).ok_or_else(|| format!("{what}: no publication came before"))?;
            let body = String::from_utf8_lossy(&publication.body).into_owned();
            let has_body = |(write, bytes): &&(&Call, Vec<u8>)| {
                write.began > publication.received && holds(bytes, &publication.body)
            };
            let write = writes.iter().find(has_body).filter(|(write, _)| write.ended < packet.first.began);
            let (write, _) = write.ok_or_else(|| format!("{what}: {body:?} was not written before"))?;
            let is_between = |sync: &&&Call| write.ended < sync.began && sync.ended < packet.first.began;
            let sync =
                syncs.iter().find(is_between).ok_or_else(|| format!("{what}: {body:?} was not synced before"))?;
            acks.push(Ack {
                body,
                written: write.ended,
                synced: sync.ended,
                sent: packet.first.began..packet.first.ended + 1,
            });
        }
    }
    Ok(acks)
}

fn holds(bytes: &[u8], body: &[u8]) -> bool {
    bytes.windows(body.len()).any(|window| window == body)
}

/// One direction of a connection.
struct Stream<'c> {
    bytes: Vec<u8>,
    /// Each call, and where its bytes end.
    calls: Vec<(usize, &'c Call)>,
}

/// A packet of MQTT.
struct Packet<'s> {
    /// The first byte: kind and flags.
    kind: u8,
    /// What is behind the length.
    rest: &'s [u8],
    /// The calls with its first byte and with its last one.
    first: &'s Call,
    last: &'s Call,
}

struct Publication {
    id: u16,
    body: Vec<u8>,
    /// The line on which the last of it was read.
    received: usize,
}

const PUBACK: u8 = 0x40;
const PUBLISH: u8 = 0x30;

impl<'c> Stream<'c> {
    fn of(its_calls: impl Iterator<Item = &'c Call>) -> Self {
        let (mut bytes, mut calls) = (Vec::new(), Vec::new());
        for call in its_calls {
            bytes.extend(call.bytes());
            calls.push((bytes.len(), call));
        }
        Self { bytes, calls }
    }

    fn call_at(&self, place: usize) -> &'c Call {
        self.calls[self.calls.partition_point(|(end, _)| *end <= place)].1
    }

    fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (length, head) = length(self.bytes.get(at + 1..)?)?;
            let (begin, end) = (at + 1 + head, at + 1 + head + length);
            let rest = self.bytes.get(begin..end)?;
            let (kind, first, last) = (self.bytes[at], self.call_at(at), self.call_at(end - 1));
            at = end;
            Some(Packet { kind, rest, first, last })
        })
    }
}

/// A length as MQTT writes it, and how many bytes that takes.
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (place, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, place + 1));
        }
    }
    None
}

/// The publication in a packet of MQTT 5, if it is one at QoS 1.
fn publication(packet: &Packet<'_>) -> Option<Publication> {
    if packet.kind & 0xf6 != PUBLISH | 2 {
        return None;
    }
    let topic = usize::from(u16::from_be_bytes([packet.rest[0], packet.rest[1]]));
    let behind = &packet.rest[2 + topic..];
    let (properties, head) = length(&behind[2..])?;
    let body = behind[2 + head + properties..].to_vec();
    Some(Publication { id: u16::from_be_bytes([behind[0], behind[1]]), body, received: packet.last.ended })
}
