//! The table as it is read: actions, what is right for them, and their rows.
//!
//! What must always hold: a line that cannot be read fails the test with its number; nothing here knows
//! what an action does.
//! Left to others: the table itself (`table.txt`), which is written by hand from the contract.

/// Names and values of parameters.
pub type Pairs = Vec<(String, String)>;

/// How a call is misused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Left out, and given empty.
    Missing,
    /// Left out.
    Absent,
    /// Given empty.
    Empty,
    /// Not what the type of the parameter is.
    Type,
    /// One character more than the bound.
    Long,
    /// Names nothing, what is another account's, or nothing that could be a name.
    Unknown,
    /// None of the values there are, or two that exclude each other.
    Value,
    /// About something that is not in the state for it.
    State,
}

/// What the call comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Refused(String, u16),
    /// A list without a row.
    NothingFound,
    /// A success with this code in one of its rows.
    InRow(String),
}

/// One line: a misuse and its outcome.
#[derive(Clone, Debug)]
pub struct Row {
    pub line: usize,
    pub kind: Kind,
    /// Whose key asks, if not that of the account it is all about.
    pub by: Option<String>,
    /// Each of these is misused by itself; with its bound where the row is about that.
    pub targets: Vec<(String, Option<usize>)>,
    /// Given along, over what is right.
    pub with: Pairs,
    pub outcome: Outcome,
}

/// An action.
#[derive(Debug)]
pub struct Act {
    pub name: String,
    /// A call that is done.
    pub right: Pairs,
    pub rows: Vec<Row>,
    /// Why no state can be wrong for it.
    pub stateless: Option<String>,
}

/// The whole table.
#[derive(Debug)]
pub struct Table {
    /// Rows for every action whose name begins so, that has the parameter and no row of its own for it.
    /// The longer beginning goes before the shorter.
    general: Vec<(String, Vec<Row>)>,
    pub acts: Vec<Act>,
}

impl Table {
    pub fn read(text: &str) -> Self {
        let mut table = Self { general: vec![], acts: vec![] };
        let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
        for (line, number) in lines.filter(|(line, _)| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if line.starts_with(' ') {
                table.add(&words, number);
            } else if let Some(beginning) = words[0].strip_suffix('*') {
                table.general.insert(0, (beginning.to_owned(), vec![]));
            } else {
                let right = words[1..].iter().map(|word| pair(word, number)).collect();
                let name = words[0].to_owned();
                table.acts.push(Act { name, right, rows: vec![], stateless: None });
            }
        }
        table
    }

    fn add(&mut self, words: &[&str], line: usize) {
        if let ["stateless", why @ ..] = words {
            self.acts.last_mut().unwrap().stateless = Some(why.join(" "));
            return;
        }
        let rows = match self.acts.last_mut() {
            Some(act) => &mut act.rows,
            None => &mut self.general[0].1,
        };
        rows.push(row(words, line));
    }

    /// The rows of an action with these parameters, its own before the general ones.
    pub fn rows_of(&self, act: &Act, parameters: &[&str]) -> Vec<Row> {
        let mut rows = act.rows.clone();
        let fits = |(beginning, _): &&(String, Vec<Row>)| act.name.starts_with(beginning);
        for (_, general) in self.general.iter().filter(fits) {
            let adds = general.iter().filter_map(|row| what_adds(row, &rows, parameters));
            let adds: Vec<_> = adds.collect();
            rows.extend(adds);
        }
        rows
    }
}

/// What of a general row says something of the parameters that the other rows do not.
fn what_adds(row: &Row, others: &[Row], parameters: &[&str]) -> Option<Row> {
    let mut row = row.clone();
    let is_new =
        |name: &str| name == "*" || parameters.contains(&name) && !says(others, row.kind, name);
    if row.targets.is_empty() {
        return row.with.iter().all(|(name, _)| is_new(name)).then_some(row);
    }
    let targets = row.targets.iter().filter(|(name, _)| is_new(name));
    row.targets = targets.cloned().collect();
    (!row.targets.is_empty()).then_some(row)
}

/// Whether one of the rows is about that parameter in that way.
pub fn says(rows: &[Row], kind: Kind, name: &str) -> bool {
    let mut rows = rows.iter().filter(|row| row.kind == kind);
    rows.any(|row| match kind {
        Kind::Value => row.with.iter().any(|(of, _)| of == name),
        _ => row.targets.iter().any(|(of, _)| of == name),
    })
}

fn row(words: &[&str], line: usize) -> Row {
    let (kind, rest) = words.split_first().unwrap();
    let kind = match *kind {
        "missing" => Kind::Missing,
        "absent" => Kind::Absent,
        "empty" => Kind::Empty,
        "type" => Kind::Type,
        "long" => Kind::Long,
        "unknown" => Kind::Unknown,
        "value" => Kind::Value,
        "state" => Kind::State,
        other => panic!("line {line}: {other:?} is no kind of misuse"),
    };
    let (outcome, rest) = match rest {
        [rest @ .., "none"] => (Outcome::NothingFound, rest),
        [rest @ .., "row", code] => (Outcome::InRow((*code).into()), rest),
        [rest @ .., code, status] => {
            let status = status.parse().unwrap_or_else(|_| panic!("line {line}: no status"));
            (Outcome::Refused((*code).into(), status), rest)
        }
        _ => panic!("line {line}: no outcome"),
    };
    let (mut by, mut targets, mut with) = (None, vec![], vec![]);
    for word in rest {
        if let Some(account) = word.strip_prefix('@') {
            by = Some(account.to_owned());
        } else if word.contains('=') {
            with.push(pair(word, line));
        } else {
            let (name, bound) = word.split_once(':').unwrap_or((word, ""));
            targets.push((name.to_owned(), bound.parse().ok()));
        }
    }
    let complete = match kind {
        Kind::Value | Kind::State => targets.is_empty(),
        Kind::Long => targets.iter().all(|(_, bound)| bound.is_some()) && !targets.is_empty(),
        _ => !targets.is_empty(),
    };
    assert!(complete, "line {line}: a misuse of what?");
    Row { line, kind, by, targets, with, outcome }
}

fn pair(word: &str, line: usize) -> (String, String) {
    let (name, value) = word.split_once('=').unwrap_or_else(|| panic!("line {line}: {word:?}"));
    (name.into(), value.into())
}
