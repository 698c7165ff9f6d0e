//! Devices as a load: MQTT 3.1.1 at QoS 1, written by hand, because the load must cost little beside what it is a load for.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Packet ids that are used, one after the other: many more than are ever under way.
const PACKET_IDS: u64 = 60_000;
/// The longest that the broker may keep a device waiting.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// One device with its connection. It publishes at QoS 1 on one topic.
pub struct Device {
    stream: TcpStream,
    topic: String,
    /// Of acknowledgements: a read may end in the middle of one.
    unread: Vec<u8>,
    published: u64,
    acknowledged: u64,
}

impl Device {
    /// Connects as the client of this name.
    pub fn connect(broker: SocketAddr, client_id: &str, topic: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(broker)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        // Protocol name and level, a clean session, no keep-alive.
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0];
        push_text(&mut body, client_id);
        stream.write_all(&packet(0x10, &body))?;
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting)?;
        if greeting != [0x20, 2, 0, 0] {
            return Err(io::Error::other(format!("the broker refused a device: {greeting:?}")));
        }
        Ok(Self { stream, topic: topic.to_owned(), unread: Vec::new(), published: 0, acknowledged: 0 })
    }

    /// How many it has published, and how many of them the broker has acknowledged.
    pub fn counts(&self) -> (u64, u64) {
        (self.published, self.acknowledged)
    }

    /// Publishes these bodies in one write.
    pub fn publish<'a>(&mut self, bodies: impl IntoIterator<Item = &'a [u8]>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for body in bodies {
            let id = u16::try_from(self.published % PACKET_IDS + 1).unwrap_or(1);
            let mut rest = Vec::with_capacity(self.topic.len() + body.len() + 4);
            push_text(&mut rest, &self.topic);
            rest.extend(id.to_be_bytes());
            rest.extend(body);
            bytes.extend(packet(0x32, &rest));
            self.published += 1;
        }
        self.stream.write_all(&bytes)
    }

    /// Waits for at least one acknowledgement.
    pub fn await_some(&mut self) -> io::Result<()> {
        let before = self.acknowledged;
        let mut buffer = [0; 4_096];
        while self.acknowledged == before {
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.unread.extend(&buffer[..count]);
            let whole = self.unread.len() / 4 * 4;
            for answer in self.unread[..whole].chunks(4) {
                if answer[..2] != [0x40, 2] {
                    return Err(io::Error::other(format!("no acknowledgement: {answer:?}")));
                }
                self.acknowledged += 1;
            }
            self.unread.drain(..whole);
        }
        Ok(())
    }

    /// Waits until all that was published is acknowledged.
    pub fn await_all(&mut self) -> io::Result<()> {
        while self.acknowledged < self.published {
            self.await_some()?;
        }
        Ok(())
    }

    /// Publishes so many bodies of so many bytes, with at most `window` under way to the broker.
    pub fn publish_many(&mut self, count: u64, body_bytes: usize, window: u64) -> io::Result<()> {
        let last = self.published + count;
        while self.acknowledged < last {
            let more = (last - self.published).min(window.saturating_sub(self.published - self.acknowledged));
            let bodies: Vec<String> =
                (self.published..self.published + more).map(|number| format!("{number:0body_bytes$}")).collect();
            if !bodies.is_empty() {
                self.publish(bodies.iter().map(String::as_bytes))?;
            }
            self.await_some()?;
        }
        Ok(())
    }
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(u16::try_from(text.len()).expect("a short text").to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// A packet with its kind and its length.
fn packet(kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    let mut left = rest.len();
    loop {
        let digit = u8::try_from(left % 128).expect("below 128");
        left /= 128;
        bytes.push(if left > 0 { digit | 0x80 } else { digit });
        if left == 0 {
            break;
        }
    }
    bytes.extend(rest);
    bytes
}
