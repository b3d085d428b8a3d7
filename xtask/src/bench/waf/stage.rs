//! The servers: the gateway with and without the firewall, nginx with and without
//! ModSecurity, one upstream for all.

use super::table::{Large, Samples};
use crate::bench::load::Load;
use crate::bench::peer::nginx;
use crate::bench::server::{self, PEER_CORE, PROXY_CORE};
use crate::bench::usage;
use crate::command;
use crate::process::free_port;
use crate::suite::CrsPlaces as Places;
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Debian keeps the module of nginx.
pub(super) const MODULE: &str = "/usr/lib/nginx/modules/ngx_http_modsecurity_module.so";
/// The large body, and the limit under which all of it is inspected.
const LARGE_BYTES: usize = 12 << 20;
const LARGE_LIMIT_BYTES: u32 = 13 << 20;
/// Leaves of the JSON body.
const LEAVES: usize = 47;
/// How long a server is left alone before its memory is read.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(5);
const WARM_UP_SECONDS: u32 = 3;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Get,
    Post,
}

impl Way {
    pub(super) const ALL: [Self; 2] = [Self::Get, Self::Post];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Get => "benign GET",
            Self::Post => "benign JSON POST",
        }
    }

    /// The most that the firewall may add.
    pub(super) const fn micros_max(self) -> f64 {
        match self {
            Self::Get => 60.0,
            Self::Post => 150.0,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
        }
    }
}

/// Who is asked, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    BastideWithout,
    Bastide,
    NginxWithout,
    ModSecurity,
}

impl Server {
    pub(super) const ALL: [Self; 4] =
        [Self::BastideWithout, Self::Bastide, Self::NginxWithout, Self::ModSecurity];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::BastideWithout => "Bastide without",
            Self::Bastide => "Bastide with",
            Self::NginxWithout => "nginx without",
            Self::ModSecurity => "nginx with ModSecurity",
        }
    }
}

/// A server and where it listens.
struct Standing {
    server: server::Server,
    port: u16,
}

/// Everything that runs.
pub(super) struct Stage {
    folder: PathBuf,
    servers: [Standing; 4],
    large: Standing,
    _upstream: server::Server,
}

impl Stage {
    pub(super) fn set(folder: &Path, binary: &Path, places: &Places) -> Result<Self> {
        for way in Way::ALL {
            std::fs::write(script(folder, way), script_text(way))?;
        }
        let upstream_port = free_port()?;
        let upstream =
            nginx::run(folder, "upstream", PEER_CORE, &upstream_text(folder, upstream_port), upstream_port)?;
        let release = places.release()?;
        let rules = format!("rules: [ \"{}\" ], mode: block, paranoia: 1", release.display());
        let with = format!("waf: {{ {rules}, response_body: {{ access: true }} }}\n");
        // The rule set takes no octet-stream at all: without that rule the body is inspected.
        let large = format!(
            "waf: {{ {rules}, exclusions: [ {{ rule: 920420 }} ], request_body: {{ limit: {LARGE_LIMIT_BYTES}, no_files_limit: {LARGE_LIMIT_BYTES} }} }}\n"
        );
        let bastide = |name: &'static str, waf: &str| bastide(folder, binary, name, upstream_port, waf);
        let modsecurity = modsecurity_rules(folder, places)?;
        let servers = [
            bastide("without", "")?,
            bastide("with", &with)?,
            peer(folder, "nginx-without", upstream_port, None)?,
            peer(folder, "modsecurity", upstream_port, Some(&modsecurity))?,
        ];
        let large = bastide("large", &large)?;
        Ok(Self { folder: folder.to_owned(), servers, large, _upstream: upstream })
    }

    fn standing(&self, server: Server) -> Result<&Standing> {
        self.servers.get(server as usize).context("every server was started")
    }

    /// Each server answers the request well, and those with a firewall refuse an attack.
    pub(super) fn verify(&self, way: Way) -> Result<()> {
        for server in Server::ALL {
            let port = self.standing(server)?.port;
            let attacked = status(&["-G", "--data-urlencode", "q=1' or '1'='1' -- "], port)?;
            let refuses = matches!(server, Server::Bastide | Server::ModSecurity);
            if (attacked == "403") != refuses {
                bail!("{}: an attack was answered {attacked}", server.title());
            }
            Load::Http1Script(&script(&self.folder, way)).run(&url(port), WARM_UP_SECONDS)?;
        }
        Ok(())
    }

    /// All servers, another one beginning in each round.
    pub(super) fn round(&self, way: Way, round: u32, seconds: u32, samples: &mut Samples) -> Result<()> {
        let mut order = Server::ALL;
        order.rotate_left(usize::try_from(round)? % Server::ALL.len());
        for server in order {
            let standing = self.standing(server)?;
            let before = standing.server.cpu()?;
            let completed =
                Load::Http1Script(&script(&self.folder, way)).run(&url(standing.port), seconds)?;
            let used = standing.server.cpu()?.saturating_sub(before);
            #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
            let micros = used.as_secs_f64() * 1e6 / completed as f64;
            println!("round {} {:<16} {:<22} {micros:>8.1} µs", round + 1, way.title(), server.title());
            samples.push(way, server, micros);
        }
        Ok(())
    }

    /// The large body, so many times.
    pub(super) fn large_body(&self, times: u32) -> Result<Large> {
        let body = self.folder.join("large.bin");
        std::fs::write(&body, vec![b'a'; LARGE_BYTES])?;
        let small = self.folder.join("small.bin");
        std::fs::write(&small, b"a")?;
        let send = |file: &Path| -> Result<f64> {
            let data = format!("@{}", file.display());
            let kind = "Content-Type: application/octet-stream";
            let said = curl(
                &["-H", kind, "-H", "Expect:", "--data-binary", &data, "-w", "%{http_code} %{time_total}"],
                self.large.port,
            )?;
            let (status, seconds) = said.split_once(' ').context("curl's answer")?;
            if status != "200" {
                bail!("a body of octet-stream was answered {status}");
            }
            Ok(seconds.trim().parse::<f64>()? * 1e3)
        };
        send(&small)?;
        // The rules' expressions are compiled in the background: not the body's memory.
        std::thread::sleep(SETTLE);
        let process = self.large.server.process();
        let before = usage::resident_kib_most(process)?;
        let mut times: Vec<f64> = (0..times).map(|_| send(&body)).collect::<Result<_>>()?;
        let after = usage::resident_kib_most(process)?;
        times.sort_by(f64::total_cmp);
        #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
        let grown_mib = after.saturating_sub(before) as f64 / 1_024.0;
        Ok(Large {
            limit_mib: f64::from(LARGE_LIMIT_BYTES) / f64::from(1 << 20),
            grown_mib,
            ms: times.get(times.len() / 2).copied().unwrap_or(f64::NAN),
        })
    }
}

fn url(port: u16) -> String {
    format!("http://localhost:{port}/")
}

fn curl(arguments: &[&str], port: u16) -> Result<String> {
    let mut curl = Command::new("curl");
    curl.args(["-s", "--max-time", "30", "-o", "/dev/null"]).args(arguments).arg(url(port));
    command::read(&mut curl)
}

fn status(arguments: &[&str], port: u16) -> Result<String> {
    let all: Vec<&str> = arguments.iter().copied().chain(["-w", "%{http_code}"]).collect();
    curl(&all, port)
}

fn script(folder: &Path, way: Way) -> PathBuf {
    folder.join(format!("{}.lua", way.name()))
}

/// A browser's request, for wrk.
fn script_text(way: Way) -> String {
    let mut text = "wrk.headers[\"User-Agent\"] = \"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\"
wrk.headers[\"Accept\"] = \"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\"
wrk.headers[\"Accept-Language\"] = \"en-US,en;q=0.5\"
wrk.headers[\"Accept-Encoding\"] = \"gzip, deflate, br\"
wrk.headers[\"Cookie\"] = \"session=3f2a9c0d71be4e55; theme=dark\"
wrk.headers[\"Referer\"] = \"https://shop.example/products\"
"
    .to_owned();
    match way {
        Way::Get => text.push_str("wrk.path = \"/products/list?category=shoes&page=2\"\n"),
        Way::Post => {
            let leaves: Vec<String> =
                (1..LEAVES).map(|leaf| format!("\"field{leaf}\":\"value {leaf}\"")).collect();
            let _ = write!(
                text,
                "wrk.method = \"POST\"
wrk.path = \"/orders\"
wrk.headers[\"Content-Type\"] = \"application/json\"
wrk.body = [==[{{\"order\":{{{},\"total\":\"1299\"}}}}]==]
",
                leaves.join(",")
            );
        }
    }
    text
}

fn upstream_text(folder: &Path, port: u16) -> String {
    let answer = "<!DOCTYPE html><html><body><p>Nothing to see here.</p></body></html>".repeat(15);
    format!(
        "{}  access_log off;
  client_max_body_size 64m;
  default_type text/html;
  server {{
    listen 127.0.0.1:{port};
    location / {{ return 200 \"{answer}\"; }}
  }}
}}
",
        nginx::opening(folder, "upstream")
    )
}

fn bastide(folder: &Path, binary: &Path, name: &'static str, upstream: u16, waf: &str) -> Result<Standing> {
    let port = free_port()?;
    let path = folder.join(format!("{name}.yaml"));
    let text = format!(
        "state: \"{}\"
workers: 1
listen: [ 127.0.0.1:{port} ]
admin: 127.0.0.1:0
limits: {{ connections_per_address_max: 10000 }}
services: {{ files: [ http://127.0.0.1:{upstream} ] }}
{waf}routes:
  - name: plain
    match: localhost/**
    to: files
    authenticate: none
    allow: anyone
    body_max: 64MiB
",
        folder.join(format!("{name}-state")).display()
    );
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    let (binary, path) = (binary.display().to_string(), path.display().to_string());
    let server =
        server::Server::start(name, PROXY_CORE, folder, &[&binary, "serve", "--config", &path], port)?;
    Ok(Standing { server, port })
}

/// nginx as a plain proxy, with ModSecurity where rules are given.
fn peer(folder: &Path, name: &'static str, upstream: u16, rules: Option<&Path>) -> Result<Standing> {
    let port = free_port()?;
    let module = rules.map(|_| format!("load_module {MODULE};\n")).unwrap_or_default();
    let rules = rules
        .map(|rules| format!("    modsecurity on;\n    modsecurity_rules_file {};\n", rules.display()))
        .unwrap_or_default();
    let text = format!(
        "{module}{opening}  access_log off;
{group}  proxy_http_version 1.1;
  proxy_set_header Connection \"\";
  proxy_set_header Host $host;
  proxy_set_header X-Forwarded-For $remote_addr;
  server {{
    listen 127.0.0.1:{port};
{rules}    location / {{ proxy_pass http://files; }}
  }}
}}
",
        opening = nginx::opening(folder, name),
        group = nginx::upstream_group("files", upstream),
    );
    Ok(Standing { server: nginx::run(folder, name, PROXY_CORE, &text, port)?, port })
}

/// ModSecurity's recommended settings as the harness has them, blocking, and the rules.
fn modsecurity_rules(folder: &Path, places: &Places) -> Result<PathBuf> {
    let engine = std::fs::read_to_string(places.harness.join("engine.conf"))?;
    // The table of code points is for full-width letters, which no request here has.
    let kept = engine.lines().filter(|line| !line.starts_with("SecUnicodeMapFile"));
    let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
    let text = format!(
        "{}Include {}\nInclude {}/*.conf\n",
        kept.replace("SecRuleEngine DetectionOnly", "SecRuleEngine On"),
        places.setup.display(),
        places.rules.display()
    );
    let path = folder.join("modsecurity-rules.conf");
    std::fs::write(&path, text)?;
    Ok(path)
}
