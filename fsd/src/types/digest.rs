//! What a file's content is, whoever has it: SHA-256 of its bytes; of a file that went up in parts, of its parts' sums.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest;

use super::Metadata;

/// Names the digest in an object's metadata.
pub const NAME: &str = "fsdsha256";

/// The SHA-256 of some bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// That of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::finished(&digest::digest(&digest::SHA256, bytes))
    }

    /// As HTTP headers spell it.
    #[must_use]
    pub fn base64(&self) -> String {
        BASE64.encode(self.0)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The one with these bytes; none if they are not as many.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    fn finished(digest: &digest::Digest) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the content of one version of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Of all bytes, or of the sums of all parts, one behind the other: what S3 calls a composite checksum.
    pub sha256: Sha256,
    /// How long the parts are, all but the last; none if it is of all bytes.
    pub part_bytes: Option<u64>,
}

impl Digest {
    /// That of content that is in one piece.
    #[must_use]
    pub fn whole(sha256: Sha256) -> Self {
        Self { sha256, part_bytes: None }
    }

    /// That of content whose parts, `part_bytes` long, have these sums.
    pub fn of_parts(parts: impl IntoIterator<Item = Sha256>, part_bytes: u64) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        parts.into_iter().for_each(|part| context.update(part.bytes()));
        Self { sha256: Sha256::finished(&context.finish()), part_bytes: Some(part_bytes) }
    }

    /// What an object's metadata says of its content; none if it says nothing, or not so.
    #[must_use]
    pub fn read(metadata: &Metadata) -> Option<Self> {
        let text = metadata.get(NAME)?;
        let (hex, part_bytes) = match text.split_once('-') {
            None => (text.as_str(), None),
            Some((hex, bytes)) => (hex, Some(bytes.parse().ok().filter(|bytes| *bytes > 0)?)),
        };
        Some(Self { sha256: Sha256::from_hex(hex)?, part_bytes })
    }

    /// Says it in an object's metadata.
    pub fn write(&self, metadata: &mut Metadata) {
        metadata.insert(NAME.into(), self.to_string());
    }

    /// 32 bytes, and the parts' length if there are parts, little-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let part_bytes = self.part_bytes.map(u64::to_le_bytes);
        [&self.sha256.0[..], part_bytes.as_ref().map_or(&[], |bytes| &bytes[..])].concat()
    }

    /// What [`Digest::encode`] wrote; none if it is something else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (sha256, rest) = bytes.split_first_chunk::<32>()?;
        let part_bytes = match rest {
            [] => None,
            rest => Some(u64::from_le_bytes(rest.try_into().ok()?)).filter(|bytes| *bytes > 0),
        };
        let decoded = Self { sha256: Sha256(*sha256), part_bytes };
        (rest.is_empty() || part_bytes.is_some()).then_some(decoded)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part_bytes {
            None => self.sha256.fmt(f),
            Some(bytes) => write!(f, "{}-{bytes}", self.sha256),
        }
    }
}

/// Takes the digest of content that comes piece by piece.
#[derive(Debug)]
pub struct Digester {
    part_bytes: Option<u64>,
    /// Bytes of the part under way.
    taken: u64,
    part: Context,
    all: Context,
}

/// `ring`'s shows its state.
struct Context(digest::Context);

impl Context {
    fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Context")
    }
}

impl Digester {
    /// Begins, to be compared with `like`.
    #[must_use]
    pub fn like(like: &Digest) -> Self {
        Self { part_bytes: like.part_bytes, taken: 0, part: Context::new(), all: Context::new() }
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let Some(part_bytes) = self.part_bytes else { return self.all.0.update(bytes) };
        while !bytes.is_empty() {
            let left = usize::try_from(part_bytes - self.taken).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(left.min(bytes.len()));
            self.part.0.update(now);
            self.taken += now.len() as u64;
            if self.taken == part_bytes {
                self.end_part();
            }
            bytes = rest;
        }
    }

    /// The digest of all that was taken in.
    #[must_use]
    pub fn finish(mut self) -> Digest {
        if self.taken > 0 {
            self.end_part();
        }
        Digest { sha256: Sha256::finished(&self.all.0.finish()), part_bytes: self.part_bytes }
    }

    fn end_part(&mut self) {
        let part = std::mem::replace(&mut self.part, Context::new());
        self.all.0.update(part.0.finish().as_ref());
        self.taken = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_digest_that_others_compute() {
        let digest = Digest::whole(Sha256::of(b"abc"));
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), hex);
        assert_eq!(digest.sha256.base64(), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
    }

    #[test]
    fn content_in_pieces_has_the_digest_of_its_parts() {
        let content: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for (part_bytes, piece) in [(100, 7), (100, 100), (100, 333), (1000, 9), (4096, 1000)] {
            let parts = content.chunks(part_bytes).map(Sha256::of);
            let expected = Digest::of_parts(parts, part_bytes as u64);
            let mut digester = Digester::like(&expected);
            content.chunks(piece).for_each(|piece| digester.update(piece));
            assert_eq!(digester.finish(), expected, "{part_bytes} {piece}");
        }
        let whole = Digest::whole(Sha256::of(&content));
        let mut digester = Digester::like(&whole);
        content.chunks(11).for_each(|piece| digester.update(piece));
        assert_eq!(digester.finish(), whole);
    }

    #[test]
    fn it_survives_the_way_to_metadata_and_to_the_store_and_back() {
        let of_parts = Digest::of_parts([Sha256::of(b"a"), Sha256::of(b"b")], 8 << 20);
        for digest in [Digest::whole(Sha256::of(b"x")), of_parts] {
            let mut metadata = Metadata::new();
            digest.write(&mut metadata);
            assert_eq!(Digest::read(&metadata), Some(digest));
            assert_eq!(Digest::decode(&digest.encode()), Some(digest));
        }
        let hex = Sha256::of(b"x").to_string();
        for text in ["", "abc", &hex[1..], &format!("{hex}-"), &format!("{hex}-0"), "ü"] {
            let metadata = Metadata::from([(NAME.into(), text.into())]);
            assert_eq!(Digest::read(&metadata), None, "{text}");
        }
        for bytes in [&[][..], &[1; 31], &[1; 33], &[0; 41]] {
            assert_eq!(Digest::decode(bytes), None);
        }
    }
}
