//! `key`: access keys of the HTTP API.

use jiff::Timestamp;
use serde_json::json;

use crate::{
    args::{KeyCommand, Role},
    control::{Control, Parameters, text},
    failure::Failure,
    output::Report,
};

pub(crate) fn run(control: &Control, command: &KeyCommand) -> Result<Report, Failure> {
    match command {
        KeyCommand::Create { account, role, expires, temporary } => {
            if let Some(ended) = expires.filter(|end| *end <= Timestamp::now()) {
                let message = format!("--expires {ended} is over already; no key was made");
                return Err(Failure::local("InvalidParameter", message));
            }
            let asked = Parameters::new()
                .with("Account", account)
                .with("Role", role.name())
                .with_some("ExpireTime", expires.as_ref())
                .with_some("Temporary", temporary.then_some(&true));
            let made = control.call("CreateAccessKey", &asked)?;
            let id = text(&made, "AccessKeyId");
            let mut fields = vec![
                ("Access key id", id.clone()),
                ("Secret", format!("{}  (shown this once)", text(&made, "AccessKeySecret"))),
                ("Account", text(&made, "Account")),
                ("Role", role.name().to_owned()),
            ];
            if *temporary {
                let token = format!("{}  (shown this once)", text(&made, "SecurityToken"));
                fields.insert(2, ("Security token", token));
                fields.push(("Ends", text(&made, "ExpireTime")));
            }
            Ok(Report::fields(made, &id, &fields))
        }
        KeyCommand::Ls => list(control),
        KeyCommand::Disable { access_key } => {
            change(control, "DisableAccessKey", access_key, "is refused from now on")
        }
        KeyCommand::Rm { access_key } => {
            change(control, "DeleteAccessKey", access_key, "is removed")
        }
    }
}

fn list(control: &Control) -> Result<Report, Failure> {
    let keys =
        control.call("ListAccessKeys", &Parameters::new())?["AccessKeys"]["AccessKey"].clone();
    let rows = keys.as_array().into_iter().flatten().map(|key| {
        ["AccessKeyId", "Account", "Role", "Status", "Temporary", "ExpireTime"]
            .map(|field| text(key, field))
            .into()
    });
    let header = ["ACCESS KEY ID", "ACCOUNT", "ROLE", "STATUS", "TEMPORARY", "EXPIRES"];
    Ok(Report::list(json!({ "AccessKeys": keys }), &header, rows.collect()))
}

fn change(control: &Control, action: &str, key: &str, what: &str) -> Result<Report, Failure> {
    let answer = control.call(action, &Parameters::new().with("AccessKeyId", key))?;
    Ok(Report::done(answer, vec![key.into()], format!("{key} {what}")))
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Read => "read",
            Self::Reset => "reset",
        }
    }
}
