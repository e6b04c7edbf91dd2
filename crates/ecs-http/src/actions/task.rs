//! Tasks: asked about, cancelled.

use cloud::{DescribeTasks, TaskStatus, TaskView};

use super::codes::NO_TASK;
use super::contract::{PAGES, REGION, commas, moment, needed, text};
use super::shape::{Field, PAGE, PROGRESS, list_field, text_field, whole_field};
use super::{Action, Call, Fields, minutes, page_fields};
use crate::{refusal::Refusal, tree::Tree};

pub(super) const ACTIONS: &[Action] = &[
    Action::new("DescribeTasks", describe)
        .takes(&[
            REGION,
            &[
                text("ResourceIds.N"),
                commas("TaskIds"),
                text("TaskAction"),
                text("TaskStatus"),
                moment("StartTime"),
                moment("EndTime"),
            ],
            PAGES,
        ])
        .answers(&[
            PAGE,
            &[
                text_field("RegionId"),
                list_field("TaskSet", "Task", &[TASK, &[text_field("ResourceId")]]),
            ],
        ])
        .that_only_asks(),
    Action::new("DescribeTaskAttribute", describe_one)
        .takes(&[REGION, &[needed("TaskId")]])
        .answers(&[
            TASK,
            &[
                text_field("RegionId"),
                whole_field("TotalCount"),
                whole_field("SuccessCount"),
                whole_field("FailedCount"),
                text_field("TaskProcess"),
                PROGRESS,
            ],
        ])
        .refuses(&[NO_TASK])
        .that_only_asks(),
    Action::new("CancelTask", cancel).takes(&[REGION, &[needed("TaskId")]]).refuses(&[
        NO_TASK,
        &[("InvalidTaskId.IncorrectTaskStatus", 403), ("InvalidTaskId.TaskActionNotSupport", 403)],
    ]),
];

/// What every way to ask about a task shows.
pub(super) const TASK: &[Field] = &[
    text_field("TaskId"),
    text_field("TaskAction"),
    text_field("TaskStatus"),
    text_field("SupportCancel"),
    text_field("CreationTime"),
    text_field("FinishedTime"),
];

const STATUSES: [(&str, TaskStatus); 3] = [
    ("Processing", TaskStatus::Processing),
    ("Finished", TaskStatus::Finished),
    ("Failed", TaskStatus::Failed),
];

fn describe(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let resources = call.parameters.list("ResourceIds");
    let asked = DescribeTasks {
        ids: call.parameters.comma_list("TaskIds"),
        action: call.parameters.owned("TaskAction"),
        status: call.one_of("TaskStatus", &STATUSES, ("InvalidParameter", 400))?,
        resources: Some(resources).filter(|ids| !ids.is_empty()),
        created_from: call.time("StartTime")?,
        created_until: call.time("EndTime")?,
        paging: call.paging()?,
    };
    let page = call.ask(|cloud, caller| cloud.describe_tasks(caller, &asked))?;
    let tasks = page.items.iter().map(|task| {
        let mut fields = view(task);
        fields.push(("ResourceId", (&task.resource).into()));
        Tree::Object(fields)
    });
    let mut fields = page_fields(&page);
    fields.extend([
        ("RegionId", (&call.cloud.settings().region).into()),
        ("TaskSet", Tree::list("Task", tasks)),
    ]);
    Ok(fields)
}

fn describe_one(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let id = call.parameters.needed("TaskId")?;
    let task = call.ask(|cloud, caller| cloud.describe_task(caller, &id))?;
    let count = |status: TaskStatus| u64::from(task.status == status);
    let mut fields = view(&task);
    fields.extend([
        ("RegionId", (&call.cloud.settings().region).into()),
        ("TotalCount", 1_u64.into()),
        ("SuccessCount", count(TaskStatus::Finished).into()),
        ("FailedCount", count(TaskStatus::Failed).into()),
        ("TaskProcess", format!("{}%", task.progress_percent).into()),
        ("OperationProgressSet", Tree::list("OperationProgress", [progress(&task)])),
    ]);
    Ok(fields)
}

fn progress(task: &TaskView) -> Tree {
    Tree::object([
        ("OperationStatus", status(task.status).into()),
        ("ErrorCode", (&task.error_code).into()),
        ("ErrorMsg", (&task.error_message).into()),
        ("RelatedItemSet", super::reset::related([("ResourceId", &task.resource)])),
    ])
}

fn cancel(call: &Call<'_>) -> Result<Fields, Refusal> {
    call.check_region()?;
    let id = call.parameters.needed("TaskId")?;
    call.ask(|cloud, caller| cloud.cancel_task(caller, &id))?;
    Ok(vec![])
}

/// What both ways to ask about a task show.
pub(super) fn view(task: &TaskView) -> Fields {
    vec![
        ("TaskId", (&task.id).into()),
        ("TaskAction", (&task.action).into()),
        ("TaskStatus", status(task.status).into()),
        // The text, not a boolean.
        ("SupportCancel", task.cancellable.to_string().into()),
        ("CreationTime", minutes(Some(task.created))),
        ("FinishedTime", minutes(task.finished)),
    ]
}

fn status(status: TaskStatus) -> &'static str {
    match status {
        TaskStatus::Processing => "Processing",
        TaskStatus::Finished => "Finished",
        TaskStatus::Failed => "Failed",
    }
}
