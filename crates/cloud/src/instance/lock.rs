//! Locks an operator puts on an instance.
//!
//! What must always hold: a lock is set or taken off whatever else is going on with the instance; it
//! waits for that, it is not refused.
//! Left to others: what a lock forbids (`rules`).

use catalog::{
    Batch,
    record::{Instance, Lock},
};

use crate::{Caller, Cloud, CloudError, Resource, claim::Hold};

impl Cloud {
    /// Locks an instance of any account.
    pub fn lock_instance(&self, caller: &Caller, id: &str, lock: Lock) -> Result<(), CloudError> {
        caller.must_be_operator("instance lock")?;
        self.change_locks(caller, id, |locks| {
            if !locks.contains(&lock) {
                locks.push(lock);
            }
        })
    }

    /// Takes a lock off; without one named, every lock.
    pub fn unlock_instance(
        &self,
        caller: &Caller,
        id: &str,
        lock: Option<Lock>,
    ) -> Result<(), CloudError> {
        caller.must_be_operator("instance unlock")?;
        self.change_locks(caller, id, |locks| {
            locks.retain(|held| lock.is_some_and(|lock| *held != lock));
        })
    }

    fn change_locks(
        &self,
        caller: &Caller,
        id: &str,
        change: impl FnOnce(&mut Vec<Lock>),
    ) -> Result<(), CloudError> {
        self.change_instance(caller, None, id, |instance| {
            change(&mut instance.locks);
            Ok(())
        })
    }

    /// Changes the record of an instance, of the account or, without one, of any.
    pub(super) fn change_instance(
        &self,
        caller: &Caller,
        account: Option<&str>,
        id: &str,
        change: impl FnOnce(&mut Instance) -> Result<(), CloudError>,
    ) -> Result<(), CloudError> {
        let mut world = self.world_when(|world| world.is_free(&[id]));
        let found = world.instances.get(id);
        let found = found.filter(|found| account.is_none_or(|account| account == found.account));
        let mut instance =
            found.cloned().ok_or_else(|| CloudError::not_found(Resource::Instance, id))?;
        change(&mut instance)?;
        let claim = self.claim(caller, &mut world, vec![Hold::Quiet(id.into())])?;
        drop(world);
        let mut batch = Batch::new();
        batch.put(&instance)?;
        self.commit(&batch)?;
        claim.publish(|world| world.instances.insert(instance.id.clone(), instance));
        Ok(())
    }
}
