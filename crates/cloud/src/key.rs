//! Access keys: what requests are signed with.
//!
//! What must always hold: the secret leaves this file once to the operator who made the key, and then
//! only to the signature check; at rest it is sealed.
//! Left to others: the signature itself (`ecs-http`), what a role covers (`caller`), temporary keys (`session`).

use catalog::{
    Batch,
    record::{Account, Key, Record, Role, Session},
};
use jiff::Timestamp;

use crate::{
    Caller, Cloud, CloudError, Resource, SecretText,
    account::ACCOUNTS,
    claim::Hold,
    clock::whole_seconds,
    ids,
    session::{self, TokenDigest},
    texts,
    world::World,
};

/// A key for the signature check.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// What the request was signed with.
    pub secret: SecretText,
    /// The account it acts for.
    pub account: String,
    /// What it may do.
    pub role: Role,
    /// Whether it counts.
    pub state: KeyState,
    /// What a temporary key comes with.
    pub(crate) token: Option<TokenDigest>,
}

impl AccessKey {
    /// Whether it ends by itself and comes with a token.
    pub fn is_temporary(&self) -> bool {
        self.token.is_some()
    }
}

/// Whether a key counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It does.
    Active,
    /// The operator switched it off.
    Disabled,
    /// Its time is over.
    Expired,
}

/// A new key; the only time its secret is shown.
#[derive(Clone, Debug)]
pub struct KeyCreated {
    /// Sent with each request.
    pub access_key_id: String,
    /// Requests are signed with it.
    pub secret: SecretText,
    /// The account it acts for.
    pub account: String,
}

/// A key as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// Sent with each request.
    pub access_key_id: String,
    /// The account it acts for.
    pub account: String,
    /// What it may do.
    pub role: Role,
    /// Whether it counts.
    pub state: KeyState,
    /// When it was made.
    pub created: Timestamp,
    /// Until when it counts.
    pub expires: Option<Timestamp>,
    /// Whether it comes with a token.
    pub is_temporary: bool,
}

impl Cloud {
    /// The key with this id, for the signature check; none if there is none.
    pub fn access_key(&self, access_key_id: &str) -> Result<Option<AccessKey>, CloudError> {
        let Some(key) = self.world().keys.get(access_key_id).cloned() else {
            return self.session(access_key_id);
        };
        Ok(Some(AccessKey {
            secret: self.unsealed(&key.sealed_secret, access_key_id)?,
            state: state(&key, self.now_seconds()),
            account: key.account,
            role: key.role,
            token: None,
        }))
    }

    pub(crate) fn unsealed(&self, sealed: &[u8], owner: &str) -> Result<SecretText, CloudError> {
        let secret = self.inner.sealer.unseal(sealed, owner)?;
        let text = std::str::from_utf8(&secret).map_err(CloudError::internal)?;
        Ok(SecretText::new(text))
    }

    /// Makes a key, and the account where there is none of that name.
    pub fn create_key(
        &self,
        caller: &Caller,
        account: &str,
        role: Role,
        expires: Option<Timestamp>,
    ) -> Result<KeyCreated, CloudError> {
        caller.must_be_operator("key create")?;
        texts::account_name(account)?;
        let access_key_id = ids::access_key()?;
        let secret = SecretText::new(ids::secret()?);
        let key = Key {
            sealed_secret: self.inner.sealer.seal(secret.reveal().as_bytes(), &access_key_id)?,
            access_key_id: access_key_id.clone(),
            account: account.into(),
            role,
            expires: expires.map(Timestamp::as_second),
            disabled: false,
            created: self.now_seconds(),
        };
        self.store_key(caller, &key.clone(), account, |world| {
            world.keys.insert(key.access_key_id.clone(), key);
        })?;
        Ok(KeyCreated { access_key_id, secret, account: account.into() })
    }

    /// Of either kind, with its account if that is new.
    pub(crate) fn store_key<R: Record>(
        &self,
        caller: &Caller,
        key: &R,
        account: &str,
        publish: impl FnOnce(&mut World),
    ) -> Result<(), CloudError> {
        let mut world = self.world_when(|world| world.is_quiet(&[ACCOUNTS]));
        let missing = !world.accounts.contains_key(account);
        let account: Option<Account> = missing.then(|| self.new_account(&world, account));
        let claim = self.claim(caller, &mut world, vec![Hold::Quiet(ACCOUNTS.into())])?;
        drop(world);
        let mut batch = Batch::new();
        batch.put(key)?;
        if let Some(account) = &account {
            batch.put(account)?;
        }
        self.commit(&batch)?;
        claim.publish(|world| {
            world.accounts.extend(account.map(|account| (account.name.clone(), account)));
            publish(world);
        });
        Ok(())
    }

    /// All keys of all accounts, the temporary ones last.
    pub fn keys(&self, caller: &Caller) -> Result<Vec<KeyView>, CloudError> {
        caller.must_be_operator("key ls")?;
        let now = self.now_seconds();
        let world = self.world();
        let lasting = world.keys.values().map(|key| view(key, now));
        Ok(lasting.chain(session::views(&world, now)).collect())
    }

    /// Switches a key off for good.
    pub fn disable_key(&self, caller: &Caller, access_key_id: &str) -> Result<(), CloudError> {
        caller.must_be_operator("key disable")?;
        if self.world().sessions.contains_key(access_key_id) {
            let disabled = |session| Some(Session { disabled: true, ..session });
            return self.change_session(caller, access_key_id, disabled);
        }
        self.change_key(caller, access_key_id, |key| Some(Key { disabled: true, ..key }))
    }

    /// Removes a key.
    pub fn delete_key(&self, caller: &Caller, access_key_id: &str) -> Result<(), CloudError> {
        caller.must_be_operator("key rm")?;
        if self.world().sessions.contains_key(access_key_id) {
            return self.change_session(caller, access_key_id, |_| None);
        }
        self.change_key(caller, access_key_id, |_| None)
    }

    fn change_key(
        &self,
        caller: &Caller,
        access_key_id: &str,
        change: impl FnOnce(Key) -> Option<Key>,
    ) -> Result<(), CloudError> {
        let mut world = self.world_when(|world| world.is_quiet(&[access_key_id]));
        let Some(key) = world.keys.get(access_key_id).cloned() else {
            return Err(CloudError::not_found(Resource::Key, access_key_id));
        };
        let claim = self.claim(caller, &mut world, vec![Hold::Quiet(access_key_id.into())])?;
        drop(world);
        let changed = change(key);
        let mut batch = Batch::new();
        match &changed {
            Some(key) => batch.put(key)?,
            None => batch.delete::<Key>(access_key_id),
        };
        self.commit(&batch)?;
        claim.publish(|world| match changed {
            Some(key) => drop(world.keys.insert(key.access_key_id.clone(), key)),
            None => drop(world.keys.remove(access_key_id)),
        });
        Ok(())
    }
}

fn state(key: &Key, now: i64) -> KeyState {
    if key.disabled {
        KeyState::Disabled
    } else if key.expires.is_some_and(|expires| expires <= now) {
        KeyState::Expired
    } else {
        KeyState::Active
    }
}

fn view(key: &Key, now: i64) -> KeyView {
    KeyView {
        access_key_id: key.access_key_id.clone(),
        account: key.account.clone(),
        role: key.role,
        state: state(key, now),
        created: whole_seconds(key.created),
        expires: key.expires.map(whole_seconds),
        is_temporary: false,
    }
}
