//! The real ECS clients, unmodified: each is a process that makes the calls it is told, one after another.
//!
//! What must always hold: without its packages a client fails and says how to get them; it never passes unrun. What a
//! call gives has gone through the client's own types. Names are those of the API; how each client spells them on the
//! wire is the matter of its script.

use std::{
    fmt,
    fs::File,
    io::{BufRead, BufReader, Read, Seek, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    program::Watch,
    sdk::{prepared, script, stories, without_proxy},
    signature::Key,
};

/// Nothing that is waited for may take longer.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `alibabacloud-ecs20140526` of Python: POST, ACS3.
    Tea,
    /// The same told to sign as version 1 does.
    TeaV1,
    /// `aliyun-python-sdk-core` and `-ecs`: POST, version 1 in the query.
    Core,
    /// `footmark`: the same through a proxy, with the absolute form of the request line.
    Footmark,
    /// `apache-libcloud`: GET, version 1, XML.
    Libcloud,
    /// `@alicloud/pop-core`: GET, version 1.
    PopGet,
    /// The same by POST, with all in the form body.
    PopPost,
    /// `@alicloud/ecs20140526` of Node: POST, ACS3.
    NodeTea,
    /// The same told to sign as version 1 does.
    NodeTeaV1,
}

/// A client at work, with one key.
#[derive(Debug)]
pub struct Client {
    kind: Kind,
    process: Child,
    calls: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    complaints: File,
}

impl Kind {
    /// Its script and what that is told beside the address and the key.
    fn script(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Tea => ("tea_client.py", None),
            Self::TeaV1 => ("tea_client.py", Some("v2")),
            Self::Core => ("core_client.py", None),
            Self::Footmark => ("footmark_client.py", None),
            Self::Libcloud => ("libcloud_client.py", None),
            Self::PopGet => ("pop_client.cjs", Some("GET")),
            Self::PopPost => ("pop_client.cjs", Some("POST")),
            Self::NodeTea => ("tea_client.cjs", None),
            Self::NodeTeaV1 => ("tea_client.cjs", Some("v2")),
        }
    }
}

impl Client {
    /// Starts a client that will speak with the daemon at this address.
    pub fn start(kind: Kind, address: &str, key: &Key) -> Self {
        Self::start_with(kind, address, key, None)
    }

    /// The same with the token of a temporary key; Python's own SDKs have stories of their own for that.
    pub fn start_with(kind: Kind, address: &str, key: &Key, token: Option<&str>) -> Self {
        let (name, more) = kind.script();
        let mut command = if name.ends_with(".cjs") { node(name) } else { script(name) };
        command.args([address, &key.id, &key.secret]).args(more);
        command.env_remove("SECURITY_TOKEN").envs(token.map(|token| ("SECURITY_TOKEN", token)));
        let complaints = tempfile::tempfile().expect("a temporary file");
        let stderr = complaints.try_clone().expect("a file can be shared");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut process = command.spawn().unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let answers = BufReader::new(process.stdout.take().expect("it is piped"));
        Self { kind, calls: process.stdin.take(), process, answers, complaints }
    }

    /// Calls an action: its answer, or the `code`, `status` and `message` of its refusal.
    pub fn ask(&mut self, action: &str, parameters: &Value) -> Result<Value, Value> {
        let call = json!({"action": action, "parameters": parameters}).to_string() + "\n";
        let mut line = String::new();
        let watch = Watch::over(self.process.id(), &format!("{self}: {action} {parameters}"));
        let calls = self.calls.as_mut().expect("the client runs");
        let read = calls
            .write_all(call.as_bytes())
            .and_then(|()| calls.flush())
            .and_then(|()| self.answers.read_line(&mut line));
        watch.ended();
        if !read.is_ok_and(|bytes| bytes > 0) {
            panic!("{self} gave up at {action} {parameters}: {}", self.complaints());
        }
        let mut told: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{self} said {line:?} ({error})"));
        match told.get_mut("refused") {
            Some(refused) => Err(refused.take()),
            None => Ok(told["answer"].take()),
        }
    }

    /// Calls an action that must succeed, and has a request id like every success.
    pub fn call(&mut self, action: &str, parameters: &Value) -> Value {
        let answer = self.ask(action, parameters);
        let answer =
            answer.unwrap_or_else(|refused| panic!("{self}: {action} {parameters}: {refused}"));
        assert_eq!(word(&answer["RequestId"]).len(), 36, "{self}: {action}: {answer}");
        answer
    }

    /// Calls an action that must be refused with this code and status, and gives the sentence beside it.
    pub fn refuses(&mut self, action: &str, parameters: &Value, code: &str, status: u16) -> String {
        let refused = match self.ask(action, parameters) {
            Ok(answer) => panic!("{self}: {action} {parameters} was not refused: {answer}"),
            Err(refused) => refused,
        };
        assert_eq!(refused["code"], code, "{self}: {action} {parameters}: {refused}");
        assert_eq!(refused["status"], status, "{self}: {action} {parameters}: {refused}");
        let message = word(&refused["message"]);
        assert!(!message.is_empty(), "{self}: {action}: {refused}");
        message
    }

    /// Asks until the answer is as wanted, and gives that one.
    pub fn until(
        &mut self,
        action: &str,
        parameters: &Value,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let until = Instant::now() + TIME_LIMIT;
        loop {
            let answer = self.call(action, parameters);
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < until, "{self}: {action} {parameters} is still {answer}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn complaints(&mut self) -> String {
        let mut bytes = Vec::new();
        let read = self.complaints.rewind().and_then(|()| self.complaints.read_to_end(&mut bytes));
        read.map_or_else(
            |error| error.to_string(),
            |_| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }
}

/// A script of `stories/node`.
fn node(name: &str) -> Command {
    let mut command = Command::new("node");
    without_proxy(&mut command);
    command.env("NODE_PATH", prepared("REINIT_TEST_NODE", "test-node/node_modules"));
    command.arg(stories().join("node").join(name));
    command
}

/// A client ends when there is nothing more to read.
impl Drop for Client {
    fn drop(&mut self) {
        let watch = Watch::over(self.process.id(), &format!("{self} after its last call"));
        drop(self.calls.take());
        let ended = self.process.wait();
        watch.ended();
        if !thread::panicking() {
            let status = ended.expect("a child can be waited for");
            assert!(status.success(), "{self}: {status}: {}", self.complaints());
        }
    }
}

/// The text of a field, whichever way the client holds it.
pub fn word(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The items of a list. XML has no lists: there it is nothing, the item itself, or several.
pub fn items(value: &Value) -> &[Value] {
    match value {
        Value::Null => &[],
        Value::Array(items) => items,
        one => std::slice::from_ref(one),
    }
}
