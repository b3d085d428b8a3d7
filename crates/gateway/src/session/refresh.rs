//! Refreshes of a session's tokens: one at a time for each, however many requests on
//! however many cores ask for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::redeem::Failure;
use super::{RelyingParty, Session};

/// After a refresh that failed because the provider could not be asked.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

impl RelyingParty {
    /// Refreshes a session's tokens, or joins the refresh that is under way. What comes
    /// back changes when it has ended, one way or the other.
    pub fn refresh(self: &Arc<Self>, session: &Arc<Session>) -> watch::Receiver<()> {
        let mut state = session.state();
        if let Some(under_way) = &state.refreshing
            && under_way.has_changed().is_ok()
        {
            return under_way.clone();
        }
        let (done, wait) = watch::channel(());
        state.refreshing = Some(wait.clone());
        drop(state);
        let (party, session) = (Arc::clone(self), Arc::clone(session));
        // On the control plane, and whether or not whoever asked for it stays.
        self.environment.runtime.spawn(async move {
            party.refresh_now(&session).await;
            session.state().refreshing = None;
            let _ = done.send(());
        });
        wait
    }

    async fn refresh_now(&self, session: &Session) {
        let (token, principal, accepted, id_token) = {
            let state = session.state();
            let Some(token) = state.refresh_token.clone() else { return };
            (token, Arc::clone(&state.principal), state.accepted.clone(), Arc::clone(&state.id_token))
        };
        let mut form =
            vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", token.expose().clone())];
        if let Some(resource) = &self.settings.resource {
            form.push(("resource", resource.clone()));
        }
        let refreshed = async {
            let tokens = self.redeem(form).await?;
            let fresh_id = match &tokens.id_token {
                Some(_) => Some(self.verify_id_token(&tokens, None).await?),
                None => None,
            };
            // OpenID Connect Core §12.2.
            if fresh_id.as_ref().is_some_and(|token| token.claim("sub") != Some(&*session.subject)) {
                return Err(Failure::Refused("the refreshed ID token is about somebody else".to_owned()));
            }
            self.state(tokens, fresh_id, Some((&principal, &accepted, &id_token))).await
        };
        match refreshed.await {
            Ok(fresh) => {
                let mut state = session.state();
                let kept = state.refresh_token.take();
                let under_way = state.refreshing.take();
                *state = fresh;
                state.refreshing = under_way;
                // A provider that does not rotate gives none (RFC 6749 §6).
                state.refresh_token = state.refresh_token.take().or(kept);
            }
            Err(Failure::Refused(why)) => {
                tracing::info!(why, "a session ends: its tokens are not refreshed any more");
                self.sessions.end(session);
                session.state().refresh_token = None;
            }
            Err(Failure::Unavailable(why)) => {
                tracing::warn!(why, "a session's tokens cannot be refreshed now");
                session.state().refresh_at = self.environment.clock.now().plus(AGAIN_AFTER);
            }
        }
    }
}
