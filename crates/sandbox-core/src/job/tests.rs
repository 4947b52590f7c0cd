//! A job and what it answers, in short. The tests are beside, by subject.

use super::*;
use crate::limits::Limits;
use protocol::id::ExecutionId;
use protocol::id::KiloSessionId;
use protocol::id::MessageId;

mod course;
mod start;
mod stop;
mod table;

fn execution(n: u32) -> ExecutionId {
    ExecutionId::parse(&format!("exc_{n:026}")).unwrap()
}

fn message(n: u32) -> MessageId {
    MessageId::parse(&format!("msg_{n:026}")).unwrap()
}

fn binding(n: u32) -> Binding {
    Binding {
        execution_id: execution(n),
        kilo_session_id: KiloSessionId::parse("ses_e03b2959effeetYLbSKCsEOEU2").unwrap(),
        message_id: message(n),
        auto_commit: true,
        condense_on_complete: true,
    }
}

fn plain(n: u32) -> Binding {
    Binding { auto_commit: false, condense_on_complete: false, ..binding(n) }
}

struct Bench {
    job: Job,
    now: i64,
}

impl Bench {
    fn new() -> Self {
        Self { job: Job::new(&Limits::default(), []), now: 0 }
    }

    fn opening(binding: Binding) -> Self {
        let mut bench = Self::new();
        bench.say(Input::Start(binding));
        bench
    }

    fn sending(binding: Binding) -> Self {
        let mut bench = Self::opening(binding);
        bench.say(Input::IngestReady(JobId(1)));
        bench.say(Input::EventsOpen(JobId(1)));
        bench
    }

    fn running(binding: Binding) -> Self {
        let mut bench = Self::sending(binding);
        assert_eq!(bench.say(Input::PromptSent(JobId(1))), [""; 0]);
        bench
    }

    fn finishing(binding: Binding) -> Self {
        let mut bench = Self::running(binding);
        bench.say(Input::TurnEnded { job: JobId(1), end: TurnEnd::Interrupted });
        bench
    }

    /// What the machine answers, in short.
    fn say(&mut self, input: Input) -> Vec<String> {
        self.job.receive(self.now, input).iter().map(brief).collect()
    }

    fn turn_ended(&mut self, end: TurnEnd) -> Vec<String> {
        self.say(Input::TurnEnded { job: JobId(1), end })
    }

    /// The next deadline of a phase passes.
    fn late(&mut self) -> Vec<String> {
        loop {
            self.now = self.job.next_deadline().unwrap();
            let mut said = self.say(Input::Tick);
            said.retain(|what| what != "RestartEvents 1");
            if !said.is_empty() {
                return said;
            }
        }
    }
}

fn brief(output: &Output) -> String {
    match output {
        Output::AbortAgent(job) => format!("AbortAgent {}", job.0),
        Output::Accepted(job) => format!("Accepted {}", job.0),
        Output::CancelTasks(job) => format!("CancelTasks {}", job.0),
        Output::CloseIngest(job) => format!("CloseIngest {}", job.0),
        Output::Duplicate => "Duplicate".to_owned(),
        Output::Emit { job, event } => format!("Emit {} {} {}", job.0, event.kind(), event.data()),
        Output::Ended { job, end } => format!("Ended {} {end:?}", job.0),
        Output::FinishIngest(job) => format!("FinishIngest {}", job.0),
        Output::Open(job) => format!("Open {}", job.0),
        Output::ReadBranch(job) => format!("ReadBranch {}", job.0),
        Output::Refused { active } => format!("Refused {active}"),
        Output::RestartEvents(job) => format!("RestartEvents {}", job.0),
        Output::RunAutoCommit(job) => format!("RunAutoCommit {}", job.0),
        Output::RunCondense(job) => format!("RunCondense {}", job.0),
        Output::SendPrompt(job) => format!("SendPrompt {}", job.0),
    }
}

fn emit(kind: &str, data: &str) -> String {
    format!("Emit 1 {kind} {data}")
}
