//! Runs a case at one dataplane.

use std::time::Duration;

use futures::{StreamExt, stream};
use http::Request;

use super::{
    Ask, Case, Doors, Send, Status, frames,
    outcome::{Outcome, Wrong},
    raw::{self, End},
};
use crate::{
    access_log::Entry,
    backend::{Attempts, Seen, tcp_exchange},
    client::{self, Answer, Connection, Failure},
    wait,
};

/// Time for copies to arrive.
const COPIES_WITHIN: Duration = Duration::from_secs(5);

/// A dataplane as cases see it.
pub struct Stage<'a> {
    /// Its name.
    pub name: &'static str,
    /// Where it takes requests.
    pub doors: &'a Doors,
    /// What backends saw.
    pub attempts: &'a Attempts,
    /// Whether a service has one version only.
    pub single: &'a (dyn Fn(&str) -> bool + Sync),
}

/// A case that was run. Its log is read later: it comes after the answers.
pub struct Played {
    /// The id that its requests had.
    pub id: String,
    /// What came of it so far.
    pub outcome: Outcome,
    /// The last answer.
    answer: Option<Answer>,
    /// Lines that its log must have; none where the request cannot carry its id.
    pub lines: usize,
}

impl Played {
    /// Takes in what was logged.
    pub fn logged(&mut self, entries: &[Entry]) {
        if self.lines > 0 {
            self.outcome.logged(entries);
        }
    }

    /// What is not as the case expects.
    pub fn check(&self, case: &Case) -> Vec<Wrong> {
        self.outcome.check(case, self.answer.as_ref())
    }
}

impl Case {
    /// Runs the case.
    pub async fn play(&self, group: &str, stage: &Stage<'_>) -> Played {
        let id = format!("{group}/{}/{}", stage.name, self.name);
        let mut played = Played { id, outcome: Outcome::default(), answer: None, lines: 0 };
        let result = match &self.send {
            Send::Request(ask) => played.request(ask, stage).await,
            Send::Tcp { service, text } => played.tcp(stage, service, text).await,
            Send::Raw { text, door } => {
                let wanted = match &self.expect.status {
                    Some(Status::Text(text)) => text.split(' ').count(),
                    Some(Status::One(_)) | None => 1,
                };
                let text = text.replace("$ID", &played.id);
                played.raw(stage, stage.doors.http[door], &text, wanted).await
            }
            Send::H2 { fields, body, trailers, door } => {
                let own = |(name, value): &(String, String)| (name.clone(), value.replace("$ID", &played.id));
                let fields: Vec<_> = fields.iter().map(own).collect();
                let answer =
                    frames::exchange(stage.doors.http[door], &fields, body.as_deref(), trailers).await;
                let answer = answer.map_err(|error| error.to_string());
                answer.map(|answer| {
                    played.outcome.put("status", answer);
                    played.outcome.seen(&stage.attempts.seen(&played.id));
                })
            }
        };
        if let Err(failure) = result {
            played.outcome.put("failure", failure);
        }
        if !self.expect.copies.is_empty() {
            played.copies(&self.expect.copies, stage.attempts).await;
        }
        if self.unlogged {
            played.lines = 0;
        }
        played
    }
}

impl Played {
    /// Waits for the copies, and tells them from the attempts.
    async fn copies(&mut self, wanted: &[String], attempts: &Attempts) {
        let origin = |seen: &Seen| format!("{}@{}", seen.service, seen.version);
        let copy_of =
            |seen: &[Seen], to: &String| seen.iter().find(|seen| seen.whole && origin(seen) == **to).cloned();
        let arrived = wait::within(COPIES_WITHIN, async || {
            let seen = attempts.seen(&self.id);
            wanted.iter().all(|to| copy_of(&seen, to).is_some()).then_some(seen)
        });
        let seen = arrived.await.unwrap_or_else(|| attempts.seen(&self.id));
        for to in wanted {
            self.outcome.copy(to, copy_of(&seen, to).as_ref());
        }
        let tries: Vec<Seen> = seen.into_iter().filter(|seen| !wanted.contains(&origin(seen))).collect();
        self.outcome.seen(&tries);
        // Envoy writes its own address into what it copies, and with luck into the original, too.
        self.outcome.forget("x-forwarded-for");
    }

    async fn request(&mut self, ask: &Ask, stage: &Stage<'_>) -> Result<(), String> {
        let (door, id) = (stage.doors.http[&ask.door], self.id.clone());
        let lanes = stream::iter(0..ask.at_once).map(|lane| {
            let (id, mut connection) = (id.clone(), None);
            async move {
                let mut answers = Vec::new();
                for _ in (lane..ask.times).step_by(ask.at_once as usize) {
                    let open = match connection.take() {
                        Some(open) => open,
                        None => Connection::open(door, ask.protocol).await?,
                    };
                    answers.push(connection.insert(open).send(ask.request(&id)).await?);
                }
                Ok::<_, Failure>(answers)
            }
        });
        let lanes: Vec<_> = lanes.buffer_unordered(ask.at_once as usize).collect().await;
        self.lines = ask.times as usize;
        let mut answers = Vec::new();
        for lane in lanes {
            match lane {
                Ok(found) => answers.extend(found),
                Err(Failure::Broken(_)) if ask.times == 1 => self.outcome.put("status", "broken"),
                Err(failure) => return Err(failure.to_string()),
            }
        }
        for answer in &answers {
            *self.outcome.versions.entry(answer.version().to_owned()).or_default() += 1;
            *self.outcome.statuses.entry(answer.status.as_u16()).or_default() += 1;
        }
        if ask.times == 1 {
            if let Some(answer) = answers.pop() {
                self.outcome.answer(&answer, stage.single);
                self.answer = Some(answer);
            }
            self.outcome.seen(&stage.attempts.seen(&self.id));
        }
        Ok(())
    }

    async fn tcp(&mut self, stage: &Stage<'_>, service: &str, text: &str) -> Result<(), String> {
        let exchanged = tcp_exchange(stage.doors.tcp[service], text).await;
        let (greeting, echo) = exchanged.map_err(|error| error.to_string())?;
        self.outcome.put("greeting", greeting);
        self.outcome.put("body", echo);
        Ok(())
    }

    async fn raw(
        &mut self,
        stage: &Stage<'_>,
        door: std::net::SocketAddr,
        text: &str,
        wanted: usize,
    ) -> Result<(), String> {
        let exchanged = raw::exchange(door, text, wanted).await;
        let (mut answers, end) = exchanged.map_err(|error| error.to_string())?;
        let mut said: Vec<String> = answers.iter().map(|answer| answer.status.as_u16().to_string()).collect();
        match end {
            End::Answered => {}
            End::Closed => said.push("closed".to_owned()),
            End::Silent => said.push("silent".to_owned()),
        }
        // Of refusals only the status counts: what else is said to who speaks no HTTP is nobody's contract.
        if let Some(answer) = answers.pop().filter(|answer| answer.header("x-echo-service").is_some()) {
            self.outcome.answer(&answer, stage.single);
            self.answer = Some(answer);
        }
        self.outcome.put("status", said.join(" "));
        self.outcome.seen(&stage.attempts.seen(&self.id));
        Ok(())
    }
}

impl Ask {
    fn request(&self, id: &str) -> Request<client::Body> {
        let mut request = client::get(self.protocol, &self.host, &self.path).method(self.method.as_str());
        request = request.header("x-echo-id", id);
        for (name, lines) in &self.headers {
            for line in lines.all() {
                request = request.header(name, line);
            }
        }
        let bytes = vec![b'x'; self.body];
        let body = if self.chunked {
            let half = self.body / 2;
            client::chunked([bytes[..half].to_vec(), bytes[half..].to_vec()], &self.trailers)
        } else if self.body > 0 {
            client::full(bytes)
        } else {
            client::empty()
        };
        request.body(body).unwrap_or_else(|error| panic!("case request {}{}: {error}", self.host, self.path))
    }
}
