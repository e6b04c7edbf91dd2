//! The official Python SDKs, unmodified, driven by a small script each.
//!
//! What must always hold: without the SDKs the test fails and says how to get them; it never passes unrun.

use std::{env, path::Path, process::Command};

use serde_json::Value;

use crate::{program::run, signature::Key};

/// Which SDK.
#[derive(Clone, Copy, Debug)]
pub enum Sdk {
    /// `alibabacloud-ecs20140526`, which signs ACS3.
    Tea,
    /// `aliyun-python-sdk-core` and `-ecs`, which sign version 1.
    Core,
}

/// Runs `stories/python/NAME.py ADDRESS KEY SECRET VERB ARGUMENT...` and gives the JSON it prints.
pub fn drive(sdk: Sdk, address: &str, key: &Key, arguments: &[&str]) -> Value {
    drive_with(&[], sdk, address, key, arguments)
}

/// The same with these variables in its environment: `SECURITY_TOKEN` for a temporary key, `TLS_CA`
/// for HTTPS.
pub fn drive_with(
    variables: &[(&str, &str)],
    sdk: Sdk,
    address: &str,
    key: &Key,
    arguments: &[&str],
) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("stories/python").join(match sdk {
        Sdk::Tea => "tea.py",
        Sdk::Core => "core.py",
    });
    let python = env::var_os("REINIT_TEST_PYTHON").unwrap_or_else(|| default_python().into());
    let mut command = Command::new(&python);
    // A proxy of the surroundings has no business between two processes of one machine.
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    {
        command.env_remove(name);
    }
    command.env_remove("SECURITY_TOKEN").env_remove("TLS_CA").envs(variables.iter().copied());
    command.arg(script).args([address, &key.id, &key.secret]).args(arguments);
    run(&mut command).ok().json()
}

/// Where `tests/run` prepares the SDKs.
fn default_python() -> std::path::PathBuf {
    let target = env::current_exe().expect("a running test has a path");
    let target = target.ancestors().nth(3).expect("cargo keeps tests in TARGET/PROFILE/deps");
    let python = target.join("test-python/bin/python");
    assert!(python.exists(), "the Python SDKs are missing; `bash tests/run` prepares them");
    python
}
