//! "Did you mean …?" for a name that is not known.

/// ` (did you mean "orders"?)` for the [nearest] of the known names, or nothing.
pub fn suggestion<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(found, known).map_or_else(String::new, |name| format!(" (did you mean {name:?}?)"))
}

/// The name among `known` that `found` was probably meant to be.
///
/// Case counts for nothing, nor does whether words are joined by `-` or by `_`. A typing error
/// is one letter wrong, left out, added or exchanged with its neighbour; a name may have one, and
/// one more for each four of its letters. Of several that are equally near it is the first.
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = folded(found);
    let found_length = found.chars().count();
    known
        .into_iter()
        .filter_map(|name| {
            let length = name.chars().count();
            let distance_max = (1 + length / 4).min(length.saturating_sub(1));
            // Each letter more or less is an error at least.
            let name = Some(name).filter(|_| length.abs_diff(found_length) <= distance_max)?;
            let distance = strsim::damerau_levenshtein(&found, &folded(name));
            (distance <= distance_max).then_some((distance, name))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn folded(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_is_near_and_nothing_else() {
        let known = ["orders", "payments", "head_bytes_max"];
        assert_eq!(nearest("oders", known), Some("orders"));
        assert_eq!(nearest("Orders", known), Some("orders"));
        assert_eq!(nearest("head-bytes-max", known), Some("head_bytes_max"));
        assert_eq!(nearest("catalogue", known), None);
        assert_eq!(nearest("b", ["a"]), None);
        assert_eq!(suggestion("oders", known), " (did you mean \"orders\"?)");
        assert_eq!(suggestion("catalogue", known), "");
    }
}
