//! Running a program, and making one that fails as short as it gets by taking steps out.
//!
//! What must always hold: what is answered fails. Left to others: what a step does (`life`).

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Life, Setting, Tally, Violation};

/// How often a shorter program may be tried.
const TRIES: usize = 400;

/// Lives a program to its end.
pub fn live(program: &[u64], setting: Setting) -> Result<Tally, Violation> {
    let mut life = Life::new(setting);
    for (step, number) in program.iter().enumerate() {
        // A panic of the store is a broken promise as well, and can be shortened like one.
        let lived = catch_unwind(AssertUnwindSafe(|| life.step(*number)));
        let told = match lived {
            Ok(Ok(())) => continue,
            Ok(Err(told)) => told,
            Err(panic) => format!("panicked: {}", message(&*panic)),
        };
        return Err(Violation { step, told, story: life.story() });
    }
    life.end().map_err(|told| Violation { step: program.len(), told, story: life.story() })
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// The shortest failing program that taking out runs of steps leads to, and how it fails.
pub fn shorten(program: &[u64], setting: Setting, violation: Violation) -> (Vec<u64>, Violation) {
    let mut kept = program[..program.len().min(violation.step + 1)].to_vec();
    let (mut last, mut tries, mut run) = (violation, 0, kept.len() / 2);
    while run > 0 {
        let mut start = 0;
        let mut has_shortened = false;
        while start < kept.len() && tries < TRIES {
            let mut shorter = kept.clone();
            shorter.drain(start..(start + run).min(kept.len()));
            tries += 1;
            match live(&shorter, setting) {
                Ok(_) => start += run,
                Err(violation) => {
                    shorter.truncate(violation.step + 1);
                    (kept, last, has_shortened) = (shorter, violation, true);
                }
            }
        }
        if !has_shortened || tries >= TRIES {
            run /= 2;
        }
    }
    (kept, last)
}
