//! Buckets: directories of the operator in which clients name files to import, and get exports.
//!
//! What must always hold: an object is a regular file beneath the directory, without `..` or links; the
//! kernel keeps that (`RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`), so it also holds for names changed during
//! the call. An export appears under its name whole and only once its task is recorded as finished:
//! until then it lies beside it under a name that says which task it is of.
//! Left to others: what is in the files (`block-store`), tasks (`image/import`, `image/export`).

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::{Caller, Cloud, CloudError, Field, Resource};

/// A directory that stands for a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Absolute.
    pub directory: PathBuf,
    /// Who may name files in it; none = every account.
    pub accounts: Option<Vec<String>>,
}

/// An open bucket.
#[derive(Debug)]
pub(crate) struct OpenBucket {
    directory: OwnedFd,
}

/// Names of objects may be this long, as in the API.
const MOST_OBJECT_BYTES: usize = 1023;

impl Cloud {
    /// A bucket of that name that the account may use; another is as unknown as one that is not.
    pub(crate) fn bucket(&self, caller: &Caller, name: &str) -> Result<OpenBucket, CloudError> {
        let may = |bucket: &&Bucket| {
            let accounts = bucket.accounts.as_ref();
            accounts.is_none_or(|accounts| accounts.contains(&caller.account))
        };
        let found = self.settings().buckets.get(name).filter(may);
        let found = found.ok_or_else(|| CloudError::not_found(Resource::Bucket, name))?;
        OpenBucket::open(&found.directory)
    }
}

impl OpenBucket {
    pub(crate) fn open(directory: &Path) -> Result<Self, CloudError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = fs::open(directory, flags, Mode::empty()).map_err(failed)?;
        Ok(Self { directory })
    }

    /// An object, to be read.
    pub(crate) fn object(&self, name: &str) -> Result<File, CloudError> {
        check_object(name)?;
        let none = || CloudError::not_found(Resource::Object, name);
        // NONBLOCK: a FIFO must not hang the open.
        let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = match self.open_beneath(name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(error) => {
                tracing::info!(object = name, %error, "an object could not be opened");
                return Err(none());
            }
        };
        let regular = file.metadata().is_ok_and(|found| found.is_file());
        if regular { Ok(file) } else { Err(none()) }
    }

    /// A file that is not an object yet.
    pub(crate) fn create(&self, part: &Part) -> Result<File, CloudError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        self.open_beneath(&part.name(), flags, Mode::from_raw_mode(0o640)).map_err(failed)
    }

    /// The part is there after a power loss.
    pub(crate) fn sync(&self) -> Result<(), CloudError> {
        fs::fsync(&self.directory).map_err(failed)
    }

    /// Makes a part the object, in place of what had its name.
    pub(crate) fn finish(&self, part: &Part) -> Result<(), CloudError> {
        fs::renameat(&self.directory, part.name(), &self.directory, &part.object)
            .map_err(failed)?;
        self.sync()
    }

    pub(crate) fn remove(&self, part: &Part) -> Result<(), CloudError> {
        fs::unlinkat(&self.directory, part.name(), AtFlags::empty()).map_err(failed)
    }

    /// The parts that lie in it.
    pub(crate) fn parts(&self) -> Result<Vec<Part>, CloudError> {
        let names = fs::Dir::read_from(&self.directory).map_err(failed)?;
        let mut parts = Vec::new();
        for entry in names {
            let entry = entry.map_err(failed)?;
            parts.extend(entry.file_name().to_str().ok().and_then(Part::parse));
        }
        Ok(parts)
    }

    fn open_beneath(&self, name: &str, flags: OFlags, mode: Mode) -> rustix::io::Result<File> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        fs::openat2(&self.directory, name, flags | OFlags::CLOEXEC, mode, resolve).map(File::from)
    }
}

/// An object being written: which, and by which task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) task: String,
    pub(crate) object: String,
}

impl Part {
    fn name(&self) -> String {
        format!(".reinit-{}.{}", self.task, self.object)
    }

    fn parse(name: &str) -> Option<Self> {
        let (task, object) = name.strip_prefix(".reinit-")?.split_once('.')?;
        Some(Self { task: task.into(), object: object.into() })
    }
}

fn check_object(name: &str) -> Result<(), CloudError> {
    let plain = |part| matches!(part, Component::Normal(_));
    let fits = (1..=MOST_OBJECT_BYTES).contains(&name.len())
        && !name.contains(['\0', '\\'])
        && !name.ends_with('/')
        && Path::new(name).components().all(plain);
    let rule = "1 to 1023 bytes, a path beneath the bucket without . or ..";
    if fits { Ok(()) } else { Err(CloudError::Malformed { field: Field::OssObject, rule }) }
}

fn failed(error: Errno) -> CloudError {
    match error {
        Errno::NOSPC | Errno::DQUOT => CloudError::NoSpace,
        error => CloudError::internal(std::io::Error::from(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn objects_lie_beneath_the_bucket() {
        let outside = tempfile::tempdir().unwrap();
        let directory = outside.path().join("bucket");
        std::fs::create_dir_all(directory.join("a/b")).unwrap();
        std::fs::write(outside.path().join("secret"), "no").unwrap();
        std::fs::write(directory.join("a/b/c.img"), "yes").unwrap();
        symlink(outside.path().join("secret"), directory.join("link")).unwrap();
        symlink(outside.path(), directory.join("up")).unwrap();
        symlink("a/b/c.img", directory.join("inner")).unwrap();
        fs::mknodat(
            fs::CWD,
            directory.join("pipe"),
            fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let bucket = OpenBucket::open(&directory).unwrap();
        let mut text = String::new();
        bucket.object("a/b/c.img").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "yes");
        for name in
            ["", "/", "..", "../secret", "a/../../secret", "./a/b/c.img", "a/", "x\0", "a\\b"]
        {
            let error = bucket.object(name).unwrap_err();
            assert!(matches!(error, CloudError::Malformed { .. }), "{name:?}: {error:?}");
        }
        let absolute = outside.path().join("secret");
        assert!(bucket.object(absolute.to_str().unwrap()).is_err());
        for name in ["link", "up/secret", "inner", "pipe", "a", "none", "a/b/c.img/d"] {
            let error = bucket.object(name).unwrap_err();
            assert!(matches!(error, CloudError::NotFound { .. }), "{name:?}: {error:?}");
        }
    }

    #[test]
    fn a_part_becomes_an_object_or_goes() {
        let directory = tempfile::tempdir().unwrap();
        let bucket = OpenBucket::open(directory.path()).unwrap();
        let part = |object: &str| Part { task: "t-1".into(), object: object.into() };
        for object in ["x.raw", "y.raw"] {
            drop(bucket.create(&part(object)).unwrap());
        }
        assert!(bucket.create(&part("x.raw")).is_err());
        std::fs::write(directory.path().join("z.raw"), "").unwrap();
        let mut parts = bucket.parts().unwrap();
        parts.sort_by(|a, b| a.object.cmp(&b.object));
        assert_eq!(parts, [part("x.raw"), part("y.raw")]);
        bucket.finish(&parts[0]).unwrap();
        bucket.remove(&parts[1]).unwrap();
        assert!(bucket.parts().unwrap().is_empty());
        assert!(bucket.object("x.raw").is_ok() && bucket.object("y.raw").is_err());
    }
}
