//! The one port that devices see. It looks at the version in a client's first packet, keeps the client waiting until the gateway
//! has subscribed, and then passes bytes both ways.

use super::packet_heads::{Connect, NoConnect, PacketHeads, SUBACK};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};

/// Longest that a client may take for the beginning of its first packet.
const FIRST_PACKET_MAX: Duration = Duration::from_secs(5);
/// Most bytes of a first packet that are looked at: the client id comes early.
const FIRST_BYTES_MAX: usize = 4_096;
/// Longest that a client waits for the gateway; then it is let go, unanswered, and tries again.
const GATEWAY_WAIT_MAX: Duration = Duration::from_secs(10);
/// What a client that closed gets for the broker to read its last packets.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// Pause when no connection can be accepted (no file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes that are passed on at a time.
const PASS_BYTES: usize = 16 * 1024;

/// The door.
pub(super) struct FrontDoor {
    /// The broker's listener of MQTT 3.1.1.
    pub v311: SocketAddr,
    /// The broker's listener of MQTT 5.
    pub v5: SocketAddr,
    /// For whose subscription everybody else waits; nobody waits if it is empty.
    pub gateway_client_id: String,
    /// Most clients at once.
    pub clients_max: usize,
}

impl FrontDoor {
    /// Lets clients in, for ever.
    pub async fn serve(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(self.clients_max));
        let (open, _) = watch::channel(self.gateway_client_id.is_empty());
        let (door, open) = (Arc::new(self), Arc::new(open));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok((client, _)) = listener.accept().await else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (door, open) = (Arc::clone(&door), Arc::clone(&open));
            tokio::spawn(async move {
                // How a client's connection ends is the broker's to say.
                let _ = door.pass(client, &open).await;
                drop(place);
            });
        }
    }

    async fn pass(&self, mut client: TcpStream, open: &watch::Sender<bool>) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut first = Vec::with_capacity(256);
        let connect = timeout(FIRST_PACKET_MAX, first_packet(&mut client, &mut first)).await??;
        let is_gateway = connect.client_id == self.gateway_client_id;
        if !is_gateway {
            let mut open = open.subscribe();
            let wait = timeout(GATEWAY_WAIT_MAX, open.wait_for(|open| *open)).await?;
            wait.map_err(io::Error::other)?;
        }
        let mut broker = TcpStream::connect(if connect.level == 5 { self.v5 } else { self.v311 }).await?;
        broker.set_nodelay(true)?;
        broker.write_all(&first).await?;
        let (from_client, to_client) = client.into_split();
        let (from_broker, mut to_broker) = broker.into_split();
        let watched = is_gateway.then_some(open);
        let down = down(from_broker, to_client, watched);
        tokio::pin!(down);
        tokio::select! {
            ended = up(from_client, &mut to_broker) => {
                ended?;
                to_broker.shutdown().await?;
                timeout(LINGER_MAX, down).await?
            }
            ended = &mut down => ended,
        }
    }
}

async fn first_packet(client: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<Connect> {
    loop {
        if client.read_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match Connect::parse(bytes) {
            Ok(connect) => return Ok(connect),
            Err(NoConnect::Incomplete) if bytes.len() < FIRST_BYTES_MAX => {}
            Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

async fn up(mut client: OwnedReadHalf, broker: &mut OwnedWriteHalf) -> io::Result<()> {
    tokio::io::copy(&mut client, broker).await.map(drop)
}

/// From the broker to a client. With `open`, the client is the gateway: its confirmed subscription opens the door.
async fn down(
    mut broker: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    open: Option<&watch::Sender<bool>>,
) -> io::Result<()> {
    let mut heads = PacketHeads::default();
    let mut bytes = vec![0; PASS_BYTES];
    loop {
        let count = broker.read(&mut bytes).await?;
        if count == 0 {
            return client.shutdown().await;
        }
        client.write_all(&bytes[..count]).await?;
        if let Some(open) = open
            && !*open.borrow()
            && heads.sees(&bytes[..count], SUBACK)
        {
            open.send_replace(true);
        }
    }
}
