//! How much each user may keep.

use std::collections::BTreeMap;

/// How much the files of each user may take in a share, in bytes of their lengths. The root user has no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Of each user that is not named; none is no limit.
    pub each: Option<u64>,
    /// Of users, by number; none is no limit.
    pub of_users: BTreeMap<u32, Option<u64>>,
}

impl Quotas {
    /// What the files of the user `uid` may take; none is no limit.
    #[must_use]
    pub fn of(&self, uid: u32) -> Option<u64> {
        match self.of_users.get(&uid) {
            Some(quota) => *quota,
            None if uid == 0 => None,
            None => self.each,
        }
    }

    /// Whether anybody has a limit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.each.is_none() && self.of_users.values().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_user_has_no_limit_unless_he_is_named() {
        let quotas = Quotas { each: Some(5), ..Quotas::default() };
        assert_eq!((quotas.of(0), quotas.of(7), quotas.is_empty()), (None, Some(5), false));
        let of_users = BTreeMap::from([(0, Some(3)), (7, None)]);
        let quotas = Quotas { each: None, of_users };
        assert_eq!((quotas.of(0), quotas.of(7), quotas.is_empty()), (Some(3), None, false));
        assert!(Quotas::default().is_empty());
    }
}
