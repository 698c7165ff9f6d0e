//! Randomness, injected so that a run can be replayed.

/// A source of random numbers; cryptographically strong in production.
pub trait Entropy: Send + Sync + 'static {
    /// Fills the slice.
    fn fill(&self, bytes: &mut [u8]);

    /// A number from 0 (included) to 1 (not).
    fn unit(&self) -> f64 {
        let mut bytes = [0_u8; 8];
        self.fill(&mut bytes);
        // 53 bits are what an f64 holds.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
        let unit = (u64::from_le_bytes(bytes) >> 11) as f64 / (1_u64 << 53) as f64;
        unit
    }

    /// A random 64-bit number.
    fn number(&self) -> u64 {
        let mut bytes = [0_u8; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// 16 random bytes.
    fn bytes16(&self) -> [u8; 16] {
        let mut bytes = [0_u8; 16];
        self.fill(&mut bytes);
        bytes
    }
}
