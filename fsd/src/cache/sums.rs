//! Checksums of cached blocks: CRC-32 (ISO 3309), as bytes came from the cloud or were first looked at here. Pure.

use std::collections::BTreeMap;

/// The checksum of a block's bytes.
pub(super) fn sum_of(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Checksums of blocks of one version of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Which content they are of.
    content: u64,
    of_blocks: BTreeMap<u64, u32>,
}

impl Sums {
    /// The checksum of `block` of the version `content`, if it is known.
    pub(super) fn get(&self, content: u64, block: u64) -> Option<u32> {
        self.of_blocks.get(&block).filter(|_| content == self.content).copied()
    }

    /// Notes a checksum; those of another version are forgotten.
    pub(super) fn add(&mut self, content: u64, block: u64, sum: u32) {
        if content != self.content {
            *self = Self { content, of_blocks: BTreeMap::new() };
        }
        self.of_blocks.insert(block, sum);
    }

    /// The version, then each block and its checksum, little-endian.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.content.to_le_bytes().to_vec();
        for (block, sum) in &self.of_blocks {
            bytes.extend(block.to_le_bytes());
            bytes.extend(sum.to_le_bytes());
        }
        bytes
    }

    /// What [`Sums::encode`] wrote; none if it is something else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, rest) = bytes.split_first_chunk::<8>()?;
        let (pairs, []) = rest.as_chunks::<12>() else { return None };
        let pair = |pair: &[u8; 12]| {
            let (block, sum) = pair.split_first_chunk::<8>()?;
            Some((u64::from_le_bytes(*block), u32::from_le_bytes(sum.try_into().ok()?)))
        };
        let of_blocks = pairs.iter().map(pair).collect::<Option<_>>()?;
        Some(Self { content: u64::from_le_bytes(*content), of_blocks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_another_version_count_no_more() {
        let mut sums = Sums::default();
        sums.add(1, 0, 7);
        sums.add(1, 9, 8);
        assert_eq!((sums.get(1, 9), sums.get(2, 9), sums.get(1, 5)), (Some(8), None, None));
        assert_eq!(Sums::decode(&sums.encode()), Some(sums.clone()));
        sums.add(2, 5, 6);
        assert_eq!((sums.get(2, 5), sums.get(2, 9)), (Some(6), None));
        assert_eq!(Sums::decode(&[1, 2, 3]), None);
    }

    #[test]
    fn it_is_the_sum_that_others_compute() {
        assert_eq!(sum_of(b"123456789"), 0xcbf4_3926);
    }
}
