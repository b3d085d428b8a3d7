//! The page of the second factor: a passkey, a code of an app, or a recovery code.

use std::collections::BTreeSet;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::advance::{Standing, advance, shown, standing};
use super::step::{Next, Way};
use super::{count_told, logon, passkey};
use crate::Error;
use crate::authorize::interaction::{self, Waiting};
use crate::call::Call;
use crate::factor::passkey::Signed;
use crate::factor::{self, Judged};
use crate::method;
use crate::observe::Failure;
use crate::page::{self, Frame};
use crate::realm::Realm;
use crate::refusal::{Answer, Refusal};
use crate::text::Notice;

/// The page.
#[derive(Template)]
#[template(path = "factor.html")]
struct FactorPage<'a> {
    frame: Frame<'a>,
    action: &'a str,
    flow: &'a str,
    csrf: &'a str,
    user: &'a str,
    /// What the browser is asked for a passkey with; empty: none can be shown.
    passkey: &'a str,
    code: bool,
    recovery: bool,
    error: &'a str,
}

/// Answers `GET /login/factor`.
pub(crate) async fn page(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    let shown = async {
        let waiting = interaction::open(&realm, &call).await?;
        show(&realm, &call, waiting, None).await
    };
    page::or_error(&realm, &call, shown.await)
}

/// Shows it to who has something to show; others go where they have to.
async fn show(realm: &Realm, call: &Call, waiting: Waiting, error: Option<Notice>) -> Answer {
    let shown = shown(&waiting.value)?;
    let standing = standing(realm, &waiting.value, &shown).await?;
    let ways = match standing.next {
        Next::Show(ways) => ways,
        Next::Done | Next::Enrol { .. } => return advance(realm, call, waiting, shown).await,
    };
    let options =
        ways.contains(&Way::Passkey).then(|| passkey::options(realm, &waiting, Some(&standing.factors)));
    let options = options.flatten().unwrap_or_default();
    let frame = Frame::new(realm, call, "/login/factor");
    let content = FactorPage {
        action: &realm.path("/login/factor"),
        flow: call.parameters.require("flow")?,
        csrf: &waiting.value.csrf,
        user: &standing.user.username,
        passkey: &options,
        code: ways.contains(&Way::Code),
        recovery: ways.contains(&Way::Recovery),
        error: error.map(frame.texts.notice).unwrap_or_default(),
        frame,
    };
    page::show_scripted(&content, waiting.value.form_target().as_deref(), error.is_some())
}

/// Answers `POST /login/factor`.
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, submit(&realm, &call).await)
}

async fn submit(realm: &Arc<Realm>, call: &Call) -> Answer {
    let waiting = interaction::open(realm, call).await?;
    interaction::check_form(realm, call, &waiting.value.csrf)?;
    let shown = shown(&waiting.value)?;
    let Standing { user, next, .. } = standing(realm, &waiting.value, &shown).await?;
    let Next::Show(ways) = next else {
        return advance(realm, call, waiting, shown).await;
    };
    let event = logon(realm, call, &waiting).by(&user).by_methods(&shown.methods);
    let challenge = passkey::challenge(realm, &waiting);
    count_told(realm, call, waiting, &event).await?;
    let (judging, sent) = (Arc::clone(realm), call.clone());
    // INVARIANT: a wrong code is told as surely as it is counted, although whoever sent it hangs up.
    let judged = tokio::spawn(async move {
        let judged = judge(&judging, &sent, &user.id, &ways, &challenge).await?;
        if let Some(failure) = judged.as_ref().err().and_then(|told| failure(*told)) {
            judging.tell(event.failed(failure)).await;
        }
        Ok::<_, Box<Refusal>>(judged)
    });
    let judged = judged.await.map_err(|_| Error::Contended("a factor whose judging did not end"))??;
    let waiting = interaction::open(realm, call).await?;
    let error = match judged {
        Ok(methods) => {
            let mut shown = shown;
            shown.methods = method::add(&shown.methods, &methods);
            return advance(realm, call, waiting, shown).await;
        }
        Err(error) => error,
    };
    show(realm, call, waiting, Some(error)).await
}

/// Why a factor was refused, for the log; `None`: none was sent.
fn failure(told: Notice) -> Option<Failure> {
    match told {
        Notice::CodeMissing => None,
        Notice::TooManyWrongCodes => Some(Failure::Throttled),
        Notice::PasskeyRefused => Some(Failure::WrongPasskey),
        _ => Some(Failure::WrongFactor),
    }
}

/// The methods that were shown, or what to tell the person.
async fn judge(
    realm: &Realm,
    call: &Call,
    user: &str,
    ways: &BTreeSet<Way>,
    challenge: &str,
) -> Answer<Result<Vec<&'static str>, Notice>> {
    let given = |name: &str| call.parameters.get(name).filter(|code| !code.is_empty());
    if let (Some(sent), true) = (given("credential"), ways.contains(&Way::Passkey)) {
        let Some(signed) = Signed::parse(sent) else { return Ok(Err(passkey::REFUSED)) };
        let proved = factor::take_passkey(realm, user, challenge, &signed, call.now).await?;
        return Ok(proved.map(|proved| proved.methods).ok_or(passkey::REFUSED));
    }
    if let (Some(code), true) = (given("recovery"), ways.contains(&Way::Recovery)) {
        let good = factor::take_recovery(realm, user, code).await?;
        return Ok(if good { Ok(vec![method::ONE_TIME]) } else { Err(Notice::WrongRecoveryCode) });
    }
    if let (Some(code), true) = (given("code"), ways.contains(&Way::Code)) {
        return Ok(match factor::take_code(realm, user, code, call.now).await? {
            Judged::Good => Ok(vec![method::ONE_TIME]),
            Judged::Wrong => Err(Notice::WrongCode),
            Judged::TooMany => Err(Notice::TooManyWrongCodes),
        });
    }
    Ok(Err(Notice::CodeMissing))
}
