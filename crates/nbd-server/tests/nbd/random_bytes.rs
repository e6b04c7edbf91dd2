//! "Whatever bytes come": the server never dies of them, ends the session, and serves the next.

use std::{
    io::{Read, Write},
    net::Shutdown,
};

use proptest::prelude::*;

use crate::support::{MIB, RawClient, TestServer, extended_request, request};

/// Bytes that look like requests to a degree.
fn nearly_requests() -> impl Strategy<Value = Vec<u8>> {
    let nearly = (
        0u16..64,
        0u16..9,
        prop_oneof![(0u64..4096).prop_map(|sector| sector * 512), any::<u64>()],
        prop_oneof![(0u32..16).prop_map(|sectors| sectors * 512), any::<u32>()],
        prop::collection::vec(any::<u8>(), 0..1024),
    )
        .prop_map(|(flags, command, offset, length, rest)| {
            let mut bytes = request(flags, command, 5, offset, length);
            // A write gets its payload if that is short; else the rest is rubbish.
            if command == 1 && length < 8192 {
                bytes.resize(bytes.len() + usize::try_from(length).unwrap(), 0xaa);
            } else if flags > 60 {
                bytes.extend(rest);
            }
            bytes
        });
    prop::collection::vec(nearly, 1..20).prop_map(|parts| parts.concat())
}

/// Bytes that look like extended requests to a degree.
fn nearly_extended() -> impl Strategy<Value = Vec<u8>> {
    let nearly = (
        0u16..64,
        0u16..9,
        prop_oneof![(0u64..4096).prop_map(|sector| sector * 512), any::<u64>()],
        prop_oneof![Just(12u64), (0u64..16).prop_map(|sectors| sectors * 512), any::<u64>()],
        any::<[u8; 4]>(),
    )
        .prop_map(|(flags, command, offset, length, rest)| {
            let mut bytes = extended_request(flags, command, 5, offset, length);
            if (command == 1 || flags & 32 != 0) && length < 8192 {
                bytes.extend([0; 11]);
                bytes.extend(rest);
                bytes.resize(32 + usize::try_from(length).unwrap(), 1);
            }
            bytes
        });
    prop::collection::vec(nearly, 1..20).prop_map(|parts| parts.concat())
}

/// Bytes that look like options to a degree.
fn nearly_options() -> impl Strategy<Value = Vec<u8>> {
    let nearly = (0u32..13, prop::collection::vec(any::<u8>(), 0..64), any::<bool>()).prop_map(
        |(code, data, named)| {
            let data = if named { crate::support::go("disk") } else { data };
            let mut bytes = crate::support::OPTION_MAGIC.to_be_bytes().to_vec();
            bytes.extend(code.to_be_bytes());
            bytes.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend(data);
            bytes
        },
    );
    prop::collection::vec(nearly, 1..20).prop_map(|parts| parts.concat())
}

/// Sends all of it, says that no more comes, and takes what comes until the server hangs up.
fn pour(mut raw: RawClient, bytes: &[u8]) {
    let mut writer = raw.0.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = writer.write_all(bytes);
            let _ = writer.shutdown(Shutdown::Write);
        });
        let mut scratch = vec![0; 1 << 20];
        loop {
            match raw.0.read(&mut scratch) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                    return;
                }
            }
        }
    });
}

#[test]
fn sessions_end_whatever_comes() {
    let (test, _disk) = TestServer::of_memory(MIB);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let any_bytes = || prop::collection::vec(any::<u8>(), 0..2048);
    let requests = (nearly_requests(), nearly_extended());
    let inputs = (any_bytes(), nearly_options(), requests, any::<bool>());
    runner
        .run(&inputs, |(rubbish, options, (requests, extended), structured)| {
            pour(RawClient::silent(&test.path()), &rubbish);
            pour(test.raw(), &rubbish);
            pour(test.raw(), &options);
            pour(RawClient::open(&test.path(), structured), &rubbish);
            pour(RawClient::open(&test.path(), structured), &requests);
            pour(RawClient::open_extended(&test.path(), &["base:allocation"]), &extended);
            Ok(())
        })
        .unwrap();
    test.assert_serves();
}
