//! Tasks: long actions a client can ask about and cancel.
//!
//! What must always hold: a task ends, also when the daemon does: one found under way at the start is
//! recorded as failed, since its work left nothing behind.
//! Left to others: the work itself (`image/import`, `image/export`).

use catalog::record::{Task, TaskStatus};
use jiff::Timestamp;

use crate::{
    Caller, Cloud, CloudError, Countable, Page, Paging, Resource,
    caller::Right,
    clock::whole_seconds,
    filter::{check_ids, equals, equals_text, listed, within},
    paging::Listed,
    world::World,
};

/// `DescribeTasks`: what is none does not restrict.
#[derive(Clone, Debug, Default)]
pub struct DescribeTasks {
    /// At most 100; unknown ones are not listed.
    pub ids: Option<Vec<String>>,
    /// Such as `ImportImage`.
    pub action: Option<String>,
    /// One state.
    pub status: Option<TaskStatus>,
    /// What they make or change.
    pub resources: Option<Vec<String>>,
    /// Not older.
    pub created_from: Option<Timestamp>,
    /// Not younger.
    pub created_until: Option<Timestamp>,
    /// Which page.
    pub paging: Paging,
}

/// A task as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// `t-...`
    pub id: String,
    /// The owner's name.
    pub account: String,
    /// Such as `ImportImage`.
    pub action: String,
    /// What it makes or changes.
    pub resource: String,
    /// The state.
    pub status: TaskStatus,
    /// 0 to 100.
    pub progress_percent: u8,
    /// When it began.
    pub created: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// Whether it can be cancelled.
    pub cancellable: bool,
    /// The code it failed with; empty otherwise.
    pub error_code: String,
    /// The sentence to that code; empty otherwise.
    pub error_message: String,
}

impl Listed for TaskView {
    fn place(&self) -> (i64, &str) {
        (self.created.as_second(), &self.id)
    }
}

impl Cloud {
    /// The tasks of the account that fit.
    pub fn describe_tasks(
        &self,
        caller: &Caller,
        asked: &DescribeTasks,
    ) -> Result<Page<TaskView>, CloudError> {
        caller.may(Right::Describe, "DescribeTasks")?;
        check_ids(asked.ids.as_deref(), Countable::TaskIds)?;
        asked.paging.check()?;
        let world = self.world();
        let own = world.tasks.values().filter(|task| task.account == caller.account);
        let views = own.map(|task| view(&world, task)).filter(|task| fits(asked, task));
        Ok(asked.paging.cut(views.collect()))
    }

    /// One task.
    pub fn describe_task(&self, caller: &Caller, id: &str) -> Result<TaskView, CloudError> {
        caller.may(Right::Describe, "DescribeTaskAttribute")?;
        let world = self.world();
        own_task(&world, caller, id).map(|task| view(&world, task))
    }

    /// Asks a task to stop; it then ends as failed and leaves nothing.
    pub fn cancel_task(&self, caller: &Caller, id: &str) -> Result<(), CloudError> {
        caller.may(Right::Change, "CancelTask")?;
        let mut world = self.world();
        let task = own_task(&world, caller, id)?;
        if task.status != TaskStatus::Processing {
            return Err(CloudError::TaskEnded { task: id.into() });
        }
        if !task.cancellable {
            return Err(CloudError::TaskNotCancellable { task: id.into() });
        }
        caller.goes_on()?;
        world.cancelled.insert(id.into());
        Ok(())
    }
}

impl World {
    /// Whether the task was asked to stop. If not, it is too late for that from now on: what CancelTask was
    /// told is done, and what it can no longer do it refuses.
    pub(crate) fn was_cancelled(&mut self, task: &str) -> bool {
        let cancelled = self.cancelled.contains(task);
        if let Some(task) = self.tasks.get_mut(task) {
            task.cancellable &= cancelled;
        }
        cancelled
    }
}

fn own_task<'w>(world: &'w World, caller: &Caller, id: &str) -> Result<&'w Task, CloudError> {
    let found = world.tasks.get(id).filter(|task| task.account == caller.account);
    found.ok_or_else(|| CloudError::not_found(Resource::Task, id))
}

fn fits(asked: &DescribeTasks, task: &TaskView) -> bool {
    listed(asked.ids.as_deref(), &task.id)
        && listed(asked.resources.as_deref(), &task.resource)
        && equals_text(asked.action.as_deref(), &task.action)
        && equals(asked.status.as_ref(), &task.status)
        && within(task.created, asked.created_from, asked.created_until)
}

fn view(world: &World, task: &Task) -> TaskView {
    let settled = if task.status == TaskStatus::Finished { 100 } else { 0 };
    TaskView {
        id: task.id.clone(),
        account: task.account.clone(),
        action: task.action.clone(),
        resource: task.resource.clone(),
        status: task.status,
        progress_percent: world.progress.get(&task.id).copied().unwrap_or(settled),
        created: whole_seconds(task.created),
        finished: task.finished.map(whole_seconds),
        cancellable: task.cancellable && task.status == TaskStatus::Processing,
        error_code: task.error_code.clone(),
        error_message: task.error_message.clone(),
    }
}
