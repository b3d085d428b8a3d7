//! `limits:`: the limits of the hop, by the names of its table.

use proxy::limits::{Limits, Row, TABLE, Unit};

use super::decoder::Decoder;
use super::node::Node;
use super::values;

impl Decoder<'_> {
    /// `limits:`
    pub(super) fn limits(&mut self, node: Option<&Node>) -> Limits {
        let mut limits = Limits::default();
        let Some(node) = node else { return limits };
        for (name, node) in self.named(node, "a map of limits") {
            let Some(row) = TABLE.iter().find(|row| row.name == name.text) else {
                self.unknown(name.at, "limit", &name.text, TABLE.iter().map(|row| row.name));
                continue;
            };
            let number = match row.unit {
                Unit::Bytes => self.value(node, values::size),
                Unit::Count => self.number(node, 0, u64::MAX),
                // The name says milliseconds, so a bare number is taken for them.
                Unit::Milliseconds if node.text().is_some_and(|text| text.parse::<u64>().is_ok()) => {
                    self.number(node, 0, u64::MAX)
                }
                Unit::Milliseconds => {
                    self.value(node, values::duration).and_then(|d| u64::try_from(d.as_millis()).ok())
                }
            };
            let Some(number) = number else { continue };
            if limits.set(row.name, number).is_err() {
                let message = format!(
                    "{} is from {} to {}, found {}",
                    row.name,
                    written(row, row.smallest),
                    written(row, row.largest),
                    node.shown()
                );
                self.fault(node.at, message);
            }
        }
        limits
    }
}

/// A limit's value as it is written in the configuration.
pub(super) fn written(row: &Row, number: u64) -> String {
    let steps: &[(u64, &str)] = match row.unit {
        Unit::Count => &[],
        Unit::Bytes => &[(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")],
        Unit::Milliseconds => &[(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")],
    };
    for (size, unit) in steps {
        if number >= *size && number.is_multiple_of(*size) {
            return format!("{}{unit}", number / size);
        }
    }
    match row.unit {
        Unit::Milliseconds => format!("{number}ms"),
        Unit::Bytes | Unit::Count => number.to_string(),
    }
}
