//! Random programs of everything that can happen to a store keep every promise.
//!
//! `REINIT_SEED` and `REINIT_PROGRAMS` make it a campaign. A failing program is told with its
//! seed and with the shortest program that was found to fail.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::env;

use tests::{
    recorded_storage::SyncRole,
    simulation::{Setting, Tally, live, program, shorten},
};

/// Steps of a program.
const STEPS: usize = 60;

fn number(name: &str, usual: u64) -> u64 {
    env::var(name).map_or(usual, |value| value.parse().unwrap())
}

#[test]
fn programs_of_all_that_can_happen_keep_every_promise() {
    let (seed, programs) = (number("REINIT_SEED", 1), number("REINIT_PROGRAMS", 100));
    let (mut all, setting) = (Tally::default(), Setting::default());
    for this in seed..seed + programs {
        let steps = program(this, STEPS);
        match live(&steps, setting) {
            Ok(tally) => all.add(&tally),
            Err(violation) => {
                let at = violation.step;
                let (short, violation) = shorten(&steps, setting, violation);
                panic!(
                    "seed {this}, step {at}; with {} steps ({short:x?}): {violation}",
                    short.len()
                );
            }
        }
    }
    let Tally { steps, kills, cuts, faults, .. } = all;
    eprintln!(
        "campaign: simulation, {programs} programs ({steps} steps, {kills} kills, {cuts} power losses, {faults} failed calls), seed {seed}, 0 violations"
    );
}

/// Short programs that once broke a promise.
const KEPT: [&[u64]; 1] = [
    // A start could not read the newer copy of a sealed header, believed the older one, which said
    // head, and removed the layer that the sealed one stands on.
    &[
        0x90e0_3899_72ab_bdf4,
        0xe588_e943_c995_ad56,
        0x9ad5_8362_8543_1af5,
        0x78ec_67bd_c20a_5ebd,
        0x7049_5abc_8713_8845,
        0xdd12_b67d_0cc3_f2a6,
    ],
];

#[test]
fn programs_that_once_broke_a_promise_keep_it() {
    for steps in KEPT {
        live(steps, Setting::default()).unwrap_or_else(|violation| panic!("{violation}"));
    }
}

#[test]
fn a_seed_repeats_its_program_to_the_last_byte() {
    for seed in 1..8 {
        let steps = program(seed, STEPS);
        let lived = || live(&steps, Setting::default()).unwrap_or_else(|v| panic!("{seed}: {v}"));
        assert_eq!(lived(), lived(), "seed {seed}");
    }
}

/// The test of the test: with the syncs of one kind taken away a program fails, and it is told by
/// a shorter one that fails for the same want.
#[test]
fn a_missing_sync_is_found_and_told_by_a_short_program() {
    for role in [SyncRole::Data, SyncRole::MapWords, SyncRole::Ledger, SyncRole::NewMap] {
        let setting = Setting { omitted: Some(role) };
        let found = (1..100).find_map(|seed| {
            let steps = program(seed, STEPS);
            live(&steps, setting).err().map(|violation| (steps, violation))
        });
        let (steps, violation) = found.unwrap_or_else(|| panic!("nobody missed {role:?}"));
        let (short, _) = shorten(&steps, setting, violation);
        assert!(short.len() < 30, "{role:?}: {} steps", short.len());
        assert!(live(&short, setting).is_err(), "{role:?} in short");
        assert!(live(&short, Setting::default()).is_ok(), "{role:?} is what it is about");
    }
}
