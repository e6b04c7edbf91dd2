//! The blocks of a chain in as many sparse files, read by plain system calls: the least that a
//! read can cost when the bytes lie in many files.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

use super::chain::{Chain, STRETCH};

/// One file for each layer, and which of them holds each block.
pub(super) struct PlainFiles {
    files: Vec<File>,
    owners: Vec<usize>,
}

impl PlainFiles {
    pub(super) fn make(folder: &Path, chain: Chain) -> anyhow::Result<Self> {
        let mut owners = vec![0; usize::try_from(STRETCH / 4096)?];
        let mut files = Vec::new();
        for (number, writes) in chain.writes().into_iter().enumerate() {
            let file = tempfile::tempfile_in(folder)?;
            for (start, length) in writes {
                file.write_all_at(&vec![1; usize::try_from(length)?], start)?;
                let blocks =
                    usize::try_from(start / 4096)?..usize::try_from((start + length) / 4096)?;
                // What lies far away is never read.
                if let Some(owners) = owners.get_mut(blocks) {
                    owners.fill(number);
                }
            }
            files.push(file);
        }
        Ok(Self { files, owners })
    }

    /// Reads the block at this offset.
    pub(super) fn read(&self, block: &mut [u8], offset: u64) -> anyhow::Result<()> {
        let owner = self.owners[usize::try_from(offset / 4096)?];
        Ok(self.files[owner].read_exact_at(block, offset)?)
    }
}
