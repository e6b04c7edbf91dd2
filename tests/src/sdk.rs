//! The official Python SDKs, unmodified, driven by a small script each.
//!
//! What must always hold: without the SDKs the test fails and says how to get them; it never passes unrun.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

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
    let mut command = script(match sdk {
        Sdk::Tea => "tea.py",
        Sdk::Core => "core.py",
    });
    command.env_remove("SECURITY_TOKEN").env_remove("TLS_CA").envs(variables.iter().copied());
    command.args([address, &key.id, &key.secret]).args(arguments);
    run(&mut command).ok().json()
}

/// A script of `stories/python`; it leaves no compiled files beside itself.
pub fn script(name: &str) -> Command {
    let mut command = Command::new(python());
    without_proxy(&mut command);
    command.arg("-B").arg(stories().join("python").join(name));
    command
}

/// Where the scripts are.
pub(crate) fn stories() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("stories")
}

/// The Python that has the clients.
pub fn python() -> PathBuf {
    prepared("REINIT_TEST_PYTHON", "test-python/bin/python")
}

/// Where `tests/run` put something: it says so, or it is at its place below the target directory.
pub(crate) fn prepared(variable: &str, place: &str) -> PathBuf {
    let below_target = || {
        let test = env::current_exe().expect("a running test has a path");
        let target = test.ancestors().nth(3).expect("cargo keeps tests in TARGET/PROFILE/deps");
        target.join(place)
    };
    let found = env::var_os(variable).map_or_else(below_target, PathBuf::from);
    assert!(found.exists(), "{} is missing; `bash tests/run` prepares it", found.display());
    found
}

/// A proxy of the surroundings has no business between two processes of one machine.
pub fn without_proxy(command: &mut Command) {
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
}
