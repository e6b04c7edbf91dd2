//! Temporary keys: an access key with a token and an end, for somebody who shall not hold a lasting one.
//!
//! What must always hold: the token leaves this file once, to the operator who made it; at rest there is
//! only its digest under the store's key, and it is compared in constant time. A key that ended is known
//! for a day, so that its holder is told that it ended rather than that it never was.
//! Left to others: what keys of both kinds share (`key`), when the token is looked at (`ecs-http`).

use catalog::{
    Batch,
    record::{Role, Session},
};
use jiff::Timestamp;

use crate::{
    AccessKey, Caller, Cloud, CloudError, KeyState, KeyView, Resource, SecretText, claim::Hold,
    clock::whole_seconds, ids, texts, world::World,
};

/// A new temporary key; the only time its secret and its token are shown.
#[derive(Clone, Debug)]
pub struct SessionCreated {
    /// Sent with each request.
    pub access_key_id: String,
    /// Requests are signed with it.
    pub secret: SecretText,
    /// Sent with each request.
    pub token: SecretText,
    /// The account it acts for.
    pub account: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// The digest of a temporary key's token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenDigest([u8; 32]);

/// What the public cloud gives where nobody says how long.
const LIFETIME: i64 = 60 * 60;

/// How long an ended key is known.
const KNOWN_AFTERWARDS: i64 = 24 * 60 * 60;

impl Cloud {
    /// Makes a temporary key, and the account where there is none of that name. It ends after an hour
    /// if nothing else is asked for.
    pub fn create_session(
        &self,
        caller: &Caller,
        account: &str,
        role: Role,
        expires: Option<Timestamp>,
    ) -> Result<SessionCreated, CloudError> {
        caller.must_be_operator("key create")?;
        texts::account_name(account)?;
        let access_key_id = ids::temporary_key()?;
        let (secret, token) = (SecretText::new(ids::secret()?), SecretText::new(ids::token()?));
        let expires = expires.map_or(self.now_seconds() + LIFETIME, Timestamp::as_second);
        let session = Session {
            sealed_secret: self.inner.sealer.seal(secret.reveal().as_bytes(), &access_key_id)?,
            token_digest: self.token_digest(&access_key_id, token.reveal()),
            access_key_id: access_key_id.clone(),
            account: account.into(),
            role,
            expires,
            disabled: false,
            created: self.now_seconds(),
        };
        caller.goes_on()?;
        self.forget_ended(caller)?;
        self.store_key(caller, &session.clone(), account, |world| {
            world.sessions.insert(session.access_key_id.clone(), session);
        })?;
        let (account, expires) = (account.into(), whole_seconds(expires));
        Ok(SessionCreated { access_key_id, secret, token, account, expires })
    }

    /// Whether the token a request came with is the one its key needs: that of a temporary key, none
    /// for a lasting one.
    pub fn is_token_of(&self, access_key_id: &str, key: &AccessKey, token: Option<&str>) -> bool {
        match (key.token, token) {
            (None, None) => true,
            (Some(TokenDigest(kept)), Some(token)) => {
                // Digests of blake3 are compared in constant time.
                let given = blake3::Hash::from_bytes(self.token_digest(access_key_id, token));
                given == blake3::Hash::from_bytes(kept)
            }
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    pub(crate) fn session(&self, access_key_id: &str) -> Result<Option<AccessKey>, CloudError> {
        let Some(session) = self.world().sessions.get(access_key_id).cloned() else {
            return Ok(None);
        };
        let secret = self.unsealed(&session.sealed_secret, access_key_id)?;
        Ok(Some(AccessKey {
            secret,
            state: state(&session, self.now_seconds()),
            account: session.account,
            role: session.role,
            token: Some(TokenDigest(session.token_digest)),
        }))
    }

    pub(crate) fn change_session(
        &self,
        caller: &Caller,
        access_key_id: &str,
        change: impl FnOnce(Session) -> Option<Session>,
    ) -> Result<(), CloudError> {
        let mut world = self.world_when(|world| world.is_quiet(&[access_key_id]));
        let Some(session) = world.sessions.get(access_key_id).cloned() else {
            return Err(CloudError::not_found(Resource::Key, access_key_id));
        };
        let claim = self.claim(caller, &mut world, vec![Hold::Quiet(access_key_id.into())])?;
        drop(world);
        let changed = change(session);
        let mut batch = Batch::new();
        match &changed {
            Some(session) => batch.put(session)?,
            None => batch.delete::<Session>(access_key_id),
        };
        self.commit(&batch)?;
        claim.publish(|world| match changed {
            Some(session) => drop(world.sessions.insert(access_key_id.into(), session)),
            None => drop(world.sessions.remove(access_key_id)),
        });
        Ok(())
    }

    /// Removes those that ended long ago: nobody else would.
    fn forget_ended(&self, caller: &Caller) -> Result<(), CloudError> {
        let before = self.now_seconds() - KNOWN_AFTERWARDS;
        let ended: Vec<String> = {
            let world = self.world();
            let ended = world.sessions.values().filter(|session| session.expires < before);
            ended.map(|session| session.access_key_id.clone()).collect()
        };
        for id in ended {
            match self.change_session(caller, &id, |_| None) {
                // Somebody else was first.
                Ok(()) | Err(CloudError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn token_digest(&self, access_key_id: &str, token: &str) -> [u8; 32] {
        let parts = [b"security token".as_slice(), access_key_id.as_bytes(), token.as_bytes()];
        self.inner.sealer.digest(&parts)
    }
}

/// As they are listed.
pub(crate) fn views(world: &World, now: i64) -> impl Iterator<Item = KeyView> {
    world.sessions.values().map(move |session| KeyView {
        access_key_id: session.access_key_id.clone(),
        account: session.account.clone(),
        role: session.role,
        state: state(session, now),
        created: whole_seconds(session.created),
        expires: Some(whole_seconds(session.expires)),
        is_temporary: true,
    })
}

fn state(session: &Session, now: i64) -> KeyState {
    if session.disabled {
        KeyState::Disabled
    } else if session.expires <= now {
        KeyState::Expired
    } else {
        KeyState::Active
    }
}
