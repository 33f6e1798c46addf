//! Equal questions share an answer; answers are kept for a time, and forgotten at once.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::*;
use crate::auth::shares::Asker;

const ASKER: AskedBy = AskedBy { asker: Asker::Address(7), wait: ShareWait::Limited };
const OTHER: AskedBy = AskedBy { asker: Asker::User(7), ..ASKER };
const LONG: Duration = Duration::from_secs(30);

fn decisions(in_flight: usize) -> Arc<Decisions<u32>> {
    Arc::new(Decisions::new(LONG, in_flight, in_flight))
}

fn question(json: &str) -> ServiceQuestion {
    ServiceQuestion::new("auth.connect", json.into())
}

fn answer(value: u32, keep: Duration) -> Result<Answer<u32>, Undecided> {
    Ok(Answer { value, keep, bytes: 0 })
}

#[tokio::test]
async fn an_answer_is_kept_as_long_as_it_says() {
    let (decisions, asked) = (decisions(1), AtomicUsize::new(0));
    let ask = async |json: &str, keep| {
        let ask = || async move { answer(7, keep) };
        let counted = || {
            asked.fetch_add(1, Ordering::Relaxed);
            ask()
        };
        decisions.decide(&question(json), ASKER, counted).await
    };
    for _ in 0..3 {
        assert_eq!(ask("a", LONG).await, Ok(7));
        assert_eq!(ask("b", Duration::ZERO).await, Ok(7));
    }
    assert_eq!((asked.load(Ordering::Relaxed), decisions.len()), (4, 1));
    // The same JSON for another service is another question.
    let other = ServiceQuestion::new("auth.other", "a".into());
    assert_eq!(decisions.decide(&other, ASKER, || async { answer(8, LONG) }).await, Ok(8));
    decisions.forget_all();
    assert!(decisions.is_empty());
    assert_eq!(decisions.decide(&question("a"), ASKER, || async { answer(9, LONG) }).await, Ok(9));
}

#[tokio::test]
async fn equal_questions_share_one_answer_and_failures_are_not_kept() {
    let decisions = decisions(1);
    let (question, (send, receive)) = (question("a"), oneshot::channel::<()>());
    let first = decisions.decide(&question, ASKER, || async {
        let _ = receive.await;
        Err(Undecided::NoService)
    });
    let second = decisions.decide(&question, ASKER, || async { answer(1, LONG) });
    let let_go = async {
        tokio::task::yield_now().await;
        send.send(()).unwrap();
    };
    let (first, second, ()) = tokio::join!(first, second, let_go);
    assert_eq!((first, second), (Err(Undecided::NoService), Err(Undecided::NoService)));
    assert_eq!(decisions.decide(&question, ASKER, || async { answer(2, LONG) }).await, Ok(2));
}

#[tokio::test]
async fn an_answer_from_before_a_revocation_is_neither_kept_nor_shared_afterwards() {
    let decisions = decisions(2);
    let (question, (send, receive)) = (question("a"), oneshot::channel::<()>());
    let before = decisions.decide(&question, ASKER, || async {
        let _ = receive.await;
        answer(1, LONG)
    });
    let after = async {
        tokio::task::yield_now().await;
        decisions.forget_all();
        let after = decisions.decide(&question, ASKER, || async { answer(2, LONG) }).await;
        send.send(()).unwrap();
        after
    };
    assert_eq!(tokio::join!(before, after), (Ok(1), Ok(2)));
    assert_eq!(decisions.decide(&question, ASKER, || async { answer(3, LONG) }).await, Ok(2));
}

#[tokio::test]
async fn a_question_that_no_one_waits_for_leaves_nothing() {
    let decisions = decisions(1);
    let (given_up_on, next) = (question("a"), question("b"));
    {
        let given_up = decisions.decide(&given_up_on, ASKER, || async { std::future::pending().await });
        tokio::pin!(given_up);
        assert!(futures_util::poll!(given_up.as_mut()).is_pending());
        assert_eq!(decisions.memory().asking.len(), 1);
    }
    let left = |memory: &Memory<u32>| (memory.asking.len(), memory.waiting_bytes);
    assert_eq!(left(&decisions.memory()), (0, 0));
    // Its turn at the service is free too.
    assert_eq!(decisions.decide(&next, ASKER, || async { answer(1, LONG) }).await, Ok(1));
}

#[tokio::test]
async fn a_question_waits_for_its_turn_and_its_answer_no_longer_than_the_limit() {
    let decisions = Arc::new(Decisions::<u32>::new(Duration::from_millis(10), 1, 1));
    let silent = || async { std::future::pending().await };
    let questions = [question("a"), question("b")];
    let both = tokio::join!(
        decisions.decide(&questions[0], ASKER, silent),
        decisions.decide(&questions[1], OTHER, silent)
    );
    assert_eq!(both, (Err(Undecided::Timeout), Err(Undecided::Timeout)));
    assert_eq!(decisions.memory().waiting_bytes, 0);
}

#[tokio::test]
async fn svc_03_a_client_with_many_questions_leaves_turns_for_others() {
    let decisions = Arc::new(Decisions::<u32>::new(LONG, 3, 2));
    let greedy = AskedBy { wait: ShareWait::Unlimited, ..OTHER };
    let questions: Vec<_> = (0..8).map(|at| question(&at.to_string())).collect();
    let silent = || async { std::future::pending().await };
    let mut asked: Vec<_> =
        questions.iter().map(|question| Box::pin(decisions.decide(question, greedy, silent))).collect();
    for asked in &mut asked {
        assert!(futures_util::poll!(asked.as_mut()).is_pending());
    }
    assert_eq!(decisions.memory().asking.len(), 2, "the others wait");
    let answered = decisions.decide(&question("other"), ASKER, || async { answer(1, LONG) }).await;
    assert_eq!(answered, Ok(1));
    // An answer that is kept takes no turn, and a turn that is let go is free for the next question.
    let known = decisions.decide(&question("other"), greedy, silent).await;
    assert_eq!(known, Ok(1));
    drop(asked.remove(0));
    assert!(futures_util::poll!(asked[1].as_mut()).is_pending());
    assert_eq!(decisions.memory().asking.len(), 2);
    drop(asked);
    assert_eq!((decisions.shares.len(), decisions.memory().asking.len()), (0, 0));
}

#[tokio::test]
async fn svc_03_a_client_that_waits_for_its_own_turn_blames_no_service() {
    let decisions = Arc::new(Decisions::<u32>::new(Duration::from_millis(50), 8, 1));
    let questions: Vec<_> = (0..4).map(|at| question(&at.to_string())).collect();
    let silent = || async { std::future::pending().await };
    let patient = AskedBy { wait: ShareWait::Unlimited, ..ASKER };
    let answers = tokio::join!(
        decisions.decide(&questions[0], ASKER, silent),
        decisions.decide(&questions[1], patient, silent),
        decisions.decide(&questions[2], ASKER, silent),
        decisions.decide(&questions[3], patient, || async { answer(1, LONG) }),
    );
    // The second has its turn when the first has had no answer. Then the third has waited for long enough.
    let timeout = Err(Undecided::Timeout);
    assert_eq!(answers, (timeout, timeout, Err(Undecided::ClientBusy), Ok(1)));
}

#[tokio::test]
async fn svc_03_the_questions_of_one_client_that_wait_are_bounded_in_bytes() {
    let decisions = Arc::new(Decisions::<u32>::new(LONG, 8, 1));
    let size = 1024 * 1024;
    let questions: Vec<_> = (0..4).map(|at| question(&(at.to_string() + &"x".repeat(size)))).collect();
    let silent = || async { std::future::pending().await };
    let mut asked: Vec<_> =
        questions.iter().map(|question| Box::pin(decisions.decide(question, ASKER, silent))).collect();
    assert!(futures_util::poll!(asked[0].as_mut()).is_pending(), "it is at the service");
    assert!(futures_util::poll!(asked[1].as_mut()).is_pending(), "it waits");
    let refused = futures_util::poll!(asked[2].as_mut());
    assert_eq!(refused, std::task::Poll::Ready(Err(Undecided::ClientBusy)));
    let other = decisions.decide(&questions[3], OTHER, || async { answer(1, LONG) }).await;
    assert_eq!(other, Ok(1));
    drop(asked.remove(1));
    let again = decisions.decide(&questions[2], ASKER, silent);
    assert!(futures_util::poll!(Box::pin(again).as_mut()).is_pending(), "there is room again");
    drop(asked);
    assert_eq!((decisions.shares.len(), decisions.memory().waiting_bytes), (0, 0));
}

#[tokio::test]
async fn questions_that_wait_are_bounded_in_bytes() {
    let decisions = Arc::new(Decisions::<u32>::new(LONG, 1, 16));
    let size = 1024 * 1024;
    let questions: Vec<_> = (0..16).map(|at| question(&(at.to_string() + &"x".repeat(size)))).collect();
    let ask = || async { std::future::pending().await };
    let mut asked: Vec<_> =
        questions.iter().map(|question| Box::pin(decisions.decide(question, ASKER, ask))).collect();
    for (at, asked) in asked.iter_mut().enumerate() {
        match futures_util::poll!(asked.as_mut()) {
            std::task::Poll::Pending => assert!(at < 15, "{at}"),
            std::task::Poll::Ready(refused) => assert_eq!((at, refused), (15, Err(Undecided::Busy))),
        }
    }
}

#[tokio::test]
async fn answers_are_bounded_in_number_and_in_bytes() {
    for (bytes, expected) in [(0, 10), (1024 * 1024, 7)] {
        let decisions = decisions(1);
        for at in 0..MAX_KEPT + 10 {
            let ask = || async move { Ok(Answer { value: 1, keep: LONG, bytes }) };
            assert_eq!(decisions.decide(&question(&at.to_string()), ASKER, ask).await, Ok(1));
        }
        assert_eq!(decisions.len(), expected, "{bytes}");
    }
}
