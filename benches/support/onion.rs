//! A way to an onion service without a Tor network: a SOCKS5 port, as a system tor has it, behind which every name is one server
//! on loopback. It notes the ids of the events that pass to that server. Its threads end with the process.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};
use tidegate::lab::ports::loopback;
use tidegate_schemas::onion::OnionAddress;

/// How an event's id begins in the JSON of the format `cloudevents-batch`.
const MARK: &[u8] = b"\"id\":\"";
/// Characters of an id.
const ID: usize = 36;

type Seen = Arc<Mutex<HashMap<Vec<u8>, u64>>>;

/// The SOCKS port.
pub struct FakeTor {
    socks: SocketAddr,
    seen: Seen,
}

impl FakeTor {
    /// In front of `target`.
    pub fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(loopback(0)).expect("a SOCKS port");
        let socks = listener.local_addr().expect("its address");
        let seen = Seen::default();
        let noted = Arc::clone(&seen);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let noted = Arc::clone(&noted);
                // A gateway that was killed breaks its connections: that is what this is for.
                thread::spawn(move || serve(near, target, &noted));
            }
        });
        Self { socks, seen }
    }

    /// Where it listens.
    pub fn socks(&self) -> SocketAddr {
        self.socks
    }

    /// An address that looks like an onion service's.
    pub fn onion() -> String {
        OnionAddress::from_public_key([7; 32]).reveal()
    }

    /// How many events were sent, and how many different ones.
    pub fn passed(&self) -> (u64, u64) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.values().sum(), seen.len() as u64)
    }
}

fn serve(mut near: TcpStream, target: SocketAddr, seen: &Seen) -> io::Result<()> {
    near.set_nodelay(true)?;
    // The methods, of which the password is taken; then user and password; then the name, which is always right.
    let methods = read_counted(&mut near, 1)?;
    if !methods.contains(&2) {
        return near.write_all(&[5, 0xff]);
    }
    near.write_all(&[5, 2])?;
    let (_user, _password) = (read_counted(&mut near, 1)?, read_counted(&mut near, 0)?);
    near.write_all(&[1, 0])?;
    let (_name, mut port) = (read_counted(&mut near, 4)?, [0; 2]);
    near.read_exact(&mut port)?;
    let mut far = TcpStream::connect(target)?;
    far.set_nodelay(true)?;
    near.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0])?;
    let (mut near_too, mut far_too) = (near.try_clone()?, far.try_clone()?);
    thread::spawn(move || {
        // The server's end of it; whichever ends first ends both.
        let _broken = io::copy(&mut far_too, &mut near_too);
        let _gone = near_too.shutdown(Shutdown::Both);
    });
    let (mut buffer, mut tail) = (vec![0; 64 * 1024], Vec::new());
    while let Ok(count @ 1..) = near.read(&mut buffer) {
        // Noted before it is passed on: what the server may have had counts, whether or not it answered.
        note(&mut tail, &buffer[..count], seen);
        far.write_all(&buffer[..count])?;
    }
    far.shutdown(Shutdown::Both)
}

/// Skips `before` bytes, less the one that counts, and reads what that one says.
fn read_counted(stream: &mut TcpStream, before: usize) -> io::Result<Vec<u8>> {
    let mut head = vec![0; before + 1];
    stream.read_exact(&mut head)?;
    let mut counted = vec![0; usize::from(head[before])];
    stream.read_exact(&mut counted)?;
    Ok(counted)
}

/// Notes the ids in what passes; `tail` is the end of what passed before, in which one may have begun.
fn note(tail: &mut Vec<u8>, bytes: &[u8], seen: &Seen) {
    tail.extend(bytes);
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let mut from = 0;
    while let Some(at) = tail[from..].windows(MARK.len()).position(|window| window == MARK) {
        let id = from + at + MARK.len();
        if tail.len() < id + ID {
            from += at;
            break;
        }
        *seen.entry(tail[id..id + ID].to_vec()).or_default() += 1;
        from = id + ID;
    }
    // What can't be the beginning of a mark is done with.
    let begun = tail[from..].starts_with(MARK);
    let done = if begun { from } else { from.max(tail.len().saturating_sub(MARK.len() - 1)) };
    tail.drain(..done);
}

/// Checks that no id is missed or counted twice, wherever the pieces are cut.
pub fn check_noting() {
    let id = |number: u32| format!("00000000-0000-4000-8000-{number:012}");
    let text = format!("[{{\"id\":\"{}\",\"data\":\"1\"}},{{\"id\":\"{}\"}},{{\"id\":\"{}\"}}]", id(1), id(2), id(1));
    for piece in 1..text.len() {
        let (seen, mut tail) = (Seen::default(), Vec::new());
        text.as_bytes().chunks(piece).for_each(|bytes| note(&mut tail, bytes, &seen));
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |number| seen.get(id(number).as_bytes()).copied();
        assert_eq!((seen.len(), count(1), count(2)), (2, Some(2), Some(1)), "in pieces of {piece} bytes");
    }
}
