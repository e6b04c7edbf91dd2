//! Python's libnbd: a program of somebody's own, with 16 requests in flight.

use super::{Bench, shown, tool};

/// The Python that Debian's python3-libnbd is for, whatever else `python3` may be.
const PYTHON: &str = "/usr/bin/python3";

#[test]
fn a_program_keeps_16_requests_in_flight_on_each_of_4_connections() {
    let mut bench = Bench::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/stories/python/libnbd_client.py");
    let told = tool(PYTHON, &["-B", script, &bench.uri(), &shown(&bench.twin)]).json();
    assert_eq!(told["most_in_flight"], 16, "{told}");
    for deed in ["pwrite", "zero", "trim", "flush", "pread", "block_status"] {
        assert!(told[deed].as_u64().unwrap() > 20, "{deed}: {told}");
    }
    bench.files_hold_the_twin();
}
