//! The mesh over a network: the control plane, a caller and a callee, each on a host of its own,
//! with an agent where the services are. Who does not fit is refused, with the reason; control
//! planes die and cables are cut while calls go through without a pause.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::clients::script;
use crate::hosts::{CALLEE_TO_CALLER, CONTROL_TO_CALLEE, CONTROL_TO_CALLER, Cable, Host, Hosts, all_or_skip};
use crate::mesh_refusals::{Authority, ORDERS, refused};
use crate::mesh_tcp::{CALLS, SPEAKS_HTTP};
use crate::support::{BASTIDE, Process, TestBed, read, until};

/// Ports: each host has all of them for itself.
const AGENTS: u16 = 7443;
const INBOUND_PORT: u16 = 8443;
const OUTBOUND_PORT: &str = "9000";
/// How long a service may take to end.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Whatever orders asks of payments is permitted, but for what is forbidden by path, method and host.
const POLICIES: &str = r#"
    @id("orders asks payments")
    permit (principal == Service::"spiffe://shop.example/orders", action, resource)
    when { resource.service == "payments" };
    @id("no administration") forbid (principal, action, resource) when { context.path like "/admin*" };
    @id("nothing is deleted") forbid (principal, action == Action::"DELETE", resource);
    @id("not the inner host") forbid (principal, action, resource) when { context.host == "inner.shop" };
"#;

/// The three hosts with everything on them.
struct Scene {
    testbed: TestBed,
    agents: Vec<Process>,
    services: Vec<Process>,
    asking: Option<Process>,
    hosts: Hosts,
}

fn of_callee(([_, _], [address, _]): Cable) -> String {
    format!("{address}:{INBOUND_PORT}")
}

/// What of the mesh all share; `more` of it on one host.
fn mesh(socket: &str, more: &str) -> String {
    let uid = rustix::process::geteuid().as_raw();
    format!(
        "mesh:\n  trust_domain: shop.example\n  socket: {socket}\n{more}  services:\n    \
         orders: {}:{INBOUND_PORT}\n    payments: {}\n  workloads:\n    orders: {{ uid: {uid}, node: caller }}\n    \
         payments: {{ uid: {uid}, node: callee }}\n",
        CALLEE_TO_CALLER.1[1],
        of_callee(CALLEE_TO_CALLER),
    )
}

impl Scene {
    /// With more of the control plane's mesh.
    async fn start(hosts: Hosts, more: &str) -> Self {
        Self::start_with(hosts, more, None).await
    }

    /// The same; with this library, the clock of the caller's agent can be moved.
    async fn start_with(hosts: Hosts, more: &str, clocks: Option<&Path>) -> Self {
        let mut testbed = TestBed::prepare("");
        let agents = format!("  agents: 0.0.0.0:{AGENTS}\n{more}");
        testbed.configure(&format!("routes: []\n{}", mesh("api.sock", &agents)));
        std::fs::write(testbed.path("shop.cedar"), POLICIES).unwrap();
        let (code, out, err) = testbed.bastide(&["init"]);
        assert_eq!(code, 0, "{out}{err}");
        let serve = serve(&hosts, &testbed);
        testbed.start_gateway_by(serve).await;
        let mut scene = Self { testbed, agents: Vec::new(), services: Vec::new(), asking: None, hosts };
        scene.move_clock("+0");
        for (host, cable, clocks) in
            [(Host::Callee, CONTROL_TO_CALLEE, None), (Host::Caller, CONTROL_TO_CALLER, clocks)]
        {
            scene.join(host, cable, clocks).await;
        }
        let listen = of_callee(CALLEE_TO_CALLER);
        scene.run(Host::Callee, "payments", &["--listen", &listen], SPEAKS_HTTP).await;
        let listen = format!("{}:{INBOUND_PORT}", CALLEE_TO_CALLER.1[1]);
        scene
            .run(Host::Caller, "orders", &["--listen", &listen, "--outbound-port", OUTBOUND_PORT], CALLS)
            .await;
        assert_eq!(scene.ask("/rates").0, "200", "{}", scene.say("payments"));
        scene
    }

    /// A host with an agent.
    async fn join(&mut self, host: Host, (_, [control, _]): Cable, clocks: Option<&Path>) {
        let name = host.name();
        std::fs::create_dir(self.path(host, "")).unwrap();
        std::fs::write(self.path(host, "mesh.yaml"), mesh("node.sock", "") + "policies: ../shop.cedar\n")
            .unwrap();
        let (code, token, err) = self.testbed.bastide(&["mesh", "token", name]);
        assert_eq!(code, 0, "{err}");
        std::fs::write(self.path(host, "join"), token).unwrap();
        let mut agent = self.hosts.command(host, BASTIDE);
        agent
            .args(["agent", "--server", &format!("{control}:{AGENTS}"), "--socket", "node.sock"])
            .args(["--state", "node-state", "--token-file", "join"])
            .current_dir(self.path(host, ""))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.testbed.path(&format!("{name}.log"))).unwrap());
        if let Some(library) = clocks {
            agent.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", self.testbed.path("clock"));
            agent.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let agent = Process::spawn(&mut agent);
        until("the agent", async || self.path(host, "node.sock").exists().then_some(())).await;
        let maps = read(Path::new(&format!("/proc/{}/maps", agent.id())));
        assert_eq!(maps.contains("libfaketime"), clocks.is_some(), "the clock cannot be moved");
        self.agents.push(agent);
    }

    /// Moves the clock that can be moved: by `+3h` from the machine's.
    fn move_clock(&self, by: &str) {
        std::fs::write(self.testbed.path("clock.new"), by).unwrap();
        std::fs::rename(self.testbed.path("clock.new"), self.testbed.path("clock")).unwrap();
    }

    /// Runs a Python program as a service.
    async fn run(&mut self, host: Host, name: &str, more: &[&str], program: &str) {
        std::fs::write(self.path(host, "program.py"), program).unwrap();
        let mut run = self.hosts.command(host, BASTIDE);
        run.args(["run", "--service", name]).args(more).args(["--", "python3", "program.py"]);
        run.current_dir(self.path(host, "")).stdout(Stdio::null());
        run.stderr(std::fs::File::create(self.testbed.path(&format!("{name}.log"))).unwrap());
        self.services.push(Process::spawn(&mut run));
        until("the program", async || self.say(name).contains("the program is up").then_some(())).await;
    }

    fn path(&self, host: Host, name: &str) -> PathBuf {
        self.testbed.path(host.name()).join(name)
    }

    /// The log of a service, or of a host's agent.
    fn say(&self, name: &str) -> String {
        read(&self.testbed.path(&format!("{name}.log")))
    }

    fn say_all(&self) -> String {
        let of = |name: &str| format!("{name}:\n{}", self.say(name));
        ["caller", "callee", "orders", "payments"].map(of).concat() + &self.testbed.log()
    }

    /// curl on the caller's host: status and body.
    fn curl(&self, arguments: &[&str]) -> (String, String) {
        let mut curl = self.hosts.command(Host::Caller, "curl");
        curl.args(["--silent", "--insecure", "--max-time", "50", "--noproxy", "*", "--path-as-is"]);
        curl.args(["--write-out", "\n%{http_code}"]).args(arguments).current_dir(self.path(Host::Caller, ""));
        let text = String::from_utf8(curl.output().unwrap().stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.to_owned(), body.to_owned())
    }

    /// Orders asks payments, by its outbound proxy.
    fn ask(&self, path: &str) -> (String, String) {
        self.curl(&["--header", "host: payments", &format!("http://127.0.0.1:{OUTBOUND_PORT}{path}")])
    }

    /// The certificate of orders, as the caller's agent gives it now: its serial number.
    fn take_certificate(&self, out: &str) -> Option<String> {
        let (socket, out) = (self.path(Host::Caller, "node.sock"), self.path(Host::Caller, out));
        let (socket, out) = (socket.display().to_string(), out.display().to_string());
        let (code, said, _) = self.testbed.bastide(&["mesh", "svid", "--socket", &socket, "--out", &out]);
        if code != 0 {
            return None;
        }
        assert_eq!(said, format!("{ORDERS}\n"));
        let mut serial = std::process::Command::new("openssl");
        let serial =
            serial.args(["x509", "-noout", "-serial", "-in", &format!("{out}/svid.pem")]).output().unwrap();
        String::from_utf8(serial.stdout).unwrap().trim().strip_prefix("serial=").map(str::to_owned)
    }

    /// The event of payments' log about a call that was refused, by what its answer says.
    async fn event(&self, what: &str, body: &str) -> Value {
        let told: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{what}: {body:?}"));
        let id = told["id"].as_str().unwrap().to_owned();
        until(what, async || {
            let files = std::fs::read_dir(self.path(Host::Callee, "bastide-payments/audit")).ok()?;
            let log: String = files.filter_map(|entry| Some(read(&entry.ok()?.path()))).collect();
            let line = log.lines().find(|line| line.contains(&id))?.to_owned();
            serde_json::from_str(&line).ok()
        })
        .await
    }

    /// Asks from now on without a pause.
    fn keep_asking(&mut self) {
        let mut asks = self.hosts.command(Host::Caller, "python3");
        asks.arg(script("keeps_asking.py")).arg(OUTBOUND_PORT);
        asks.stdout(std::fs::File::create(self.testbed.path("asked")).unwrap());
        self.asking = Some(Process::spawn(&mut asks));
    }

    /// What came of the calls so far, but for the first ones.
    fn answers_after(&self, count: usize) -> Vec<String> {
        let asked = read(&self.testbed.path("asked"));
        // A line that is being written is none yet.
        let whole = asked.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().skip(count).map(str::to_owned).collect()
    }

    /// How many calls have ended; one that is under way now is counted too, for it may be
    /// answered in whatever way.
    fn asked(&self) -> usize {
        self.answers_after(0).len() + 1
    }

    /// Waits until a call has ended so.
    async fn until_answered(&self, what: &str, good: bool) {
        let from = self.asked();
        let is = |answer: &String| (answer == "200") == good;
        until(what, async || self.answers_after(from).iter().any(is).then_some(())).await;
    }

    /// Since then every call was answered, and there were some.
    async fn none_failed_after(&self, count: usize, what: &str) {
        until("more calls", async || (self.answers_after(count).len() > 5).then_some(())).await;
        let answers = self.answers_after(count);
        assert!(answers.iter().all(|answer| answer == "200"), "{what}: {answers:?}\n{}", self.say_all());
    }

    /// Since then none was.
    #[track_caller]
    fn none_passed_after(&self, count: usize, what: &str) {
        let answers = self.answers_after(count);
        assert!(answers.iter().all(|answer| answer != "200"), "{what}: {answers:?}\n{}", self.say_all());
    }

    /// Waits until orders has another certificate than it had.
    async fn renewed(&self) {
        let before = self.take_certificate("mine");
        until("the next certificate", async || {
            let now = self.take_certificate("mine");
            (now.is_some() && now != before).then_some(())
        })
        .await;
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(self.asking.take());
        // Asked first, so that they end their programs.
        for process in self.services.iter_mut().chain(&mut self.agents) {
            let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
            let _ = id.map(|id| kill_process(id, Signal::TERM));
            process.ended_within(END_WITHIN);
        }
    }
}

/// The control plane's process.
fn serve(hosts: &Hosts, testbed: &TestBed) -> std::process::Command {
    let mut serve = hosts.command(Host::Control, BASTIDE);
    serve
        .args(["serve", "--config", "bastide.yaml"])
        .current_dir(testbed.folder.path())
        .stdout(Stdio::null())
        .stderr(std::fs::File::options().create(true).append(true).open(testbed.path("log")).unwrap());
    serve
}

#[tokio::test]
async fn who_comes_from_another_host_and_does_not_fit_is_refused_with_the_reason() {
    let Some(hosts) = Hosts::build("callers on other hosts that do not fit") else { return };
    let (authority, certificate, key) = Authority::new();
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("root.pem"), certificate).unwrap();
    std::fs::write(files.path().join("root.key"), key).unwrap();
    let given = format!("  authority: {{ cert: {0}/root.pem, key: {0}/root.key }}\n", files.path().display());
    let scene = Scene::start(hosts, &given).await;
    let endpoint = format!("https://{}", of_callee(CALLEE_TO_CALLER));
    let url = format!("{endpoint}/rates");
    let knock = |shown: Option<&(String, String)>| {
        let Some((chain, key)) = shown else { return scene.curl(&[&url]).0 };
        std::fs::write(scene.path(Host::Caller, "shown.pem"), chain).unwrap();
        std::fs::write(scene.path(Host::Caller, "shown.key"), key).unwrap();
        scene.curl(&["--cert", "shown.pem", "--key", "shown.key", &url]).0
    };
    let good = authority.leaf(&[ORDERS], (-1, 1));
    assert_eq!(knock(Some(&good)), "200", "{}", scene.say_all());
    for (what, shown, reason) in authority.misfits() {
        refused(what, reason, || knock(shown.as_ref()), || scene.say("payments")).await;
        assert_eq!(knock(Some(&good)), "200", "beside {what}");
    }

    // The right certificate, and a request that does not fit, however it is disguised.
    let serial = scene.take_certificate("mine").unwrap();
    let ask = |more: &[&str], path: &str| {
        let url = format!("{endpoint}{path}");
        scene.curl(&[&["--cert", "mine/svid.pem", "--key", "mine/svid.key"], more, &[&url]].concat())
    };
    let target = |target: &'static str| ["--http1.1", "--request-target", target];
    let [fragment, back] = [target("/rates#/../admin"), target("/rates\\..\\admin")];
    let fragment_2 = ["--http2", "--request-target", "/admin#/rates"];
    for (what, more, path, status, reason) in [
        ("a path", &[][..], "/admin", "403", "no administration"),
        ("a method", &["--request", "DELETE"], "/rates", "403", "nothing is deleted"),
        (
            "a method's case over HTTP/1.1",
            &["--http1.1", "--request", "delete"],
            "/rates",
            "400",
            "other case",
        ),
        ("a method's case over HTTP/2", &["--http2", "--request", "Delete"], "/rates", "400", "other case"),
        ("a host", &["--header", "host: inner.shop"], "/rates", "403", "not the inner host"),
        ("a host's case", &["--header", "host: INNER.Shop."], "/rates", "403", "not the inner host"),
        (
            "a host's case over HTTP/2",
            &["--http2", "--header", "host: INNER.Shop"],
            "/rates",
            "403",
            "not the inner host",
        ),
        ("a fragment", &fragment, "/", "400", "#"),
        ("a fragment over HTTP/2", &fragment_2, "/", "403", "no administration"),
        ("two slashes", &[], "//admin", "403", "no administration"),
        ("two slashes over HTTP/2", &["--http2"], "//admin", "403", "no administration"),
        ("dots", &[], "/rates/..//admin", "403", "no administration"),
        ("an encoded slash", &[], "/%2Fadmin", "400", "encoded slash"),
        ("encoded slashes over HTTP/2", &["--http2"], "/rates%2f..%2Fadmin", "400", "encoded slash"),
        ("a backslash", &back, "/", "400", "backslash"),
        ("an encoded backslash", &[], "/%5Cadmin", "400", "backslash"),
        ("an encoded backslash over HTTP/2", &["--http2"], "/rates%5c..%5Cadmin", "400", "backslash"),
    ] {
        let (found, body) = ask(more, path);
        assert_eq!(found, status, "{what}: {body}");
        let event = scene.event(what, &body).await;
        let why = event["status_detail"].as_str().unwrap();
        assert!(why.contains(reason), "{what}: {why}");
        assert_eq!(event["src_endpoint"]["ip"], CALLEE_TO_CALLER.1[1], "{what}");
    }
    for (what, more, path) in [
        ("as it is", &[][..], "/rates"),
        ("over HTTP/2", &["--http2"], "/rates/eur"),
        ("another method", &["--request", "POST"], "/rates"),
        ("slashes and dots that climb nowhere", &[], "/rates//eur/../usd"),
        ("another host", &["--header", "host: Payments"], "/rates"),
    ] {
        let (found, body) = ask(more, path);
        assert_eq!(found, "200", "{what}: {body}");
    }
    revoked(&scene, &serial, &ask).await;
}

/// A certificate that is revoked while a thief uses it, with a session to resume.
async fn revoked(scene: &Scene, serial: &str, ask: &impl Fn(&[&str], &str) -> (String, String)) {
    let mut thief = scene.hosts.command(Host::Caller, "python3");
    thief.arg(script("resumes.py")).args([CALLEE_TO_CALLER.1[0], &INBOUND_PORT.to_string()]);
    thief.args(["mine/svid.pem", "mine/svid.key"]).current_dir(scene.path(Host::Caller, ""));
    thief.stdout(std::fs::File::create(scene.testbed.path("thief")).unwrap());
    let _thief = Process::spawn(&mut thief);
    let said = |line: &str| {
        read(&scene.testbed.path("thief")).lines().any(|said| said.starts_with(line)).then_some(())
    };
    until("the first call", async || said("first new 200")).await;
    until("a session that is resumed", async || said("second resumed 200")).await;
    let (code, out, err) = scene.testbed.bastide(&["mesh", "revoke", "--serial", serial]);
    assert_eq!(code, 0, "{out}{err}");
    let why = format!("of {ORDERS} is revoked");
    until("the refusal", async || {
        assert!(ask(&[], "/rates").0 != "200" || !scene.say("payments").contains(&why));
        scene.say("payments").contains(&why).then_some(())
    })
    .await;
    std::fs::write(scene.path(Host::Caller, "revoked"), "").unwrap();
    until("the thief's end", async || said("end")).await;
    let told = read(&scene.testbed.path("thief"));
    for line in ["first cut", "second cut", "third refused", "fourth refused"] {
        assert!(said(line).is_some(), "{line}: {told}");
    }
    // Orders itself has another one.
    until("the next certificate", async || {
        let next = scene.take_certificate("mine");
        (next.is_some_and(|next| next != serial) && ask(&[], "/rates").0 == "200").then_some(())
    })
    .await;
    assert_eq!(scene.ask("/rates").0, "200");
}

/// Certificates of this life, seconds: a control plane starts again well within half of it.
const LIFE: u64 = 20;

fn short_lived() -> String {
    format!("  lifetimes: {{ authority: {}s, x509_svid: {LIFE}s, jwt_svid: {LIFE}s }}\n", LIFE * 6)
}

/// A little more than half of it.
const OVER_HALF: Duration = Duration::from_secs(LIFE / 2 + 1);

/// What moves a process' clock. `None`, and a word about it: it is not here.
fn clocks() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let found = libraries.find(|library| library.is_file());
    if found.is_none() {
        all_or_skip("a clock that is moved at an agent", "Debian's faketime is not installed");
    }
    found
}

/// Meanwhile the clock of the caller's agent is moved by hours, forwards and back: it goes by the
/// control plane's.
#[tokio::test]
async fn calls_go_on_while_the_control_plane_is_away_and_come_again_by_themselves_when_it_was_for_too_long() {
    let Some(hosts) = Hosts::build("calls between hosts without their control plane") else { return };
    let clocks = clocks();
    let mut scene = Scene::start_with(hosts, &short_lived(), clocks.as_deref()).await;
    scene.keep_asking();
    // Killed without a word and started again, beginning with a fresh certificate.
    scene.renewed().await;
    let from = scene.asked();
    scene.move_clock("+3h");
    scene.testbed.gateway().signal(Signal::KILL);
    scene.testbed.gateway().ended().await;
    let again = serve(&scene.hosts, &scene.testbed);
    scene.testbed.start_gateway_by(again).await;
    scene.renewed().await;
    scene.none_failed_after(from, "the control plane was killed").await;

    // Cut off from it for longer than half a life, beginning with the one that just came.
    let from = scene.asked();
    scene.move_clock("-3h");
    scene.hosts.cut(CONTROL_TO_CALLER);
    sleep(OVER_HALF).await;
    scene.hosts.heal(CONTROL_TO_CALLER);
    scene.renewed().await;
    scene.none_failed_after(from, "cut off for longer than half a life").await;

    // Until what it has is over: who has nothing that is good is let in nowhere.
    scene.hosts.cut(CONTROL_TO_CALLER);
    scene.until_answered("the end of the certificate", false).await;
    let from = scene.asked();
    sleep(Duration::from_secs(2)).await;
    scene.none_passed_after(from, "its certificate is over");
    assert_eq!(scene.take_certificate("mine"), None, "the agent gives what has ended");
    scene.hosts.heal(CONTROL_TO_CALLER);
    scene.until_answered("the calls to come again", true).await;
    let from = scene.asked();
    scene.renewed().await;
    scene.none_failed_after(from, "connected again").await;
}

#[tokio::test]
async fn calls_end_where_the_cable_is_cut_and_come_again_and_who_is_cut_off_is_revoked_all_the_same() {
    let Some(hosts) = Hosts::build("calls between hosts over a cable that is cut") else { return };
    let mut scene = Scene::start(hosts, "").await;
    scene.keep_asking();
    let began = Instant::now();
    scene.hosts.cut(CALLEE_TO_CALLER);
    let from = scene.asked();
    scene.until_answered("a call that fails", false).await;
    scene.none_passed_after(from, "there is no cable");
    scene.hosts.heal(CALLEE_TO_CALLER);
    scene.until_answered("the calls to come again", true).await;
    println!("cut, and calls again after {:?}", began.elapsed());
    let from = scene.asked();
    sleep(Duration::from_secs(1)).await;
    scene.none_failed_after(from, "the cable is there again").await;

    // The caller's host does not hear that it is revoked; the callee's does.
    scene.hosts.cut(CONTROL_TO_CALLER);
    let (code, out, err) = scene.testbed.bastide(&["mesh", "revoke", "--identity", ORDERS]);
    assert_eq!(code, 0, "{out}{err}");
    scene.until_answered("the refusal", false).await;
    let from = scene.asked();
    let (code, out, err) = scene.testbed.bastide(&["mesh", "lift", "--identity", ORDERS]);
    assert_eq!(code, 0, "{out}{err}");
    sleep(Duration::from_secs(1)).await;
    // Lifted, it is somebody again as soon as it gets another certificate, and no sooner.
    scene.none_passed_after(from, "its certificate of before is revoked");
    scene.hosts.heal(CONTROL_TO_CALLER);
    scene.until_answered("the calls to come again", true).await;
    let from = scene.asked();
    sleep(Duration::from_secs(1)).await;
    scene.none_failed_after(from, "lifted and connected").await;
}
