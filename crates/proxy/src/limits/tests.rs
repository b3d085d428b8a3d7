use super::*;

#[test]
fn each_limit_can_be_set_to_both_ends_of_its_range_and_no_further() {
    for row in TABLE {
        let mut limits = Limits::default();
        assert_eq!(limits.get(row.name), Some(row.default), "{}", row.name);
        assert!(row.smallest <= row.default && row.default <= row.largest, "{}", row.name);
        for honest in [row.smallest, row.largest] {
            limits.set(row.name, honest).unwrap();
            assert_eq!(limits.get(row.name), Some(honest), "{}", row.name);
        }
        let past = limits.set(row.name, row.largest + 1);
        assert!(matches!(past, Err(LimitError::OutOfRange { .. })), "{}", row.name);
        if row.smallest > 0 {
            assert!(limits.set(row.name, row.smallest - 1).is_err(), "{}", row.name);
        }
        assert_eq!(limits.get(row.name), Some(row.largest), "a refused value changes nothing: {}", row.name);
    }
}

#[test]
fn names_and_metric_labels_are_used_once() {
    for (at, row) in TABLE.iter().enumerate() {
        let others = TABLE.iter().skip(at + 1);
        assert!(
            others.clone().all(|other| other.name != row.name && other.metric != row.metric),
            "{}",
            row.name
        );
        assert!(row.name.ends_with("_max") && !row.doc.is_empty() && row.doc.ends_with('.'), "{}", row.name);
    }
    assert!(matches!(Limits::default().set("head_byte_max", 1), Err(LimitError::Unknown { .. })));
}
