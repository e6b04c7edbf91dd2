//! A connection in transmission, as its two threads share it.
//!
//! What must always hold
//! 1. The device is reached only through [`Connection::device`], which refuses once the export
//!    closes.
//! 2. Replies of the two threads never mix: each sends whole ones, under the lock.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use block_device::{BlockDevice, DeviceError, ExportMeter, Pace};
use parking_lot::Mutex;

use crate::{
    errno::{Access, Errno, errno},
    export_table::Admission,
    request::Agreement,
    socket::Socket,
};

/// A connection in transmission.
#[derive(Debug)]
pub(crate) struct Connection {
    admission: Admission,
    pub(crate) socket: Arc<Socket>,
    pub(crate) agreed: Agreement,
    /// Held while replies are sent, and for nothing else.
    sending: Mutex<()>,
    /// Set by whoever of the two threads first sees the device fenced; the connection then ends.
    /// Relaxed: nothing is read behind it, and a fence waits for the seat anyway.
    fenced: AtomicBool,
    /// Set with the first failure of the device that was logged; the rest would only flood.
    failure_logged: AtomicBool,
}

impl Connection {
    pub(crate) fn new(admission: Admission, socket: Arc<Socket>, agreed: Agreement) -> Self {
        Self {
            admission,
            socket,
            agreed,
            sending: Mutex::new(()),
            fenced: AtomicBool::new(false),
            failure_logged: AtomicBool::new(false),
        }
    }

    /// The device, for one request or piece of it.
    pub(crate) fn device(&self) -> Result<&dyn BlockDevice, DeviceError> {
        if self.admission.seat.is_closing() {
            return Err(DeviceError::Fenced);
        }
        Ok(&*self.admission.device)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.admission.seat.is_closing()
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Relaxed)
    }

    pub(crate) fn meter(&self) -> &ExportMeter {
        self.admission.seat.meter()
    }

    pub(crate) fn pace(&self) -> &Pace {
        self.admission.seat.pace()
    }

    /// Notes a failure of the device and gives the number the client is told.
    pub(crate) fn failed(&self, error: &DeviceError, access: Access) -> Errno {
        self.meter().error();
        let errno = errno(error, access);
        if matches!(error, DeviceError::Fenced) {
            self.fenced.store(true, Ordering::Relaxed);
        } else if errno == Errno::InputOutput && !self.failure_logged.swap(true, Ordering::Relaxed)
        {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(%error, cause, "a disk failed a request; its next failures stay unsaid");
        }
        errno
    }

    /// Sends whole replies.
    pub(crate) fn send(&self, replies: &[u8]) -> io::Result<()> {
        let _one_at_a_time = self.sending.lock();
        self.socket.send_all(replies)
    }

    /// No more requests are received; replies still leave.
    pub(crate) fn end_receiving(&self) {
        self.socket.end_receiving();
    }

    /// Nothing moves any more.
    pub(crate) fn end(&self) {
        self.socket.end();
    }
}
