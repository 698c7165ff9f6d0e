//! A small client for tor's control port (control-spec): enough to learn ports, add client keys and await events.
//!
//! The port is the node's own choice (`ControlPort auto`), which it writes to a file; the authentication cookie lies
//! beside it. A TCP port and not a Unix socket, because a socket's path may have no more than 107 bytes, and test
//! folders are deep. Every read has a deadline.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;

/// The file to which a node writes its control port's address, in its data folder.
pub const PORT_FILE: &str = "control_port";
/// The file with the authentication cookie, in the node's data folder.
pub const COOKIE_FILE: &str = "control_auth_cookie";

/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The longest line that is read, in bytes (a circuit's status line has some hundred).
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// The most lines of one answer.
const ANSWER_LINES_MAX: usize = 10_000;
/// Events that are kept while an answer is awaited; older ones are dropped.
const EVENTS_MAX: usize = 1_000;

/// An authenticated connection to a node's control port.
#[derive(Debug)]
pub struct Control {
    reader: BufReader<TcpStream>,
    events: VecDeque<String>,
}

impl Control {
    /// Connects to the node whose data lies in `folder`.
    ///
    /// # Errors
    /// When the node hasn't written its port yet, doesn't answer, or refuses the cookie.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let written = std::fs::read_to_string(folder.join(PORT_FILE))?;
        let address: SocketAddr = written
            .trim()
            .strip_prefix("PORT=")
            .and_then(|address| address.parse().ok())
            .ok_or_else(|| io::Error::other("the control port's file has no address yet"))?;
        let cookie = std::fs::read(folder.join(COOKIE_FILE))?;
        let stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
        stream.set_nodelay(true)?;
        let mut control = Self { reader: BufReader::new(stream), events: VecDeque::new() };
        control.ask(&format!("AUTHENTICATE {}", HEXLOWER.encode(&cookie)))?;
        Ok(control)
    }

    /// Sends one command and returns the lines of the answer without their status codes.
    ///
    /// # Errors
    /// When the node refuses the command (the answer is in the error) or doesn't answer in time.
    pub fn ask(&mut self, command: &str) -> io::Result<Vec<String>> {
        self.reader.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        let deadline = Instant::now() + ANSWER_LIMIT;
        let mut lines = Vec::new();
        loop {
            let line = self.read_line(deadline)?;
            let (code, rest) = line.split_at_checked(3).ok_or_else(|| malformed(&line))?;
            let (mark, text) = rest.split_at_checked(1).ok_or_else(|| malformed(&line))?;
            if code == "650" {
                self.keep_event(text);
                continue;
            }
            lines.push(text.to_owned());
            if mark == "+" {
                self.read_data(&mut lines, deadline)?;
            }
            if lines.len() > ANSWER_LINES_MAX {
                return Err(io::Error::other("an answer of the control port has too many lines"));
            }
            if mark == " " {
                // 25x: done. The command may hold a key, so the error quotes the answer only.
                return if code.starts_with("25") { Ok(lines) } else { Err(io::Error::other(line)) };
            }
        }
    }

    /// The value of one `GETINFO` key: what follows `key=` on the first line, or the data lines.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), or when the answer lacks the key.
    pub fn info(&mut self, key: &str) -> io::Result<String> {
        let lines = self.ask(&format!("GETINFO {key}"))?;
        let value = lines.first().and_then(|line| line.strip_prefix(key)?.strip_prefix('='));
        let value = value.ok_or_else(|| io::Error::other(format!("the control port's answer lacks {key}")))?;
        // The last line is the "OK" of the end.
        let data = lines.get(1..lines.len() - 1).unwrap_or_default();
        Ok(if data.is_empty() { value.to_owned() } else { data.join("\n") })
    }

    /// The next event that was subscribed to (`SETEVENTS`), or `None` at the deadline.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn next_event(&mut self, deadline: Instant) -> io::Result<Option<String>> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        match self.read_line(deadline) {
            Ok(line) => Ok(Some(line.get(4..).unwrap_or_default().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn keep_event(&mut self, text: &str) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(text.to_owned());
    }

    /// Reads the lines of a data block up to its lone full stop.
    fn read_data(&mut self, lines: &mut Vec<String>, deadline: Instant) -> io::Result<()> {
        while lines.len() <= ANSWER_LINES_MAX {
            let line = self.read_line(deadline)?;
            if line == "." {
                break;
            }
            lines.push(line);
        }
        Ok(())
    }

    fn read_line(&mut self, deadline: Instant) -> io::Result<String> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.reader.get_ref().set_read_timeout(Some(left))?;
        let mut line = String::new();
        // A time-out in the middle of a line would lose its beginning; on loopback a line arrives in one piece.
        let read = io::Read::take(&mut self.reader, LINE_BYTES_MAX).read_line(&mut line);
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            Err(error) => Err(error),
        }
    }
}

fn malformed(line: &str) -> io::Error {
    io::Error::other(format!("the control port sent a malformed line of {} bytes", line.len()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A real listener that answers as tor was seen to answer.
    fn answering(answers: &'static [&'static str]) -> (tempfile::TempDir, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(PORT_FILE), format!("PORT={}\n", listener.local_addr().unwrap())).unwrap();
        std::fs::write(folder.path().join(COOKIE_FILE), [0xab, 0xcd]).unwrap();
        let server = thread::spawn(move || {
            let mut reader = BufReader::new(listener.accept().unwrap().0);
            let mut asked = Vec::new();
            for answer in answers {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                asked.push(line.trim_end().to_owned());
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        (folder, server)
    }

    #[test]
    fn answers_data_and_events_are_told_apart() {
        let (folder, server) = answering(&[
            "250 OK\r\n",
            "250-net/listeners/socks=\"127.0.0.1:15000\"\r\n250 OK\r\n",
            "650 HS_DESC UPLOADED x\r\n250+circuit-status=\r\n1 BUILT\r\n2 BUILT\r\n.\r\n250 OK\r\n",
            "552 Unrecognized option\r\n",
        ]);
        let mut control = Control::open(folder.path()).unwrap();
        assert_eq!(control.info("net/listeners/socks").unwrap(), "\"127.0.0.1:15000\"");
        assert_eq!(control.info("circuit-status").unwrap(), "1 BUILT\n2 BUILT");
        let soon = Instant::now() + Duration::from_secs(1);
        assert_eq!(control.next_event(soon).unwrap().unwrap(), "HS_DESC UPLOADED x");
        assert!(control.ask("SETCONF Nonsense").unwrap_err().to_string().contains("552"));
        assert_eq!(server.join().unwrap()[0], "AUTHENTICATE abcd");
    }

    #[test]
    fn no_event_until_the_deadline_is_none() {
        let (folder, server) = answering(&["250 OK\r\n", "250 OK\r\n"]);
        let mut control = Control::open(folder.path()).unwrap();
        assert_eq!(control.next_event(Instant::now() + Duration::from_millis(20)).unwrap(), None);
        control.ask("SETEVENTS").unwrap();
        server.join().unwrap();
    }
}
