//! Reads the heads of MQTT packets in a stream of bytes, and nothing more of them: enough for the door to tell versions apart
//! and to see the gateway's subscription confirmed (MQTT 5, sections 2.1 and 3.1).

/// Packet type of CONNECT.
pub(super) const CONNECT: u8 = 1;
/// Packet type of SUBACK.
pub(super) const SUBACK: u8 = 9;

/// Follows a stream from packet to packet.
#[derive(Debug, Default)]
pub(super) struct PacketHeads {
    skip: usize,
    kind: Option<u8>,
    length: usize,
    shift: u32,
}

impl PacketHeads {
    /// Whether a packet of this type begins in these bytes, which follow those of the call before.
    pub fn sees(&mut self, mut bytes: &[u8], wanted: u8) -> bool {
        let mut seen = false;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let Some((&byte, rest)) = bytes.split_first() else { break };
            bytes = rest;
            match self.kind {
                None => self.kind = Some(byte >> 4),
                Some(kind) => {
                    self.length |= usize::from(byte & 0x7f) << self.shift;
                    self.shift += 7;
                    if byte & 0x80 == 0 || self.shift > 21 {
                        seen |= kind == wanted;
                        *self = Self { skip: self.length, ..Self::default() };
                    }
                }
            }
        }
        seen
    }
}

/// What the door needs of a client's first packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Connect {
    /// Protocol level: 4 is MQTT 3.1.1, 5 is MQTT 5.
    pub level: u8,
    pub client_id: String,
}

/// Why a first packet says nothing (yet).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoConnect {
    /// More bytes are needed.
    Incomplete,
    /// It is no CONNECT of MQTT.
    Foreign,
}

impl Connect {
    /// Reads the beginning of a client's first packet.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoConnect> {
        let mut reader = Reader(bytes);
        if reader.byte()? >> 4 != CONNECT {
            return Err(NoConnect::Foreign);
        }
        reader.number()?;
        if reader.text()? != b"MQTT" {
            return Err(NoConnect::Foreign);
        }
        let level = reader.byte()?;
        // Flags and keep-alive.
        reader.take(3)?;
        if level == 5 {
            let properties = reader.number()?;
            reader.take(properties)?;
        }
        let client_id = String::from_utf8(reader.text()?.to_vec()).map_err(|_| NoConnect::Foreign)?;
        Ok(Self { level, client_id })
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], NoConnect> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(NoConnect::Incomplete)?;
        self.0 = rest;
        Ok(taken)
    }
    fn byte(&mut self) -> Result<u8, NoConnect> {
        Ok(self.take(1)?[0])
    }
    /// A variable byte integer (MQTT 5, section 1.5.5).
    fn number(&mut self) -> Result<usize, NoConnect> {
        let mut number = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(NoConnect::Foreign)
    }
    /// Bytes behind their length.
    fn text(&mut self) -> Result<&'a [u8], NoConnect> {
        let length = self.take(2)?;
        self.take(usize::from(u16::from_be_bytes([length[0], length[1]])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn connect(level: u8, properties: &[u8], client_id: &str) -> Vec<u8> {
        let mut rest = vec![0, 4, b'M', b'Q', b'T', b'T', level, 0, 0, 30];
        rest.extend_from_slice(properties);
        rest.extend([0, u8::try_from(client_id.len()).unwrap_or(0)]);
        rest.extend_from_slice(client_id.as_bytes());
        let mut packet = vec![0x10, u8::try_from(rest.len()).unwrap_or(0)];
        packet.extend(rest);
        packet
    }

    #[test]
    fn the_version_and_the_client_id_are_found() {
        let parsed = |level, client_id: &str| Ok(Connect { level, client_id: client_id.to_owned() });
        assert_eq!(Connect::parse(&connect(4, &[], "esp32")), parsed(4, "esp32"));
        assert_eq!(Connect::parse(&connect(5, &[5, 0x11, 0, 0, 0, 9], "gateway")), parsed(5, "gateway"));
        let whole = connect(5, &[0], "gateway");
        for cut in 0..whole.len() {
            assert_eq!(Connect::parse(&whole[..cut]), Err(NoConnect::Incomplete), "{cut}");
        }
        assert_eq!(Connect::parse(b"GET / HTTP/1.1\r\n"), Err(NoConnect::Foreign));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Connect::parse(&bytes);
            let _ = PacketHeads::default().sees(&bytes, SUBACK);
        }

        #[test]
        fn a_suback_is_seen_wherever_the_stream_is_cut(before in 0_usize..300, cut in 0_usize..1_000, there: bool) {
            let mut stream = vec![0x20, 3, 0, 0, 0, 0x30];
            stream.extend([u8::try_from(before & 0x7f | if before > 127 { 0x80 } else { 0 }).unwrap_or(0)]);
            if before > 127 {
                stream.push(u8::try_from(before >> 7).unwrap_or(0));
            }
            // A body full of what looks like a SUBACK.
            stream.extend(std::iter::repeat_n(0x90, before));
            if there {
                stream.extend([0x90, 3, 0, 1, 1]);
            }
            let (first, second) = stream.split_at(cut.min(stream.len()));
            let mut heads = PacketHeads::default();
            let seen = [heads.sees(first, SUBACK), heads.sees(second, SUBACK)];
            prop_assert_eq!(seen.contains(&true), there);
        }
    }
}
