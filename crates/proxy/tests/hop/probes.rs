//! The prober over snapshots that follow each other.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use proxy::Upstreams;
use proxy::upstream::{Health, ProbeKind, ProbeRule, Probed, Prober};

use crate::support::service;
use crate::testbed::{PATIENCE, anywhere};

#[tokio::test(start_paused = true)]
async fn a_probe_comes_to_its_end_however_often_snapshots_follow_each_other() {
    // The kernel takes connections for it, and nobody says anything.
    let silent = TcpListener::bind(anywhere()).unwrap();
    let address = silent.local_addr().unwrap();
    let next = |kind: Option<ProbeKind>, before: Option<&Upstreams>| {
        let mut service = service("test", &[address]);
        service.probe = kind.map(|kind| ProbeRule {
            kind,
            interval: Duration::from_millis(10),
            jitter_percent: 0,
            timeout: Duration::from_secs(1),
            up_after: 1,
            down_after: 2,
        });
        Upstreams::build(vec![service], Vec::new(), Arc::default(), before).unwrap()
    };
    let health =
        |upstreams: &Upstreams| -> Arc<Health> { Arc::clone(&upstreams.services()[0].endpoints[0].health) };
    let http = || ProbeKind::Http { path: "/".to_owned(), host: None, statuses: 200..=299 };
    let mut prober = Prober::default();
    let mut upstreams = next(Some(http()), None);
    let health = health(&upstreams);
    for _ in 0..20 {
        prober.follow(&upstreams);
        tokio::time::sleep(Duration::from_millis(200)).await;
        upstreams = next(Some(http()), Some(&upstreams));
    }
    let (good, bad) = health.probes();
    assert!(good == 0 && (2..=4).contains(&bad), "{good} {bad}");
    assert_eq!(health.probed(), Probed::Down);

    // Another question is asked in its place; what the kernel answers takes real time.
    tokio::time::resume();
    upstreams = next(Some(ProbeKind::Tcp), Some(&upstreams));
    prober.follow(&upstreams);
    let good = async {
        while health.probed() != Probed::Up || health.probes().0 < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, good).await.unwrap();
    assert_eq!(health.probes().1, bad);
    tokio::time::pause();

    // And none where there is none.
    upstreams = next(None, Some(&upstreams));
    prober.follow(&upstreams);
    let before = health.probes();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((health.probed(), health.probes()), (Probed::Unknown, before));
}
