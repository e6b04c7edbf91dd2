//! What each sector was told to hold, and when: the judge of a snapshot that was taken in the midst of it.
//!
//! What must always hold: the writes of one sector come one after another, each begun when the one before it was
//! answered; between its two moments a write may have happened or not.

use tests::reference_model::Stamp;

/// A place in the order of all that was handed in and answered.
pub(crate) type Moment = u64;

/// One write of one sector.
#[derive(Clone, Copy, Debug)]
struct Change {
    stamp: Stamp,
    begun: Moment,
    answered: Moment,
}

/// The changes of every sector of a disk, in order.
pub(crate) struct History {
    sectors: Vec<Vec<Change>>,
}

impl History {
    /// Zeros from before the first moment on.
    pub(crate) fn of(sectors: usize) -> Self {
        Self { sectors: vec![vec![Change { stamp: 0, begun: 0, answered: 0 }]; sectors] }
    }

    pub(crate) fn add(&mut self, sector: usize, stamp: Stamp, begun: Moment, answered: Moment) {
        let changes = &mut self.sectors[sector];
        assert!(changes.last().is_some_and(|last| last.answered <= begun), "one at a time");
        changes.push(Change { stamp, begun, answered });
    }

    pub(crate) fn last(&self) -> Vec<Stamp> {
        self.sectors.iter().map(|changes| changes.last().unwrap().stamp).collect()
    }

    /// The moments between two at which every sector may have read as what was found; nothing else is a snapshot.
    pub(crate) fn moments_of(&self, found: &[Stamp], from: Moment, to: Moment) -> Vec<Moment> {
        assert_eq!(found.len(), self.sectors.len());
        let length = usize::try_from(to - from + 1).unwrap();
        let place = |moment: Moment| usize::try_from(moment.clamp(from, to + 1) - from).unwrap();
        // How many sectors more, or fewer, allow a moment than the one before it.
        let mut steps = vec![0_i64; length + 1];
        for (changes, stamp) in self.sectors.iter().zip(found) {
            // Zeros upon zeros are the same from both: a moment counts once.
            let mut counted = 0;
            for (nth, change) in changes.iter().enumerate().filter(|(_, it)| it.stamp == *stamp) {
                let next = changes.get(nth + 1).map_or(to + 1, |next| next.answered);
                let (first, end) = (place(change.begun).max(counted), place(next));
                if first < end {
                    steps[first] += 1;
                    steps[end] -= 1;
                    counted = end;
                }
            }
        }
        let all = i64::try_from(found.len()).unwrap();
        let allowing = steps.iter().scan(0, |sum, step| {
            *sum += step;
            Some(*sum)
        });
        (from..=to).zip(allowing).filter(|(_, allow)| *allow == all).map(|(at, _)| at).collect()
    }
}

#[test]
fn a_snapshot_is_one_moment_and_no_mixture_of_two() {
    let mut history = History::of(2);
    history.add(0, 11, 10, 20);
    history.add(1, 12, 30, 40);
    history.add(0, 0, 50, 60);
    history.add(0, 0, 70, 80);
    let is = |found: [Stamp; 2], moments: std::ops::Range<Moment>| {
        assert_eq!(history.moments_of(&found, 1, 100), moments.collect::<Vec<_>>(), "{found:?}");
    };
    // It may have happened from when it begins and need not until it is answered.
    is([0, 0], 1..20);
    is([11, 0], 10..40);
    is([11, 12], 30..60);
    // Zeros upon zeros.
    is([0, 12], 50..101);
    is([7, 0], 0..0);
    assert!(history.moments_of(&[0, 12], 1, 49).is_empty(), "too early");
    assert!(history.moments_of(&[11, 0], 40, 100).is_empty(), "too late: both were answered");
}
