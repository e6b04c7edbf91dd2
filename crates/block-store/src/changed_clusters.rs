//! Which clusters of a head changed since the last round.
//!
//! What must always hold: a cluster that was pushed is in the next list that is taken; the list stays within
//! twice what it must hold, whatever a client that never flushes does.
//! Left to others: rounds (`flush`).

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::geometry::ClusterIndex;

/// Clusters whose live word may differ from the durable one.
#[derive(Debug, Default)]
pub(crate) struct ChangedClusters {
    list: Mutex<List>,
    /// What the list says of itself, for those who only ask.
    is_round_due: AtomicBool,
}

impl ChangedClusters {
    /// Notes that the word of a cluster was stored.
    pub(crate) fn push(&self, cluster: ClusterIndex) {
        let mut list = self.list.lock();
        list.push(cluster);
        self.tell(&list);
    }

    /// Takes the list, sorted and without doubles.
    pub(crate) fn take(&self) -> Vec<ClusterIndex> {
        let mut list = self.list.lock();
        let taken = list.take();
        self.tell(&list);
        taken
    }

    /// Puts the list of a failed round back.
    pub(crate) fn put_back(&self, taken: Vec<ClusterIndex>) {
        let mut list = self.list.lock();
        list.put_back(taken);
        self.tell(&list);
    }

    /// What changed before no longer matters.
    pub(crate) fn forget(&self) {
        let mut list = self.list.lock();
        *list = List::default();
        self.tell(&list);
    }

    /// Whether so many clusters changed that a round should run though nobody asked for one.
    pub(crate) fn is_round_due(&self) -> bool {
        // Relaxed: a round takes the list under its lock; this only says that it is worth it.
        self.is_round_due.load(Ordering::Relaxed)
    }

    /// Under the lock, so that the last change is what is told.
    fn tell(&self, list: &List) {
        self.is_round_due.store(list.is_due, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct List {
    clusters: Vec<ClusterIndex>,
    /// How long it may become before doubles are looked for.
    bound: usize,
    /// It holds so much that a round should make it short.
    is_due: bool,
}

impl List {
    const SMALLEST_BOUND: usize = 64 << 10;
    /// With the words that a round captures this is 12 MiB, however large the disk is.
    const MOST: usize = 512 << 10;

    fn push(&mut self, cluster: ClusterIndex) {
        self.clusters.push(cluster);
        if self.clusters.len() >= self.bound.max(Self::SMALLEST_BOUND) {
            self.tidy();
            self.is_due = self.clusters.len() >= Self::MOST;
        }
    }

    fn take(&mut self) -> Vec<ClusterIndex> {
        self.tidy();
        std::mem::take(self).clusters
    }

    /// After a failed round: the next one that nobody asked for waits until there is twice as much.
    fn put_back(&mut self, list: Vec<ClusterIndex>) {
        self.clusters.extend(list);
        self.tidy();
        self.is_due = false;
    }

    fn tidy(&mut self) {
        self.clusters.sort_unstable();
        self.clusters.dedup();
        self.bound = 2 * self.clusters.len();
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::geometry::bytes;

    fn fill(list: &mut List, clusters: Range<u64>) {
        clusters.for_each(|cluster| list.push(ClusterIndex(cluster)));
    }

    #[test]
    fn a_list_of_many_clusters_makes_a_round_due_and_one_of_few_never() {
        let most = bytes(List::MOST);
        let mut list = List::default();
        (0..20).for_each(|_| fill(&mut list, 0..most / 8));
        assert!(!list.is_due, "the same few clusters, however often they change");
        fill(&mut list, 0..most);
        assert!(list.is_due);
        assert!(list.clusters.capacity() <= 2 * List::MOST);
        let taken = list.take();
        assert!(!list.is_due && list.clusters.capacity() == 0, "nothing of it is kept");
        list.put_back(taken);
        fill(&mut list, most..most + 1000);
        assert!(!list.is_due, "a round that failed is not tried again at once");
        fill(&mut list, most..3 * most);
        assert!(list.is_due);
    }
}
