//! The reference page, written from the tables that the decoder uses.

use std::fmt::Write;

use proxy::limits::{TABLE, Unit};

use super::limits::written;
use super::schema::{SECTIONS, Section};

const INTRODUCTION: &str = include_str!("reference.md");

/// `docs/configuration.md`.
pub fn reference() -> String {
    let mut page = INTRODUCTION.trim_end().to_owned();
    page.push_str("\n\n## All keys\n");
    for section in SECTIONS {
        write_section(&mut page, section);
    }
    write_limits(&mut page);
    page
}

fn write_section(page: &mut String, section: &Section) {
    let title = if section.path.is_empty() { "Top".to_owned() } else { format!("`{}`", section.path) };
    let _ = write!(page, "\n### {title}\n{}\n", section.about);
    if !section.short.is_empty() {
        let _ = write!(page, "\nShort form: {}.\n", section.short);
    }
    page.push_str("\n| key | value | default | meaning |\n|---|---|---|---|\n");
    for key in section.keys {
        let default = if key.default.is_empty() { "required" } else { key.default };
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            key.name,
            cell(key.kind),
            cell(default),
            cell(key.about)
        );
    }
}

fn write_limits(page: &mut String) {
    page.push_str("\n### `limits`\nEach limit refuses what exceeds it; none can be switched off.\n\n");
    page.push_str("| key | value | default | meaning |\n|---|---|---|---|\n");
    for row in TABLE {
        let unit = match row.unit {
            Unit::Bytes => "size",
            Unit::Count => "number",
            Unit::Milliseconds => "duration",
        };
        let _ = writeln!(
            page,
            "| `{}` | {unit} from {} to {} | {} | {} |",
            row.name,
            written(row, row.smallest),
            written(row, row.largest),
            written(row, row.default),
            cell(row.doc.trim())
        );
    }
}

/// Text that stays inside its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
