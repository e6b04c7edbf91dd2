//! Which call of a storage fails, and how.
//!
//! What must always hold: the Nth call of the chosen kinds fails, once (or one more after it); a test that was not
//! reached by its fault can tell.
//! Left to others: the calls themselves (`recorded_storage`), what a failed sync loses (its
//! crash images).

use std::{
    io,
    sync::{Mutex, MutexGuard},
};

/// A kind of call that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Opening a file.
    Open,
    /// Making a file or a directory.
    Create,
    /// Moving a directory.
    Rename,
    /// Removing a file or a directory.
    Remove,
    /// Reading a file.
    Read,
    /// Writing a file; half of it may be written.
    Write,
    /// Setting a length.
    SetLength,
    /// Punching a hole.
    Punch,
    /// Syncing a file.
    Sync,
    /// Syncing a directory.
    SyncDirectory,
}

/// Calls that change something: any of them may fail with a full or broken file system.
pub const CHANGES: &[Call] = &[
    Call::Create,
    Call::Rename,
    Call::Remove,
    Call::Write,
    Call::SetLength,
    Call::Punch,
    Call::Sync,
    Call::SyncDirectory,
];

/// All calls: what a start does may fail anywhere, for want of descriptors or memory too.
pub const ANY: &[Call] = &[
    Call::Open,
    Call::Create,
    Call::Rename,
    Call::Remove,
    Call::Read,
    Call::Write,
    Call::SetLength,
    Call::Punch,
    Call::Sync,
    Call::SyncDirectory,
];

/// The error numbers a call fails with: a broken device, a full one, no descriptors, no memory.
pub const ERRNOS: [i32; 4] = [5, 28, 24, 12];

/// The calls that are to fail.
#[derive(Debug, Default)]
pub struct Faults {
    armed: Mutex<Option<Armed>>,
}

#[derive(Debug)]
struct Armed {
    calls: &'static [Call],
    /// How many calls pass before the one that fails.
    left: usize,
    /// How many more pass after that one before a second one fails.
    then: Option<usize>,
    errno: i32,
    struck: Vec<Call>,
}

impl Faults {
    /// Lets the Nth (from 1) call of these kinds fail with this error number.
    pub fn arm(&self, calls: &'static [Call], nth: usize, errno: i32) {
        *self.armed() = Some(Armed { calls, left: nth, then: None, errno, struck: Vec::new() });
    }

    /// The same, and the `second` call after that one fails as well.
    pub fn arm_pair(&self, calls: &'static [Call], (nth, second): (usize, usize), errno: i32) {
        let (then, struck) = (Some(second), Vec::new());
        *self.armed() = Some(Armed { calls, left: nth, then, errno, struck });
    }

    /// Lets nothing fail any more; answers which call failed first.
    pub fn disarm(&self) -> Option<Call> {
        self.disarm_all().first().copied()
    }

    /// The same with all calls that failed.
    pub fn disarm_all(&self) -> Vec<Call> {
        self.armed().take().map_or_else(Vec::new, |armed| armed.struck)
    }

    /// Fails if this is the call that is to fail.
    pub(crate) fn check(&self, call: Call) -> io::Result<()> {
        let mut armed = self.armed();
        let Some(armed) = armed.as_mut().filter(|armed| armed.calls.contains(&call)) else {
            return Ok(());
        };
        if armed.left == 0 {
            return Ok(());
        }
        armed.left -= 1;
        if armed.left > 0 {
            return Ok(());
        }
        armed.left = armed.then.take().unwrap_or(0);
        armed.struck.push(call);
        Err(io::Error::from_raw_os_error(armed.errno))
    }

    fn armed(&self) -> MutexGuard<'_, Option<Armed>> {
        self.armed.lock().expect("nobody panics while counting")
    }
}
