//! Verdicts under other settings, held against a model of the rules that knows everything.

use std::collections::BTreeMap;

use model::event::{FirewallRaise, FirewallRecord, FirewallScores, FirewallThresholds};
use proptest::prelude::*;

use super::*;

/// What a request would meet if every rule ran: the whole truth, of which a log holds a part.
#[derive(Clone, Debug)]
struct Truth {
    matches: Vec<TrueMatch>,
}

#[derive(Clone, Debug)]
struct TrueMatch {
    id: u64,
    variable: String,
    /// The paranoia level of the rule; 0 for one that stops by itself and keeps no score.
    level: u8,
    score: u32,
    outbound: bool,
    chain: bool,
}

/// Under which settings the rules run.
#[derive(Clone, Debug)]
struct Run {
    block: bool,
    paranoia: u8,
    detection: u8,
    inbound: u32,
    outbound: u32,
    exclusions: Vec<Exclusion>,
}

impl Truth {
    /// Runs the model of the rules, and writes its line.
    fn run(&self, run: &Run) -> Line {
        let mut found = FirewallRecord {
            mode: if run.block { "block" } else { "detect" }.to_owned(),
            verdict: "passed".to_owned(),
            paranoia: Some(run.paranoia),
            paranoia_detection: Some(run.detection),
            thresholds: Some(FirewallThresholds { inbound: run.inbound, outbound: run.outbound }),
            ..FirewallRecord::default()
        };
        let mut decided: Option<u64> = None;
        for (side, judge, phase) in
            [(FirewallSide::Inbound, JUDGE_INBOUND, 2), (FirewallSide::Outbound, JUDGE_OUTBOUND, 4)]
        {
            let here = |found: &&TrueMatch| found.outbound == (side == FirewallSide::Outbound);
            let mut levels = [0_u32; 4];
            for truth in self.matches.iter().filter(here).filter(|truth| truth.level <= run.detection) {
                if run.block && decided.is_some() {
                    break;
                }
                if run.exclusions.iter().any(|exclusion| truth.is_excluded(exclusion)) {
                    continue;
                }
                let mut entry = truth.entry(side, phase);
                if truth.level == 0 {
                    entry.disruptive = true;
                    decided.get_or_insert(truth.id);
                } else {
                    levels[usize::from(truth.level) - 1] += truth.score;
                }
                found.rules.push(entry);
            }
            let total: u32 = levels[..usize::from(run.paranoia)].iter().sum();
            let threshold = if side == FirewallSide::Inbound { run.inbound } else { run.outbound };
            if total >= threshold && !(run.block && decided.is_some()) {
                found.rules.push(FirewallMatch {
                    id: judge,
                    phase,
                    judges: Some(side),
                    settles: true,
                    disruptive: true,
                    variable: "TX:score".to_owned(),
                    ..FirewallMatch::default()
                });
                decided.get_or_insert(judge);
            }
            match side {
                FirewallSide::Inbound => {
                    found.scores = FirewallScores { inbound: total, inbound_levels: levels, ..found.scores };
                }
                FirewallSide::Outbound => {
                    found.scores =
                        FirewallScores { outbound: total, outbound_levels: levels, ..found.scores };
                }
            }
        }
        let (step, status) = match (run.block, decided) {
            (true, Some(rule)) => {
                (found.verdict, found.rule) = ("blocked".to_owned(), Some(rule));
                ("inspect", 403)
            }
            (_, decided) => {
                found.intended = decided;
                if !found.rules.is_empty() {
                    found.verdict = "detected".to_owned();
                }
                ("forward", 200)
            }
        };
        Line { step: step.to_owned(), status, route: "r".to_owned(), found, ..Line::default() }
    }
}

impl TrueMatch {
    fn entry(&self, side: FirewallSide, phase: u8) -> FirewallMatch {
        let adds = vec![FirewallRaise { side, level: self.level, score: self.score }];
        FirewallMatch {
            id: self.id,
            phase,
            severity: Some(2),
            variable: self.variable.clone(),
            adds: if self.level == 0 { Vec::new() } else { adds },
            chain: self.chain,
            ..FirewallMatch::default()
        }
    }

    /// As the engine leaves targets out; of a chain the truth is that the first condition
    /// looked at something else.
    fn is_excluded(&self, exclusion: &Exclusion) -> bool {
        let Excluded::Rules(first, last) = exclusion.which else { return false };
        (first..=last).contains(&self.id)
            && exclusion.target.as_ref().is_none_or(|target| !self.chain && *target == self.variable)
    }
}

fn exclusions() -> impl Strategy<Value = Vec<Exclusion>> {
    let target = prop_oneof![Just(None), Just(Some("ARGS:a".to_owned())), Just(Some("ARGS:b".to_owned()))];
    let one =
        (1_u64..5, target).prop_map(|(id, target)| Exclusion { which: Excluded::Rules(id, id), target });
    prop::collection::vec(one, 0..3)
}

fn truths() -> impl Strategy<Value = Truth> {
    // Each rule has its level, score and kind whatever it matches.
    let one =
        (1_u64..7, prop::sample::select(vec!["ARGS:a", "ARGS:b"])).prop_map(|(id, variable)| TrueMatch {
            id,
            variable: variable.to_owned(),
            level: [1, 1, 2, 3, 0, 1][usize::try_from(id).unwrap() - 1],
            score: [5, 3, 5, 2, 0, 4][usize::try_from(id).unwrap() - 1],
            outbound: id == 6,
            chain: id == 4,
        });
    prop::collection::vec(one, 0..5).prop_map(|matches| Truth { matches })
}

fn runs() -> impl Strategy<Value = Run> {
    (any::<bool>(), 1_u8..=4, 0_u8..=2, 1_u32..12, 1_u32..8).prop_map(
        |(block, paranoia, more, inbound, outbound)| Run {
            block,
            paranoia,
            detection: (paranoia + more).min(4),
            inbound,
            outbound,
            exclusions: Vec::new(),
        },
    )
}

fn other(run: &Run) -> Settings {
    Settings {
        paranoia: Some(run.paranoia),
        threshold_inbound: Some(run.inbound),
        threshold_outbound: Some(run.outbound),
        exclusions: run.exclusions.clone(),
        ..Settings::default()
    }
}

proptest! {
    /// The property of the command: the same settings change nothing, and nothing of an
    /// honest log is undecidable under them.
    #[test]
    fn the_same_settings_change_nothing(truth in truths(), run in runs()) {
        let line = truth.run(&run);
        let blocked = line.is_blocked();
        prop_assert_eq!(replay(&line, &Settings::default()), Outcome::Same { blocked });
        prop_assert_eq!(replay(&line, &other(&run)), Outcome::Same { blocked });
    }

    /// What is told of other settings is what they would have come to.
    #[test]
    fn what_is_told_is_what_comes(
        truth in truths(), before in runs(), after in runs(), exclusions in exclusions(),
    ) {
        let line = truth.run(&before);
        let after = Run { block: true, detection: after.paranoia, exclusions, ..after };
        let comes = truth.run(&after).is_blocked();
        match replay(&line, &other(&after)) {
            Outcome::Same { blocked } => prop_assert_eq!(blocked, comes),
            Outcome::NewlyBlocked => prop_assert!(comes),
            // Only the request is told of; the model knows the answer too.
            Outcome::NewlyPassed { answer_unseen: true } => {
                let decider = truth.run(&after).found.rule;
                prop_assert!(!comes || decider == Some(JUDGE_OUTBOUND) || decider == Some(6));
            }
            Outcome::NewlyPassed { answer_unseen: false } => prop_assert!(!comes),
            Outcome::Undecidable(_) => {}
            Outcome::RefusedElsewhere => prop_assert!(false, "{:?}", line),
        }
    }

    /// Where everything ran and nothing is excluded in doubt, all is told.
    #[test]
    fn what_ran_is_told(truth in truths(), before in runs(), after in runs()) {
        let before = Run { block: false, detection: 4, ..before };
        let line = truth.run(&before);
        let told = replay(&line, &other(&after));
        prop_assert!(!matches!(told, Outcome::Undecidable(_)), "{:?}", told);
    }

    #[test]
    fn a_higher_threshold_blocks_nothing_and_a_lower_one_frees_nothing(
        truth in truths(), run in runs(), by in 0_u32..9,
    ) {
        let line = truth.run(&run);
        let higher = Settings {
            threshold_inbound: Some(run.inbound + by), threshold_outbound: Some(run.outbound + by),
            ..Settings::default()
        };
        prop_assert!(replay(&line, &higher) != Outcome::NewlyBlocked);
        let lower = Settings {
            threshold_inbound: Some(run.inbound.saturating_sub(by).max(1)), ..Settings::default()
        };
        let freed = matches!(replay(&line, &lower), Outcome::NewlyPassed { .. });
        prop_assert!(!freed);
    }
}

fn detected(matches: Vec<TrueMatch>) -> Line {
    let run =
        Run { block: false, paranoia: 1, detection: 1, inbound: 5, outbound: 4, exclusions: Vec::new() };
    Truth { matches }.run(&run)
}

fn sqli(variable: &str) -> TrueMatch {
    TrueMatch {
        id: 942_100,
        variable: variable.to_owned(),
        level: 1,
        score: 5,
        outbound: false,
        chain: false,
    }
}

fn without(text: &str) -> Settings {
    Settings { exclusions: vec![Exclusion::parse(text).unwrap()], ..Settings::default() }
}

#[test]
fn exclusions_take_what_they_name_and_no_more() {
    let line = detected(vec![sqli("ARGS:comment")]);
    for (text, passes) in [
        ("942100:ARGS:comment", true),
        ("942100:args:COMMENT", true),
        ("942000-942999:ARGS", true),
        ("942100", true),
        ("949110", true),
        ("942100:ARGS:other", false),
        ("942100:ARGS_GET:comment", false),
        ("942101", false),
        ("tag=none", false),
    ] {
        let expected = match passes {
            true => Outcome::NewlyPassed { answer_unseen: false },
            false => Outcome::Same { blocked: true },
        };
        assert_eq!(replay(&line, &without(text)), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_told_says_why() {
    let chain = TrueMatch { chain: true, ..sqli("ARGS:comment") };
    let mut more = detected(vec![sqli("ARGS:comment")]);
    more.found.rules[0].more = true;
    let mut cut = detected(vec![sqli("ARGS:comment"), sqli("ARGS:comment")]);
    cut.found.rules.remove(0);
    let mut odd = detected(vec![sqli("ARGS:comment")]);
    odd.found.intended = None;
    let mut unfinished = detected(vec![sqli("ARGS:comment")]);
    unfinished.found.unfinished = true;
    let out = without("942100:ARGS:comment");
    let higher = Settings { paranoia: Some(2), ..Settings::default() };
    for (line, settings, reason) in [
        (detected(vec![chain]), &out, Reason::Chain),
        (detected(vec![sqli("ARGS:comment")]), &without("942100:ARGS:/^c/"), Reason::Pattern),
        (more, &out, Reason::Dependents),
        (cut, &out, Reason::NotWritten),
        (odd, &out, Reason::Unexplained),
        (unfinished, &out, Reason::Unfinished),
        (detected(Vec::new()), &higher, Reason::NotRun),
    ] {
        assert_eq!(replay(&line, settings), Outcome::Undecidable(reason), "{line:?}");
    }
    // A request that is blocked stays so, whatever a higher level would find besides.
    assert_eq!(replay(&detected(vec![sqli("ARGS:a")]), &higher), Outcome::Same { blocked: true });
}

#[test]
fn what_stopped_a_request_hides_what_stands_behind() {
    let stop = TrueMatch { id: 8, level: 0, score: 0, ..sqli("ARGS:a") };
    let run = Run { block: true, paranoia: 1, detection: 1, inbound: 5, outbound: 4, exclusions: Vec::new() };
    let line = Truth { matches: vec![stop, sqli("ARGS:b")] }.run(&run);
    assert_eq!(replay(&line, &without("8")), Outcome::Undecidable(Reason::CutShort));
    assert_eq!(replay(&line, &without("942100")), Outcome::Same { blocked: true });
    let mut counted = detected(vec![TrueMatch { id: 8, level: 0, score: 0, ..sqli("ARGS:a") }]);
    assert_eq!(replay(&counted, &without("8:ARGS:a")), Outcome::NewlyPassed { answer_unseen: false });
    counted.found.further = 1;
    assert_eq!(replay(&counted, &without("8:ARGS:a")), Outcome::Undecidable(Reason::NotWritten));
    let scored = Truth { matches: vec![sqli("ARGS:b")] }.run(&run);
    assert_eq!(replay(&scored, &without("942100")), Outcome::NewlyPassed { answer_unseen: true });
    // Rules may stand behind the one that judges the score, too.
    let mut followed = scored;
    followed.found.rules.last_mut().unwrap().settles = false;
    assert_eq!(replay(&followed, &without("942100")), Outcome::Undecidable(Reason::CutShort));
}

#[test]
fn other_steps_and_limits_of_the_engine_stay_as_they_are() {
    let mut elsewhere = detected(vec![sqli("ARGS:a")]);
    elsewhere.step = "authenticate".to_owned();
    assert_eq!(replay(&elsewhere, &without("942100")), Outcome::RefusedElsewhere);
    let mut limit = detected(Vec::new());
    (limit.found.verdict, limit.step, limit.status) = ("blocked".to_owned(), "inspect".to_owned(), 413);
    assert_eq!(replay(&limit, &without("942100")), Outcome::Same { blocked: true });
    let off = Settings { off: true, ..Settings::default() };
    assert_eq!(replay(&limit, &off), Outcome::NewlyPassed { answer_unseen: false });
}

#[test]
fn every_reason_has_a_word_of_its_own() {
    let all = [
        Reason::NotRun,
        Reason::CutShort,
        Reason::Chain,
        Reason::Pattern,
        Reason::Dependents,
        Reason::NotWritten,
        Reason::Unexplained,
        Reason::Unfinished,
        Reason::Listener,
        Reason::Route,
    ];
    let words: BTreeMap<&str, String> =
        all.iter().map(|reason| (reason.name(), reason.to_string())).collect();
    assert_eq!(words.len(), all.len());
}
