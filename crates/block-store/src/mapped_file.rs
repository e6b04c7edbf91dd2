//! The one place where files are mapped into memory; the only unsafe code of the workspace.
//!
//! What must always hold
//! 1. Every access is a bounds-checked atomic load or store of an aligned 8-byte word: no
//!    reference into the mapping is ever handed out, so changes underneath are not undefined
//!    behaviour.
//! 2. A mapping is private (copy-on-write) or read-only: it never changes the file.
//! 3. The file is at least as long as the mapping when it is made, and is never shortened while
//!    mapped (the store's lock keeps other processes away, and the store only lets files grow).
//! 4. Before a page is trusted it is populated, which reports an I/O error instead of a signal.
//!
//! Left to others: what the words mean (`cluster_map`). A page that the kernel dropped under
//! memory pressure is read again at the next access; a device that fails just then still ends the
//! process with SIGBUS. Bulk data is never mapped; it goes through system calls.
#![expect(unsafe_code, reason = "mapping a file is unsafe; the proof is in this file")]

use std::{
    fs::File,
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use memmap2::{Advice, MmapOptions, MmapRaw};

/// Words of a file, mapped.
#[derive(Debug)]
pub(crate) struct MappedWords {
    map: MmapRaw,
    writable: bool,
}

impl MappedWords {
    /// The first `length` bytes of the file as private memory: stores stay in this process.
    pub(crate) fn private(file: &File, length: usize) -> io::Result<Self> {
        check_length(file, length)?;
        // SAFETY: `map_copy` demands that nobody changes the file in a way that breaks the
        // slices it hands out. We turn it into a raw map at once and never make a slice: all
        // access is atomic (invariant 1), so a change of the file is only a change of values.
        // No swap is reserved: a map is as long as its disk is large, and mostly never touched.
        let map = unsafe { MmapOptions::new().len(length).no_reserve_swap().map_copy(file)? };
        Self::read_without_guessing(map.into(), true)
    }

    /// The first `length` bytes of the file, read-only and shared with the page cache.
    pub(crate) fn read_only(file: &File, length: usize) -> io::Result<Self> {
        check_length(file, length)?;
        let map = MmapOptions::new().len(length).map_raw_read_only(file)?;
        Self::read_without_guessing(map, false)
    }

    /// A page holds the words of 31 MiB of disk, so its neighbours are seldom wanted next, and most
    /// of them are holes: reading ahead would fill memory with zeros.
    fn read_without_guessing(map: MmapRaw, writable: bool) -> io::Result<Self> {
        map.advise(Advice::Random)?;
        Ok(Self { map, writable })
    }

    /// The word at this byte offset.
    ///
    /// Acquire; pairs with the Release of `store`: who sees a word sees the data written before.
    pub(crate) fn load(&self, offset: usize) -> u64 {
        u64::from_le(self.word(offset).load(Ordering::Acquire))
    }

    /// Changes the word at this byte offset in this process's view.
    pub(crate) fn store(&self, offset: usize, word: u64) {
        assert!(self.writable, "a sealed layer never changes");
        self.word(offset).store(word.to_le(), Ordering::Release);
    }

    /// Reads the pages of these bytes in; an I/O error is told, not signalled.
    pub(crate) fn populate(&self, offset: usize, length: usize) -> io::Result<()> {
        let start = offset / 4096 * 4096;
        let length = (offset + length).min(self.map.len()) - start;
        self.map.advise_range(Advice::PopulateRead, start, length)
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8), "words are aligned");
        assert!(offset + 8 <= self.map.len(), "inside the mapping");
        // SAFETY: the two assertions above: `offset` is inside the mapping, which lives as long
        // as `self`.
        let word = unsafe { self.map.as_mut_ptr().add(offset) };
        // SAFETY: the pointer is aligned (a mapping starts at a page, the offset is a multiple of
        // 8) and valid for `self`'s life. All access of this process is atomic. Read-only maps
        // are only loaded from (`store` asserts `writable`), and a relaxed-or-acquire load of 8
        // bytes from read-only memory is a plain load on every 64-bit target we build for.
        unsafe { AtomicU64::from_ptr(word.cast()) }
    }
}

fn check_length(file: &File, length: usize) -> io::Result<()> {
    let held = file.metadata()?.len();
    if held < u64::try_from(length).expect("64-bit") {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is cut short"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_private_store_never_reaches_the_file() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let words = MappedWords::private(&file, 8192).unwrap();
        words.store(4096, 7);
        assert_eq!(words.load(4096), 7);
        let mut bytes = [1; 8];
        file.read_exact_at(&mut bytes, 4096).unwrap();
        assert_eq!(bytes, [0; 8]);
    }

    #[test]
    fn a_file_that_is_cut_short_is_told() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        assert!(MappedWords::private(&file, 8192).is_err());
        assert!(MappedWords::read_only(&file, 8192).is_err());
    }

    #[test]
    #[should_panic(expected = "inside the mapping")]
    fn no_word_lies_past_the_end() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        MappedWords::read_only(&file, 4096).unwrap().load(4096);
    }
}
