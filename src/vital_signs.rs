//! Vital signs: when a service manager hears that the gateway is ready, how it is, and that it is alive.
//!
//! **Ready** once every line of the list of actors has come up. A line that fell so often that it was put aside for a while (suspended)
//! is waited for no longer, nor one that stands on it: the rest works, and a manager that waits for all of it would end a gateway that
//! takes messages because, say, its room can't be reached. The status names it.
//!
//! **Alive** at half of the time that the manager waits, as long as every line that is up answers `Observe`. A line that is down is the
//! supervisor's matter, and it is being put back; one that is up and does not answer for so long that even the supervisor did not cut it off
//! is a reason to begin anew.

use crate::{
    adapters::service_manager::{self, News},
    admin::access::{Situation, ask_within, situation},
};
use futures_util::future::{join, join_all};
use std::{cell::Cell, convert::Infallible, rc::Rc, time::Duration};
use tidegate_actors::{handles::Handles, supervision::View};
use tidegate_schemas::messages::gateway::Observe;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

/// Longest that a line may take to answer: as long as the supervisor gives it.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest wait until those that did not answer are asked again.
const AGAIN_MAX: Duration = Duration::from_secs(1);

/// Tells the service manager, for as long as it is awaited.
pub struct VitalSigns {
    view: watch::Receiver<View<Handles>>,
    ready: Rc<Cell<bool>>,
}

impl VitalSigns {
    /// Of the gateway that publishes this view.
    #[must_use]
    pub fn of(view: watch::Receiver<View<Handles>>) -> Self {
        Self { view, ready: Rc::default() }
    }

    /// Whether the manager was told that the gateway is ready: a reload is told after that alone.
    #[must_use]
    pub fn told_ready(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.ready)
    }

    /// Tells, and never ends.
    pub async fn tell(self) -> Infallible {
        if !service_manager::listens() {
            std::future::pending::<()>().await;
        }
        join(alive(self.view.clone()), how_it_is(self.view, self.ready)).await.0
    }
}

async fn how_it_is(mut view: watch::Receiver<View<Handles>>, ready: Rc<Cell<bool>>) -> Infallible {
    let mut last = String::new();
    loop {
        let now = situation(&view.borrow_and_update());
        let mut news = Vec::new();
        if !ready.get() && has_come_up(&now) {
            news.push(News::Ready);
        }
        let sentence = sentence(&now);
        if sentence != last {
            news.push(News::Status(sentence.clone()));
            last = sentence;
        }
        if !news.is_empty() {
            let is_ready = news.contains(&News::Ready);
            service_manager::tell(news).await;
            ready.set(ready.get() || is_ready);
        }
        if view.changed().await.is_err() {
            // The supervisor is gone: its end is told elsewhere.
            std::future::pending::<()>().await;
        }
    }
}

fn has_come_up(now: &Situation) -> bool {
    let settled = |state: &str| matches!(state, "suspended" | "waiting");
    now.phase == "running" && !now.lines.is_empty() && now.lines.iter().all(|line| line.up || settled(&line.state))
}

/// Such as `5 of 6 parts run; reporter: suspended`.
fn sentence(now: &Situation) -> String {
    let down: Vec<String> =
        now.lines.iter().filter(|line| !line.up).map(|line| format!("{}: {}", line.name, line.state)).collect();
    let (all, up) = (now.lines.len(), now.lines.len() - down.len());
    if down.is_empty() {
        format!("all {all} parts run")
    } else {
        format!("{up} of {all} parts run; {}", down.join(", "))
    }
}

async fn alive(view: watch::Receiver<View<Handles>>) -> Infallible {
    let Some(period) = service_manager::watchdog() else { return std::future::pending().await };
    let mut next = Instant::now();
    loop {
        sleep_until(next).await;
        let now = situation(&view.borrow());
        if all_answer(&now, ANSWER_MAX.min(period / 4)).await {
            service_manager::tell(vec![News::Alive]).await;
            next += period / 2;
        } else {
            sleep(AGAIN_MAX.min(period / 8)).await;
            next = Instant::now();
        }
    }
}

/// Whether every line that is up answers within this time. All are asked at once.
async fn all_answer(now: &Situation, limit: Duration) -> bool {
    let asked = now.access.observers.iter().map(|(_, line)| ask_within(Some(line), Observe, limit));
    join_all(asked).await.iter().all(Result::is_ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::access::Line;
    use actix::prelude::*;
    use tidegate_schemas::view::{Observation, RegistryObservation};

    /// Answers, or never does.
    struct Part {
        answers: bool,
    }
    impl Actor for Part {
        type Context = Context<Self>;
    }
    impl Handler<Observe> for Part {
        type Result = ResponseFuture<Observation>;
        fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
            let answers = self.answers;
            Box::pin(async move {
                if !answers {
                    std::future::pending::<()>().await;
                }
                Observation::Registry(RegistryObservation::default())
            })
        }
    }

    fn line(name: &str, state: &str) -> Line {
        Line { name: name.to_owned(), up: state == "running", state: state.to_owned(), ..Line::default() }
    }

    fn running(lines: Vec<Line>) -> Situation {
        Situation { phase: "running".to_owned(), lines, ..Situation::default() }
    }

    #[actix::test]
    async fn one_part_that_does_not_answer_is_no_sign_of_life() {
        let limit = Duration::from_millis(100);
        let mut now = running(Vec::new());
        now.access.observers = vec![("registry".to_owned(), Part { answers: true }.start().recipient())];
        assert!(all_answer(&now, limit).await);
        now.access.observers.push(("outbox".to_owned(), Part { answers: false }.start().recipient()));
        assert!(!all_answer(&now, limit).await);
    }

    #[test]
    fn it_has_come_up_when_nothing_is_on_its_way_and_the_status_names_what_is_not_up() {
        assert!(!has_come_up(&running(Vec::new())), "before the first line runs");
        let starting = running(vec![line("registry", "running"), line("outbox", "restarting")]);
        assert!(!has_come_up(&starting));
        assert_eq!(sentence(&starting), "1 of 2 parts run; outbox: restarting");
        let put_aside = running(vec![line("registry", "running"), line("reporter", "suspended")]);
        assert!(has_come_up(&put_aside));
        let all = running(vec![line("registry", "running")]);
        assert!(has_come_up(&all));
        assert_eq!(sentence(&all), "all 1 parts run");
        assert!(!has_come_up(&Situation { phase: "draining".to_owned(), ..all }));
    }
}
