//! Where the store of the demo lies, and that nothing of it stays unless it is to be kept.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::{daemon::Daemon, failure::Failure};

/// Where the store of the demo lies.
pub(super) enum Place {
    Kept(PathBuf),
    Passing(TempDir, PathBuf),
}

impl Place {
    pub(super) fn new(keep: Option<&Path>) -> Result<Self, Failure> {
        let Some(keep) = keep else {
            let made = tempfile::Builder::new().prefix("reinit-demo-").tempdir();
            let directory = made.context("making a directory for the demo")?;
            let store = directory.path().join("store");
            return Ok(Self::Passing(directory, store));
        };
        if keep.exists() {
            let message = format!("{} is there already; name a new directory", keep.display());
            return Err(Failure::local("NotEmpty", message));
        }
        let absolute = std::path::absolute(keep);
        Ok(Self::Kept(absolute.with_context(|| format!("finding {}", keep.display()))?))
    }

    pub(super) fn store(&self) -> &Path {
        let (Self::Kept(store) | Self::Passing(_, store)) = self;
        store
    }

    /// Ctrl-C ends the demo at once; there is nothing in it to save.
    pub(super) fn vanish_on_interrupt(&self, daemon: &Daemon) {
        let leftover = match self {
            Self::Kept(_) => None,
            Self::Passing(directory, _) => Some(directory.path().to_owned()),
        };
        daemon.runtime().spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                // The disks are written to meanwhile: what cannot be removed is in the temporary directory anyway.
                let _ = leftover.map(fs::remove_dir_all);
                std::process::exit(1);
            }
        });
    }

    /// What a reader of the demo does next.
    pub(super) fn how_to_go_on(&self) -> String {
        match self {
            Self::Kept(store) => {
                let store = store.display();
                format!(
                    "Go on with it:\n  reinit --store {store} serve\n  reinit --store {store} instance ls"
                )
            }
            Self::Passing(..) => "The store is gone. Keep one with: reinit demo --keep DIR\n\
                                   Begin for real with:       reinit init && reinit serve"
                .into(),
        }
    }
}
