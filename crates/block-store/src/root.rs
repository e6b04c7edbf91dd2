//! The root of a layer: one hash over its size and all it reads as.
//!
//! A tree of fan-out 256 over the clusters' hashes; the disk is taken as padded with zeros to a
//! full tree. Hashes of all-zero subtrees are known beforehand, so the cost is that of the
//! clusters that hold something.
//!
//! ```text
//! cluster hash = blake3(64 KiB as read, padded with zeros past the end)
//! node         = blake3(256 child hashes)
//! root         = blake3("reinit root 1" | size u64 | hash of the one top node)
//! ```
//! What must always hold: equal size and content give an equal root, however it is layered.
//! Left to others: where cluster hashes are kept (`hash_table`), making them (`hashing`).

use std::sync::LazyLock;

use block_device::{ByteLength, ByteOffset, CLUSTER};

use crate::{
    geometry::{bytes, index},
    id::Root,
};

const FAN_OUT: u64 = 256;
static ZEROS: [u8; index(CLUSTER)] = [0; index(CLUSTER)];

/// The hashes of subtrees of zeros by their height: of a cluster, of a node over 256 of them, and so on,
/// higher than any disk's tree. Made once: each reset of an empty disk tells its root.
static ZERO_SUBTREES: LazyLock<[ClusterHash; 8]> = LazyLock::new(|| {
    let mut hashes = [*blake3::hash(&ZEROS).as_bytes(); 8];
    for height in 1..hashes.len() {
        hashes[height] = node(&[], &hashes[height - 1]);
    }
    hashes
});

/// The hash of one cluster as it reads.
pub(crate) type ClusterHash = [u8; 32];

/// The hash of a cluster; `content` may end early, where the disk does.
pub(crate) fn hash_cluster(content: &[u8]) -> ClusterHash {
    if content.len() == ZEROS.len() {
        return *blake3::hash(content).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(content).update(&ZEROS[content.len()..]);
    *hasher.finalize().as_bytes()
}

/// The root of a layer of `size` bytes whose clusters, but for those given, are zeros.
/// `clusters` is sorted by cluster.
pub(crate) fn root_of(size: u64, clusters: impl IntoIterator<Item = (u64, ClusterHash)>) -> Root {
    let mut tree = RootTree::new(size);
    clusters.into_iter().for_each(|(cluster, hash)| tree.add(cluster, hash));
    tree.finish()
}

/// The tree while its leaves come in, in order; of each level it holds the children of one node.
#[derive(Debug)]
pub(crate) struct RootTree {
    size: u64,
    /// From the leaves up to the top.
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    /// The hash of a subtree of zeros.
    zero: ClusterHash,
    /// Children of the same node.
    open: Vec<(u64, ClusterHash)>,
}

impl RootTree {
    pub(crate) fn new(size: u64) -> Self {
        let mut width = size.div_ceil(CLUSTER);
        let mut levels = Vec::new();
        loop {
            levels.push(Level { zero: ZERO_SUBTREES[levels.len()], open: Vec::new() });
            if width <= 1 && levels.len() > 1 {
                return Self { size, levels };
            }
            width = width.div_ceil(FAN_OUT);
        }
    }

    /// The next cluster that holds something.
    pub(crate) fn add(&mut self, cluster: u64, hash: ClusterHash) {
        if hash != self.levels[0].zero {
            self.add_to(0, cluster, hash);
        }
    }

    fn add_to(&mut self, level: usize, place: u64, hash: ClusterHash) {
        let is_of_next = |(first, _): &(u64, _)| first / FAN_OUT != place / FAN_OUT;
        if self.levels[level].open.first().is_some_and(is_of_next) {
            self.close(level);
        }
        self.levels[level].open.push((place, hash));
    }

    /// Hashes the children of one node into it.
    fn close(&mut self, level: usize) {
        let Level { zero, open } = &mut self.levels[level];
        if let Some((first, _)) = open.first() {
            let (place, hash) = (first / FAN_OUT, node(open, zero));
            open.clear();
            self.add_to(level + 1, place, hash);
        }
    }

    pub(crate) fn finish(mut self) -> Root {
        let top = self.levels.len() - 1;
        (0..top).for_each(|level| self.close(level));
        let Level { zero, open } = &self.levels[top];
        let top = open.first().map_or(zero, |(_, hash)| hash);
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"reinit root 1").update(&self.size.to_le_bytes()).update(top);
        Root::from_bytes(*hasher.finalize().as_bytes())
    }
}

/// The root of content that is read piece by piece, by whoever holds it against a layer's.
#[derive(Debug)]
pub struct ContentRoot {
    size: ByteLength,
    tree: RootTree,
}

impl ContentRoot {
    /// Of so many bytes, which are zeros where nothing is added.
    pub fn new(size: ByteLength) -> Self {
        Self { size, tree: RootTree::new(size.get()) }
    }

    /// Adds a piece: whole clusters, except at the end; in the order of the disk. What lies past
    /// the size does not count.
    ///
    /// # Panics
    /// If the piece does not begin a cluster.
    pub fn add(&mut self, offset: ByteOffset, content: &[u8]) {
        assert!(offset.get().is_multiple_of(CLUSTER), "a piece begins a cluster");
        let held = self.size.get().saturating_sub(offset.get()).min(bytes(content.len()));
        let clusters = content[..index(held)].chunks(index(CLUSTER));
        for (cluster, content) in (offset.get() / CLUSTER..).zip(clusters) {
            if content.iter().any(|byte| *byte != 0) {
                self.tree.add(cluster, hash_cluster(content));
            }
        }
    }

    /// The root.
    pub fn finish(self) -> Root {
        self.tree.finish()
    }
}

/// The hash of 256 children, those not given being zero subtrees.
fn node(children: &[(u64, ClusterHash)], zero: &ClusterHash) -> ClusterHash {
    let mut hasher = blake3::Hasher::new();
    let mut next = 0;
    for (child, hash) in children {
        for _ in next..child % FAN_OUT {
            hasher.update(zero);
        }
        hasher.update(hash);
        next = child % FAN_OUT + 1;
    }
    for _ in next..FAN_OUT {
        hasher.update(zero);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zero_cluster() -> ClusterHash {
        *blake3::hash(&ZEROS).as_bytes()
    }

    /// The definition, without any shortcut.
    fn plain(size: u64, content: impl Fn(u64) -> ClusterHash) -> Root {
        let mut level: Vec<_> = (0..size.div_ceil(CLUSTER)).map(content).collect();
        let mut zero = zero_cluster();
        loop {
            level.resize(level.len().next_multiple_of(256), zero);
            let hash = |nodes: &[ClusterHash]| *blake3::hash(&nodes.concat()).as_bytes();
            level = level.chunks(256).map(hash).collect();
            zero = hash(&[zero; 256]);
            if level.len() == 1 {
                break;
            }
        }
        let text = [&b"reinit root 1"[..], &size.to_le_bytes(), &level[0]].concat();
        Root::from_bytes(*blake3::hash(&text).as_bytes())
    }

    #[test]
    fn the_sparse_root_is_the_plain_one() {
        let mark = hash_cluster(b"something");
        for (clusters, set) in [
            (1, vec![0]),
            (256, vec![3]),
            (257, vec![0, 256]),
            (65_536, vec![0, 65_535]),
            (70_000, vec![1, 255, 256, 65_535, 65_536, 69_999]),
            (300, vec![]),
            (300, (0..300).collect()),
        ] {
            let size = clusters * CLUSTER;
            let sparse = root_of(size, set.iter().map(|cluster| (*cluster, mark)));
            let full = plain(size, |c| if set.contains(&c) { mark } else { zero_cluster() });
            assert_eq!(sparse, full, "{clusters} clusters, {set:?} set");
        }
    }

    #[test]
    fn content_read_in_pieces_has_the_root_of_the_whole() {
        let size = CLUSTER * 3 + 512;
        let mut content = ContentRoot::new(ByteLength::new(size));
        content.add(ByteOffset::ZERO, &[0; 2 * index(CLUSTER)]);
        // The last piece is longer than what counts.
        content.add(ByteOffset::new(CLUSTER * 3), &[5; 4096]);
        assert_eq!(content.finish(), root_of(size, [(3, hash_cluster(&[5; 512]))]));
        assert_eq!(ContentRoot::new(ByteLength::new(size)).finish(), root_of(size, []));
    }

    #[test]
    fn a_stored_cluster_of_zeros_changes_nothing_but_the_size_does() {
        let stored = root_of(CLUSTER * 4, [(2, hash_cluster(&ZEROS))]);
        assert_eq!(stored, root_of(CLUSTER * 4, []));
        assert_ne!(stored, root_of(CLUSTER * 4 - 512, []));
        assert_eq!(hash_cluster(&ZEROS[..512]), zero_cluster());
    }
}
