//! The administration: by the socket, by a route, without a process; who may, what is
//! written down, and what a change ends at the gateway.

mod apply;
mod people;

use std::io::{Read as _, Write as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bastide::admin::client::AdminClient;
use bastide::demo::client::{Answer, Request, http1};
use serde_json::{Value, json};

use crate::support::{TestBed, Upstream, get_request, read, until};

pub(crate) const SECRET: &str = "a-client-secret-of-more-than-32-characters";
/// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(crate) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub(crate) const CALLBACK: &str = "https://app.test/cb";

pub(crate) fn rules(upstream: &Upstream, policies: &str) -> String {
    format!(
        "roles: {{ customer: {{}}, administrator: {{}} }}\n\
         realms:\n  town:\n    issuer: https://localhost\n    resources: {{ \"https://orders.test\": {{}} }}\n    \
         clients:\n      web:\n        secret: ${{file:secret.txt}}\n        redirect_uris: [ \"{CALLBACK}\" ]\n        \
         scopes: [ openid, offline_access ]\n        resources: [ \"https://orders.test\" ]\n        trusted: true\n\
         authentication:\n  audience: https://orders.test\n  issuers: [ {{ issuer: https://localhost, prefix: \"town:\" }} ]\n  \
         api_keys: api-keys.json\nservices: {{ orders: [ http://{} ] }}\nroutes:\n  - name: id\n    match: localhost/**\n    \
         to: identity\n    authenticate: none\n    allow: anyone\n  - name: orders\n    match: localhost/orders/**\n    \
         to: orders\n    strip_prefix: /orders\n    authenticate: jwt\n    allow: authenticated\n  - name: admin\n    \
         match: localhost/v1/**\n    to: administration\n    authenticate: [ jwt, api_key ]\n\
         policies:\n  inline: |\n    {}\n",
        upstream.address,
        policies.replace('\n', "\n    ")
    )
}

/// Administrators may all, whoever helps may look and sign out.
pub(crate) const POLICIES: &str = "\
permit (principal in Role::\"administrator\", action, resource) when { resource.service == \"administration\" };
permit (principal == ApiKey::\"helper\", action, resource)
when { resource.service == \"administration\" && resource.name == \"admin\" };
permit (principal == ApiKey::\"helper\", action in Action::\"read\", resource == Route::\"administration:users\")
when { resource.params has realm && resource.params.realm == \"town\" };
forbid (principal, action, resource == Route::\"administration:keys\")
unless { context.credential == \"local\" };";

pub(crate) async fn testbed(upstream: &Upstream, policies: &str) -> TestBed {
    let testbed = TestBed::prepare("routes: []\n");
    std::fs::write(testbed.path("secret.txt"), SECRET).unwrap();
    testbed.configure(&rules(upstream, policies));
    assert_eq!(testbed.bastide(&["init"]).0, 0);
    testbed
}

fn admin(testbed: &TestBed) -> AdminClient {
    AdminClient::Running(testbed.path("state/admin.sock"))
}

/// A blocking call of the socket, beside the test's own runtime.
pub(crate) async fn call(testbed: &TestBed, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let (answer, _) = call_if(testbed, method, path, None, body).await;
    answer
}

async fn call_if(
    testbed: &TestBed,
    method: &str,
    path: &str,
    condition: Option<(&'static str, String)>,
    body: Option<Value>,
) -> ((u16, Value), Option<String>) {
    let admin = admin(testbed);
    let (method, path) = (method.to_owned(), path.to_owned());
    let task = tokio::task::spawn_blocking(move || {
        let condition = condition.as_ref().map(|(name, value)| (*name, value.as_str()));
        admin.call_if(&method, &path, condition, body.as_ref()).unwrap()
    });
    let answer = task.await.unwrap();
    ((answer.status, answer.body), answer.tag)
}

/// A call at the gateway.
async fn remote(testbed: &TestBed, method: &'static str, path: &str, key: &str, body: &str) -> Answer {
    let mut request = Request::new(method, "localhost", path);
    if !key.is_empty() {
        request = request.field("x-api-key", key);
    }
    if !body.is_empty() {
        request = request.field("content-type", "application/json");
        request.body = body.as_bytes().to_vec();
    }
    http1::ask(&testbed.endpoint(), &request).await.unwrap()
}

fn api_key(testbed: &TestBed, name: &str, role: &[&str]) -> String {
    let arguments = [&["key", "new", "--name", name, "--owner", "ops", "--output", "json"], role].concat();
    let (code, out, err) = testbed.bastide(&arguments);
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str::<Value>(&out).unwrap()["key"].as_str().unwrap().to_owned()
}

pub(crate) async fn start(upstream: &Upstream, policies: &str) -> (TestBed, Value) {
    let mut testbed = testbed(upstream, policies).await;
    testbed.start_gateway().await;
    let user = json!({ "username": "alice", "roles": ["customer"] });
    let (status, alice) = call(&testbed, "POST", "/v1/realms/town/users", Some(user)).await;
    assert_eq!(status, 201, "{alice}");
    let path = format!("/v1/realms/town/users/{}/password", alice["id"].as_str().unwrap());
    let password = json!({ "password": "correct horse" });
    assert_eq!(call(&testbed, "PUT", &path, Some(password)).await.0, 200);
    (testbed, alice)
}

/// The answer to the form in which a client's person gives their name and this password.
pub(crate) async fn log_in(testbed: &TestBed, username: &str, password: &str) -> Answer {
    let begin = get_request(&format!(
        "/authorize?client_id=web&redirect_uri={CALLBACK}&response_type=code&scope=openid&code_challenge={CHALLENGE}\
         &code_challenge_method=S256"
    ));
    let begun = http1::ask(&testbed.endpoint(), &begin).await.unwrap();
    let cookie = begun.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let flow = begun.field("location").unwrap().split("flow=").nth(1).unwrap().to_owned();
    let page = get_request(&format!("/login?flow={flow}")).field("cookie", &cookie);
    let page = http1::ask(&testbed.endpoint(), &page).await.unwrap();
    let page = String::from_utf8(page.body).unwrap();
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let mut post = Request::new("POST", "localhost", "/login")
        .field("content-type", "application/x-www-form-urlencoded")
        .field("origin", "https://localhost")
        .field("cookie", &cookie);
    post.body = format!("flow={flow}&csrf={csrf}&username={username}&password={password}").into_bytes();
    http1::ask(&testbed.endpoint(), &post).await.unwrap()
}

/// A browser's way to tokens: cookies by hand.
pub(crate) async fn tokens(testbed: &TestBed, username: &str, password: &str) -> Value {
    let mut cookies: Vec<String> = Vec::new();
    let mut target = format!(
        "/authorize?client_id=web&redirect_uri={CALLBACK}&response_type=code&scope=openid%20offline_access&state=s\
         &code_challenge={CHALLENGE}&code_challenge_method=S256"
    );
    let mut form: Option<String> = None;
    for _ in 0..8 {
        let mut request = match &form {
            None => get_request(&target),
            Some(body) => {
                let mut post = Request::new("POST", "localhost", &target)
                    .field("content-type", "application/x-www-form-urlencoded")
                    .field("origin", "https://localhost");
                post.body = body.clone().into_bytes();
                post
            }
        };
        if !cookies.is_empty() {
            request = request.field("cookie", &cookies.join("; "));
        }
        let answer = http1::ask(&testbed.endpoint(), &request).await.unwrap();
        for (name, value) in &answer.fields {
            if name.eq_ignore_ascii_case("set-cookie") {
                let pair = value.split(';').next().unwrap();
                let name = pair.split('=').next().unwrap();
                cookies.retain(|known| known.split('=').next() != Some(name));
                cookies.push(pair.to_owned());
            }
        }
        form = None;
        match answer.field("location") {
            Some(next) if next.starts_with(CALLBACK) => {
                let code = next.split("code=").nth(1).unwrap().split('&').next().unwrap();
                return redeem(testbed, &format!(
                    "grant_type=authorization_code&code={code}&redirect_uri={CALLBACK}&code_verifier={VERIFIER}"
                ))
                .await
                .json();
            }
            Some(next) => next.clone_into(&mut target),
            None => {
                let page = String::from_utf8(answer.body).unwrap();
                let value = |name: &str| {
                    let input =
                        page.split("<input").find(|input| input.contains(&format!("name=\"{name}\"")));
                    let input = input.unwrap_or_else(|| panic!("no {name}: {page}"));
                    input.split("value=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#x2F;", "/")
                };
                let encode = |text: &str| text.replace('+', "%2B").replace('=', "%3D").replace(' ', "%20");
                form = Some(format!(
                    "flow={}&csrf={}&username={username}&password={}",
                    encode(&value("flow")),
                    encode(&value("csrf")),
                    encode(password)
                ));
                "/login".clone_into(&mut target);
            }
        }
    }
    panic!("no code: {target}");
}

async fn redeem(testbed: &TestBed, form: &str) -> Answer {
    let mut request = Request::new("POST", "localhost", "/token")
        .field("content-type", "application/x-www-form-urlencoded");
    request.body = format!("{form}&client_id=web&client_secret={SECRET}").into_bytes();
    http1::ask(&testbed.endpoint(), &request).await.unwrap()
}

async fn orders(testbed: &TestBed, tokens: &Value) -> u16 {
    let request = get_request("/orders/").bearer(tokens["access_token"].as_str().unwrap());
    http1::ask(&testbed.endpoint(), &request).await.unwrap().status
}

async fn refresh(testbed: &TestBed, tokens: &Value) -> u16 {
    let token = tokens["refresh_token"].as_str().unwrap();
    redeem(testbed, &format!("grant_type=refresh_token&refresh_token={token}")).await.status
}

#[tokio::test]
async fn what_a_person_began_ends_at_the_gateway_when_they_are_switched_off() {
    let upstream = Upstream::start().await;
    let (testbed, alice) = start(&upstream, POLICIES).await;
    let path = format!("/v1/realms/town/users/{}", alice["id"].as_str().unwrap());
    type Cause<'a> = (&'a str, &'a str, String, Option<Value>);
    let off = json!({ "username": "alice", "roles": ["customer"], "disabled": true });
    let mut password = "correct horse".to_owned();
    let causes: [Cause<'_>; 3] = [
        ("sign-out", "DELETE", format!("{path}/sessions"), None),
        (
            "another password",
            "PUT",
            format!("{path}/password"),
            Some(json!({ "password": "battery staple" })),
        ),
        ("switched off", "PUT", path.clone(), Some(off)),
    ];
    for (cause, method, target, body) in causes {
        let tokens = tokens(&testbed, "alice", &password).await;
        assert_eq!(orders(&testbed, &tokens).await, 200, "{cause}: {}", testbed.log());
        // A request that is under way ends too.
        let slow = get_request("/orders/slow").bearer(tokens["access_token"].as_str().unwrap());
        let endpoint = testbed.endpoint();
        let seen = upstream.seen();
        let slow = tokio::spawn(async move { http1::ask(&endpoint, &slow).await });
        until("the slow request", async || (upstream.seen() > seen).then_some(())).await;
        let (status, body) = call(&testbed, method, &target, body).await;
        assert_eq!(status, 200, "{cause}: {body}");
        until(cause, async || (orders(&testbed, &tokens).await == 401).then_some(())).await;
        let went_on = match slow.await.unwrap() {
            Ok(answer) => answer.status == 200,
            // It is the client that gave up.
            Err(error) => error.kind() == std::io::ErrorKind::TimedOut,
        };
        assert!(!went_on, "{cause}: a request under way went on");
        assert_eq!(refresh(&testbed, &tokens).await, 400, "{cause}");
        if cause == "another password" {
            "battery staple".clone_into(&mut password);
        }
    }
    upstream.release();
}

#[tokio::test]
async fn whoever_calls_is_judged_by_the_same_policies_and_written_down() {
    let upstream = Upstream::start().await;
    let policies = format!(
        "{POLICIES}\npermit (principal == ApiKey::\"helper\", action, resource == Route::\"administration:clients\");"
    );
    let mut testbed = testbed(&upstream, &policies).await;
    let helper = api_key(&testbed, "helper", &[]);
    let administrator = api_key(&testbed, "root", &["--role", "administrator"]);
    let nobody = api_key(&testbed, "nobody", &[]);
    testbed.start_gateway().await;
    let users = "/v1/realms/town/users";
    let user = r#"{"username":"bob"}"#;
    for (who, key, method, path, body, expected) in [
        ("nobody at all", "", "GET", users, "", 401),
        ("nobody of ours", nobody.as_str(), "GET", users, "", 403),
        ("the helper", &helper, "GET", users, "", 200),
        ("the helper", &helper, "POST", users, user, 403),
        ("the helper", &helper, "GET", "/v1/realms/town/users/bob", "", 404),
        ("the helper", &helper, "GET", "/v1/realms/town/users/bob/password", "", 403),
        ("the helper", &helper, "GET", "/v1/realms/town/users/bob/sessions", "", 403),
        ("the helper", &helper, "GET", "/v1/realms/town/clients", "", 200),
        ("the helper", &helper, "GET", "/v1/realms/town/clients?hashes=true", "", 403),
        ("the helper", &helper, "GET", "/v1/realms/town/clients/web?hashes=false", "", 200),
        ("the helper", &helper, "GET", "/v1/realms/town/clients/web?hashes=true", "", 403),
        ("the administrator", &administrator, "POST", users, user, 201),
        ("the administrator", &administrator, "POST", users, user, 409),
        ("the administrator", &administrator, "GET", "/v1/realms/town/clients?hashes=true", "", 200),
        ("the administrator", &administrator, "GET", "/v1/realms/town/clients?hashes=1", "", 400),
        ("the administrator", &administrator, "GET", "/v1/realms/town/users/bob/password", "", 404),
        ("the administrator", &administrator, "GET", "/v1/realms/town/keys", "", 403),
        ("the administrator", &administrator, "GET", "/v1/nothing", "", 404),
    ] {
        let answer = remote(&testbed, method, path, key, body).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, expected, "{who}, {method} {path}: {text} {}", testbed.log());
    }
    // What a flag may be counts also where nothing would change.
    let found = remote(&testbed, "GET", &format!("{users}?username=bob"), &administrator, "").await.json();
    let role = format!("{users}/{}/roles/x?any_role=true", found["items"][0]["id"].as_str().unwrap());
    for (flag, expected) in [("", 200), ("&dry_run=true", 200), ("&dry_run=4", 400)] {
        let answer = remote(&testbed, "PUT", &format!("{role}{flag}"), &administrator, "").await;
        assert_eq!(answer.status, expected, "{flag}");
    }
    // And a precondition, which nothing is written to compare with.
    for (condition, expected) in [(("if-match", "*"), 200), (("if-none-match", "*"), 412)] {
        let place = format!("{users}/{}?dry_run=true", found["items"][0]["id"].as_str().unwrap());
        let request = get_request(&place).field("x-api-key", &administrator).field(condition.0, condition.1);
        let request = Request { method: "PUT", body: user.as_bytes().to_vec(), ..request }
            .field("content-type", "application/json");
        let answer = http1::ask(&testbed.endpoint(), &request).await.unwrap();
        assert_eq!(answer.status, expected, "{condition:?}: {}", String::from_utf8_lossy(&answer.body));
    }
    // What is forbidden to all but the owner of the state folder.
    assert_eq!(call(&testbed, "GET", "/v1/realms/town/keys", None).await.0, 200);
    // A client cannot say who it is.
    let forged = json!({ "kind": "User", "id": "root", "credential": "local", "issuer": null,
        "roles": ["administrator"], "scopes": [], "acr": null, "amr": [], "claims": {}, "spiffe_id": null, "expires": null });
    let forged = base64::engine::general_purpose::STANDARD.encode(forged.to_string());
    let request = get_request(users).field("x-api-key", &helper).field("x-bastide-caller", &forged);
    let request = Request { method: "POST", body: user.as_bytes().to_vec(), ..request }
        .field("content-type", "application/json");
    assert_eq!(http1::ask(&testbed.endpoint(), &request).await.unwrap().status, 403);

    // Each call left an event, with the policy that decided.
    let refused = remote(&testbed, "POST", users, &helper, user).await.json();
    let id = refused["id"].as_str().unwrap().to_owned();
    let explained = until("the event", async || {
        let (code, out, _) = testbed.bastide(&["explain", &id]);
        (code == 1 && out.contains("refused by step")).then_some(out)
    })
    .await;
    for part in ["POST", users, "ApiKey::\"helper\"", "administration:users", "403", "no policy permits it"] {
        assert!(explained.contains(part), "{part}: {explained}");
    }
    until("the socket's calls too", async || {
        let log = audit(&testbed);
        (log.contains("administration:keys") && log.contains("local:")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn whoever_hangs_up_is_written_down_with_what_they_did() {
    let upstream = Upstream::start().await;
    let mut testbed = testbed(&upstream, POLICIES).await;
    testbed.start_gateway().await;
    let users = "/v1/realms/town/users";
    let (status, bob) = call(&testbed, "POST", users, Some(json!({ "username": "bob" }))).await;
    assert_eq!(status, 201, "{bob}");
    let path = format!("{users}/{}/password", bob["id"].as_str().unwrap());
    let request = format!(
        "PUT {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    let told = || {
        let log = audit(&testbed);
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["http_request"]["http_method"] == "PUT").collect::<Vec<_>>()
    };
    // While a password is hashed, however long that takes here: who was answered meanwhile comes too
    // late, and of who is gone before their call was looked at nothing is done.
    let (mut pause, mut answered) = (Duration::from_millis(10), 0);
    let told = until("word about three who hung up", async || {
        let before = told().len();
        let mut stream = std::os::unix::net::UnixStream::connect(testbed.path("state/admin.sock")).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        tokio::time::sleep(pause).await;
        stream.set_nonblocking(true).unwrap();
        if stream.read(&mut [0]).is_ok() {
            answered += 1;
            pause /= 2;
        }
        drop(stream);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let told = told();
        if told.len() == before {
            pause *= 2;
        }
        (told.len() >= answered + 3).then_some(told)
    })
    .await;
    for event in told {
        let text = event.to_string();
        assert_eq!(event["http_response"]["code"], 200, "{text}");
        assert!(text.contains("administration:users") && text.contains("local:"), "{text}");
    }
    assert!(!audit(&testbed).contains("\"abandoned\":true"));
}

#[tokio::test]
async fn who_may_write_users_alone_gives_nobody_a_role_or_a_group() {
    let upstream = Upstream::start().await;
    let policies = format!(
        "{POLICIES}\npermit (principal == ApiKey::\"clerk\", action, resource == Route::\"admin\");\n\
         permit (principal == ApiKey::\"clerk\", action, resource == Route::\"administration:users\");\n\
         permit (principal == ApiKey::\"clerk\", action == Action::\"PUT\", resource == Route::\"administration:roles\")\n\
         when {{ resource.params has role && resource.params.role == \"customer\" }};"
    );
    let mut testbed = testbed(&upstream, &policies).await;
    let clerk = api_key(&testbed, "clerk", &[]);
    testbed.start_gateway().await;
    let users = "/v1/realms/town/users";
    let bob = async |method, path: &str, roles: Value, groups: Value| {
        let name = if path.ends_with("another") { "carol" } else { "bob" };
        let user = json!({ "username": name, "roles": roles, "groups": groups }).to_string();
        remote(&testbed, method, path, &clerk, &user).await
    };
    // None of what is refused was done: there is no `bob` before the first that is permitted.
    let none = json!([]);
    assert_eq!(bob("POST", users, json!(["administrator"]), none.clone()).await.status, 403);
    assert_eq!(bob("POST", users, none.clone(), json!(["staff"])).await.status, 403);
    let made = bob("POST", users, json!(["customer"]), none.clone()).await;
    assert_eq!(made.status, 201, "{made:?} {}", testbed.log());
    let path = format!("{users}/{}", made.json()["id"].as_str().unwrap());
    let another = format!("{users}/another");
    let customer = json!(["customer"]);
    for (path, roles, groups, expected) in [
        (&path, customer.clone(), none.clone(), 200),
        (&path, json!(["customer", "administrator"]), none.clone(), 403),
        (&path, customer.clone(), json!(["staff"]), 403),
        (&path, none.clone(), none.clone(), 403),
        (&another, json!(["administrator"]), none.clone(), 403),
        (&another, none.clone(), none.clone(), 200),
    ] {
        let answer = bob("PUT", path, roles.clone(), groups.clone()).await;
        assert_eq!(answer.status, expected, "{roles} {groups}: {answer:?} {}", testbed.log());
    }
    let (_, after) = call(&testbed, "GET", &path, None).await;
    assert_eq!((&after["roles"], &after["groups"]), (&customer, &none));
    // The event says which policies refused, and of what.
    let id = bob("PUT", &path, none.clone(), none).await.json()["id"].as_str().unwrap().to_owned();
    let explained = until("the event", async || {
        let (code, out, _) = testbed.bastide(&["explain", &id]);
        (code == 1 && out.contains("refused by step")).then_some(out)
    })
    .await;
    assert!(explained.contains("administration:roles, DELETE: no policy permits it"), "{explained}");
}

#[tokio::test]
async fn a_group_that_is_called_like_a_role_gives_nobody_the_role() {
    let upstream = Upstream::start().await;
    let policies = format!(
        "{POLICIES}\npermit (principal == ApiKey::\"clerk\", action, resource == Route::\"admin\");\n\
         permit (principal == ApiKey::\"clerk\", action, resource == Route::\"administration:groups\");"
    );
    let mut testbed = testbed(&upstream, &policies).await;
    let clerk = api_key(&testbed, "clerk", &[]);
    testbed.start_gateway().await;
    let users = "/v1/realms/town/users";
    let (status, bob) = call(&testbed, "POST", users, Some(json!({ "username": "bob" }))).await;
    assert_eq!(status, 201, "{bob}");
    let path = format!("{users}/{}", bob["id"].as_str().unwrap());
    let password = json!({ "password": "correct horse" });
    assert_eq!(call(&testbed, "PUT", &format!("{path}/password"), Some(password)).await.0, 200);
    for (group, expected) in [("staff", 200), ("administrator", 403)] {
        for method in ["PUT", "DELETE", "PUT"] {
            let answer = remote(&testbed, method, &format!("{path}/groups/{group}"), &clerk, "").await;
            assert_eq!(answer.status, expected, "{method} {group}: {}", testbed.log());
        }
    }
    // Who holds all permits may call a group so; it is a name still.
    assert_eq!(call(&testbed, "PUT", &format!("{path}/groups/administrator"), None).await.0, 200);
    let asked_with = async |tokens: &Value| {
        let request = get_request(users).bearer(tokens["access_token"].as_str().unwrap());
        http1::ask(&testbed.endpoint(), &request).await.unwrap().status
    };
    let asked = async || asked_with(&tokens(&testbed, "bob", "correct horse").await).await;
    assert_eq!(asked().await, 403, "{}", testbed.log());
    assert_eq!(call(&testbed, "PUT", &format!("{path}/roles/administrator"), None).await.0, 200);
    assert_eq!(asked().await, 200, "{}", testbed.log());
    // A role that is taken away is none of a token from before either.
    let before = tokens(&testbed, "bob", "correct horse").await;
    assert_eq!(asked_with(&before).await, 200, "{}", testbed.log());
    assert_eq!(call(&testbed, "DELETE", &format!("{path}/roles/administrator"), None).await.0, 200);
    until("the token to end", async || (asked_with(&before).await == 401).then_some(())).await;
    assert_eq!(asked().await, 403, "{}", testbed.log());
}

/// Whom policies give something without a role, and names that are not the clerk's to give.
const BY_NAME: &str = "\
permit (principal == ApiKey::\"named\", action, resource == Route::\"orders\");
permit (principal, action, resource == Route::\"orders\") when { principal == User::\"town:treasurer\" };
permit (principal == Service::\"spiffe://shop.example/ledger\", action, resource == Route::\"orders\");
forbid (principal == ApiKey::\"shunned\", action, resource == Route::\"orders\");
forbid (principal == ApiKey::\"clerk\", action, resource == Route::\"administration:api-keys\")
when { resource.params has name && resource.params.name like \"ours-*\" };
forbid (principal == ApiKey::\"clerk\", action, resource == Route::\"administration:workloads\")
when { resource.params has workload && resource.params.workload like \"ours-*\" };";

#[tokio::test]
async fn who_may_write_clients_keys_or_passwords_gets_nobody_s_roles_by_it() {
    let upstream = Upstream::start().await;
    let clerk_may = |area: &str| {
        format!("permit (principal == ApiKey::\"clerk\", action, resource == Route::\"{area}\");\n")
    };
    let areas = [
        "admin",
        "administration:clients",
        "administration:api-keys",
        "administration:users",
        "administration:workloads",
        "administration:nodes",
    ];
    let policies = format!(
        "{POLICIES}\n{}\
         permit (principal == ApiKey::\"clerk\", action == Action::\"PUT\", resource == Route::\"administration:roles\")\n\
         when {{ resource.params has role && resource.params.role == \"customer\" }};\n{BY_NAME}",
        areas.map(clerk_may).concat()
    );
    let mut testbed = testbed(&upstream, &policies).await;
    // Who has a role by the configuration has it.
    let main = read(&testbed.path("bastide.yaml"));
    let members = "administrator: { members: [ \"User:town:root\", \"Client:town:robot\", \"ApiKey:boss\", \"Service:spiffe://shop.example/ops\" ] }";
    let mesh = "mesh: { trust_domain: shop.example, socket: api.sock }\n";
    std::fs::write(
        testbed.path("bastide.yaml"),
        mesh.to_owned() + &main.replace("administrator: {}", members),
    )
    .unwrap();
    let clerk = api_key(&testbed, "clerk", &[]);
    testbed.start_gateway().await;
    let realm = "/v1/realms/town";
    let hash = identity::Client::secret_hash(SECRET).unwrap();
    let client = |id: &str, roles: &[&str], more: Value| {
        let mut client = json!({
            "id": id, "authentication": { "method": "secret", "hashes": [hash] }, "roles": roles,
            "grant_types": ["client_credentials"], "resources": ["https://orders.test"],
        });
        client.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client
    };
    let user = |name: &str, roles: &[&str], more: Value| {
        let mut user = json!({ "username": name, "roles": roles });
        user.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        user
    };
    // What is there before.
    for (path, body) in [
        ("clients/theirs", client("theirs", &["administrator"], json!({}))),
        ("users/chief", user("chief", &["administrator"], json!({ "email": "chief@town.test" }))),
        ("users/off", user("off", &["administrator"], json!({ "disabled": true }))),
        ("users/alice", user("alice", &["customer"], json!({}))),
        // A group that is called like a role may be one, here or at another gateway.
        ("users/member", user("member", &[], json!({ "groups": ["administrator"] }))),
        ("users/friend", user("friend", &[], json!({ "groups": ["friends"] }))),
        ("users/treasurer", user("treasurer", &[], json!({}))),
    ] {
        let (status, answer) = call(&testbed, "PUT", &format!("{realm}/{path}"), Some(body)).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
    let (none, made) = (json!({}), json!({ "password": "correct horse" }));
    let key = |name: &str, roles: &[&str]| json!({ "owner": "ops", "name": name, "roles": roles });
    for (method, path, body, expected) in [
        ("PUT", "clients/mine", client("mine", &["administrator"], none.clone()), 403),
        ("PUT", "clients/mine", client("mine", &["customer"], none.clone()), 200),
        ("PUT", "clients/mine", client("mine", &["customer", "administrator"], none.clone()), 403),
        ("PUT", "clients/mine", client("mine", &[], none.clone()), 403),
        ("POST", "clients/mine/secret", none.clone(), 200),
        ("PUT", "clients/robot", client("robot", &[], none.clone()), 403),
        ("PUT", "clients/plain", client("plain", &[], none.clone()), 200),
        ("POST", "clients/plain/secret", none.clone(), 200),
        ("POST", "clients/theirs/secret", none.clone(), 403),
        ("PUT", "clients/theirs", client("theirs", &["administrator"], json!({ "name": "x" })), 403),
        ("PUT", "clients/theirs", client("theirs", &["administrator"], json!({ "disabled": true })), 200),
        ("PUT", "clients/theirs", client("theirs", &["administrator"], none.clone()), 403),
        ("PUT", "users/chief/password", made.clone(), 403),
        ("PUT", "users/chief/password", none.clone(), 403),
        ("DELETE", "users/chief/factors/any", Value::Null, 403),
        (
            "PUT",
            "users/chief/factors/any",
            json!({ "name": "x", "secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" }),
            403,
        ),
        ("PUT", "users/chief", user("chief", &["administrator"], json!({ "email": "me@evil.test" })), 403),
        (
            "PUT",
            "users/chief",
            user("chief", &["administrator"], json!({ "email": "chief@town.test", "name": "C" })),
            200,
        ),
        (
            "PUT",
            "users/chief",
            user("former", &["administrator"], json!({ "email": "chief@town.test" })),
            403,
        ),
        ("PUT", "users/off", user("off", &["administrator"], none.clone()), 403),
        ("PUT", "users/root", user("root", &[], none.clone()), 403),
        ("PUT", "users/member/password", made.clone(), 403),
        ("DELETE", "users/member/factors/any", Value::Null, 403),
        (
            "PUT",
            "users/member",
            user("member", &[], json!({ "groups": ["administrator"], "email": "me@evil.test" })),
            403,
        ),
        (
            "PUT",
            "users/member",
            user("member", &[], json!({ "groups": ["administrator"], "name": "M" })),
            200,
        ),
        ("PUT", "users/treasurer/password", made.clone(), 403),
        ("PUT", "users/friend/password", made.clone(), 200),
        (
            "PUT",
            "users/friend",
            user("friend", &[], json!({ "groups": ["friends"], "email": "friend@town.test" })),
            200,
        ),
        ("PUT", "users/alice/password", made.clone(), 200),
        ("DELETE", "users/alice/factors/any", Value::Null, 404),
        ("PUT", "users/alice", user("alice", &["customer"], json!({ "email": "alice@town.test" })), 200),
        ("PUT", "users/plainly", user("plain", &[], none.clone()), 200),
        ("PUT", "users/plainly", user("plainly", &[], none.clone()), 200),
        ("PUT", "users/plainly/password", none.clone(), 200),
    ] {
        let path = format!("{realm}/{path}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = remote(&testbed, method, &path, &clerk, &body).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, expected, "{method} {path} {body}: {text} {}", testbed.log());
    }
    for (body, expected) in [
        (key("mine", &["administrator"]), 403),
        (key("boss", &[]), 403),
        (key("mine", &["customer"]), 201),
        (key("plain", &[]), 201),
        (key("named", &[]), 403),
        (key("helper", &[]), 403),
        (key("shunned", &[]), 201),
        (key("ours-1", &[]), 403),
    ] {
        let answer = remote(&testbed, "POST", "/v1/api-keys", &clerk, &body.to_string()).await;
        assert_eq!(answer.status, expected, "{body}: {}", testbed.log());
    }
    // Who says which process is a workload, or which machine is its node, can be it.
    for (name, node, id) in [
        ("ops", "edge-1", "ops"),
        ("stock", "edge-2", "stock"),
        ("ours-1", "edge-3", "shared"),
        ("theirs", "edge-3", "shared-2"),
    ] {
        let body = json!({ "uid": [1], "node": [node], "id": id });
        assert_eq!(call(&testbed, "PUT", &format!("/v1/workloads/{name}"), Some(body)).await.0, 200);
    }
    let id = |id: &str| json!({ "uid": [0], "id": id });
    for (method, path, body, expected) in [
        ("PUT", "workloads/ops", json!({ "uid": [0] }), 403),
        ("PUT", "workloads/other", id("ops"), 403),
        ("PUT", "workloads/stock", json!({ "uid": [0], "node": ["edge-2"] }), 200),
        // What policies name, what is not to be named, what another one has who is not either.
        ("PUT", "workloads/ledger", json!({ "uid": [0] }), 403),
        ("PUT", "workloads/other", id("ledger"), 403),
        ("PUT", "workloads/other", id("ours-2"), 403),
        ("PUT", "workloads/other", id("shared"), 403),
        ("PUT", "workloads/other", id("shared-2"), 200),
        ("PUT", "workloads/another", id("ns/shop/other"), 200),
        ("POST", "nodes/edge-1/token", none.clone(), 403),
        ("POST", "nodes/edge-2/token", none.clone(), 200),
        ("PUT", "nodes/edge-1/eviction", Value::Null, 200),
        ("PUT", "nodes/edge-2/eviction", Value::Null, 200),
        ("DELETE", "nodes/edge-1/eviction", Value::Null, 403),
        ("DELETE", "nodes/edge-2/eviction", Value::Null, 204),
    ] {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = remote(&testbed, method, &format!("/v1/{path}"), &clerk, &body).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, expected, "{method} {path} {body}: {text} {}", testbed.log());
    }
    // Whoever holds the permit over roles may do all of it.
    for (method, path, body) in [
        ("PUT", "clients/theirs", client("theirs", &["administrator"], none.clone())),
        ("POST", "clients/theirs/secret", none.clone()),
        ("PUT", "users/chief/password", made),
        ("PUT", "users/root", user("root", &[], none.clone())),
    ] {
        let (status, answer) = call(&testbed, method, &format!("{realm}/{path}"), Some(body)).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn who_may_write_users_or_clients_alone_writes_nothing_that_policies_read_in_claims() {
    let upstream = Upstream::start().await;
    let policies = format!(
        "{POLICIES}\npermit (principal == ApiKey::\"clerk\", action, resource == Route::\"admin\");\n\
         permit (principal == ApiKey::\"clerk\", action, resource == Route::\"administration:users\");\n\
         permit (principal == ApiKey::\"clerk\", action, resource == Route::\"administration:clients\");\n\
         permit (principal == ApiKey::\"clerk\", action == Action::\"PUT\", resource == Route::\"administration:roles\")\n\
         when {{ resource.params has role && resource.params.role == \"customer\" }};"
    );
    let mut testbed = testbed(&upstream, &policies).await;
    let main = read(&testbed.path("bastide.yaml"));
    let shown = "  town:\n    claims:\n      - { claim: tenant, attribute: tenant }\n      - { claim: desk, attribute: desk }\n";
    let main = main
        .replace("  town:\n", shown)
        .replace("authentication:\n", "authentication:\n  claims: { tenant: text, email: text }\n");
    std::fs::write(testbed.path("bastide.yaml"), main).unwrap();
    let clerk = api_key(&testbed, "clerk", &[]);
    testbed.start_gateway().await;
    let realm = "/v1/realms/town";
    let user = |more: Value| {
        let mut user = json!({ "username": "bob", "roles": ["customer"] });
        user.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        user
    };
    let hash = identity::Client::secret_hash(SECRET).unwrap();
    let client = |attributes: Value| {
        json!({ "id": "robot", "authentication": { "method": "secret", "hashes": [hash] }, "attributes": attributes,
            "grant_types": ["client_credentials"], "resources": ["https://orders.test"] })
    };
    let (north, south) = (json!({ "tenant": "north" }), json!({ "tenant": "south" }));
    let desk = json!({ "tenant": "north", "desk": 7 });
    for (caller, method, path, body, expected) in [
        ("clerk", "POST", "users", user(json!({ "attributes": north })), 403),
        ("clerk", "PUT", "users/bob", user(json!({ "attributes": north })), 403),
        ("clerk", "PUT", "users/bob", user(json!({ "email": "bob@town.test" })), 403),
        ("clerk", "PUT", "users/bob", user(json!({ "attributes": { "desk": 6 } })), 200),
        ("owner", "PUT", "users/bob", user(json!({ "attributes": north })), 200),
        ("clerk", "PUT", "users/bob", user(json!({ "attributes": south })), 403),
        ("clerk", "PUT", "users/bob", user(json!({ "attributes": {} })), 403),
        ("clerk", "PUT", "users/bob", user(json!({ "attributes": desk, "name": "Bob" })), 200),
        ("clerk", "PUT", "users/bob", user(json!({ "attributes": desk, "username": "rob" })), 200),
        ("clerk", "PUT", "clients/robot", client(north.clone()), 403),
        ("clerk", "PUT", "clients/robot", client(json!({ "desk": 7 })), 200),
        ("owner", "PUT", "clients/robot", client(north), 200),
        ("clerk", "PUT", "clients/robot", client(south), 403),
        ("clerk", "PUT", "clients/robot", client(desk), 200),
    ] {
        let path = format!("{realm}/{path}");
        let (status, answer) = if caller == "owner" {
            call(&testbed, method, &path, Some(body.clone())).await
        } else {
            let answer = remote(&testbed, method, &path, &clerk, &body.to_string()).await;
            (answer.status, json!(String::from_utf8_lossy(&answer.body)))
        };
        assert_eq!(status, expected, "{caller} {method} {path} {body}: {answer} {}", testbed.log());
    }
}

#[tokio::test]
async fn who_may_write_clients_alone_makes_none_that_acts_without_its_users() {
    let upstream = Upstream::start().await;
    let may = |who: &str, area: &str| {
        format!("permit (principal == ApiKey::\"{who}\", action, resource == Route::\"{area}\");\n")
    };
    let policies = [
        POLICIES,
        &may("clerk", "admin"),
        &may("clerk", "administration:clients"),
        &may("chief", "admin"),
        &may("chief", "administration:clients"),
        &may("chief", "administration:trust"),
    ];
    let mut testbed = testbed(&upstream, &policies.join("\n")).await;
    let (clerk, chief) = (api_key(&testbed, "clerk", &[]), api_key(&testbed, "chief", &[]));
    testbed.start_gateway().await;
    let hash = identity::Client::secret_hash(SECRET).unwrap();
    let client = |more: Value| {
        let mut client = json!({
            "id": "mine", "authentication": { "method": "secret", "hashes": [hash] },
            "grant_types": ["authorization_code"], "redirect_uris": ["https://mine.test/"],
        });
        client.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client
    };
    let exchange = ["urn:ietf:params:oauth:grant-type:token-exchange"];
    let served = ["https://orders.test"];
    let exchanging = json!({ "grant_types": exchange, "redirect_uris": [], "serves": served });
    let path = "/v1/realms/town/clients/mine";
    let write = async |who: &str, method: &'static str, path: &str, body: &Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = remote(&testbed, method, path, who, &body).await;
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    };
    let secret = format!("{path}/secret");
    for privileged in [json!({ "trusted": true }), json!({ "may_introspect": true }), exchanging] {
        let elsewhere = json!({ "name": "x", "backchannel_logout_uri": "https://evil.test/" });
        let mut changed = client(privileged.clone());
        changed.as_object_mut().unwrap().extend(elsewhere.as_object().unwrap().clone());
        let mut off = client(privileged.clone());
        off["disabled"] = json!(true);
        for (who, method, path, body, expected) in [
            (&clerk, "PUT", path, client(privileged.clone()), 403),
            (&clerk, "PUT", path, client(json!({})), 200),
            (&clerk, "POST", secret.as_str(), json!({}), 200),
            (&clerk, "PUT", path, client(privileged.clone()), 403),
            (&chief, "PUT", path, client(privileged.clone()), 200),
            // Nor do they get at one that is there.
            (&clerk, "PUT", path, changed.clone(), 403),
            (&clerk, "POST", secret.as_str(), json!({}), 403),
            (&clerk, "PUT", path, client(privileged.clone()), 200),
            (&chief, "PUT", path, changed, 200),
            (&chief, "POST", secret.as_str(), json!({}), 200),
            (&chief, "PUT", path, client(privileged.clone()), 200),
            // They may switch it off, and not on again; and take from it what it has.
            (&clerk, "PUT", path, off, 200),
            (&clerk, "PUT", path, client(privileged.clone()), 403),
            (&clerk, "PUT", path, client(json!({})), 200),
            (&clerk, "DELETE", path, Value::Null, 204),
        ] {
            let (status, text) = write(who, method, path, &body).await;
            let by = if *who == clerk { "clerk" } else { "chief" };
            assert_eq!(status, expected, "{by} {method} {path} {body}: {text} {}", testbed.log());
        }
    }
    // The client of the gateway that only serves, and exchanges nothing.
    let serves = json!({ "serves": served });
    assert_eq!(write(&clerk, "PUT", path, &client(serves)).await.0, 200);
}

fn audit(testbed: &TestBed) -> String {
    let folder = std::fs::read_dir(testbed.path("state/audit")).into_iter().flatten().flatten();
    folder.map(|entry| read(&entry.path())).collect()
}

#[tokio::test]
async fn settings_of_a_realm_are_changed_while_it_runs_and_outlive_it() {
    let upstream = Upstream::start().await;
    let mut testbed = testbed(&upstream, POLICIES).await;
    let issuer = "issuer: https://localhost\n";
    let written = format!("{issuer}    lifetimes: {{ code: 30s }}\n");
    testbed.configure(&rules(&upstream, POLICIES).replacen(issuer, &written, 1));
    testbed.start_gateway().await;
    let realm = "/v1/realms/town";
    let lifetime = async |testbed: &TestBed| {
        call(testbed, "GET", realm, None).await.1["lifetimes"]["access_token"].clone()
    };
    assert_eq!(lifetime(&testbed).await, 300);
    // By the command, while it runs.
    let (code, out, err) =
        testbed.bastide(&["realm", "set", "access_token=10m", "require_pushed_requests=true"]);
    assert_eq!(code, 0, "{out}{err}");
    until("the new lifetime", async || (lifetime(&testbed).await == 600).then_some(())).await;
    let pushed = async |testbed: &TestBed| {
        let target = format!(
            "/authorize?client_id=web&redirect_uri={CALLBACK}&response_type=code&scope=openid&state=s\
             &code_challenge={CHALLENGE}&code_challenge_method=S256"
        );
        let answer = http1::ask(&testbed.endpoint(), &get_request(&target)).await.unwrap();
        answer.field("location").is_some_and(|place| place.contains("error=invalid_request"))
            || answer.status == 400
    };
    until("pushed requests alone", async || pushed(&testbed).await.then_some(())).await;
    // What the configuration writes is changed there; what is no setting is told apart.
    for (change, status) in [
        (json!({ "lifetimes": { "code": 60 } }), 409),
        (json!({ "lifetimes": { "access_token": 90_000 } }), 422),
        (json!({ "lifetimes": { "acess_token": 60 } }), 422),
        (json!({ "issuer": "https://evil.example" }), 400),
    ] {
        let (found, body) = call(&testbed, "PUT", &format!("{realm}/settings"), Some(change.clone())).await;
        assert_eq!(found, status, "{change}: {body}");
    }
    assert_eq!(testbed.bastide(&["realm", "set", "acess_token=10m"]).0, 3);
    // It outlives the process, and files say it too.
    testbed.stop_gateway().await;
    let file = testbed.path("wanted.yaml");
    std::fs::write(&file, "settings: { display_name: Town, lifetimes: { access_token: 900, code: 60 } }\n")
        .unwrap();
    let (code, out, err) = testbed.bastide(&["apply", "-f", "wanted.yaml", "--dry-run"]);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("lifetimes.access_token: 600 → 900"), "{out}");
    assert!(
        out.contains("setting lifetimes.code is 30 here and 60 there; it is changed in `realms:`"),
        "{out}"
    );
    assert_eq!(testbed.bastide(&["apply", "-f", "wanted.yaml"]).0, 0);
    testbed.start_gateway().await;
    assert_eq!(lifetime(&testbed).await, 900);
    assert!(pushed(&testbed).await);
    assert!(testbed.bastide(&["realm", "unset", "access_token"]).1.contains("display_name: Town"));
    let unset = testbed.bastide(&["realm", "unset", "require_pushed_requests", "display_name"]);
    assert_eq!(unset, (0, "every setting is as configured\n".to_owned(), String::new()));
    until("what is configured", async || (lifetime(&testbed).await == 300).then_some(())).await;
    until("no pushed requests", async || (!pushed(&testbed).await).then_some(())).await;
}

#[tokio::test]
async fn keys_are_administered_without_realms_and_each_call_is_explained() {
    let rules = |more: &str| {
        format!(
            "services: {{ here: [ http://127.0.0.1:9 ] }}\nroutes:\n  - {{ match: /**, to: here, authenticate: api_key, \
             allow: authenticated{more} }}\n"
        )
    };
    let mut testbed = TestBed::prepare(&rules(""));
    // Without a process, and by one.
    api_key(&testbed, "first", &[]);
    testbed.start_gateway().await;
    api_key(&testbed, "second", &[]);
    let (code, out, _) = testbed.bastide(&["key", "list", "--output", "json"]);
    assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap().as_array().unwrap().len()), (0, 2));
    let ids = until("both events", async || {
        let log = audit(&testbed);
        let made = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let made = made.filter(|event| {
            event["unmapped"]["route"] == "administration:api-keys" && event["http_response"]["code"] == 201
        });
        let ids: Vec<_> = made.map(|event| event["metadata"]["uid"].as_str().unwrap().to_owned()).collect();
        (ids.len() == 2).then_some(ids)
    })
    .await;
    for id in &ids {
        let (code, out, err) = testbed.bastide(&["explain", id]);
        assert!(code == 0 && out.contains("permitted by local-administration"), "{out}{err}");
    }
    // A reload that changes no policy keeps no further generation.
    let kept = || std::fs::read_dir(testbed.path("state/generations")).unwrap().count();
    let before = kept();
    testbed.configure(&rules(", limit: 5/minute per address"));
    until("the reload", async || testbed.log().contains("reloaded (files changed)").then_some(())).await;
    assert_eq!(kept(), before);
    // A `forbid` counts here too.
    testbed.configure(&(rules("") + "policies: { inline: \"forbid (principal, action, resource);\" }\n"));
    until("the refusal", async || {
        let (code, _, err) = testbed.bastide(&["key", "list"]);
        (code == 3 && err.contains("the policies do not permit it")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn writes_compare_and_lists_go_on() {
    let upstream = Upstream::start().await;
    let (testbed, alice) = start(&upstream, POLICIES).await;
    let path = format!("/v1/realms/town/users/{}", alice["id"].as_str().unwrap());
    let ((status, body), tag) = call_if(&testbed, "GET", &path, None, None).await;
    assert_eq!((status, &body["username"]), (200, &json!("alice")));
    let tag = tag.unwrap();
    let user = |name: &str| Some(json!({ "username": "alice", "name": name }));
    let put = async |condition, name: &str| call_if(&testbed, "PUT", &path, condition, user(name)).await.0.0;
    assert_eq!(put(Some(("if-match", tag.clone())), "Alice").await, 200);
    assert_eq!(put(Some(("if-match", tag.clone())), "Mallory").await, 412, "changed since it was read");
    assert_eq!(put(Some(("if-none-match", "*".to_owned())), "Mallory").await, 412);
    assert_eq!(call(&testbed, "GET", &path, None).await.1["name"], "Alice");
    // The same again is the same.
    for _ in 0..2 {
        assert_eq!(put(None, "Alice").await, 200);
    }
    let stale = call_if(&testbed, "DELETE", &path, Some(("if-match", tag)), None).await.0.0;
    assert_eq!(stale, 412);
    for number in 0..7 {
        let user = json!({ "username": format!("user{number}"), "groups": ["staff"] });
        assert_eq!(call(&testbed, "POST", "/v1/realms/town/users", Some(user)).await.0, 201);
    }
    let (mut seen, mut query) = (0, "?group=staff&limit=3".to_owned());
    loop {
        let (status, page) = call(&testbed, "GET", &format!("/v1/realms/town/users{query}"), None).await;
        assert_eq!(status, 200, "{page}");
        seen += page["items"].as_array().unwrap().len();
        assert!(page["items"].as_array().unwrap().len() <= 3);
        match page["next"].as_str() {
            Some(next) => query = format!("?group=staff&limit=3&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, 7);
    // What is wrong is said, in one form.
    let password = format!("{path}/password");
    for (method, path, body, status, code) in [
        ("GET", "/v1/realms/twon/users", None, 404, "not_found"),
        ("GET", "/v1/realms/town/users/nobody", None, 404, "not_found"),
        ("GET", "/v1/realms/town/users?limt=1", None, 400, "malformed"),
        ("GET", "/v1/realms/town/users?limit=0", None, 400, "malformed"),
        ("GET", "/v1/realms/town/users?cursor=%21", None, 400, "malformed"),
        ("POST", "/v1/realms/town/users", Some(json!({ "user": "x" })), 400, "malformed"),
        (
            "POST",
            "/v1/realms/town/users",
            Some(json!({ "username": "x", "roles": ["custmer"] })),
            422,
            "unfit",
        ),
        ("POST", "/v1/realms/town/users", Some(json!({ "username": "ALICE" })), 409, "conflict"),
        (
            "PUT",
            "/v1/realms/town/clients/web",
            Some(json!({ "id": "web", "authentication": { "method": "none" } })),
            409,
            "conflict",
        ),
        ("POST", "/v1/realms/town/keys/rotate", Some(json!([])), 400, "malformed"),
        ("PUT", password.as_str(), Some(json!({ "hash": "$md5$x" })), 422, "unfit"),
        ("PUT", password.as_str(), Some(json!({ "hash": "x", "password": "y" })), 422, "unfit"),
        ("POST", "/v1/revocations", Some(json!({ "token": "a", "session": "b" })), 422, "unfit"),
        ("PATCH", "/v1/realms", None, 405, "method"),
    ] {
        let (found, problem) = call(&testbed, method, path, body).await;
        assert_eq!((found, problem["code"].as_str()), (status, Some(code)), "{method} {path}: {problem}");
        assert_eq!(problem["status"], status);
    }
    let (_, problem) = call(&testbed, "GET", "/v1/realms/twon", None).await;
    assert!(problem["detail"].as_str().unwrap().contains("did you mean \"town\"?"), "{problem}");
}

#[tokio::test]
async fn clients_keys_and_revocations_are_administered() {
    let upstream = Upstream::start().await;
    let (testbed, _) = start(&upstream, POLICIES).await;
    let mine = json!({ "id": "job", "authentication": { "method": "secret", "hashes": [] },
        "grant_types": ["client_credentials"], "resources": ["https://orders.test"] });
    let path = "/v1/realms/town/clients/job";
    let (status, problem) = call(&testbed, "PUT", path, Some(mine.clone())).await;
    assert_eq!(status, 422, "a secret has to be there: {problem}");
    let hash = identity::Client::secret_hash(SECRET).unwrap();
    let mut with = mine.clone();
    with["authentication"]["hashes"] = json!([hash]);
    assert_eq!(call(&testbed, "PUT", path, Some(with)).await.0, 200);
    let token = async |secret: &str| {
        let mut request = Request::new("POST", "localhost", "/token")
            .field("content-type", "application/x-www-form-urlencoded");
        request.body =
            format!("grant_type=client_credentials&client_id=job&client_secret={secret}").into_bytes();
        http1::ask(&testbed.endpoint(), &request).await.unwrap()
    };
    assert_eq!(token(SECRET).await.status, 200);
    // What is shown has no hash, and written back takes none away.
    let (_, shown) = call(&testbed, "GET", path, None).await;
    assert_eq!(shown["authentication"]["hashes"], json!([]));
    assert_eq!(call(&testbed, "PUT", path, Some(mine)).await.0, 200);
    assert_eq!(token(SECRET).await.status, 200);
    let (_, made) =
        call(&testbed, "POST", &format!("{path}/secret"), Some(json!({ "keep_previous": true }))).await;
    let second = made["secret"].as_str().unwrap().to_owned();
    assert_eq!((token(SECRET).await.status, token(&second).await.status), (200, 200));
    let (_, made) = call(&testbed, "POST", &format!("{path}/secret"), Some(json!({}))).await;
    let third = made["secret"].as_str().unwrap().to_owned();
    assert_eq!((token(&second).await.status, token(&third).await.status), (401, 200));

    // Other keys: what was signed before stays good, until it is to be forgotten.
    let before = token(&third).await.json();
    let kid = |tokens: &Value| {
        let head = tokens["access_token"].as_str().unwrap().split('.').next().unwrap().to_owned();
        serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(head).unwrap()).unwrap()["kid"].clone()
    };
    let rotate = "/v1/realms/town/keys/rotate";
    assert_eq!(call(&testbed, "POST", rotate, Some(json!({}))).await.0, 200);
    let after = token(&third).await.json();
    assert_ne!(kid(&before), kid(&after));
    assert_eq!(orders(&testbed, &before).await, 200);

    // A token is revoked by its jti, whoever issued it.
    let claims = after["access_token"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    until("the new key", async || (orders(&testbed, &after).await == 200).then_some(())).await;
    let revocation = json!({ "token": claims["jti"], "expires_in": 600 });
    assert_eq!(call(&testbed, "POST", "/v1/revocations", Some(revocation)).await.0, 201);
    until("the revocation", async || (orders(&testbed, &after).await == 401).then_some(())).await;
    assert_eq!(orders(&testbed, &before).await, 200);
    let undo = format!("/v1/revocations/{}", claims["jti"].as_str().unwrap());
    assert_eq!(call(&testbed, "DELETE", &undo, None).await.0, 204);
    assert_eq!(call(&testbed, "DELETE", &undo, None).await.0, 404);
    assert_eq!(call(&testbed, "DELETE", path, None).await.0, 204);
    assert_eq!(token(&third).await.status, 401);

    // A key that leaked is revoked by itself, also where a digit is missing, and is not written down.
    for (cut, what) in [(0, "whole"), (1, "cut short")] {
        let key = api_key(&testbed, what, &[]);
        let (id, secret) = (key.split('_').nth(1).unwrap(), key.split('_').nth(2).unwrap());
        let path = format!("/v1/api-keys/{}", &key[..key.len() - cut].replace('_', "%5F"));
        assert_eq!(call(&testbed, "DELETE", &path, None).await.0, 204, "{what}");
        let (_, listed) = call(&testbed, "GET", "/v1/api-keys", None).await;
        let record = listed["items"].as_array().unwrap().iter().find(|record| record["id"] == id).unwrap();
        assert!(record["revoked"].is_number(), "{what}: {record}");
        let log = until("the event", async || {
            let log = audit(&testbed);
            log.contains(&format!("/v1/api-keys/{id}")).then_some(log)
        })
        .await;
        assert!(!log.contains(&secret[..20]), "{what}: {log}");
        // Nor by the gateway, whoever it refuses.
        for path in [path.clone(), format!("/v1/api-keys/{key}?key={key}"), format!("/{key}/..%2f")] {
            assert!((400..500).contains(&remote(&testbed, "DELETE", &path, "", "").await.status));
        }
        let log = until("the gateway's events", async || {
            let log = audit(&testbed);
            (log.matches(&format!("{id}_***")).count() == 2 && log.contains("%5F***")).then_some(log)
        })
        .await;
        assert!(!log.contains(&secret[..20]), "{what}: {log}");
    }
    let unknown = "bst_000000000000_00000000000000000000000000000000000000";
    let (status, problem) = call(&testbed, "DELETE", &format!("/v1/api-keys/{unknown}"), None).await;
    assert_eq!(status, 404);
    assert!(!problem.to_string().contains("0000000000000000"), "{problem}");
    let key = api_key(&testbed, "by command", &[]);
    let (code, out, err) = testbed.bastide(&["key", "revoke", &key]);
    assert!(code == 0 && !out.contains(&key), "{out}{err}");
    let (status, document) = call(&testbed, "GET", "/v1/openapi.json", None).await;
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
}

#[tokio::test]
async fn the_command_line_does_the_same_with_and_without_a_process() {
    let upstream = Upstream::start().await;
    let mut testbed = testbed(&upstream, POLICIES).await;
    for running in [true, false] {
        if running {
            testbed.start_gateway().await;
        } else {
            testbed.stop_gateway().await;
        }
        let run = |arguments: &[&str]| {
            let (code, out, err) = testbed.bastide(arguments);
            (code, format!("{out}{err}"))
        };
        let name = if running { "bob" } else { "alice" };
        for (arguments, code, says) in [
            (vec!["user", "add", name, "--role", "customer", "--group", "staff"], 0, "only time"),
            (vec!["user", "add", name], 1, "already"),
            (vec!["user", "add", "x", "--role", "custmer"], 3, "did you mean \"customer\"?"),
            // Who cannot be invited is not left behind without a password.
            (
                vec!["user", "add", "eve", "--email", "eve@example.org", "--invite"],
                3,
                "this realm has no mail server: set `mail`; so \"eve\" was not added",
            ),
            (vec!["user", "show", "eve"], 1, "there is no user"),
            (vec!["user", "show", name], 0, "customer"),
            (vec!["role", "add", "administrator", name], 0, "administrator,customer"),
            (vec!["role", "members", "administrator"], 0, name),
            (vec!["role", "remove", "administrator", name], 0, "customer"),
            (vec!["role", "add", "administrater", name], 3, "did you mean \"administrator\"?"),
            (vec!["role", "list"], 0, "administrator"),
            (vec!["group", "list"], 0, "staff"),
            (vec!["group", "remove", "staff", name], 0, name),
            (vec!["session", "list", name], 0, "no sessions"),
            (vec!["session", "end", "zzz"], 1, "there is no session"),
            (vec!["session", "end-grant", "zzz"], 1, "there is no grant"),
            (vec!["realm", "show", "--realm", "nope"], 1, "has no realm \"nope\""),
            (vec!["user", "factors", name], 0, "no factors"),
            (vec!["user", "remove-factor", name, "x"], 1, "there is no factor"),
            (vec!["client", "list"], 0, "web"),
            (vec!["client", "show", "wbe"], 1, "there is no client"),
            (vec!["client", "secret", "web"], 1, "declared by the configuration"),
            (vec!["realm", "list"], 0, "https://localhost"),
            (vec!["realm", "keys"], 0, "ES256"),
            (vec!["user", "disable", name], 0, "disabled"),
            (vec!["user", "sign-out", "nobody"], 1, "there is no user"),
            (vec!["user", "remove", name], 0, "removed"),
            (vec!["user", "show", name], 1, "there is no user"),
        ] {
            let (found, text) = run(&arguments);
            assert_eq!(found, code, "running {running}, {arguments:?}: {text}");
            assert!(text.contains(says), "running {running}, {arguments:?}: {text}");
        }
    }
    until("both ways to be written down", async || {
        (audit(&testbed).matches("administration:roles").count() >= 8).then_some(())
    })
    .await;
}

/// The files of the repository's tests.
pub(crate) fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

#[tokio::test]
async fn clients_get_the_same_grants_however_they_are_written() {
    let upstream = Upstream::start().await;
    let (testbed, _) = start(&upstream, POLICIES).await;
    let secret = json!({ "method": "secret", "hashes": [identity::Client::secret_hash(SECRET).unwrap()] });
    let none = json!({ "method": "none" });
    let (code, device) = ("authorization_code", "urn:ietf:params:oauth:grant-type:device_code");
    for (id, body, grants) in [
        ("job", json!({ "authentication": secret }), json!(["client_credentials"])),
        (
            "app",
            json!({ "authentication": none, "redirect_uris": [CALLBACK] }),
            json!([code, "refresh_token"]),
        ),
        ("tv", json!({ "authentication": none, "grant_types": ["device_code"] }), json!([device])),
        ("still", json!({ "authentication": secret, "grant_types": [] }), json!([])),
    ] {
        let mut body = body;
        body["id"] = json!(id);
        let (status, put) = call(&testbed, "PUT", &format!("/v1/realms/town/clients/{id}"), Some(body)).await;
        assert_eq!((status, &put["grant_types"]), (200, &grants), "{put}");
    }
    let wrong = json!({ "id": "x", "authentication": "none" });
    let (status, refused) = call(&testbed, "PUT", "/v1/realms/town/clients/x", Some(wrong)).await;
    let detail = refused["detail"].as_str().unwrap();
    assert!(status == 400 && detail.contains("expected a map with `method`: none, secret"), "{refused}");

    let file = format!(
        "clients:\n  job2: {{ secret: {SECRET} }}\n  app2: {{ secret: {SECRET}, redirect_uris: [ {CALLBACK} ] }}\n  \
         tv2: {{ grant_types: [ device_code ] }}\n"
    );
    std::fs::write(testbed.path("clients.yaml"), file).unwrap();
    let (code, out, err) = testbed.bastide(&["apply", "-f", "clients.yaml"]);
    assert_eq!(code, 0, "{out}{err}");
    for (id, grants) in [
        ("job2", json!(["client_credentials"])),
        ("app2", json!(["authorization_code", "refresh_token"])),
        ("tv2", json!([device])),
    ] {
        let (_, client) = call(&testbed, "GET", &format!("/v1/realms/town/clients/{id}"), None).await;
        assert_eq!(client["grant_types"], grants, "{id}");
    }
    let (code, out, _) = testbed.bastide(&["apply", "-f", "clients.yaml", "--dry-run"]);
    assert_eq!(code, 0, "nothing is left to do: {out}");
    std::fs::write(testbed.path("clients.yaml"), "clients: { a: { authentication: none } }\n").unwrap();
    let (code, out, err) = testbed.bastide(&["apply", "-f", "clients.yaml"]);
    let said = format!("{out}{err}");
    assert!(code == 3 && said.contains("expected a map with `method`"), "{code} {said}");
}
