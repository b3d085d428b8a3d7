//! The device grant (RFC 8628 §3.4): the device asks until somebody has decided.

use std::time::Duration;

use store::Expect;

use super::{Decided, Grant, Narrowed, Parties, check_class};
use crate::device::{Device, Standing};
use crate::record::{Kind, Stored, Written};
use crate::refusal::{Answer, Code, Refusal};
use crate::token::{Asking, Issued};

/// By how much a device that asks too often has to slow down (§3.5).
const SLOWER_BY: Duration = Duration::from_secs(5);

pub(crate) async fn exchange(asking: &Asking<'_>) -> Answer<Issued> {
    let realm = asking.realm;
    let name = crate::random::hash(asking.call.parameters.require("device_code")?);
    let stored = realm.records.get::<Device>(Kind::Device, &[&name]).await?;
    let stored = stored.filter(|stored| stored.value.client == asking.authenticated.client.id);
    let Some(stored) = stored else {
        return Err(Refusal::new(
            Code::InvalidGrant,
            "the device code is not valid",
            "unknown, over, or another client's",
        ));
    };
    if stored.value.until <= asking.now() {
        return Err(Refusal::plain(Code::ExpiredToken, "the device code is over"));
    }
    match &stored.value.standing {
        Standing::Pending => Err(wait(asking, &name, &stored).await?),
        Standing::Denied => {
            realm.records.remove(Kind::Device, &[&name]).await?;
            Err(Refusal::plain(Code::AccessDenied, "the person did not allow it"))
        }
        Standing::Allowed(decided) => issue(asking, &name, &stored, decided).await,
    }
}

async fn wait(asking: &Asking<'_>, name: &str, stored: &Stored<Device>) -> Answer<Box<Refusal>> {
    let mut device = stored.value.clone();
    let early = device.polled.is_some_and(|polled| asking.now().since(polled) < device.interval);
    if early {
        device.interval += SLOWER_BY;
    }
    device.polled = Some(asking.now());
    let (until, expect) = (device.kept(), Expect::Version(stored.version));
    let answer = match asking.realm.records.put(Kind::Device, &[name], &device, until, expect).await? {
        Written::Done if early => Refusal::plain(Code::SlowDown, "ask less often, five seconds more between"),
        // Decided at this moment: the next question finds it.
        Written::Done | Written::Conflict => {
            Refusal::plain(Code::AuthorizationPending, "nobody has decided yet")
        }
    };
    Ok(answer)
}

async fn issue(
    asking: &Asking<'_>,
    name: &str,
    stored: &Stored<Device>,
    decided: &Decided,
) -> Answer<Issued> {
    let realm = asking.realm;
    let client = &asking.authenticated.client;
    let binding = asking.binding().await?;
    let refused = |why: &str| Refusal::new(Code::InvalidGrant, "the device code is not valid", why);
    let (user, changes) = decided.stands(realm).await?.map_err(refused)?;
    check_class(realm, client, &user, &decided.authentication.amr)?;
    let mut grant = Grant::begin(realm, client, decided, binding, asking.now())?;
    let resources = asking.resources_within(&grant.resources)?;
    let narrowed = Narrowed { scopes: grant.scopes.clone(), resources };
    let parties = Parties { client, user: &user, binding };
    let issued = grant.issue(realm, parties, narrowed, None, asking.now())?;
    let device = realm.records.key(Kind::Device, &[name]);
    let changes = changes.delete(device, Expect::Version(stored.version));
    let changes = grant.write_new(realm, changes, asking.now())?;
    match realm.records.commit(changes).await? {
        Written::Done => Ok(issued),
        Written::Conflict => Err(refused("used twice at once, withdrawn, or the session has ended")),
    }
}
