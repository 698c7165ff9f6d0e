//! A TCP relay in front of a receiver that notes when the receiver's answers pass. Its threads end with the process.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};
use tidegate::lab::ports::loopback;

/// A running tap.
pub struct Tap {
    address: SocketAddr,
    answered: Arc<Mutex<Option<Instant>>>,
}

impl Tap {
    /// In front of `target`.
    pub fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(loopback(0)).expect("a port for the tap");
        let address = listener.local_addr().expect("the tap's address");
        let answered = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&answered);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(target) else { continue };
                for stream in [&near, &far] {
                    stream.set_nodelay(true).expect("no delay");
                }
                let (near_too, far_too) = (near.try_clone().expect("a stream"), far.try_clone().expect("a stream"));
                let noted = Arc::clone(&noted);
                thread::spawn(move || relay(near, far, || {}));
                thread::spawn(move || relay(far_too, near_too, || note(&noted)));
            }
        });
        Self { address, answered }
    }

    /// Where the onion service forwards to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forgets the last answer.
    pub fn arm(&self) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// When the first answer since [`Tap::arm`] passed.
    pub fn answered(&self) -> Option<Instant> {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(answered: &Mutex<Option<Instant>>) {
    answered.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
}

fn relay(mut from: TcpStream, mut to: TcpStream, passing: impl Fn()) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        passing();
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // The other direction may go on.
    let _gone = to.shutdown(Shutdown::Write);
}
