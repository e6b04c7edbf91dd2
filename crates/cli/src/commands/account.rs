//! `account`: who owns resources, and whether they may act.

use serde_json::{Value, json};

use crate::{
    args::{AccountCommand, AccountSetArgs},
    control::{Control, Parameters, text},
    failure::Failure,
    output::Report,
    size::Size,
};

pub(crate) fn run(control: &Control, command: &AccountCommand) -> Result<Report, Failure> {
    match command {
        AccountCommand::Ls => list(control),
        AccountCommand::Set(args) => set(control, args),
    }
}

fn list(control: &Control) -> Result<Report, Failure> {
    let accounts = control.call("ListAccounts", &Parameters::new())?["Accounts"]["Account"].clone();
    let rows = accounts.as_array().into_iter().flatten().map(row).collect();
    let header = ["ACCOUNT", "NUMBER", "IN ARREARS", "QUOTA"];
    Ok(Report::list(json!({ "Accounts": accounts }), &header, rows))
}

fn row(account: &Value) -> Vec<String> {
    let quota = account["QuotaInBytes"].as_u64();
    vec![
        text(account, "Account"),
        text(account, "AccountNumber"),
        if account["InArrears"] == true { "yes" } else { "no" }.into(),
        quota.map_or_else(|| "none".into(), |bytes| Size::new(bytes).to_string()),
    ]
}

fn set(control: &Control, args: &AccountSetArgs) -> Result<Report, Failure> {
    let mut asked = Parameters::new()
        .with("Account", &args.name)
        .with_some("QuotaInBytes", args.quota.map(Size::bytes).as_ref());
    if args.arrears || args.no_arrears {
        asked = asked.with("InArrears", args.arrears);
    }
    let answer = control.call("SetAccount", &asked)?;
    Ok(Report::done(answer, vec![args.name.clone()], format!("{} is changed", args.name)))
}
