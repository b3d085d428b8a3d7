//! Prints `docs/bastide.schema.json`.

use std::io::Write;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(bastide::config::json_schema().as_bytes())
}
