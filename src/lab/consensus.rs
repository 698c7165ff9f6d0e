//! Fetching a network's consensus from an authority, and reading from it what readiness needs.
//!
//! A client that starts before the consensus holds every relay goes into a back-off of tens of seconds. So the lab asks
//! each authority's directory port, by plain HTTP as tor's directory protocol has it, and waits until all of them
//! answer with a document that is valid now and lists every relay as running (dir-spec, "consensus-microdesc").

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// The largest answer that is read, in bytes (ours are a few thousand).
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Where an authority serves the microdescriptor consensus.
const CONSENSUS_PATH: &str = "/tor/status-vote/current/consensus-microdesc";

/// A relay as a consensus lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayEntry {
    /// Its nickname.
    pub nickname: String,
    /// The port that other relays and clients connect to.
    pub or_port: u16,
    /// The flags that the authorities voted for it.
    pub flags: Vec<String>,
}

impl RelayEntry {
    /// Whether circuits and onion service descriptors may use it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        ["Running", "Valid", "Fast", "Stable", "Guard", "HSDir"]
            .iter()
            .all(|wanted| self.flags.iter().any(|flag| flag == wanted))
    }
}

/// What the lab reads from a consensus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consensus {
    /// From when it holds.
    pub valid_after: Timestamp,
    /// Until when it holds.
    pub valid_until: Timestamp,
    /// Every relay in it.
    pub relays: Vec<RelayEntry>,
}

impl Consensus {
    /// Reads a consensus document; `None` when a required part is missing or malformed.
    #[must_use]
    pub fn parse(document: &str) -> Option<Self> {
        let moment = |keyword: &str| {
            let line = document.lines().find_map(|line| line.strip_prefix(keyword)?.strip_prefix(' '))?;
            line.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
        };
        let mut relays = Vec::new();
        for line in document.lines() {
            if let Some(rest) = line.strip_prefix("r ") {
                // nickname, identity, date, time, address, OR port, directory port
                let mut words = rest.split(' ');
                let nickname = words.next()?.to_owned();
                let or_port = words.nth(4)?.parse().ok()?;
                relays.push(RelayEntry { nickname, or_port, flags: Vec::new() });
            } else if let Some(rest) = line.strip_prefix("s ") {
                relays.last_mut()?.flags = rest.split(' ').map(str::to_owned).collect();
            }
        }
        Some(Self { valid_after: moment("valid-after")?, valid_until: moment("valid-until")?, relays })
    }

    /// Whether it holds at `now` and lists a usable relay for each of these OR ports.
    #[must_use]
    pub fn is_complete(&self, or_ports: &[u16], now: Timestamp) -> bool {
        self.valid_until > now
            && or_ports.iter().all(|&port| self.relays.iter().any(|relay| relay.or_port == port && relay.is_usable()))
    }
}

/// Asks a directory port for the present consensus.
///
/// # Errors
/// When the port can't be reached in time, or answers anything but a consensus (it has none yet).
pub fn fetch(directory: SocketAddr, limit: Duration) -> io::Result<Consensus> {
    let mut stream = TcpStream::connect_timeout(&directory, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    write!(stream, "GET {CONSENSUS_PATH} HTTP/1.0\r\nAccept-Encoding: identity\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or("none");
    if status != "200" {
        return Err(io::Error::other(format!("the directory port answered with status {status}")));
    }
    Consensus::parse(body).ok_or_else(|| io::Error::other("the directory port's answer isn't a consensus"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const DOCUMENT: &str = "network-status-version 3 microdesc\nvote-status consensus\n\
        valid-after 2026-08-21 12:00:05\nfresh-until 2026-08-21 12:00:10\nvalid-until 2026-08-21 12:00:20\n\
        r auth0 AAAAAAAAAAAAAAAAAAAAAAAAAAA 2038-01-01 00:00:00 127.0.0.1 15001 15002\n\
        m abcdef\ns Authority Exit Fast Guard HSDir Running Stable V2Dir Valid\nv Tor 0.4.9.11\n\
        r auth1 BBBBBBBBBBBBBBBBBBBBBBBBBBB 2038-01-01 00:00:00 127.0.0.1 15003 15004\n\
        s Authority Running Valid\n";

    #[test]
    fn relays_flags_and_times_are_read() {
        let consensus = Consensus::parse(DOCUMENT).unwrap();
        assert_eq!(consensus.valid_until, "2026-08-21T12:00:20Z".parse().unwrap());
        assert_eq!(consensus.valid_after, "2026-08-21T12:00:05Z".parse().unwrap());
        let ports: Vec<_> = consensus.relays.iter().map(|r| (r.nickname.as_str(), r.or_port, r.is_usable())).collect();
        assert_eq!(ports, [("auth0", 15001, true), ("auth1", 15003, false)]);
    }

    #[test]
    fn completeness_asks_for_every_relay_and_the_time() {
        let consensus = Consensus::parse(DOCUMENT).unwrap();
        let during = "2026-08-21T12:00:19Z".parse().unwrap();
        let after = "2026-08-21T12:00:20Z".parse().unwrap();
        assert!(consensus.is_complete(&[15001], during));
        assert!(!consensus.is_complete(&[15001], after), "it has expired");
        assert!(!consensus.is_complete(&[15001, 15003], during), "one lacks a flag");
        assert!(!consensus.is_complete(&[15001, 15005], during), "one is missing");
    }

    #[test]
    fn what_is_no_consensus_is_refused() {
        for document in ["", "valid-after 2026-08-21 12:00:05\n", &DOCUMENT.replace("15001", "fifteen"), "s Running\n"]
        {
            assert_eq!(Consensus::parse(document), None, "{document}");
        }
    }
}
