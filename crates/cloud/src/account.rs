//! Accounts: who owns what, what it may hold, whether it owes.
//!
//! What must always hold: a name is given once and never changes, and neither does its number.
//! Left to others: what owing forbids (`rules`), keys (`key`).

use catalog::{Batch, record::Account};
use jiff::Timestamp;

use crate::{Caller, Cloud, CloudError, claim::Hold, clock::whole_seconds, texts, world::World};

/// An account as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountView {
    /// Its name.
    pub name: String,
    /// Its number, which clients call it by.
    pub number: u64,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it owes.
    pub in_arrears: bool,
    /// The most bytes of disks it may hold.
    pub quota_bytes: Option<u64>,
    /// The bytes of disks it holds.
    pub disk_bytes: u64,
}

/// What an operator sets of an account; what is none stays.
#[derive(Clone, Debug, Default)]
pub struct SetAccount {
    /// Whether it owes.
    pub in_arrears: Option<bool>,
    /// The most bytes of disks; `Some(None)` lifts the limit.
    pub quota_bytes: Option<Option<u64>>,
}

/// The number of the first account.
pub(crate) const FIRST_NUMBER: u64 = 1_000_000_000_000_001;

impl Cloud {
    /// All accounts, by name.
    pub fn accounts(&self, caller: &Caller) -> Result<Vec<AccountView>, CloudError> {
        caller.must_be_operator("account ls")?;
        let world = self.world();
        Ok(world.accounts.values().map(|account| view(&world, account)).collect())
    }

    /// One account.
    pub fn account(&self, caller: &Caller, name: &str) -> Result<AccountView, CloudError> {
        caller.must_be_operator("account show")?;
        let world = self.world();
        world.account(name).map(|account| view(&world, account))
    }

    /// Makes an account unless there is one of that name.
    pub fn ensure_account(&self, caller: &Caller, name: &str) -> Result<AccountView, CloudError> {
        caller.must_be_operator("account create")?;
        texts::account_name(name)?;
        let mut world = self.world_when(|world| world.is_quiet(&[ACCOUNTS]));
        if world.accounts.contains_key(name) {
            return world.account(name).map(|account| view(&world, account));
        }
        let account = self.new_account(&world, name);
        let claim = self.claim(caller, &mut world, vec![Hold::Quiet(ACCOUNTS.into())])?;
        drop(world);
        let mut batch = Batch::new();
        batch.put(&account)?;
        self.commit(&batch)?;
        Ok(claim.publish(|world| {
            let shown = view(world, &account);
            world.accounts.insert(account.name.clone(), account);
            shown
        }))
    }

    /// Sets whether it owes, and its quota.
    pub fn set_account(
        &self,
        caller: &Caller,
        name: &str,
        set: &SetAccount,
    ) -> Result<AccountView, CloudError> {
        caller.must_be_operator("account set")?;
        let mut world = self.world_when(|world| world.is_quiet(&[ACCOUNTS]));
        let mut account = world.account(name)?.clone();
        let claim = self.claim(caller, &mut world, vec![Hold::Quiet(ACCOUNTS.into())])?;
        drop(world);
        account.in_arrears = set.in_arrears.unwrap_or(account.in_arrears);
        account.quota_bytes = set.quota_bytes.unwrap_or(account.quota_bytes);
        let mut batch = Batch::new();
        batch.put(&account)?;
        self.commit(&batch)?;
        Ok(claim.publish(|world| {
            let shown = view(world, &account);
            world.accounts.insert(account.name.clone(), account);
            shown
        }))
    }

    /// A new account's record; the caller has the quiet claim on `ACCOUNTS`, or is the start.
    pub(crate) fn new_account(&self, world: &World, name: &str) -> Account {
        let last = world.accounts.values().map(|account| account.number).max();
        Account {
            name: name.into(),
            number: last.map_or(FIRST_NUMBER, |last| last + 1),
            created: self.now_seconds(),
            in_arrears: false,
            quota_bytes: None,
        }
    }
}

/// What changes of accounts claim: they are rare, one at a time is enough, and numbers stay unique.
/// No id: it has a space.
pub(crate) const ACCOUNTS: &str = "all accounts";

fn view(world: &World, account: &Account) -> AccountView {
    AccountView {
        name: account.name.clone(),
        number: account.number,
        created: whole_seconds(account.created),
        in_arrears: account.in_arrears,
        quota_bytes: account.quota_bytes,
        disk_bytes: world.bytes_of(&account.name),
    }
}
