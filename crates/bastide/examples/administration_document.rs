//! Prints `docs/openapi.json`.

use std::io::Write;

fn main() -> std::io::Result<()> {
    let document = bastide::admin::openapi::document();
    writeln!(std::io::stdout(), "{document:#}")
}
