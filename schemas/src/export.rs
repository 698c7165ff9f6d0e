//! The export file: everything that an outbox holds, as a stream that any store of any version can read again.
//!
//! Its form, numbers big-endian (also in `docs/custody.md`):
//!
//! | bytes | what |
//! |---|---|
//! | 16 | `TIDEGATE-OUTBOX` and a line end |
//! | u32, text | length and JSON of the [`Header`] |
//! | u32, key, u32, value, u32 | a pair: length of the key (from 1), the key, length of the value, the value, CRC-32 of all that |
//! | u32 | 0: no more pairs |
//! | u64 | how many pairs there were |
//! | 32 | SHA-256 of all before |
//!
//! Pairs come in the order of their keys; keys and values are those of [`crate::record`], so that [`Header::layout`] says how to read
//! them. A file that is cut short, or in which a bit has changed, is told as such before anything is taken from it: read it through
//! first, then again. It holds the bodies of all messages, so it is as secret as the outbox itself.

use crate::record::{LAYOUT, VALUE_BYTES_MAX};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::io::{self, Read, Write};

/// Version of the form.
pub const FORMAT: u32 = 1;
const MAGIC: &[u8; 16] = b"TIDEGATE-OUTBOX\n";
/// Largest header, in bytes.
const HEADER_BYTES_MAX: u32 = 64 * 1_024;
/// Largest key, in bytes.
const KEY_BYTES_MAX: u32 = 1_024;

/// What stands at the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// [`LAYOUT`] of the records.
    pub layout: u32,
    /// Program that wrote it, with its version.
    pub written_by: String,
    /// When, in milliseconds since 1970.
    pub written_ms: i64,
}

/// Why a file can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Input failed.
    #[error("it could not be read: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("it is no export of an outbox")]
    NotOurs,
    /// A later program wrote it.
    #[error(
        "it has format {format} with records of layout {layout}, this program reads format {FORMAT} with layout {LAYOUT}: use the program that wrote it, or a later one"
    )]
    Version {
        /// Its [`Header::format`].
        format: u32,
        /// Its [`Header::layout`].
        layout: u32,
    },
    /// It ends too early.
    #[error("it is cut short, after {pairs} whole records")]
    CutShort {
        /// Whole pairs before its end.
        pairs: u64,
    },
    /// A bit has changed.
    #[error("it is damaged, after {pairs} whole records")]
    Damaged {
        /// Whole pairs before the damage.
        pairs: u64,
    },
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Writes an export.
pub struct Exporter<W> {
    to: W,
    hasher: Sha256,
    pairs: u64,
}

impl<W: Write> Exporter<W> {
    /// Begins one.
    ///
    /// # Errors
    /// When output fails.
    pub fn begin(to: W, header: &Header) -> io::Result<Self> {
        let mut this = Self { to, hasher: Sha256::new(), pairs: 0 };
        let text = serde_json::to_vec(header)?;
        this.put(MAGIC)?;
        this.put(&length(&text)?.to_be_bytes())?;
        this.put(&text)?;
        Ok(this)
    }

    /// The next pair.
    ///
    /// # Errors
    /// When output fails, or the pair is larger than a store takes.
    pub fn pair(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let mut framed = Vec::with_capacity(key.len() + value.len() + 12);
        framed.extend_from_slice(&length(key)?.to_be_bytes());
        framed.extend_from_slice(key);
        framed.extend_from_slice(&length(value)?.to_be_bytes());
        framed.extend_from_slice(value);
        framed.extend_from_slice(&crc32fast::hash(&framed).to_be_bytes());
        self.pairs += 1;
        self.put(&framed)
    }

    /// Ends it; how many pairs it has, and where they went. Making it durable is the caller's.
    ///
    /// # Errors
    /// When output fails.
    pub fn end(mut self) -> io::Result<(u64, W)> {
        self.put(&0_u32.to_be_bytes())?;
        let pairs = self.pairs;
        self.put(&pairs.to_be_bytes())?;
        self.to.write_all(&self.hasher.finalize())?;
        self.to.flush()?;
        Ok((pairs, self.to))
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.to.write_all(bytes)
    }
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Reads an export, pair by pair.
pub struct Importer<R> {
    from: R,
    hasher: Sha256,
    pairs: u64,
    /// What stands at its beginning.
    pub header: Header,
}

impl<R: Read> Importer<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// When it is no export, or one that this program can't read.
    pub fn begin(from: R) -> Result<Self, ExportError> {
        let header = Header { format: 0, layout: 0, written_by: String::new(), written_ms: 0 };
        let mut this = Self { from, hasher: Sha256::new(), pairs: 0, header };
        let mut magic = [0; MAGIC.len()];
        this.take(&mut magic).map_err(|_| ExportError::NotOurs)?;
        if &magic != MAGIC {
            return Err(ExportError::NotOurs);
        }
        let text = this.bytes(HEADER_BYTES_MAX)?.ok_or(ExportError::NotOurs)?;
        this.header = serde_json::from_slice(&text).map_err(|_| ExportError::Damaged { pairs: 0 })?;
        let Header { format, layout, .. } = this.header;
        if (format, layout) != (FORMAT, LAYOUT) {
            return Err(ExportError::Version { format, layout });
        }
        Ok(this)
    }

    /// The next pair; none at the end, whose checksum is right then.
    ///
    /// # Errors
    /// When it is cut short or damaged.
    pub fn next_pair(&mut self) -> Result<Option<Pair>, ExportError> {
        let Some(key) = self.bytes(KEY_BYTES_MAX)? else { return self.check_end().map(|()| None) };
        let value = self.bytes(u32::try_from(VALUE_BYTES_MAX).unwrap_or(u32::MAX))?.unwrap_or_default();
        let mut checksum = crc32fast::Hasher::new();
        for part in [&key, &value] {
            checksum.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            checksum.update(part);
        }
        let mut found = [0; 4];
        self.take(&mut found)?;
        if found != checksum.finalize().to_be_bytes() {
            return Err(self.damaged());
        }
        self.pairs += 1;
        Ok(Some((key, value)))
    }

    fn check_end(&mut self) -> Result<(), ExportError> {
        let mut pairs = [0; 8];
        self.take(&mut pairs)?;
        let wanted = self.hasher.clone().finalize();
        let mut found = [0; 32];
        self.from.read_exact(&mut found).map_err(|error| self.ended(error))?;
        let is_whole = u64::from_be_bytes(pairs) == self.pairs && found[..] == wanted[..];
        if is_whole { Ok(()) } else { Err(self.damaged()) }
    }

    /// Bytes with their length before them; none for a length of 0.
    fn bytes(&mut self, most: u32) -> Result<Option<Vec<u8>>, ExportError> {
        let mut length = [0; 4];
        self.take(&mut length)?;
        match u32::from_be_bytes(length) {
            0 => Ok(None),
            length if length > most => Err(self.damaged()),
            length => {
                let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
                self.take(&mut bytes)?;
                Ok(Some(bytes))
            }
        }
    }

    fn take(&mut self, into: &mut [u8]) -> Result<(), ExportError> {
        self.from.read_exact(into).map_err(|error| self.ended(error))?;
        self.hasher.update(into);
        Ok(())
    }

    fn ended(&self, error: io::Error) -> ExportError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => ExportError::CutShort { pairs: self.pairs },
            _ => ExportError::Io(error),
        }
    }

    fn damaged(&self) -> ExportError {
        ExportError::Damaged { pairs: self.pairs }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header { format: FORMAT, layout: LAYOUT, written_by: "tidegate 0".into(), written_ms: 7 }
    }

    fn written(pairs: &[Pair]) -> Vec<u8> {
        let mut exporter = Exporter::begin(Vec::new(), &header()).unwrap();
        for (key, value) in pairs {
            exporter.pair(key, value).unwrap();
        }
        let (count, bytes) = exporter.end().unwrap();
        assert_eq!(count, pairs.len() as u64);
        bytes
    }

    type Pairs = Vec<Pair>;

    fn read(bytes: &[u8]) -> Result<Pairs, ExportError> {
        let mut importer = Importer::begin(bytes)?;
        let mut pairs = Vec::new();
        while let Some(pair) = importer.next_pair()? {
            pairs.push(pair);
        }
        Ok(pairs)
    }

    fn any_pairs() -> impl Strategy<Value = Pairs> {
        let bytes = |range| prop::collection::vec(any::<u8>(), range);
        prop::collection::vec((bytes(1..20), bytes(0..60)), 0..12)
    }

    #[test]
    fn another_format_or_layout_is_named_and_something_else_is_no_export() {
        let later = Header { layout: LAYOUT + 1, ..header() };
        let (_, bytes) = Exporter::begin(Vec::new(), &later).unwrap().end().unwrap();
        assert!(matches!(read(&bytes), Err(ExportError::Version { format: FORMAT, layout }) if layout == LAYOUT + 1));
        for other in [&b""[..], b"{}", b"TIDEGATE-OUTBOY\n aaaaaaaaaa"] {
            assert!(matches!(read(other), Err(ExportError::NotOurs)));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(pairs in any_pairs()) {
            prop_assert_eq!(read(&written(&pairs)).unwrap(), pairs);
        }

        #[test]
        fn a_cut_or_a_flipped_bit_anywhere_is_found(pairs in any_pairs(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let bytes = written(&pairs);
            let at = at.index(bytes.len());
            prop_assert!(read(&bytes[..at]).is_err());
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            prop_assert!(read(&flipped).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&[&MAGIC[..], &bytes].concat());
        }
    }
}
