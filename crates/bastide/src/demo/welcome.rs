//! What `bastide demo` says once the sample shop is running: addresses, users, commands to copy.

use std::fmt::Write;

use super::environment::{CRS_FOLDER, DemoEnvironment, HOST, Rules, USERS};
use super::tour::Paint;
use crate::cli::say_as_it_is;

/// Prints it.
///
/// # Errors
/// A path of the demo is not text.
pub(crate) fn print(demo: &DemoEnvironment, keep: bool) -> anyhow::Result<()> {
    let mut text = String::new();
    let paint = Paint::for_stdout();
    write(&mut text, demo, &paint)?;
    text.push_str(&paint.bold(end(keep)));
    say_as_it_is(text);
    Ok(())
}

/// What is said last.
fn end(keep: bool) -> &'static str {
    match keep {
        true => "Ctrl-C ends it, and the folder stays.",
        false => "Ctrl-C ends it and leaves nothing behind.",
    }
}

fn write(to: &mut String, demo: &DemoEnvironment, paint: &Paint) -> std::fmt::Result {
    let (customers, partners, admin) = demo.addresses();
    let folder = demo.folder().display();
    let port = customers.port();
    writeln!(to, "{}\n", paint.bold("The sample shop is running."))?;
    writeln!(to, "  shop      https://{HOST}:{port}   (partners: https://{HOST}:{})", partners.port())?;
    writeln!(to, "  admin     http://{admin}   /metrics /healthz /readyz")?;
    writeln!(to, "  folder    {folder}   bastide.yaml, mesh.yaml, mesh.cedar, policies/, state/audit/")?;
    match &demo.rules {
        Rules::Own(why) => {
            writeln!(
                to,
                "  firewall  protocol.conf and attacks.conf, a few rules of the shop's own. The OWASP Core Rule"
            )?;
            writeln!(to, "            Set guards services: unpack a release of version 4 from")?;
            writeln!(
                to,
                "            https://github.com/coreruleset/coreruleset/releases and start the demo with"
            )?;
            writeln!(to, "            BASTIDE_CRS=FOLDER (in a configuration: waf: FOLDER)")?;
            if let Some(why) = why {
                writeln!(to, "            The one in {CRS_FOLDER} is passed over: {why}")?;
            }
        }
        Rules::CoreRuleSet(folder) => {
            writeln!(to, "  firewall  protocol.conf and the OWASP Core Rule Set in {}", folder.display())?;
        }
    }
    let mut services: Vec<String> =
        demo.services().map(|service| format!("{} {}", service.role.name(), service.pid)).collect();
    services.extend(demo.gateway_pid().map(|pid| format!("gateway {pid}")));
    writeln!(to, "  processes {}\n", services.join(", "))?;
    writeln!(
        to,
        "Users: alice (customer), bob (merchant), eve (nobody); dora is the tour's. Their passwords and tokens:"
    )?;
    for user in USERS {
        writeln!(to, "  {user:6} {}  {}", demo.person(user).password, paint.dim(demo.token(user)))?;
    }
    writeln!(to, "In a browser (which has to be told to trust the shop's certificate authority):")?;
    writeln!(to, "  https://{HOST}:{port}/orders/alice   leads to the login and back")?;
    writeln!(to, "\nCopy this first:")?;
    writeln!(
        to,
        "  cd {folder}; shop() {{ curl -sS --cacert {} \"$@\"; echo; }}",
        demo.authority_file().display()
    )?;
    let base = format!("https://{HOST}:{port}");
    let bearer = |user: &str| format!("-H \"authorization: Bearer $(cat {user}.token)\"");
    writeln!(to, "\nThese work:")?;
    for (what, arguments) in [
        ("what the shop sells", format!("{base}/products")),
        ("alice reads her order", format!("{} {base}/orders/alice/1001", bearer("alice"))),
        (
            "bob refunds it",
            format!("{} --json '{{\"charge\":\"ch-1001\"}}' {base}/payments/refunds", bearer("bob")),
        ),
    ] {
        writeln!(to, "  shop {arguments}   {}", paint.dim(&format!("# {what}")))?;
    }
    writeln!(to, "\nThese do not:")?;
    for (what, arguments) in [
        ("no token", format!("{base}/orders/alice")),
        ("alice reads bob's order", format!("{} {base}/orders/bob/2001", bearer("alice"))),
        (
            "eve refunds",
            format!("{} --json '{{\"charge\":\"ch-1001\"}}' {base}/payments/refunds", bearer("eve")),
        ),
        ("an SQL injection", format!("'{base}/products?q=1%27%20OR%20%271%27=%271'")),
        ("a path that lies", format!("--path-as-is '{base}/products/..;/orders/bob'")),
    ] {
        writeln!(to, "  shop {arguments}   {}", paint.dim(&format!("# {what}")))?;
    }
    let executable = demo.executable().display();
    writeln!(to, "\nAsk why, with the id of any answer:")?;
    writeln!(to, "  {executable} explain --config bastide.yaml ID")?;
    writeln!(to, "\nHow far somebody in a service could get:")?;
    writeln!(to, "  {executable} blast-radius --config bastide.yaml --service orders\n")
}
