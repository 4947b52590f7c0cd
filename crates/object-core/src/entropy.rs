//! Randomness as an argument.
//!
//! A shell draws one seed per input from the platform's generator; everything random that a core needs is derived from it. The same
//! seed gives the same bytes, which is what makes a simulated run repeatable.

use crate::ReplyTo;
use sha2::Digest;
use sha2::Sha256;

/// A stream of random bytes: SHA-256 over a secret seed and a counter.
pub struct Entropy {
    seed: [u8; 32],
    drawn: u64,
}

impl Entropy {
    /// The stream that belongs to `seed`, which must come from a cryptographic generator (or, in a test, from anywhere).
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed, drawn: 0 }
    }

    /// The next 32 bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.seed);
        hash.update(self.drawn.to_le_bytes());
        self.drawn = self.drawn.wrapping_add(1);
        hash.finalize().into()
    }

    /// A secret of 256 bits, as 64 hex digits.
    pub fn secret(&mut self) -> String {
        hex(&self.bytes())
    }

    /// A random UUID (version 4).
    pub fn uuid(&mut self) -> String {
        let bits = self.number();
        let bits = bits & !(0xf_u128 << 76) | (4 << 76);
        let bits = bits & !(0b11_u128 << 62) | (0b10 << 62);
        let digits = format!("{bits:032x}");
        let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| digits.get(range).unwrap_or_default());
        groups.join("-")
    }

    /// A ULID: sorts by time, unique by 80 random bits.
    pub fn ulid(&mut self, now_ms: i64) -> String {
        let time = u128::from(now_ms.unsigned_abs()) << 80;
        base(time | self.number() >> 48, 32, 26)
    }

    /// An id in the agent server's own form: 12 hex digits of `ms * 4096`, inverted for sessions so that newer ones sort
    /// first, then 14 base-62 digits (spec/session.md 3.8, spec/kilo.md 4).
    fn kilo_id(&mut self, stamp: u64) -> String {
        format!("{:012x}{}", stamp & 0xffff_ffff_ffff, base(self.number(), 62, 14))
    }

    /// A session id of the agent server: `ses_…`, 30 characters.
    pub fn kilo_session_id(&mut self, now_ms: i64) -> String {
        format!("ses_{}", self.kilo_id(!now_ms.unsigned_abs().wrapping_mul(4096)))
    }

    /// A message id of the agent server: `msg_…`, 30 characters.
    pub fn message_id(&mut self, now_ms: i64) -> String {
        format!("msg_{}", self.kilo_id(now_ms.unsigned_abs().wrapping_mul(4096)))
    }

    /// A number for a caller that will wait.
    pub fn reply_to(&mut self) -> ReplyTo {
        ReplyTo(i64::try_from(self.number() & ((1 << 52) - 1)).unwrap_or_default())
    }

    fn number(&mut self) -> u128 {
        let [head, _] = halves(self.bytes());
        u128::from_le_bytes(head)
    }
}

/// What is stored of a secret.
pub fn sha256_hex(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// Compares without telling by its duration where two texts differ.
pub fn constant_time_eq(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

fn halves(bytes: [u8; 32]) -> [[u8; 16]; 2] {
    let mut parts = [[0; 16]; 2];
    for (part, chunk) in parts.iter_mut().zip(bytes.chunks_exact(16)) {
        part.copy_from_slice(chunk);
    }
    parts
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The last `length` digits of `number` in Crockford's base 32 or in base 62.
fn base(mut number: u128, radix: u8, length: usize) -> String {
    const CROCKFORD: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let alphabet = if radix == 32 { CROCKFORD } else { BASE62 };
    let mut digits = Vec::with_capacity(length);
    for _ in 0..length {
        let digit = usize::try_from(number.checked_rem(radix.into()).unwrap_or_default()).unwrap_or_default();
        digits.push(char::from(alphabet.get(digit).copied().unwrap_or(b'0')));
        number = number.checked_div(radix.into()).unwrap_or_default();
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::ExecutionId;
    use protocol::id::KiloSessionId;
    use protocol::id::MessageId;
    use protocol::id::SessionId;

    fn entropy() -> Entropy {
        Entropy::from_seed([7; 32])
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_never_the_same_twice() {
        let (mut a, mut b) = (entropy(), entropy());
        assert_eq!(a.secret(), b.secret());
        assert_ne!(a.secret(), entropy().secret());
    }

    #[test]
    fn generated_ids_parse() {
        let now = 1_795_234_294_369;
        assert!(SessionId::parse(&format!("agent_{}", entropy().uuid())).is_ok());
        assert!(ExecutionId::parse(&format!("exc_{}", entropy().ulid(now))).is_ok());
        assert!(KiloSessionId::parse(&entropy().kilo_session_id(now)).is_ok());
        assert!(MessageId::parse(&entropy().message_id(now)).is_ok());
        let uuid = entropy().uuid();
        assert_eq!((uuid.as_bytes()[14], b"89ab".contains(&uuid.as_bytes()[19])), (b'4', true));
    }

    #[test]
    fn a_later_kilo_session_sorts_before_an_earlier_one_and_a_later_ulid_after() {
        assert!(entropy().kilo_session_id(2_000_000) < entropy().kilo_session_id(1_000_000));
        assert!(entropy().ulid(2_000_000) > entropy().ulid(1_000_000));
        assert!(entropy().ulid(1_795_234_294_369).starts_with("01M"));
    }

    #[test]
    fn comparison_is_by_content() {
        assert!(constant_time_eq("abc", "abc"));
        assert!(!constant_time_eq("abc", "abd"));
        assert!(!constant_time_eq("abc", "ab"));
        assert_eq!(sha256_hex("abc").get(..8), Some("ba7816bf"));
    }
}
