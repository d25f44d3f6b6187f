//! Which of several reasons sets the pace.

use crate::Rate;

/// What speaks for a pace now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reasons {
    /// A person has paused it.
    pub paused: bool,
    /// The budget is spent.
    pub spent: bool,
    /// What a person has set for the time being.
    pub by_hand: Option<Rate>,
    /// What the schedule says.
    pub scheduled: Rate,
}

/// The reason that sets the pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A person has paused it.
    Paused,
    /// The budget is spent.
    Spent,
    /// A person has set it.
    ByHand,
    /// The schedule.
    Schedule,
}

impl Reasons {
    /// The pace, and what sets it: a pause before all, then the budget, which costs money, then what a person has set.
    #[must_use]
    pub fn decide(self) -> (Rate, Reason) {
        match self {
            Self { paused: true, .. } => (Rate::Paused, Reason::Paused),
            Self { spent: true, .. } => (Rate::Paused, Reason::Spent),
            Self { by_hand: Some(rate), .. } => (rate, Reason::ByHand),
            Self { scheduled, .. } => (scheduled, Reason::Schedule),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_may_go_faster_than_the_schedule_but_not_beyond_the_budget() {
        let fast: Rate = "1GB/s".parse().unwrap();
        let reasons =
            Reasons { paused: false, spent: false, by_hand: Some(fast), scheduled: Rate::Paused };
        assert_eq!(reasons.decide(), (fast, Reason::ByHand));
        assert_eq!(Reasons { spent: true, ..reasons }.decide(), (Rate::Paused, Reason::Spent));
        assert_eq!(
            Reasons { spent: true, paused: true, ..reasons }.decide(),
            (Rate::Paused, Reason::Paused)
        );
        let none = Reasons { by_hand: None, ..reasons };
        assert_eq!(none.decide(), (Rate::Paused, Reason::Schedule));
    }
}
