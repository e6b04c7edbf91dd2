//! Client tokens: the repetition of a call has no second effect.
//!
//! What must always hold
//! 1. The token becomes durable in the same commit as the effect: after a crash both are there or
//!    neither.
//! 2. Of two calls with one token at once, one waits for the other and answers the same.
//! 3. A token is kept for at least the time the settings say, whatever is restarted.

use std::collections::{HashMap, VecDeque};

use catalog::{Batch, record::Token};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Caller, Cloud, CloudError,
    claim::{Claim, Hold},
    texts,
    world::World,
};

/// The tokens remembered.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    by_id: HashMap<String, Token>,
    /// Oldest first.
    ages: VecDeque<(i64, String)>,
}

impl Tokens {
    /// From the catalog; in any order.
    pub(crate) fn load(mut records: Vec<Token>) -> Self {
        records.sort_by_key(|token| token.created);
        let mut tokens = Self::default();
        records.into_iter().for_each(|token| tokens.insert(token));
        tokens
    }

    fn insert(&mut self, token: Token) {
        let id = id_of(&token);
        self.ages.push_back((token.created, id.clone()));
        self.by_id.insert(id, token);
    }

    fn remove(&mut self, expired: &[String]) {
        for id in expired {
            self.by_id.remove(id);
        }
        while self.ages.front().is_some_and(|(_, id)| !self.by_id.contains_key(id)) {
            self.ages.pop_front();
        }
    }

    fn older_than(&self, time: i64, most: usize) -> Vec<String> {
        let old = self.ages.iter().take_while(|(created, _)| *created < time);
        old.take(most).map(|(_, id)| id.clone()).collect()
    }
}

/// Expired tokens removed along with each new one: more than one, so that they never pile up.
const SWEPT_AT_ONCE: usize = 8;

/// The place for the answer of the first call with a token; does nothing for a call without one.
#[derive(Debug)]
pub(crate) struct TokenSlot {
    first: Option<First>,
    /// Filled when the answer went into a batch.
    recorded: Option<Token>,
    swept: Vec<String>,
}

#[derive(Debug)]
struct First {
    token: Token,
    claim: Claim,
}

impl TokenSlot {
    /// For a call that has no token.
    pub(crate) fn none() -> Self {
        Self { first: None, recorded: None, swept: Vec::new() }
    }

    /// Whether the call has a token at all.
    pub(crate) fn is_given(&self) -> bool {
        self.first.is_some()
    }

    /// Puts the answer into the commit of the effect.
    pub(crate) fn record<T: Serialize>(
        &mut self,
        cloud: &Cloud,
        batch: &mut Batch,
        answer: &T,
    ) -> Result<(), CloudError> {
        let Some(first) = &self.first else { return Ok(()) };
        let answer = serde_json::to_string(answer).map_err(CloudError::internal)?;
        let token = Token { answer, created: cloud.now_seconds(), ..first.token.clone() };
        batch.put(&token)?;
        self.swept = cloud.world().tokens.older_than(cloud.oldest_token(), SWEPT_AT_ONCE);
        for id in &self.swept {
            batch.delete::<Token>(id);
        }
        self.recorded = Some(token);
        Ok(())
    }

    fn publish(self) {
        let Some(first) = self.first else { return };
        first.claim.publish(|world| {
            world.tokens.remove(&self.swept);
            if let Some(token) = self.recorded {
                world.tokens.insert(token);
            }
        });
    }
}

impl Cloud {
    /// Runs a call, unless its token says that it ran before: then answers what it answered.
    /// `secrets` are parameters that `parameters` leaves out.
    pub(crate) fn once<T: Serialize + DeserializeOwned>(
        &self,
        caller: &Caller,
        action: &'static str,
        token: Option<&str>,
        parameters: &impl Serialize,
        secrets: &[&str],
        run: impl FnOnce(&mut TokenSlot) -> Result<T, CloudError>,
    ) -> Result<T, CloudError> {
        let mut slot = match self.token_slot(caller, action, token, parameters, secrets)? {
            Found::Answered(answer) => {
                return serde_json::from_str(&answer).map_err(CloudError::internal);
            }
            Found::First(slot) => slot,
        };
        let answer = run(&mut slot)?;
        slot.publish();
        Ok(answer)
    }

    fn token_slot(
        &self,
        caller: &Caller,
        action: &'static str,
        token: Option<&str>,
        parameters: &impl Serialize,
        secrets: &[&str],
    ) -> Result<Found, CloudError> {
        let none = TokenSlot::none();
        let Some(token) = texts::given(token) else { return Ok(Found::First(Box::new(none))) };
        texts::client_token(token)?;
        let token = Token {
            account: caller.account.clone(),
            action: action.into(),
            token: token.into(),
            parameters_digest: self.digest(parameters, secrets)?,
            answer: String::new(),
            created: 0,
        };
        let id = id_of(&token);
        let mut world = self.world_when(|world| !world.claims.tokens.contains(&id));
        if let Some(known) = self.remembered(&world, &id) {
            let answer = answered(known, &token)?;
            caller.goes_on()?;
            return Ok(Found::Answered(answer));
        }
        if caller.only_checks {
            // The token is left to the call that does it.
            return Ok(Found::First(Box::new(none)));
        }
        let claim = self.claim(caller, &mut world, vec![Hold::Token(id)])?;
        drop(world);
        let first = Some(First { token, claim });
        Ok(Found::First(Box::new(TokenSlot { first, ..none })))
    }

    fn remembered<'w>(&self, world: &'w World, id: &str) -> Option<&'w Token> {
        world.tokens.by_id.get(id).filter(|token| token.created >= self.oldest_token())
    }

    /// Tokens from before this time are forgotten.
    fn oldest_token(&self) -> i64 {
        let lifetime = i64::try_from(self.inner.settings.token_lifetime.as_secs());
        self.now_seconds().saturating_sub(lifetime.unwrap_or(i64::MAX))
    }

    fn digest(
        &self,
        parameters: &impl Serialize,
        secrets: &[&str],
    ) -> Result<[u8; 32], CloudError> {
        let parameters = serde_json::to_vec(parameters).map_err(CloudError::internal)?;
        let secrets = secrets.iter().map(|secret| secret.as_bytes());
        let parts: Vec<_> = std::iter::once(parameters.as_slice()).chain(secrets).collect();
        Ok(self.inner.sealer.digest(&parts))
    }
}

enum Found {
    Answered(String),
    First(Box<TokenSlot>),
}

fn answered(known: &Token, asked: &Token) -> Result<String, CloudError> {
    if known.parameters_digest == asked.parameters_digest {
        Ok(known.answer.clone())
    } else {
        Err(CloudError::TokenMismatch { token: asked.token.clone() })
    }
}

fn id_of(token: &Token) -> String {
    Token::id_of(&token.account, &token.action, &token.token)
}
