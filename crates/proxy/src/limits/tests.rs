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

/// Where each limit is held to its value and one past it: file and test.
const TESTED_BY: &[(&str, &str, &str)] = &[
    ("head_bytes_max", "src/http1/request/tests.rs", "boundary_head_bytes_max"),
    ("header_count_max", "src/http1/request/tests.rs", "boundary_header_count_max"),
    ("uri_bytes_max", "src/http1/request/tests.rs", "boundary_uri_bytes_max"),
    ("path_segments_max", "src/admit/tests.rs", "boundary_path_segments_max"),
    ("body_bytes_max", "src/http1/body/tests.rs", "boundary_body_bytes_max"),
    ("held_bytes_max", "src/held/budget.rs", "boundary_held_bytes_max"),
    ("held_bytes_per_address_max", "src/held/budget.rs", "boundary_held_bytes_max"),
    ("trailer_bytes_max", "src/http1/chunk/tests.rs", "boundary_trailer_bytes_max"),
    ("chunk_extension_bytes_max", "src/http1/chunk/tests.rs", "boundary_chunk_extension_bytes_max"),
    ("http2_header_list_bytes_max", "src/http2/head/tests.rs", "boundary_http2_header_list_bytes_max"),
    ("http2_heads_bytes_max", "src/serve2.rs", "boundary_http2_heads_bytes_max"),
    (
        "http2_heads_bytes_max",
        "tests/hop/limits.rs",
        "heads_that_reference_one_large_value_are_bounded_by_their_sum",
    ),
    ("connections_max", "src/accept.rs", "connections_are_counted_exactly_at_the_limit_and_one_past"),
    (
        "connections_per_address_max",
        "src/accept.rs",
        "connections_are_counted_exactly_at_the_limit_and_one_past",
    ),
    ("http2_resets_max", "src/serve2/meter.rs", "counts_at_the_limit_and_one_past_however_the_bytes_are_cut"),
    (
        "http2_idle_frames_max",
        "src/serve2/meter.rs",
        "counts_at_the_limit_and_one_past_however_the_bytes_are_cut",
    ),
    ("interim_responses_max", "tests/hop/interim.rs", "they_reach_the_client_up_to_their_number"),
    ("header_read_ms_max", "tests/hop/http1.rs", "slow_heads_idle_connections_and_silent_bodies_end"),
    ("idle_ms_max", "tests/hop/http1.rs", "slow_heads_idle_connections_and_silent_bodies_end"),
    ("body_idle_ms_max", "tests/hop/http1.rs", "slow_heads_idle_connections_and_silent_bodies_end"),
    ("stalled_ms_max", "src/upstream/fairness/tests.rs", "boundary_stalled_ms_max"),
    ("requests_per_connection_max", "tests/hop/http1.rs", "requests_on_one_connection_end_at_their_number"),
    ("drain_ms_max", "tests/hop/cores.rs", "a_drain_is_bounded"),
    ("request_ms_max", "tests/hop/limits.rs", "a_request_that_never_ends_is_ended"),
    ("request_ms_max", "tests/hop/limits.rs", "an_answer_that_never_begins_or_never_ends_is_ended"),
    ("http2_idle_frames_max", "tests/hop/limits.rs", "data_without_data_is_counted_by_its_limit_alone"),
    (
        "http2_streams_max",
        "tests/hop/limits.rs",
        "one_stream_more_than_allowed_is_refused_and_the_others_are_served",
    ),
    ("handshake_ms_max", "tests/hop/tls.rs", "a_handshake_that_does_not_come_to_its_end_is_ended"),
    // What the others in milliseconds come down to; their own tests hold that they are asked.
    ("header_read_ms_max", "src/deadline.rs", AT_ITS_MILLISECOND),
    ("idle_ms_max", "src/deadline.rs", AT_ITS_MILLISECOND),
    ("body_idle_ms_max", "src/deadline.rs", AT_ITS_MILLISECOND),
    ("request_ms_max", "src/deadline.rs", AT_ITS_MILLISECOND),
];

const AT_ITS_MILLISECOND: &str = "a_deadline_is_ready_at_its_millisecond_and_not_the_one_before";

#[test]
fn every_limit_has_a_boundary_test() {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for row in TABLE {
        let mut tests = TESTED_BY.iter().filter(|(limit, ..)| *limit == row.name).peekable();
        assert!(tests.peek().is_some(), "{} has no boundary test", row.name);
        for (_, file, test) in tests {
            let text = std::fs::read_to_string(source.join(file)).unwrap();
            assert!(text.contains(&format!("fn {test}(")), "{file} has no test {test}");
        }
    }
    let known = |name: &str| TABLE.iter().any(|row| row.name == name);
    assert!(TESTED_BY.iter().all(|(name, ..)| known(name)));
}

#[test]
fn hits_are_counted_by_name_and_classes_name_limits_that_exist() {
    let hits = Hits::default();
    hits.count("uri_bytes_max");
    hits.count("uri_bytes_max");
    hits.count("no_such_limit");
    let counted: Vec<(&str, u64)> =
        hits.iter().filter(|(_, count)| *count > 0).map(|(row, count)| (row.metric, count)).collect();
    assert_eq!(counted, [("uri_bytes", 2)]);
    for row in crate::admit::CLASSES {
        let known = row.class.limit().is_none_or(|name| TABLE.iter().any(|limit| limit.name == name));
        assert!(known, "{}", row.name);
    }
}
