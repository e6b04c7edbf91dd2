//! The text form of metrics, for what is counted elsewhere and only read here.
//!
//! What must always hold: a name comes once, with its help and kind before its samples; a sample that is
//! no longer told is gone from the page, which a recorder with a memory could not do.
//! Left to others: what there is to tell (`probes`), what the front itself counts (`metering`).

use std::fmt::Write as _;

use block_store::HistogramView;

/// The page as far as it is written.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

/// What a family of samples is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
}

/// A label and its value, whose text is one of ours or an id of ours: nothing in it needs escaping.
pub(crate) type Label<'l> = (&'static str, &'l str);

/// What a histogram counted, in which unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Shown in seconds.
    Nanoseconds,
    /// Shown as it is.
    Count,
}

impl Page {
    /// Begins a family; its samples follow.
    pub(crate) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.head(name, kind, help);
    }

    /// One sample of the family.
    pub(crate) fn sample(&mut self, name: &str, labels: &[Label<'_>], value: u64) {
        self.line(name, &shown(labels, None), &value.to_string());
    }

    /// A family of histograms that differ in their labels, or a single one.
    pub(crate) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        unit: Unit,
        members: &[(&[Label<'_>], &HistogramView)],
    ) {
        self.head(name, "histogram", help);
        for (labels, view) in members {
            self.histogram(name, labels, unit, view);
        }
    }

    fn histogram(&mut self, name: &str, labels: &[Label<'_>], unit: Unit, view: &HistogramView) {
        let bounds = view.bounds.iter().map(|bound| unit.show(*bound));
        let bounds = bounds.chain(["+Inf".into()]);
        let mut below = 0;
        for (bound, count) in bounds.zip(&view.counts) {
            below += count;
            let labels = shown(labels, Some(&bound));
            self.line(&format!("{name}_bucket"), &labels, &below.to_string());
        }
        let labels = shown(labels, None);
        self.line(&format!("{name}_sum"), &labels, &unit.show(view.sum));
        self.line(&format!("{name}_count"), &labels, &below.to_string());
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: &str) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    /// The text.
    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

impl Unit {
    fn show(self, value: u64) -> String {
        match self {
            Self::Count => value.to_string(),
            Self::Nanoseconds => {
                let fraction = format!("{:09}", value % 1_000_000_000);
                let fraction = fraction.trim_end_matches('0');
                let point = if fraction.is_empty() { "" } else { "." };
                format!("{}{point}{fraction}", value / 1_000_000_000)
            }
        }
    }
}

fn shown(labels: &[Label<'_>], bound: Option<&str>) -> String {
    let both = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
    let pairs: Vec<_> = both.map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

#[cfg(test)]
mod tests {
    use block_store::Histogram;

    use super::*;

    #[test]
    fn a_histogram_adds_up_and_is_shown_in_seconds() {
        let times = Histogram::of_times();
        times.observe(60_000);
        times.observe(7_000_000_000);
        let view = times.view();
        let mut page = Page::default();
        page.histograms("t_seconds", "Times.", Unit::Nanoseconds, &[(&[("phase", "a")], &view)]);
        let text = page.into_text();
        for line in [
            "# TYPE t_seconds histogram",
            r#"t_seconds_bucket{phase="a",le="0.00005"} 0"#,
            r#"t_seconds_bucket{phase="a",le="0.0001"} 1"#,
            r#"t_seconds_bucket{phase="a",le="5"} 1"#,
            r#"t_seconds_bucket{phase="a",le="+Inf"} 2"#,
            r#"t_seconds_sum{phase="a"} 7.00006"#,
            r#"t_seconds_count{phase="a"} 2"#,
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in {text}");
        }
    }
}
