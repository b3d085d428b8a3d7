//! Who can talk an exclusion into being, and who cannot.

use model::event::{
    FirewallMatch, FirewallRaise, FirewallRecord, FirewallScores, FirewallSide, FirewallThresholds,
};

use super::*;

const BAR: Bar = Bar { requests_min: 4, clients_min: 2 };

/// A match of a rule of level 1: its id, where, how much it adds.
fn found(id: u64, variable: &str, score: u32) -> FirewallMatch {
    FirewallMatch {
        id,
        phase: 2,
        severity: Some(if score >= 5 { 2 } else { 5 }),
        variable: variable.to_owned(),
        adds: vec![FirewallRaise { side: FirewallSide::Inbound, level: 1, score }],
        ..FirewallMatch::default()
    }
}

/// A request of a client to the route `shop`, judged by these matches at a threshold of 5.
fn line(client: u8, mut rules: Vec<FirewallMatch>) -> Line {
    let total: u32 = rules.iter().flat_map(|found| &found.adds).map(|raise| raise.score).sum();
    let blocked = total >= 5;
    if blocked {
        rules.push(FirewallMatch {
            id: 949_110,
            phase: 2,
            judges: Some(FirewallSide::Inbound),
            settles: true,
            disruptive: true,
            ..FirewallMatch::default()
        });
    }
    let record = FirewallRecord {
        mode: "block".to_owned(),
        verdict: if blocked { "blocked" } else { "passed" }.to_owned(),
        rule: blocked.then_some(949_110),
        scores: FirewallScores {
            inbound: total,
            inbound_levels: [total, 0, 0, 0],
            ..FirewallScores::default()
        },
        paranoia: Some(1),
        paranoia_detection: Some(1),
        thresholds: Some(FirewallThresholds { inbound: 5, outbound: 4 }),
        rules,
        ..FirewallRecord::default()
    };
    Line {
        client_address: format!("10.0.{client}.1"),
        route: "shop".to_owned(),
        step: if blocked { "inspect" } else { "forward" }.to_owned(),
        status: if blocked { 403 } else { 200 },
        found: record,
        ..Line::default()
    }
}

/// Clients 1 and 2 are served, and send these matches three times each.
fn honest(rules: &[FirewallMatch]) -> Vec<Line> {
    let mut lines = vec![line(1, Vec::new()), line(2, Vec::new())];
    lines.extend((0..6).map(|number| line(1 + number % 2, rules.to_vec())));
    lines
}

/// What is proposed of a log, and what is not with the reason.
fn proposed(lines: Vec<Line>) -> (Vec<String>, Vec<String>) {
    let mut gathered = Gathered::default();
    lines.into_iter().for_each(|line| gathered.take(line));
    let proposals = Proposals::choose(&gathered, &gathered.weigh(), BAR);
    let chosen = proposals.chosen.iter().map(|(_, exclusion)| exclusion.to_string()).collect();
    (
        chosen,
        proposals.refused.into_iter().map(|(candidate, why)| format!("{}: {why}", candidate.rule)).collect(),
    )
}

#[test]
fn the_fewest_that_free_a_request_are_proposed() {
    let sqli = found(942_100, "ARGS:comment", 5);
    assert_eq!(
        proposed(honest(std::slice::from_ref(&sqli))).0,
        ["{ rule: 942100, target: \"ARGS:comment\" }"]
    );
    // Either of two that only together go over: one is enough.
    let two = [found(920_100, "ARGS:a", 3), found(920_200, "ARGS:b", 3)];
    assert_eq!(proposed(honest(&two)).0.len(), 1);
    // Two that each go over: both are needed.
    let both = [sqli, found(941_100, "ARGS:other", 5)];
    assert_eq!(proposed(honest(&both)).0.len(), 2);
    // What passes anyway needs none.
    assert_eq!(proposed(honest(&[found(920_100, "ARGS:a", 3)])).0, [""; 0]);
}

#[test]
fn what_cannot_be_aimed_at_is_the_whole_rule() {
    let chain = FirewallMatch { chain: true, ..found(920_100, "ARGS:a", 5) };
    assert_eq!(proposed(honest(&[chain])).0, ["{ rule: 920100 }"]);
    let count = found(920_640, "&REQUEST_HEADERS:content-type", 5);
    assert_eq!(proposed(honest(&[count])).0, ["{ rule: 920640 }"]);
}

#[test]
fn a_name_from_a_request_is_no_way_into_the_configuration() {
    for name in ["ARGS:a\" }\nroutes: [", "ARGS:a b", "ARGS:a\\", "ARGS:\u{200b}é", "ARGS:a\u{7f}"] {
        let (chosen, refused) = proposed(honest(&[found(942_100, name, 5)]));
        assert_eq!(chosen, [""; 0], "{name:?}");
        assert!(refused[0].contains("cannot be written"), "{refused:?}");
    }
}

#[test]
fn attackers_speak_for_nothing() {
    let sqli = || vec![found(942_100, "ARGS:id", 5)];
    // A crowd that is served nothing.
    let crowd = (1..=50).map(|client| line(client, sqli())).collect();
    assert_eq!(proposed(crowd).0, [""; 0]);
    // One client, however often.
    let mut one = vec![line(1, Vec::new())];
    one.extend((0..50).map(|_| line(1, sqli())));
    let (chosen, refused) = proposed(one);
    assert_eq!(chosen, [""; 0]);
    assert!(refused[0].contains("1 of the 2 clients"), "{refused:?}");
    // Two addresses of one network are one client.
    let mut neighbours = vec![line(1, Vec::new())];
    neighbours
        .extend((0..6).map(|number| Line { client_address: format!("10.0.1.{number}"), ..line(1, sqli()) }));
    assert_eq!(proposed(neighbours).0, [""; 0]);
    // Two critical rules on one value.
    let twice = [found(942_100, "ARGS:id", 5), found(941_100, "ARGS:id", 5)];
    assert_eq!(proposed(honest(&twice)).0, [""; 0]);
    // Clients that are served, and try one rule after the other.
    let mut scanners = honest(&sqli());
    for client in 1..=2 {
        scanners.extend((0..4).map(|rule| line(client, vec![found(930_000 + rule, "ARGS:x", 5)])));
    }
    assert_eq!(proposed(scanners).0, [""; 0]);
}

#[test]
fn attacks_on_the_same_place_are_a_veto_and_few_are_not() {
    let sqli = found(942_100, "ARGS:comment", 5);
    let attack = || line(9, vec![sqli.clone(), found(941_100, "ARGS:comment", 5)]);
    let with = |attacks: usize, times: usize| {
        let mut lines: Vec<Line> = (0..times).flat_map(|_| honest(std::slice::from_ref(&sqli))).collect();
        lines.extend((0..attacks).map(|_| attack()));
        proposed(lines)
    };
    assert_eq!(with(1, 2).0.len(), 1, "1 beside 12");
    let (chosen, refused) = with(2, 2);
    assert_eq!(chosen, [""; 0], "2 beside 12");
    assert!(refused.iter().any(|why| why.contains("2 requests with another critical rule")), "{refused:?}");
}

#[test]
fn the_bar_is_met_at_it_and_not_below() {
    let sqli = || vec![found(942_100, "ARGS:comment", 5)];
    let with = |requests: u8| {
        let mut lines = vec![line(1, Vec::new()), line(2, Vec::new())];
        lines.extend((0..requests).map(|number| line(1 + number % 2, sqli())));
        proposed(lines).0.len()
    };
    assert_eq!((with(3), with(4)), (0, 1));
}

#[test]
fn a_request_that_another_step_refused_says_nothing() {
    let refused: Vec<Line> = honest(&[found(942_100, "ARGS:comment", 5)])
        .into_iter()
        .map(|line| Line { step: "authenticate".to_owned(), status: 401, ..line })
        .collect();
    assert_eq!(proposed(refused).0, [""; 0]);
}
