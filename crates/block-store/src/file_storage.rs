//! A store's directory tree on a real file system.
//!
//! What must always hold: nothing outside the root is ever opened and no link is followed, not
//! even in the middle of a path (`openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`); new
//! files are readable by their owner only.
//! Left to others: which files there are (`layer`, `ledger`).

use std::{
    fs::File,
    io::{self, IoSlice, Read},
    ops::Range,
    os::{fd::OwnedFd, unix::fs::FileExt, unix::fs::MetadataExt},
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::{
        self, Advice, AtFlags, FallocateFlags, FileType, Mode, OFlags, RawDir, ResolveFlags,
        SeekFrom,
    },
    io::Errno,
};

use crate::storage::{LockError, Storage, StorageFile, StoreLock};

/// A directory of a real file system.
#[derive(Debug)]
pub struct FileStorage {
    root: OwnedFd,
}

impl FileStorage {
    /// The tree below an existing directory.
    pub fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: fs::open(root, flags, Mode::empty())? })
    }

    fn open_beneath(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        let mode =
            if flags.contains(OFlags::CREATE) { Mode::RUSR | Mode::WUSR } else { Mode::empty() };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::LOOP) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "a link, which is never followed"))
            }
            other => Ok(other?),
        }
    }

    fn open_file(&self, path: &str, flags: OFlags) -> io::Result<File> {
        // NONBLOCK: a FIFO planted in the store must not hang the open.
        let file = self.open_beneath(path, OFlags::NONBLOCK | flags)?;
        let found = fs::fstat(&file)?;
        let refuse = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return refuse("not a regular file");
        }
        if found.st_nlink != 1 {
            return refuse("a file with several names, which somebody else may change");
        }
        if ![fs::fstat(&self.root)?.st_uid, rustix::process::geteuid().as_raw()]
            .contains(&found.st_uid)
        {
            return refuse("a file of another owner");
        }
        Ok(File::from(file))
    }

    /// The directory that holds `path`, and the last name of it.
    fn parent<'p>(&self, path: &'p str) -> io::Result<(OwnedFd, &'p str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.open_beneath(parent, OFlags::RDONLY | OFlags::DIRECTORY)?, name))
    }
}

impl Storage for FileStorage {
    fn open(&self, path: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(PlainFile { file: self.open_file(path, OFlags::RDWR)? }))
    }

    fn open_to_read(&self, path: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(PlainFile { file: self.open_file(path, OFlags::RDONLY)? }))
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn StorageFile>> {
        Ok(Arc::new(PlainFile {
            file: self.open_file(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?,
        }))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(fs::mkdirat(parent, name, Mode::RWXU)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from_parent, from_name) = self.parent(from)?;
        let (to_parent, to_name) = self.parent(to)?;
        Ok(fs::renameat(from_parent, from_name, to_parent, to_name)?)
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(fs::unlinkat(parent, name, AtFlags::empty())?)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let directory = self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut buffer = Vec::with_capacity(8192);
        let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) => names.push(name.to_owned()),
                Err(_) => names.push(entry.file_name().to_string_lossy().into_owned()),
            }
        }
        Ok(names)
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        let (parent, name) = match self.parent(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        Ok(fs::fsync(self.open_beneath(path, OFlags::RDONLY | OFlags::DIRECTORY)?)?)
    }

    fn lock(&self, path: &str) -> Result<StoreLock, LockError> {
        take_lock(self.open_file(path, OFlags::RDWR | OFlags::CREATE)?)
    }

    fn lock_to_read(&self, path: &str) -> Result<StoreLock, LockError> {
        take_lock(self.open_file(path, OFlags::RDONLY)?)
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        let stat = fs::fstatvfs(&self.root)?;
        Ok((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
    }
}

fn take_lock(mut file: File) -> Result<StoreLock, LockError> {
    match file.try_lock() {
        Ok(()) => Ok(StoreLock::held_by(file)),
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message: what holds is the lock, never the number in the file.
            let _ = file.read_to_string(&mut holder);
            Err(LockError::Held(holder.trim().to_owned()))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

/// A regular file.
#[derive(Debug)]
struct PlainFile {
    file: File,
}

impl StorageFile for PlainFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        if let [piece] = pieces {
            return self.file.write_all_at(piece, offset);
        }
        let wanted: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut done = loop {
            match rustix::io::pwritev(&self.file, pieces, offset) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        if done == wanted {
            return Ok(());
        }
        // A short write: the rest goes piece by piece, which meets the error if there is one.
        let mut place = offset;
        for piece in pieces {
            let skip = done.min(piece.len());
            done -= skip;
            self.file.write_all_at(&piece[skip..], place + bytes(skip))?;
            place += bytes(piece.len());
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fs::fallocate(&self.file, flags, range.start, range.end - range.start)?)
    }

    fn next_data(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        let start = match fs::seek(&self.file, SeekFrom::Data(from)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(start..fs::seek(&self.file, SeekFrom::Hole(start))?))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(fs::fadvise(&self.file, 0, None, Advice::DontNeed)?)
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    fn file(&self) -> &File {
        &self.file
    }
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).expect("a buffer's length fits 64 bits")
}
