//! A task: a long action a client can ask about.

use serde::{Deserialize, Serialize};

use super::Record;

/// The present version.
pub type Task = TaskV1;

/// The present version of [`TaskStatusV1`].
pub type TaskStatus = TaskStatusV1;

/// A task, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskV1 {
    /// `t-...`
    pub id: String,
    /// The owner.
    pub account: String,
    /// The action that started it.
    pub action: String,
    /// The resource it makes or changes.
    pub resource: String,
    /// How far it is.
    pub status: TaskStatusV1,
    /// 0 to 100.
    pub progress_percent: u32,
    /// When it began.
    pub created: i64,
    /// When it ended.
    pub finished: Option<i64>,
    /// Whether a client may cancel it.
    pub cancellable: bool,
    /// The code it failed with; empty otherwise.
    pub error_code: String,
    /// The sentence to that code; empty otherwise.
    pub error_message: String,
}

/// How far a task is, version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskStatusV1 {
    /// Under way.
    Processing,
    /// Done.
    Finished,
    /// Ended with an error.
    Failed,
}

impl Record for TaskV1 {
    const KIND: u16 = 7;
    const VERSION: u16 = 1;
    const PREFIX: &'static str = "task";

    fn id(&self) -> String {
        self.id.clone()
    }
}
