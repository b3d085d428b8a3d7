use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use model::PrincipalKind;
use proptest::prelude::*;

use super::*;

const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

fn rule(count: u32, per: Duration, burst: u32) -> Rule {
    Rule::new(1, "test", count, per, burst).unwrap()
}

fn minute(count: u32, burst: u32) -> Rule {
    rule(count, Duration::from_secs(60), burst)
}

fn v4(n: u32) -> Subject<'static> {
    Subject::Address(Ipv4Addr::from_bits(n).into())
}

/// GCRA as it is written down, with no table around it.
#[derive(Default)]
struct Model {
    tat: HashMap<String, u64>,
}

impl Model {
    fn check(&mut self, rule: &Rule, key: &str, now: u64) -> bool {
        let tat = self.tat.entry(key.to_owned()).or_default();
        let after = (*tat).max(now) + rule.interval_nanos;
        let allowed = after <= now + rule.interval_nanos * u64::from(rule.burst);
        if allowed {
            *tat = after;
        }
        allowed
    }
}

#[test]
fn a_minute_admits_count_and_burst_and_no_more() {
    for (count, burst) in [(100, 20), (100, 100), (1, 1), (7, 3), (6000, 1)] {
        let limiter = Limiter::new(1000, SEED);
        let rule = minute(count, burst);
        let step = Duration::from_secs(60) / (count * 10);
        let admitted =
            (0..=count * 10).filter(|&n| limiter.check(&rule, v4(1), step * n).allowed).count() as u32;
        // The last of the minute falls on its very end; a period that does not divide
        // is rounded up, and then it falls just after.
        let divides = 60_000_000_000u64.is_multiple_of(u64::from(count));
        assert_eq!(admitted, count + burst - u32::from(!divides), "{count}/minute burst {burst}");
    }
}

#[test]
fn threads_together_are_admitted_count_and_burst_exactly() {
    let limiter = Limiter::new(1000, SEED);
    let rule = minute(100, 20);
    // Time in milliseconds, moved by whoever gets there, up to one minute.
    let clock = AtomicU64::new(0);
    let admitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let millis = clock.fetch_add(1, Ordering::SeqCst);
                    if millis > 60_000 {
                        break;
                    }
                    for _ in 0..3 {
                        if limiter.check(&rule, v4(1), Duration::from_millis(millis)).allowed {
                            admitted.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            });
        }
    });
    let admitted = admitted.into_inner();
    assert!(admitted <= 120, "{admitted} is more than 100 + 20");
    // A thread may be late with the minute's last milliseconds: then the next one up
    // takes the place. Only the very last tokens can be lost that way.
    assert!(admitted >= 119, "{admitted}");
}

#[test]
fn threads_at_one_instant_are_admitted_the_burst_exactly() {
    for burst in [1, 20, 1000] {
        let limiter = Limiter::new(1, SEED);
        let rule = minute(100, burst);
        let admitted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if limiter.check(&rule, v4(1), Duration::ZERO).allowed {
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(admitted.into_inner(), u64::from(burst));
    }
}

#[test]
fn threads_fighting_over_few_cells_never_admit_too_many() {
    // Seven cells, forty keys: cells change hands all the time, and most keys are
    // charged to shared cells between two cells of their own.
    let limiter = Limiter::new(1, SEED);
    let rule = rule(1000, Duration::from_secs(1), 2);
    let clock = AtomicU64::new(0);
    let admitted: Vec<AtomicU64> = (0..40).map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let (limiter, rule, clock, admitted) = (&limiter, &rule, &clock, &admitted);
            scope.spawn(move || {
                let mut random = thread + 1;
                loop {
                    let micros = clock.fetch_add(5, Ordering::SeqCst);
                    if micros > 500_000 {
                        break;
                    }
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let key = (random >> 33) as u32 % 40;
                    // Every key in a /16 of its own.
                    if limiter.check(rule, v4(key << 16), Duration::from_micros(micros)).allowed {
                        admitted[key as usize].fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert!(limiter.shared_total() > 0, "the set was never full: the test shows nothing");
    for (key, admitted) in admitted.iter().enumerate() {
        let admitted = admitted.load(Ordering::Relaxed);
        assert!(admitted <= 502, "key {key}: {admitted}");
        assert!(admitted > 0, "key {key} was shut out");
    }
}

#[test]
fn an_unexpired_cell_is_never_given_away() {
    let limiter = Limiter::new(1, SEED);
    let rule = minute(1, 1);
    // Fills all seven cells of the only set.
    for n in 0..7 {
        assert!(limiter.check(&rule, v4(n << 16), Duration::ZERO).allowed, "{n}");
    }
    // Strangers come in numbers, at the same time and up to the last nanosecond.
    let almost = Duration::from_secs(60) - Duration::from_nanos(1);
    for n in 100..20_000 {
        limiter.check(&rule, v4(n << 8), if n % 2 == 0 { Duration::ZERO } else { almost });
    }
    for n in 0..7 {
        assert!(!limiter.check(&rule, v4(n << 16), almost).allowed, "{n} was forgotten");
    }
    // At its time each is as new.
    for n in 0..7 {
        assert!(limiter.check(&rule, v4(n << 16), Duration::from_secs(60)).allowed, "{n}");
    }
}

#[test]
fn a_full_set_shares_a_cell_by_prefix() {
    let limiter = Limiter::new(1, SEED);
    let rule = minute(1, 2);
    for n in 0..7 {
        limiter.check(&rule, v4(n), Duration::ZERO);
    }
    // 10.0.0.0/16: the neighbours are admitted one burst together.
    let neighbours: Vec<Decision> =
        (0..5).map(|n| limiter.check(&rule, v4((10 << 24) | n), Duration::ZERO)).collect();
    assert!(neighbours.iter().all(|decision| decision.shared));
    assert_eq!(neighbours.iter().filter(|decision| decision.allowed).count(), 2);
    // 10.1.0.0/16 is none of their business, and not refused.
    let stranger = limiter.check(&rule, v4((10 << 24) | (1 << 16)), Duration::ZERO);
    assert!(stranger.shared && stranger.allowed);
    // What was used of the shared cell stays used when there is room again: the first
    // set of cells frees at 61 s, the shared cell owes until 120 s.
    let soon = Duration::from_secs(61);
    let own = limiter.check(&rule, v4(10 << 24), soon);
    assert!(own.allowed && !own.shared);
    assert_eq!(own.remaining, 0);
    assert!(!limiter.check(&rule, v4(10 << 24), soon).allowed);
}

#[test]
fn a_full_set_is_no_concern_of_other_sets() {
    // Two sets; the keys are all of one /16, whose shared cell will be used up.
    let limiter = Limiter::new(14, SEED);
    let rule = minute(1, 1);
    let of_set = |wanted: usize| {
        let limiter = &limiter;
        let rule = &rule;
        (0..).map(v4).filter(move |subject| limiter.table.set_number(rule, *subject) == wanted)
    };
    let crowded: Vec<Decision> =
        of_set(0).take(9).map(|key| limiter.check(&rule, key, Duration::ZERO)).collect();
    assert!(crowded[8].shared && !crowded[8].allowed, "the shared cell is used up");
    for key in of_set(1).take(7) {
        let decision = limiter.check(&rule, key, Duration::ZERO);
        assert!(decision.allowed && !decision.shared, "{key:?} {decision:?}");
    }
}

#[test]
fn an_old_clock_does_not_bring_an_evicted_key_back_fresher() {
    let limiter = Limiter::new(1, SEED);
    let rule = rule(1, Duration::from_secs(1), 1);
    assert!(limiter.check(&rule, v4(0), Duration::ZERO).allowed);
    // A core that is ahead evicts it…
    let ahead = Duration::from_millis(1500);
    for n in 1..8 {
        limiter.check(&rule, v4(n << 16), ahead);
    }
    // …and one that is behind finds it gone. It counts from where the first one was,
    // not from its own old time: the next is due at 2.5 s, not at 1.5 s.
    assert!(limiter.check(&rule, v4(0), Duration::from_millis(500)).allowed);
    assert!(!limiter.check(&rule, v4(0), Duration::from_millis(2499)).allowed);
    assert!(limiter.check(&rule, v4(0), Duration::from_millis(2500)).allowed);
}

#[test]
fn ten_million_keys_keep_memory_fixed() {
    let limiter = Limiter::new(100_000, SEED);
    let rule = minute(10, 1);
    let before = limiter.bytes();
    assert!(before < 4 << 20, "{before}");
    let attacker = v4(0xc000_0201);
    assert!(limiter.check(&rule, attacker, Duration::ZERO).allowed);
    let mut admitted = 0u64;
    for n in 0..10_000_000u64 {
        // IPv6, each a subscriber of its own, 10,000 of them in each /32.
        let address =
            Ipv6Addr::from_bits((u128::from(0x2001_0000 + n / 10_000) << 96) | (u128::from(n) << 64));
        admitted += u64::from(limiter.check(&rule, Subject::Address(address.into()), Duration::ZERO).allowed);
    }
    assert_eq!(limiter.bytes(), before);
    assert!(limiter.shared_total() > 9_000_000);
    // Nobody was forgotten, and the table was used up before anybody had to share.
    assert!(!limiter.check(&rule, attacker, Duration::ZERO).allowed);
    assert!((100_000..130_000).contains(&admitted), "{admitted}");
}

#[test]
fn a_refused_request_costs_nothing_of_the_other_limits() {
    let limiter = Limiter::new(1000, SEED);
    let wide = Rule::new(1, "wide", 100, Duration::from_secs(60), 10).unwrap();
    let narrow = Rule::new(2, "narrow", 1, Duration::from_secs(60), 2).unwrap();
    for order in [[0, 1], [1, 0]] {
        let user = format!("alice{order:?}");
        let both = [
            Charge { rule: &wide, subject: Subject::Principal(PrincipalKind::User, &user) },
            Charge { rule: &narrow, subject: Subject::Principal(PrincipalKind::User, &user) },
        ];
        let charges = order.map(|at| both[at]);
        for _ in 0..2 {
            let grant = limiter.grant(&charges, Duration::ZERO).unwrap();
            assert_eq!(grant.standings().len(), 2);
        }
        for _ in 0..50 {
            let refused = limiter.grant(&charges, Duration::ZERO).unwrap_err();
            let Refused::Rate { charge, decision } = refused else { panic!("{refused:?}") };
            assert_eq!(charges[charge].rule.name(), "narrow");
            assert_eq!(decision.retry_after, Duration::from_secs(60));
        }
        let wide_alone = limiter.check(&wide, both[0].subject, Duration::ZERO);
        assert_eq!(wide_alone.remaining, 7, "two granted, one asked now, of ten");
    }
}

#[test]
fn what_was_charged_before_a_late_refusal_is_taken_back() {
    // One set: `wide` has one of its cells, six neighbours have the rest, and a
    // seventh has used up what they share. An eighth is therefore known to be refused
    // only when it is charged.
    let limiter = Limiter::new(1, SEED);
    let wide = Rule::new(1, "wide", 1, Duration::from_secs(60), 10).unwrap();
    let narrow = Rule::new(2, "narrow", 1, Duration::from_secs(60), 1).unwrap();
    assert_eq!(limiter.check(&wide, Subject::Route("orders"), Duration::ZERO).remaining, 9);
    for n in 0..7 {
        assert!(limiter.check(&narrow, v4(n), Duration::ZERO).allowed);
    }
    let charges =
        [Charge { rule: &wide, subject: Subject::Route("orders") }, Charge { rule: &narrow, subject: v4(7) }];
    for _ in 0..20 {
        let refused = limiter.grant(&charges, Duration::ZERO).unwrap_err();
        assert!(matches!(refused, Refused::Rate { charge: 1, decision } if decision.shared), "{refused:?}");
    }
    assert_eq!(limiter.check(&wide, Subject::Route("orders"), Duration::ZERO).remaining, 8);
}

#[test]
fn threads_racing_for_the_last_token_give_the_rest_back() {
    let wide = Rule::new(1, "wide", 1000, Duration::from_secs(1), 100_000).unwrap();
    let narrow = Rule::new(2, "narrow", 1000, Duration::from_secs(1), 500).unwrap();
    let limiter = Limiter::new(1000, SEED);
    let admitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let charges = [
                        Charge { rule: &wide, subject: Subject::Route("orders") },
                        Charge { rule: &narrow, subject: Subject::Route("orders") },
                    ];
                    if limiter.grant(&charges, Duration::ZERO).is_ok() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 500);
    let left = limiter.check(&wide, Subject::Route("orders"), Duration::ZERO).remaining + 1;
    // At most one charge of each losing thread may stay; never is one too many given.
    assert!((100_000 - 500 - 8..=100_000 - 500).contains(&left), "{left}");
}

#[test]
fn a_grant_holds_its_slot_and_refusals_hold_none() {
    let limiter = Limiter::new(1000, SEED);
    let rule = minute(1, 2);
    let charges = [Charge { rule: &rule, subject: Subject::Route("orders") }];
    let limit = Concurrency::new(1);
    let grant = limiter.grant_with(&charges, &[&limit], Duration::ZERO).unwrap();
    let refused = limiter.grant_with(&charges, &[&limit], Duration::ZERO).unwrap_err();
    assert_eq!(refused, Refused::Concurrency { limit: 0 });
    drop(grant);
    // The concurrency refusal was not charged to the rate: one of two is left.
    let grant = limiter.grant_with(&charges, &[&limit], Duration::ZERO).unwrap();
    assert_eq!(grant.standings(), [Standing { rule: 1, remaining: 0, reset_seconds: 120 }]);
    drop(grant);
    assert!(matches!(
        limiter.grant_with(&charges, &[&limit], Duration::ZERO),
        Err(Refused::Rate { charge: 0, .. })
    ));
    assert_eq!(limit.inside(), 0);
}

#[test]
fn a_grant_can_be_extended_and_a_request_without_limits_gets_one() {
    let limiter = Limiter::new(1000, SEED);
    let rule = minute(1, 1);
    let mut grant = limiter.grant(&[], Duration::ZERO).unwrap();
    assert!(grant.standings().is_empty());
    let charges = [Charge { rule: &rule, subject: Subject::ApiKey("ci") }];
    limiter.extend(&mut grant, &charges, &[], Duration::ZERO).unwrap();
    assert_eq!(grant.standings().len(), 1);
    assert!(limiter.extend(&mut grant, &charges, &[], Duration::ZERO).is_err());
    assert_eq!(grant.standings().len(), 1);
}

#[test]
fn subjects_that_differ_count_apart_and_those_that_do_not_together() {
    let address = |text: &str| Subject::Address(text.parse::<IpAddr>().unwrap());
    let table = [
        (address("192.0.2.1"), address("192.0.2.2"), false),
        (address("192.0.2.1"), address("::ffff:192.0.2.1"), true),
        (address("2001:db8::1"), address("2001:db8::2"), true),
        (address("2001:db8:0:1::1"), address("2001:db8:0:2::1"), false),
        (Subject::ApiKey("x"), Subject::Route("x"), false),
        (Subject::Principal(PrincipalKind::User, "x"), Subject::Principal(PrincipalKind::Client, "x"), false),
        (Subject::Principal(PrincipalKind::ApiKey, "x"), Subject::ApiKey("x"), false),
        (Subject::Route("x"), Subject::Route("x"), true),
    ];
    for (one, other, same) in table {
        let limiter = Limiter::new(1000, SEED);
        let rule = minute(1, 1);
        assert!(limiter.check(&rule, one, Duration::ZERO).allowed);
        assert_eq!(limiter.check(&rule, other, Duration::ZERO).allowed, !same, "{one:?} {other:?}");
        // The same subject under another rule, or other numbers, is a fresh count.
        let second = Rule::new(2, "second", 1, Duration::from_secs(60), 1).unwrap();
        assert!(limiter.check(&second, one, Duration::ZERO).allowed);
        assert!(limiter.check(&minute(2, 1), one, Duration::ZERO).allowed);
    }
}

#[test]
fn rules_that_cannot_be_kept_are_refused_by_their_reason() {
    let day = Duration::from_secs(86_400);
    let new = |count, per, burst| Rule::new(1, "r", count, per, burst).map(|_| ());
    let name = || "r".to_owned();
    for (given, expected) in [
        (new(0, day, 1), Err(UnfitRule::NoCount { name: name() })),
        (new(1, day, 0), Err(UnfitRule::NoBurst { name: name() })),
        (
            new(2, Duration::from_nanos(1), 1),
            Err(UnfitRule::TooFast { name: name(), count: 2, per: Duration::from_nanos(1) }),
        ),
        (new(1, Duration::from_nanos(1), 1), Ok(())),
        (new(1, Duration::ZERO, 1), Err(UnfitRule::TooFast { name: name(), count: 1, per: Duration::ZERO })),
        (new(1, day, 366), Ok(())),
        (new(1, day, 367), Err(UnfitRule::TooSlow { name: name(), burst: 367 })),
        (new(1, Duration::MAX, u32::MAX), Err(UnfitRule::TooSlow { name: name(), burst: u32::MAX })),
        (new(u32::MAX, day, u32::MAX), Ok(())),
    ] {
        assert_eq!(given, expected);
    }
}

#[test]
fn times_at_the_ends_of_the_scale_do_not_overflow() {
    let limiter = Limiter::new(1, SEED);
    let rule = rule(1, Duration::from_secs(86_400), 366);
    for now in [Duration::ZERO, Duration::from_secs(u64::MAX / 4), Duration::MAX] {
        assert!(limiter.check(&rule, v4(1), now).allowed, "{now:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn agrees_with_gcra_as_written(
        count in 1u32..50,
        burst in 1u32..10,
        per_millis in 1u64..5000,
        steps in prop::collection::vec((0u32..200, 0u64..400_000_000), 1..400),
    ) {
        let rule = rule(count, Duration::from_millis(per_millis), burst);
        // Room for all keys: what is asked here is the arithmetic and the eviction.
        let limiter = Limiter::new(4096, SEED);
        let mut model = Model::default();
        let mut now = 0;
        for (key, passed) in steps {
            now += passed;
            let decision = limiter.check(&rule, v4(key), Duration::from_nanos(now));
            prop_assert_eq!(decision.allowed, model.check(&rule, &key.to_string(), now));
            prop_assert!(!decision.shared);
            if !decision.allowed {
                let early = decision.retry_after - Duration::from_nanos(1);
                prop_assert!(decision.retry_after > Duration::ZERO);
                let at = |wait: Duration| Duration::from_nanos(now) + wait;
                prop_assert!(!limiter.check(&rule, v4(key), at(early)).allowed);
            }
        }
    }

    #[test]
    fn with_few_cells_never_admits_what_gcra_as_written_refuses(
        burst in 1u32..4,
        steps in prop::collection::vec((0u32..30, 0u64..300_000_000), 1..400),
    ) {
        let rule = rule(1, Duration::from_secs(1), burst);
        let limiter = Limiter::new(1, SEED);
        let mut model = Model::default();
        let mut now = 0;
        for (key, passed) in steps {
            now += passed;
            let allowed = limiter.check(&rule, v4(key << 16), Duration::from_nanos(now)).allowed;
            // The model is charged only with what was admitted, and must agree.
            prop_assert!(!allowed || model.check(&rule, &key.to_string(), now), "key {} at {}", key, now);
        }
    }
}
