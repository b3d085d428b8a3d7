//! `bastide run`: services of the mesh behind the gateway, calling each other by name, with
//! everybody refused who is not who they should be; certificates of seconds; the end.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::time::Instant;

use crate::clients::script;
use crate::mesh_tcp::Mesh;
use crate::peers::free_port;
use crate::support::{BASTIDE, Process, TestBed, read, undisturbed, until};

struct Shop {
    testbed: TestBed,
    orders: Process,
    payments: Process,
    ports: [u16; 2],
}

/// The gateway, orders and payments, each with its certificate.
async fn shop(lifetimes: &str) -> Shop {
    let ports = [free_port(), free_port()];
    let mut testbed = TestBed::prepare("routes: []\n");
    let uid = rustix::process::geteuid().as_raw();
    let shared = format!(
        "mesh:\n  trust_domain: shop.example\n  socket: api.sock\n{lifetimes}  services:\n    \
         orders: 127.0.0.1:{}\n    payments: 127.0.0.1:{}\n  workloads:\n    orders: {{ uid: {uid} }}\n    \
         payments: {{ uid: {uid} }}\n    intruder: {{ uid: {uid} }}\npolicies: shop.cedar\n",
        ports[0], ports[1]
    );
    std::fs::write(testbed.path("mesh.yaml"), shared).unwrap();
    let policies = r#"
        @id("the gateway calls orders")
        permit (principal == Service::"spiffe://shop.example/gateway", action, resource)
        when { resource.service == "orders" };
        @id("orders pays")
        permit (principal == Service::"spiffe://shop.example/orders", action == Action::"POST", resource)
        when { resource.service == "payments" && context.path like "/charges*" };
    "#;
    std::fs::write(testbed.path("shop.cedar"), policies).unwrap();
    testbed.configure(
        "include: mesh.yaml\nroutes: [ { name: shop, match: localhost/**, to: orders, authenticate: none, allow: anyone } ]\n",
    );
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    // Services may come before the gateway: they wait for an identity.
    let payments = run(&testbed, "payments", ports[1]);
    testbed.start_gateway().await;
    let orders = run(&testbed, "orders", ports[0]);
    for name in ["orders", "payments"] {
        let log = testbed.path(&format!("{name}.log"));
        until("the program", async || read(&log).contains("the program is up").then_some(())).await;
    }
    Shop { testbed, orders, payments, ports }
}

/// A service that answers with its name and what it was asked, and asks others when it is told to.
pub(crate) fn run(testbed: &TestBed, name: &str, port: u16) -> Process {
    let mut command = Command::new(BASTIDE);
    command
        .args(["run", "--service", name, "--listen", &format!("127.0.0.1:{port}"), "--"])
        .arg("python3")
        .arg(script("answers.py"))
        .arg(name)
        .current_dir(testbed.folder.path())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(testbed.path(&format!("{name}.log"))).unwrap());
    Process::spawn(&mut command)
}

impl Shop {
    fn say(&self, name: &str) -> String {
        read(&self.testbed.path(&format!("{name}.log")))
    }

    /// Status and body of a request to a service's own endpoint, as this identity.
    fn knock(&self, endpoint: usize, identity: Option<&str>, more: &[&str]) -> (String, String) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--insecure", "--max-time", "50", "--write-out", "\n%{http_code}"]);
        if let Some(folder) = identity {
            curl.arg("--cert").arg(self.testbed.path(&format!("{folder}/svid.pem")));
            curl.arg("--key").arg(self.testbed.path(&format!("{folder}/svid.key")));
        }
        let address = format!("https://127.0.0.1:{}", self.ports[endpoint]);
        let output = curl.args(more).arg(format!("{address}/charges")).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.to_owned(), body.to_owned())
    }

    async fn ask(&self, target: &str) -> (u16, String) {
        let answer = self.testbed.get(target).await;
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    }
}

#[tokio::test]
async fn services_call_each_other_by_name_and_only_as_policies_say() {
    let mut shop = shop("").await;
    let (status, body) = shop.ask("/hello").await;
    assert!(
        status == 200 && body.starts_with("orders GET /hello localhost "),
        "{status} {body}\n{}{}",
        shop.say("orders"),
        shop.testbed.log()
    );
    let (status, body) = shop.ask("/ask?POST,http://payments/charges").await;
    assert!(
        status == 200 && body.starts_with("payments POST /charges payments "),
        "{status} {body}\n{}{}",
        shop.say("orders"),
        shop.say("payments")
    );
    // A name that is misspelt, and the caller's own, at its outbound proxy: the program is told.
    for (name, said) in [
        ("paymnts", "unknown service \\\"paymnts\\\"; did you mean \\\"payments\\\"?"),
        ("catalogue", "unknown service \\\"catalogue\\\"\""),
        ("orders", "unknown service \\\"orders\\\": it is the program's own, and has its own port"),
    ] {
        let (status, body) = shop.ask(&format!("/ask?POST,http://{name}/charges")).await;
        assert!(status == 404 && body.contains(said), "{name}: {status} {body}\n{}", shop.say("orders"));
    }
    // The right certificate with another method or path; a service that nobody may reach.
    for refused in [
        "GET,http://payments/charges",
        "POST,http://payments/refunds",
        "POST,http://payments/%63harges/../refunds",
    ] {
        let (status, body) = shop.ask(&format!("/ask?{refused}")).await;
        assert!(status == 403 || status == 400, "{refused}: {status} {body}");
    }

    // As whom the Workload API says: the first of this process is orders.
    let (code, out, err) = shop.testbed.bastide(&["mesh", "svid", "--socket", "api.sock", "--out", "mine"]);
    assert!(code == 0 && out.starts_with("spiffe://shop.example/orders"), "{out}{err}");
    let post = ["--request", "POST"];
    assert_eq!(shop.knock(1, Some("mine"), &post).0, "200");
    assert_eq!(shop.knock(1, Some("mine"), &[]).0, "403");
    assert_eq!(shop.knock(1, Some("mine"), &["--request", "post"]).0, "400", "methods have a case");
    assert_eq!(shop.knock(0, Some("mine"), &post).0, "403", "orders may not call itself");
    // Without a certificate, and with one of an authority that nobody trusts.
    assert_eq!(shop.knock(1, None, &post).0, "000");
    std::fs::create_dir(shop.testbed.path("foreign")).unwrap();
    let made = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
    std::fs::write(shop.testbed.path("foreign/svid.pem"), made.cert.pem()).unwrap();
    std::fs::write(shop.testbed.path("foreign/svid.key"), made.signing_key.serialize_pem()).unwrap();
    assert_eq!(shop.knock(1, Some("foreign"), &post).0, "000");
    // Plain text to a port of the mesh.
    let plain = Command::new("curl")
        .args(["--silent", "--max-time", "5"])
        .arg(format!("http://127.0.0.1:{}/charges", shop.ports[1]))
        .output()
        .unwrap();
    assert!(!plain.status.success());
    // The outbound proxy is not for callers from the mesh: orders' endpoint leads to orders alone.
    let (status, _) = shop.knock(0, Some("mine"), &["--request", "POST", "--header", "host: payments"]);
    assert_eq!(status, "421");
    // Nor is it told there what is not known: who comes from the mesh may only ask for orders.
    let (status, body) = shop.knock(0, Some("mine"), &["--request", "POST", "--header", "host: paymnts"]);
    assert!(status == "403" && !body.contains("payments"), "{status} {body}");

    // Who was refused, and why, is in the service's own log.
    let state = shop.testbed.path("bastide-payments/audit");
    until("the refusals", async || {
        let log: String =
            std::fs::read_dir(&state).ok()?.filter_map(|entry| Some(read(&entry.ok()?.path()))).collect();
        (log.contains("spiffe://shop.example/orders") && log.contains("no policy permits")).then_some(())
    })
    .await;
    assert!(
        shop.say("orders").contains("stream=\"stdout\"") && shop.say("orders").contains("service=\"orders\""),
        "{}",
        shop.say("orders")
    );

    // The end: the program is told, and its exit code is ours.
    shop.orders.signal(Signal::TERM);
    assert_eq!(shop.orders.ended().await.code(), Some(7), "{}", shop.say("orders"));
    assert!(shop.say("orders").contains("ending"));
    shop.payments.signal(Signal::TERM);
    assert_eq!(shop.payments.ended().await.code(), Some(7));
}

/// What orders is asked to ask of payments.
const PAY: &str = "/ask?POST,http://payments/charges";

#[tokio::test]
async fn certificates_of_seconds_are_rotated_without_a_failed_request() {
    let shop = shop("  lifetimes: { authority: 36s, x509_svid: 6s, jwt_svid: 6s }\n").await;
    // The file that they share is checked as each of them reads it.
    let checked = |arguments: &[&str]| shop.testbed.bastide(&[&["check", "mesh.yaml"], arguments].concat());
    assert_eq!(checked(&["--service", "orders"]).0, 0);
    assert_eq!(checked(&[]).0, 1, "it has no listeners of its own");
    let shared = read(&shop.testbed.path("mesh.yaml"));
    std::fs::write(shop.testbed.path("mesh.yaml"), shared.replace("  services:", "  servces:")).unwrap();
    let (code, said, _) = checked(&["--service", "orders"]);
    assert!(code == 1 && said.contains("(did you mean \"services\"?)"), "{said}");
    std::fs::write(shop.testbed.path("mesh.yaml"), shared).unwrap();
    // Longer than an authority lasts. Who stands still for half of a certificate's life has none.
    undisturbed("time in which no request fails", Duration::from_secs(1), async || {
        until("an answer", async || (shop.ask(PAY).await.0 == 200).then_some(())).await;
        let (began, mut asked) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(40) {
            let (status, body) = shop.ask(PAY).await;
            if status != 200 {
                let (after, said) = (began.elapsed(), shop.say("orders") + &shop.say("payments"));
                println!("{status} after {after:?}: {body}\n{said}");
                return None;
            }
            asked += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(asked > 50, "{asked}");
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_port_where_somebody_listens_is_no_programs_unless_that_is_meant() {
    let policies = r#"permit (principal == Service::"spiffe://shop.example/orders", action == Action::"CONNECT", resource)
        when { resource.service == "db" };"#;
    let mut mesh = Mesh::start(&[("orders", ""), ("db", ", protocol: tcp")], policies).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let uid = rustix::process::geteuid().as_raw();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(BASTIDE);
    command.args(["run", "--service", "db", "--listen", &listen, "--to", &port, "--", "true"]);
    let output = command.current_dir(mesh.testbed.folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = format!("a process of the user {uid} listens at 127.0.0.1:{port} already");
    assert!(output.status.code() == Some(3) && said.contains(&expected), "{said}");

    let uid = uid.to_string();
    mesh.run_command("db", &["--to", &port, "--listener-uid", &uid], &["sleep", "1000"]).await;
    std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"the database").unwrap());
    let reach = mesh.reach("orders", "db").await;
    let said = tokio::task::spawn_blocking(move || hear(reach)).await.unwrap();
    assert_eq!(said, "the database", "{}", mesh.say("db"));
}

#[tokio::test]
async fn who_else_comes_to_listen_at_the_programs_port_gets_none_of_its_calls() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root starts processes of other users");
        return;
    }
    let policies = r#"permit (principal == Service::"spiffe://shop.example/orders", action == Action::"CONNECT", resource)
        when { resource.service == "db" };"#;
    let mut mesh = Mesh::start(&[("orders", ""), ("db", ", protocol: tcp")], policies).await;
    let port = free_port();
    // A program that listens when there is a file, as another user than it was started as.
    let program = "import os, socket, sys, time\n\
        while not os.path.exists(sys.argv[2]): time.sleep(0.02)\n\
        os.setgroups([]); os.setgid(4010); os.setuid(int(sys.argv[3]))\n\
        s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
        s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); print('listens', flush=True)\n\
        while True: c = s.accept()[0]; print('was called', flush=True); c.sendall(b'of ' + sys.argv[3].encode()); c.close()";
    std::fs::write(mesh.testbed.path("listens.py"), program).unwrap();
    let at = port.to_string();
    let advertised = format!("127.0.0.1:{}", mesh.port("db"));
    let program = ["python3", "listens.py", &at, "go", "4011"];
    mesh.run_command("db", &["--to", &at, "--advertise", &advertised], &program).await;
    let told = mesh.testbed.path("told");
    let mut attacker = Command::new("python3");
    attacker.arg(mesh.testbed.path("listens.py")).args([&at, "/", "4009"]);
    let attacker = Process::spawn(attacker.stdout(std::fs::File::create(&told).unwrap()));
    until("the attacker", async || (read(&told) == "listens\n").then_some(())).await;
    let reach = mesh.reach("orders", "db").await;
    let hears = async || tokio::task::spawn_blocking(move || hear(reach)).await.unwrap();
    assert_eq!(hears().await, "", "{}", mesh.say("db"));
    let expected = format!("a process of the user 4009 listens at 127.0.0.1:{port}");
    until("the reason", async || mesh.say("db").contains(&expected).then_some(())).await;
    assert!(!mesh.say("db").contains("mesh: registered"));
    until("the reason of the call", async || mesh.audit("db").contains(&expected).then_some(())).await;
    drop(attacker);
    assert_eq!(read(&told), "listens\n", "it was not called");
    // The program's own is known by the user that it has become.
    std::fs::write(mesh.testbed.path("go"), "").unwrap();
    until("the registration", async || mesh.say("db").contains("mesh: registered").then_some(())).await;
    until("the database", async || (hears().await == "of 4011").then_some(())).await;
}

#[tokio::test]
async fn a_program_ends_with_who_started_it_and_has_its_own_limits() {
    let mut mesh = Mesh::start(&[("orders", "")], "").await;
    // One file fewer than there may be.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = maximum.map(|maximum| maximum - 1);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    let script = "trap 'echo > told; exit' TERM; grep '^Max ' /proc/self/limits > its; echo begun; while :; do sleep 0.05; done";
    mesh.run_command("orders", &[], &["sh", "-c", script]).await;
    until("the program", async || mesh.say("orders").contains("begun").then_some(())).await;
    let soft = |what: &str, of: &str| {
        let all = std::fs::read_to_string(of).unwrap();
        let rest = all.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        rest.split_ascii_whitespace().next().unwrap().to_owned()
    };
    let (run, its) = (format!("/proc/{}/limits", mesh.running(0).id()), mesh.testbed.path("its"));
    assert_eq!(soft("Max core file size", &run), "1");
    if let Some(maximum) = maximum {
        assert_eq!(soft("Max open files", &run), maximum.to_string());
    }
    for what in ["Max core file size", "Max open files"] {
        assert_eq!(soft(what, its.to_str().unwrap()), soft(what, "/proc/self/limits"), "{what}");
    }
    assert!(!mesh.testbed.path("told").exists());
    mesh.running(0).signal(Signal::KILL);
    until("its end", async || mesh.testbed.path("told").exists().then_some(())).await;
}

/// What is said first there.
fn hear(port: u16) -> String {
    let mut said = String::new();
    let _ = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| stream.read_to_string(&mut said));
    said
}

#[tokio::test]
async fn a_program_that_ends_or_is_not_there_ends_the_run() {
    let shop = shop("").await;
    let exit = |program: &[&str]| {
        let port = free_port();
        let output = Command::new(BASTIDE)
            .args(["run", "--service", "intruder", "--listen", &format!("127.0.0.1:{port}"), "--"])
            .args(program)
            .current_dir(shop.testbed.folder.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(exit(&["sh", "-c", "exit 42"]).0, Some(42));
    assert_eq!(exit(&["sh", "-c", "kill -9 $$"]).0, Some(137));
    let (code, said) = exit(&["./not-there"]);
    assert!(code == Some(3) && said.contains("not-there"), "{said}");
    let (code, said) = exit(&["sh", "-c", "echo out; echo err >&2; env | grep BASTIDE_OUTBOUND_PROXY"]);
    assert_eq!(code, Some(0));
    for line in ["out", "err", "BASTIDE_OUTBOUND_PROXY=http://127.0.0.1:"] {
        assert!(said.contains(line), "{said}");
    }
}
