//! Who may do what: `key` and `account`.

use clap::{Args, Subcommand, ValueEnum, builder::NonEmptyStringValueParser};

use crate::size::Size;

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an access key and print it with its secret, this once; the account is made when new
    #[command(
        after_help = "Example:\n  reinit key create --account lab --role reset --expires 2030-01-01T00:00:00Z"
    )]
    Create {
        /// Whose key it is
        #[arg(long, default_value = "default", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
        account: String,
        /// What it may do
        #[arg(long, value_enum, default_value_t = Role::Full)]
        role: Role,
        /// When it ends, in UTC, such as 2030-01-01T00:00:00Z
        #[arg(long, value_name = "TIME")]
        expires: Option<jiff::Timestamp>,
        /// A temporary key, with a security token that goes with each request; it ends after an hour unless --expires says otherwise
        #[arg(long)]
        temporary: bool,
    },
    /// List the keys, without their secrets
    #[command(after_help = "Example:\n  reinit key ls")]
    Ls,
    /// Refuse a key from now on, but keep it
    #[command(after_help = "Example:\n  reinit key disable LTAI0123456789abcdef")]
    Disable {
        /// The access key id
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        access_key: String,
    },
    /// Remove a key
    #[command(after_help = "Example:\n  reinit key rm LTAI0123456789abcdef")]
    Rm {
        /// The access key id
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        access_key: String,
    },
}

/// What an access key may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    /// Everything
    Full,
    /// Look, change nothing
    Read,
    /// Look, reset, start and stop
    Reset,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// List the accounts
    #[command(after_help = "Example:\n  reinit account ls")]
    Ls,
    /// Change an account
    #[command(after_help = "Example:\n  reinit account set lab --no-arrears --quota 2T")]
    Set(AccountSetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AccountSetArgs {
    /// The account
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: String,
    /// The account owes: resets and starts are refused
    #[arg(long, conflicts_with = "no_arrears", required_unless_present_any = ["no_arrears", "quota"])]
    pub(crate) arrears: bool,
    /// The account owes nothing
    #[arg(long)]
    pub(crate) no_arrears: bool,
    /// The most its disks may add up to
    #[arg(long, value_name = "SIZE")]
    pub(crate) quota: Option<Size>,
}
