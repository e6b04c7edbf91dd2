//! Work that several threads share, of which the caller's own is one.
//!
//! What must always hold: all of them have ended when this answers, and a system that gives no more
//! threads makes it slower, not fail.
//! Left to others: handing out the work, and telling the other threads that one of them failed.

use std::thread;

use crate::error::StoreError;

/// Does the work on so many threads as there are processors, up to `most`; answers what each of them
/// found, or the first failure.
pub(crate) fn share<T: Send>(
    most: usize,
    work: impl Fn() -> Result<T, StoreError> + Sync,
) -> Result<Vec<T>, StoreError> {
    let usual = thread::available_parallelism().map_or(1, usize::from).min(most);
    thread::scope(|scope| {
        let start = || thread::Builder::new().spawn_scoped(scope, &work).ok();
        let others: Vec<_> = (1..usual).map_while(|_| start()).collect();
        let own = work();
        let join = |other: thread::ScopedJoinHandle<'_, _>| match other.join() {
            Ok(found) => found,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        // All are joined before the first failure is told.
        let found: Vec<_> = others.into_iter().map(join).collect();
        found.into_iter().chain([own]).collect()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_of_it_is_done_once_and_a_failure_is_told_when_all_have_ended() {
        let (next, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let count = || -> Result<usize, StoreError> {
            let mut mine = 0;
            while next.fetch_add(1, Ordering::Relaxed) < 100 {
                mine += 1;
            }
            ended.fetch_add(1, Ordering::Relaxed);
            Ok(mine)
        };
        let found = share(4, count).unwrap();
        assert_eq!(found.iter().sum::<usize>(), 100);
        assert_eq!(found.len(), ended.load(Ordering::Relaxed));
        assert_eq!(share(1, || Ok(7)).unwrap(), [7]);
        let failed: Result<Vec<()>, _> = share(4, || Err(StoreError::Cancelled));
        assert!(matches!(failed, Err(StoreError::Cancelled)));
    }
}
