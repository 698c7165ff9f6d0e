//! Latency on the links of a private network: a TCP proxy that hands every byte on a fixed time later.
//!
//! Each relay announces a port on which this proxy listens, and itself listens on another one that it doesn't announce.
//! So relays and clients alike dial the proxy, and every link of every circuit gets the delay in each direction. The
//! order of bytes is kept. It needs neither root nor a kernel module (`netem` is missing from many kernels). Directory
//! ports and the way from an onion service to its target aren't delayed.
//!
//! The proxy runs on a thread and a small runtime of its own, so a test with paused time doesn't stop it. Dropping
//! it closes every connection and ends the thread.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The most that is read at once, in bytes.
const CHUNK_BYTES_MAX: usize = 16 * 1024;
/// Chunks under way in one direction of one connection; more makes the sender wait.
const CHUNKS_MAX: usize = 1_024;
/// Connections open through one listener; more wait to be accepted.
const CONNECTIONS_MAX: usize = 512;
/// The pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running proxy with one or more listeners.
#[derive(Debug)]
pub struct DelayProxy {
    delay_ms: Arc<AtomicU32>,
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl DelayProxy {
    /// Listens on the first address of each pair and forwards to the second, `delay_ms` later in each direction.
    ///
    /// # Errors
    /// When a listener can't be opened.
    pub fn start(links: &[(SocketAddr, SocketAddr)], delay_ms: u32) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listeners = runtime.block_on(async {
            let mut listeners = Vec::new();
            for &(listen, target) in links {
                listeners.push((TcpListener::bind(listen).await?, target));
            }
            io::Result::Ok(listeners)
        })?;
        let delay_ms = Arc::new(AtomicU32::new(delay_ms));
        let delay = Arc::clone(&delay_ms);
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            runtime.block_on(async {
                let mut tasks = JoinSet::new();
                for (listener, target) in listeners {
                    tasks.spawn(serve(listener, target, Arc::clone(&delay)));
                }
                // Resolves when the sender is dropped; the tasks go with the set.
                let _dropped = stopped.await;
            });
        };
        let thread = thread::Builder::new().name("lab-delay".to_owned()).spawn(run)?;
        Ok(Self { delay_ms, stop: Some(stop), thread: Some(thread) })
    }

    /// Changes the delay of what is read from now on, in milliseconds for each direction.
    pub fn set_delay_ms(&self, delay_ms: u32) {
        self.delay_ms.store(delay_ms, Ordering::Relaxed);
    }
}

impl Drop for DelayProxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to return; a panic there was printed there.
            let _ended = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, delay_ms: Arc<AtomicU32>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((near, _)) => {
                let delay_ms = Arc::clone(&delay_ms);
                connections.spawn(async move {
                    let _slot = slot;
                    // A broken connection looks to each end like the other's going; there is nobody to tell.
                    let _broken = forward(near, target, delay_ms).await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the delaying proxy could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn forward(near: TcpStream, target: SocketAddr, delay_ms: Arc<AtomicU32>) -> io::Result<()> {
    let far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::try_join!(pump(near_read, far_write, &delay_ms), pump(far_read, near_write, &delay_ms))?;
    Ok(())
}

/// Moves bytes one way; the end of the stream is delayed like the bytes are.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay_ms: &AtomicU32) -> io::Result<()> {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Bytes)>(CHUNKS_MAX);
    let read = async move {
        let mut buffer = vec![0; CHUNK_BYTES_MAX];
        loop {
            let count = from.read(&mut buffer).await?;
            let due = Instant::now() + Duration::from_millis(delay_ms.load(Ordering::Relaxed).into());
            let chunk = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
            if sender.send((due, chunk)).await.is_err() || count == 0 {
                return io::Result::Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = under_way.recv().await {
            tokio::time::sleep_until(due).await;
            if chunk.is_empty() {
                break;
            }
            to.write_all(&chunk).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::io::{Read as _, Write as _};
    use std::net;

    use super::*;
    use crate::lab::ports::{free_ports, loopback};

    fn echo() -> SocketAddr {
        let listener = net::TcpListener::bind(loopback(0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        });
        address
    }

    #[test]
    fn bytes_arrive_whole_in_order_and_late() {
        let near = loopback(free_ports(1).unwrap()[0]);
        let _proxy = DelayProxy::start(&[(near, echo())], 30).unwrap();
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let began = std::time::Instant::now();
        let mut stream = net::TcpStream::connect(near).unwrap();
        stream.write_all(&sent).unwrap();
        stream.shutdown(net::Shutdown::Write).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert!(received == sent);
        assert!(began.elapsed() >= Duration::from_millis(60), "30 ms there and 30 ms back: {:?}", began.elapsed());
    }

    #[test]
    fn dropping_it_closes_its_connections_and_its_listeners() {
        let target = net::TcpListener::bind(loopback(0)).unwrap();
        let near = loopback(free_ports(1).unwrap()[0]);
        let proxy = DelayProxy::start(&[(near, target.local_addr().unwrap())], 0).unwrap();
        let mut stream = net::TcpStream::connect(near).unwrap();
        let _far = target.accept().unwrap();
        drop(proxy);
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "the connection is closed");
        // Another process may have the port by now; whoever has it, nothing is forwarded any more.
        let _whoever = net::TcpStream::connect(near);
        target.set_nonblocking(true).unwrap();
        thread::sleep(Duration::from_millis(100));
        assert_eq!(target.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "nothing is forwarded any more");
    }
}
