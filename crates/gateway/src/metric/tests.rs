use std::collections::HashMap;

use super::*;

/// Reads a page as strictly as a scraper does: every sample belongs to the family that
/// was announced last, no sample is there twice, counters end in `_total`.
fn parse(page: &str) -> HashMap<String, f64> {
    let mut samples = HashMap::new();
    let mut families: Vec<String> = Vec::new();
    let (mut family, mut kind) = (String::new(), String::new());
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap().to_owned();
            assert!(!families.contains(&family), "{family} twice");
            families.push(family.clone());
        } else if let Some(announced) = line.strip_prefix("# TYPE ") {
            let (name, its_kind) = announced.split_once(' ').unwrap();
            assert_eq!(name, family);
            kind = its_kind.to_owned();
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let belongs = match kind.as_str() {
                "histogram" => {
                    ["_bucket", "_sum", "_count"].iter().any(|end| name == format!("{family}{end}"))
                }
                _ => name == family,
            };
            assert!(belongs, "{line} after {family}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(series.contains('{'), series.ends_with('}'), "{series}");
            assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{series} twice");
        }
    }
    samples
}

#[test]
fn cores_are_summed_and_every_family_is_there() {
    let (registry, cores) = Registry::new(3);
    let (orders, payments) = (registry.route("orders"), registry.route("payments"));
    let service = registry.service("orders");
    let limit = registry.limit("orders: 100/minute per user");
    for core in &cores {
        core.request(Some(orders), 200, Step::Forward, Duration::from_millis(1));
        core.request(Some(payments), 403, Step::Authorize, Duration::from_micros(10));
        core.request(None, 0, Step::Admit, Duration::from_secs(100));
        core.refused(Step::Authorize, "default_deny");
        core.admission_refused("duplicate_host");
        core.limit_hit(limit);
        core.upstream(service, 3, 2);
        core.token_cache(9, 1);
        core.decision_cache(policy::CacheCounts { hits: 8, misses: 2, bypassed: 1 });
        core.bytes(5, 7);
    }
    let samples = parse(&registry.render());
    for (series, value) in [
        ("bastide_requests_total{route=\"orders\",status=\"2xx\",step=\"forward\"}", 3.0),
        ("bastide_requests_total{route=\"payments\",status=\"4xx\",step=\"authorize\"}", 3.0),
        ("bastide_requests_total{route=\"other\",status=\"none\",step=\"admit\"}", 3.0),
        ("bastide_refusals_total{step=\"authorize\",reason=\"default_deny\"}", 3.0),
        ("bastide_admission_refusals_total{class=\"duplicate_host\"}", 3.0),
        ("bastide_limit_hits_total{limit=\"orders: 100/minute per user\"}", 3.0),
        ("bastide_upstream_attempts_total{service=\"orders\"}", 9.0),
        ("bastide_upstream_failures_total{service=\"orders\"}", 6.0),
        ("bastide_token_cache_total{result=\"hit\"}", 27.0),
        ("bastide_token_cache_total{result=\"miss\"}", 3.0),
        ("bastide_decision_cache_total{result=\"hit\"}", 24.0),
        ("bastide_decision_cache_total{result=\"miss\"}", 6.0),
        ("bastide_decision_cache_total{result=\"bypassed\"}", 3.0),
        ("bastide_body_bytes_total{direction=\"in\"}", 15.0),
        ("bastide_body_bytes_total{direction=\"out\"}", 21.0),
        ("bastide_request_duration_seconds_bucket{le=\"0.0000625\"}", 3.0),
        ("bastide_request_duration_seconds_bucket{le=\"0.001\"}", 6.0),
        ("bastide_request_duration_seconds_bucket{le=\"65.536\"}", 6.0),
        ("bastide_request_duration_seconds_bucket{le=\"+Inf\"}", 9.0),
        ("bastide_request_duration_seconds_count", 9.0),
        ("bastide_request_duration_seconds_sum", 300.00303),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
}

#[test]
fn an_idle_registry_is_a_valid_page() {
    let (registry, _cores) = Registry::new(2);
    registry.route("orders");
    registry.service("orders");
    let samples = parse(&registry.render());
    assert_eq!(samples.get("bastide_upstream_attempts_total{service=\"orders\"}"), Some(&0.0));
    assert_eq!(samples.get("bastide_token_cache_total{result=\"hit\"}"), Some(&0.0));
}

#[test]
fn audit_and_limiter_bring_their_families() {
    let (registry, _cores) = Registry::new(1);
    registry.add_audit(Arc::default());
    registry.add_limiter(Arc::new(proxy::rate::Limiter::new(1, [1, 2])));
    let samples = parse(&registry.render());
    assert_eq!(samples.get("bastide_audit_healthy"), Some(&1.0));
    assert_eq!(samples.get("bastide_audit_pending_events"), Some(&0.0));
    assert_eq!(samples.get("bastide_limit_shared_total"), Some(&0.0));
}

#[test]
fn names_are_bounded_and_keep_their_label() {
    let names: Names<String> = Names::new(3);
    let label = |name: &str| names.label(name, || name.to_owned());
    let first: Vec<Label> = ["a", "b", "c"].map(label).to_vec();
    assert_eq!(first, [Label(1), Label(2), Label(3)]);
    assert_eq!(label("d"), Label(0), "one past the limit");
    assert_eq!(["c", "b", "a"].map(label), [Label(3), Label(2), Label(1)]);
    assert_eq!(names.all().len(), 4);
}

#[test]
fn reasons_past_the_limit_are_counted_as_other() {
    let (registry, cores) = Registry::new(1);
    for n in 0..REASONS_MAX + 2 {
        cores[0].refused(Step::Route, Box::leak(format!("reason_{n}").into_boxed_str()));
    }
    let samples = parse(&registry.render());
    let last = format!("bastide_refusals_total{{step=\"route\",reason=\"reason_{}\"}}", REASONS_MAX - 1);
    assert_eq!(samples.get(&last), Some(&1.0));
    assert_eq!(samples.get("bastide_refusals_total{step=\"route\",reason=\"other\"}"), Some(&2.0));
}

#[test]
fn label_values_are_escaped() {
    let (registry, cores) = Registry::new(1);
    let route = registry.route("a\"b\\c\nd} 1");
    cores[0].request(Some(route), 999, Step::Route, Duration::ZERO);
    let page = registry.render();
    assert!(page.contains("{route=\"a\\\"b\\\\c\\nd} 1\",status=\"none\",step=\"route\"} 1\n"), "{page}");
    parse(&page);
}

#[test]
fn durations_fall_into_the_first_bucket_that_holds_them() {
    for (nanos, expected) in [
        (0, 0),
        (62_500, 0),
        (62_501, 1),
        (125_000, 1),
        (125_001, 2),
        (65_536_000_000, BUCKETS - 1),
        (65_536_000_001, BUCKETS),
        (u64::MAX >> 1, BUCKETS),
    ] {
        assert_eq!(bucket(nanos), expected, "{nanos}");
    }
}

#[test]
fn scrapes_while_cores_count_see_no_more_than_was_counted() {
    let (registry, cores) = Registry::new(4);
    let route = registry.route("orders");
    std::thread::scope(|scope| {
        for core in cores {
            scope.spawn(move || {
                for _ in 0..20_000 {
                    core.request(Some(route), 200, Step::Forward, Duration::from_micros(50));
                }
            });
        }
        let series = "bastide_requests_total{route=\"orders\",status=\"2xx\",step=\"forward\"}";
        let mut last = 0.0;
        for _ in 0..20 {
            let seen = parse(&registry.render()).get(series).copied().unwrap_or(0.0);
            assert!(seen >= last && seen <= 80_000.0);
            last = seen;
        }
    });
    let series = "bastide_requests_total{route=\"orders\",status=\"2xx\",step=\"forward\"}";
    assert_eq!(parse(&registry.render()).get(series), Some(&80_000.0));
}

#[test]
fn calls_are_counted_by_caller_and_callee_up_to_a_bound() {
    let (registry, cores) = Registry::new(2);
    let (payments, orders) = (registry.service("payments"), registry.service("orders"));
    let caller = "spiffe://shop.example/orders";
    for core in &cores {
        core.call(Reporter::Callee, caller, ("payments", payments), 200, Duration::from_millis(1));
        core.call(Reporter::Callee, caller, ("payments", payments), 403, Duration::from_millis(1));
        core.call(Reporter::Caller, caller, ("orders", orders), 503, Duration::from_secs(100));
    }
    let samples = parse(&registry.render());
    let pair = |callee: &str, reporter: &str| {
        format!("callee=\"{callee}\",caller=\"{caller}\",reporter=\"{reporter}\"")
    };
    for (series, value) in [
        (format!("bastide_mesh_requests_total{{{},status=\"2xx\"}}", pair("payments", "callee")), 2.0),
        (format!("bastide_mesh_requests_total{{{},status=\"4xx\"}}", pair("payments", "callee")), 2.0),
        (format!("bastide_mesh_requests_total{{{},status=\"5xx\"}}", pair("orders", "caller")), 2.0),
        (
            format!(
                "bastide_mesh_request_duration_seconds_bucket{{{},le=\"0.001\"}}",
                pair("payments", "callee")
            ),
            4.0,
        ),
        (format!("bastide_mesh_request_duration_seconds_count{{{}}}", pair("payments", "callee")), 4.0),
        (format!("bastide_mesh_request_duration_seconds_sum{{{}}}", pair("orders", "caller")), 200.0),
    ] {
        assert_eq!(samples.get(&series), Some(&value), "{series}");
    }
    // As many callers as there are, and one more.
    for number in 0..=PAIRS_MAX {
        let caller = format!("spiffe://shop.example/{number}");
        cores[0].call(Reporter::Callee, &caller, ("payments", payments), 200, Duration::ZERO);
    }
    let page = registry.render();
    let counted = page.lines().filter(|line| line.starts_with("bastide_mesh_requests_total")).count();
    assert!(counted <= PAIRS_MAX + 2, "{counted}");
    assert!(page.contains("callee=\"other\""), "{page}");
}
