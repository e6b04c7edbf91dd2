//! The ordered list of everything a store changed, and the names it goes by right now.
//!
//! What must always hold: a change is listed after it was done and before anybody can see the
//! call answered, so every length of the list is a moment at which power can fail.
//! Left to others: what survives a cut at such a moment (`crash`).

use std::{collections::BTreeMap, io, ops::Range};

use super::role::{FileFacts, SyncRole};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// A file, by its number.
    File(usize),
    /// A directory, by its number; 0 is the root.
    Directory(usize),
}

/// One change.
#[derive(Clone, Debug, Hash)]
pub enum Change {
    /// A new name.
    Link {
        /// In this directory.
        directory: usize,
        /// The name.
        name: String,
        /// What it stands for.
        node: Node,
    },
    /// A name replaced by another of the same directory.
    Move {
        /// In this directory.
        directory: usize,
        /// The name before.
        from: String,
        /// The name after.
        to: String,
    },
    /// A name gone.
    Unlink {
        /// From this directory.
        directory: usize,
        /// The name.
        name: String,
    },
    /// Bytes written.
    Write {
        /// To this file.
        file: usize,
        /// From this place on.
        offset: u64,
        /// What was written.
        bytes: Vec<u8>,
    },
    /// A length set.
    SetLength {
        /// Of this file.
        file: usize,
        /// The new length.
        length: u64,
    },
    /// A hole punched.
    Punch {
        /// Into this file.
        file: usize,
        /// Which bytes are zeros now.
        range: Range<u64>,
    },
    /// A file's sync that succeeded.
    Sync {
        /// Of this file.
        file: usize,
    },
    /// A file's sync that failed: what it should have written may never be written any more.
    LostSync {
        /// Of this file.
        file: usize,
    },
    /// A directory's sync that succeeded.
    SyncDirectory {
        /// Of this directory.
        directory: usize,
    },
}

/// Which syncs pretend to have been done: asked for each sync with its role and how many of that
/// role came before it.
pub type Omission = Box<dyn FnMut(SyncRole, usize) -> bool + Send>;

/// The list, and the names right now.
#[derive(Default)]
pub(super) struct Journal {
    pub(super) changes: Vec<Change>,
    directories: Vec<BTreeMap<String, Node>>,
    files: Vec<FileFacts>,
    omission: Option<Omission>,
    seen: BTreeMap<SyncRole, usize>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("changes", &self.changes.len()).finish_non_exhaustive()
    }
}

impl Journal {
    /// A journal that begins with these changes.
    pub(super) fn of(changes: Vec<Change>) -> Self {
        let mut journal = Self { directories: vec![BTreeMap::new()], ..Self::default() };
        for change in changes {
            journal.push(change);
        }
        journal
    }

    /// Lists a change and follows it in the names.
    pub(super) fn push(&mut self, change: Change) {
        match &change {
            Change::Link { directory, name, node } => {
                match node {
                    Node::File(file) => {
                        self.files.resize_with(self.files.len().max(file + 1), Default::default);
                        self.files[*file] = FileFacts::named(name);
                    }
                    Node::Directory(number) => {
                        let held = self.directories.len().max(number + 1);
                        self.directories.resize_with(held, BTreeMap::new);
                    }
                }
                self.directories[*directory].insert(name.clone(), *node);
            }
            Change::Move { directory, from, to } => {
                let names = &mut self.directories[*directory];
                let node = names.remove(from).expect("the file system knew it");
                names.insert(to.clone(), node);
            }
            Change::Unlink { directory, name } => {
                self.directories[*directory].remove(name);
            }
            Change::Write { file, offset, .. } => self.files[*file].written(*offset),
            Change::SetLength { file, .. } | Change::Punch { file, .. } => {
                self.files[*file].reshaped();
            }
            Change::Sync { file } | Change::LostSync { file } => self.files[*file].synced(),
            Change::SyncDirectory { .. } => {}
        }
        self.changes.push(change);
    }

    pub(super) fn next_file(&self) -> usize {
        self.files.len()
    }

    pub(super) fn next_directory(&self) -> usize {
        self.directories.len()
    }

    pub(super) fn set_omission(&mut self, omission: Option<Omission>) {
        self.omission = omission;
        self.seen.clear();
    }

    /// Lists a sync of a file, unless it is one that only pretends.
    pub(super) fn sync_file(&mut self, file: usize) {
        let role = self.files[file].role();
        if !self.is_omitted(role) {
            self.push(Change::Sync { file });
        }
    }

    /// Lists a sync of a directory, unless it is one that only pretends.
    pub(super) fn sync_directory(&mut self, path: &str) -> io::Result<()> {
        let Node::Directory(directory) = self.find(path)? else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        let role = match path {
            "" => SyncRole::RootDirectory,
            "layers" => SyncRole::LayersDirectory,
            path if path.ends_with(".new") => SyncRole::NewLayerDirectory,
            _ => SyncRole::LayerDirectory,
        };
        if !self.is_omitted(role) {
            self.push(Change::SyncDirectory { directory });
        }
        Ok(())
    }

    fn is_omitted(&mut self, role: SyncRole) -> bool {
        let seen = self.seen.entry(role).or_default();
        *seen += 1;
        let before = *seen - 1;
        self.omission.as_mut().is_some_and(|omission| omission(role, before))
    }

    /// The directory that holds the last name of a path, and that name.
    pub(super) fn place<'p>(&self, path: &'p str) -> io::Result<(usize, &'p str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        match self.find(parent)? {
            Node::Directory(directory) => Ok((directory, name)),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// What a path stands for.
    pub(super) fn find(&self, path: &str) -> io::Result<Node> {
        let mut node = Node::Directory(0);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Node::Directory(directory) = node else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            let found = self.directories[directory].get(name);
            node = *found.ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }
}
