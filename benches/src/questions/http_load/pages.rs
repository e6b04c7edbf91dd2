//! How long does a page of 100 disks take where there are 10 000?
//!
//! Asked by number and by token, signed, on a connection that is kept; and 100 disks by their ids, which is
//! what the emulator can be asked as well.

use std::{net::TcpStream, time::Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{
    daemon::Daemon,
    http::{HttpClient, Key, Prepared},
    peers::moto::Moto,
    questions::{Findings, Scope},
    ratio,
    samples::{Samples, Unit},
    table::{Budget, Finding},
};

/// The longest a page may take, in seconds.
const AT_MOST: f64 = 0.005;
/// Disks on a page.
const PAGE: usize = 100;
/// The most that a page by token holds.
const LONGEST_PAGE: usize = 500;
/// How many more rounds than elsewhere: one is short.
const MORE_ROUNDS: usize = 10;

pub(super) fn ask(
    scope: &Scope,
    daemon: &Daemon,
    key: &Key,
    disks: usize,
) -> anyhow::Result<Findings> {
    // Before there is a connection, which must not be idle as long as that may take.
    let moto = Moto::with_volumes(disks);
    let mut bench = Bench { client: HttpClient::tcp(daemon.http())?, key: key.clone() };
    let (half, page) = ((disks / PAGE / 2).to_string(), PAGE.to_string());
    let (token, ids) = bench.walk_to(disks / 2)?;
    let pages: [(&str, &[(&str, &str)]); 3] = [
        ("first page", &[("PageNumber", "1"), ("PageSize", &page)]),
        ("page in the middle", &[("PageNumber", &half), ("PageSize", &page)]),
        ("page after a token", &[("NextToken", &token), ("MaxResults", &page)]),
    ];
    let rounds = scope.rounds * MORE_ROUNDS;
    let samples = ratio::interleave(rounds, &pages, |(_, parameters)| bench.time(parameters))?;
    let measured = |((page, _), ours): (&(&str, _), Samples)| {
        let budget = Some(Budget::AtMost(AT_MOST));
        let finding = Finding::Measured { ours, unit: Unit::Seconds, budget };
        (format!("DescribeDisks, {PAGE} of {disks}: {page}"), finding)
    };
    let mut found: Findings = pages.iter().zip(samples).map(measured).collect();
    found.push(bench.by_ids(rounds, disks, &ids, moto)?);
    Ok(found)
}

struct Bench {
    client: HttpClient<TcpStream>,
    key: Key,
}

impl Bench {
    /// One page; the seconds until its answer was here.
    fn time(&mut self, parameters: &[(&str, &str)]) -> anyhow::Result<f64> {
        let request = self.signed(parameters);
        let begun = Instant::now();
        let answer = self.client.ask(&request)?;
        let took = begun.elapsed().as_secs_f64();
        let answer: Value = serde_json::from_slice(&answer)?;
        let told = disks_of(&answer)?.len();
        ensure!(told == PAGE, "the page holds {told} disks");
        Ok(took)
    }

    fn signed(&self, parameters: &[(&str, &str)]) -> Prepared {
        let region = [("RegionId", "cn-hangzhou")];
        Prepared::signed(&self.key, "DescribeDisks", &[parameters, &region].concat())
    }

    /// The token behind so many disks, and the ids of some before it.
    fn walk_to(&mut self, place: usize) -> anyhow::Result<(String, Vec<String>)> {
        let (mut token, mut ids, mut passed) = (String::new(), Vec::new(), 0);
        while passed < place {
            let size = LONGEST_PAGE.min(place - passed).to_string();
            let parameters = [("MaxResults", size.as_str()), ("NextToken", &token)];
            let answer = self.client.send(&self.signed(&parameters))?;
            let disks = disks_of(&answer)?;
            passed += disks.len();
            ids = disks.iter().filter_map(|disk| Some(disk["DiskId"].as_str()?.into())).collect();
            token = answer["NextToken"].as_str().context("no token")?.into();
        }
        Ok((token, ids))
    }

    /// Disks by their ids, in turn with the emulator.
    fn by_ids(
        &mut self,
        rounds: usize,
        disks: usize,
        ids: &[String],
        moto: anyhow::Result<Moto>,
    ) -> anyhow::Result<(String, Finding)> {
        let case = format!("{PAGE} of {disks} disks by their ids");
        let ids = serde_json::to_string(ids.get(..PAGE).context("too few disks")?)?;
        let page = PAGE.to_string();
        let parameters = [("DiskIds", ids.as_str()), ("PageSize", &page)];
        let moto = match moto {
            Ok(moto) => moto,
            Err(error) => {
                let ours = (0..rounds).map(|_| self.time(&parameters));
                let ours = ours.collect::<anyhow::Result<Samples>>()?;
                return Ok((case, Finding::Alone { ours, absent: format!("{error:#}") }));
            }
        };
        let samples = ratio::interleave(rounds, &[true, false], |is_ours| match is_ours {
            true => self.time(&parameters),
            false => {
                let begun = Instant::now();
                moto.describe(PAGE)?;
                Ok(begun.elapsed().as_secs_f64())
            }
        })?;
        let peer = (Moto::NAME, samples[1].clone());
        Ok((case, Finding::Compared { ours: samples[0].clone(), peer, at_most: None }))
    }
}

fn disks_of(answer: &Value) -> anyhow::Result<&Vec<Value>> {
    answer["Disks"]["Disk"].as_array().context("no list of disks")
}
