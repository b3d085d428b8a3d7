//! What a scrape found, for every format that it is written in.

/// What a family counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows. Its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

/// Samples of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// What it counts.
    pub kind: Kind,
    /// What it means.
    pub help: String,
    /// Its samples.
    pub samples: Vec<Sample>,
}

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Label names and values.
    pub labels: Vec<(String, String)>,
    /// Its value.
    pub value: Value,
}

/// A sample's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// A duration.
    Duration(std::time::Duration),
    /// A distribution of durations.
    Histogram {
        /// Upper bounds in seconds and how many lie at or below each, growing.
        buckets: Vec<(f64, u64)>,
        /// The sum of all, seconds.
        sum: f64,
        /// How many there are.
        count: u64,
    },
}
