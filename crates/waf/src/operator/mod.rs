//! Operators (`@rx`, `@pm`, …): one small file each.
