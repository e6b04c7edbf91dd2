//! The reader in another language, `tests/reader.py`: it knows the store from docs/format.md alone.

use std::{fs, path::Path, process::Command};

use crate::recorded_storage::scratch;

/// What it reads of a disk or a layer (`what` says which) of a stopped store, or why it refuses.
pub fn read(store: &Path, what: &str, name: &str) -> Result<Vec<u8>, String> {
    let place = scratch();
    let output = place.path().join("raw");
    copy(store, what, name, &output)?;
    Ok(fs::read(output).expect("the reader made it"))
}

/// The same into a sparse file that is not there yet.
pub fn copy(store: &Path, what: &str, name: &str, output: &Path) -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("reader.py");
    // Isolated: no bytecode beside the script, nothing of the environment.
    let mut reader = Command::new("python3");
    reader.arg("-IB").arg(script).arg(store).args([what, name]).arg(output);
    let ended = reader.output().expect("python3 runs");
    if ended.status.success() {
        return Ok(());
    }
    assert!(!output.exists(), "what is refused leaves no output");
    let told = String::from_utf8(ended.stderr).expect("text").trim_end().to_owned();
    // A traceback is no refusal.
    Err(told.strip_prefix("refused: ").unwrap_or_else(|| panic!("{told}")).to_owned())
}
