//! Administrators who have logged in.
//!
//! Does: knows sessions by the hash of what their cookie says; ends them when they are idle, when
//! they are old, and when the administrator's token is another one; takes each form once.
//! Does not: remember over a restart, or check tokens.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::headscale::Secret;
use crate::provisioning::token_file::{TokenHash, new_token};

/// Time without a request after which a session ends.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(30 * 60);

/// Time after which a session ends in any case: a day of work.
pub(super) const WHOLE_TIME: Duration = Duration::from_secs(12 * 3_600);

/// Most sessions at once; the one that was idle longest makes place. Only administrators have
/// any, and each takes 10 KiB at most.
const MAX_SESSIONS: usize = 64;

/// Forms that are remembered, so that sending one again does nothing.
const MAX_SPENT: usize = 64;

/// Administrators who have logged in.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: Mutex<Vec<Entry>>,
}

/// What a page needs to know of its session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    id: TokenHash,
    /// What forms have to say.
    pub(super) word: Secret,
}

struct Entry {
    session: Session,
    /// The administrator's token that it was opened with.
    admin: TokenHash,
    opened: Duration,
    seen: Duration,
    spent: VecDeque<TokenHash>,
}

impl Sessions {
    /// Opens a session with the administrator's token. Gives what its cookie says.
    pub(super) fn open(&self, admin: TokenHash, now: Duration) -> io::Result<Secret> {
        let (cookie, word) = (new_token()?, new_token()?);
        let session = Session { id: TokenHash::of(&cookie), word };
        let entry = Entry { session, admin, opened: now, seen: now, spent: VecDeque::new() };
        let mut open = self.held();
        open.retain(|it| it.is_open(now));
        if open.len() >= MAX_SESSIONS
            && let Some(place) =
                (0..open.len()).min_by_key(|place| open.get(*place).map(|it| it.seen))
        {
            open.swap_remove(place);
        }
        open.push(entry);
        Ok(cookie)
    }

    /// The session of a cookie, if the administrator's token still is the one that it was opened
    /// with.
    pub(super) fn find(
        &self,
        cookie: &Secret,
        admin: Option<&TokenHash>,
        now: Duration,
    ) -> Option<Session> {
        let id = TokenHash::of(cookie);
        let mut open = self.held();
        open.retain(|it| it.is_open(now) && admin.is_some_and(|admin| it.admin.is(admin)));
        let entry = open.iter_mut().find(|it| it.session.id.is(&id))?;
        entry.seen = now;
        Some(entry.session.clone())
    }

    /// Notes that a form was sent. Says whether for the first time.
    pub(super) fn spend(&self, session: &Session, form: &Secret) -> bool {
        let form = TokenHash::of(form);
        let mut open = self.held();
        let Some(entry) = open.iter_mut().find(|it| it.session.id.is(&session.id)) else {
            return false;
        };
        if entry.spent.iter().any(|it| it.is(&form)) {
            return false;
        }
        if entry.spent.len() >= MAX_SPENT {
            entry.spent.pop_front();
        }
        entry.spent.push_back(form);
        true
    }

    /// Takes a form back that was sent in vain, so that it can be sent again.
    pub(super) fn give_back(&self, session: &Session, form: &Secret) {
        let form = TokenHash::of(form);
        let mut open = self.held();
        if let Some(entry) = open.iter_mut().find(|it| it.session.id.is(&session.id)) {
            entry.spent.retain(|it| !it.is(&form));
        }
    }

    /// Ends a session.
    pub(super) fn close(&self, session: &Session) {
        self.held().retain(|it| !it.session.id.is(&session.id));
    }

    fn held(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Whether a form was made for this session, in constant time.
    pub(super) fn is_word(&self, said: &str) -> bool {
        TokenHash::of(&Secret::new(said.to_owned())).is(&TokenHash::of(&self.word))
    }
}

impl Entry {
    fn is_open(&self, now: Duration) -> bool {
        now < self.opened + WHOLE_TIME && now < self.seen + IDLE_TIME
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("opened", &self.opened).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> TokenHash {
        TokenHash::of(&Secret::new(text.to_owned()))
    }

    #[test]
    fn a_session_ends_idle_old_or_with_its_token() {
        let (sessions, admin, minute) = (Sessions::default(), hash("a"), Duration::from_secs(60));
        let find = |cookie: &Secret, now| sessions.find(cookie, Some(&admin), now).is_some();
        let cookie = sessions.open(admin, Duration::ZERO).unwrap();
        assert!(find(&cookie, minute * 29));
        assert!(find(&cookie, minute * 58), "it was seen in between");
        assert!(!find(&cookie, minute * 88), "idle");
        let cookie = sessions.open(admin, Duration::ZERO).unwrap();
        for n in 0..72 {
            assert!(find(&cookie, minute * n * 10), "{n}");
        }
        assert!(!find(&cookie, minute * 720), "old");
        for other in [Some(hash("b")), None] {
            let cookie = sessions.open(admin, Duration::ZERO).unwrap();
            assert!(sessions.find(&cookie, other.as_ref(), minute).is_none());
            assert!(!find(&cookie, minute), "it does not come back");
        }
        assert!(!find(&Secret::new("guess".to_owned()), Duration::ZERO));
    }

    #[test]
    fn not_more_than_so_many_are_kept_and_the_idle_one_goes() {
        let (sessions, admin) = (Sessions::default(), hash("a"));
        let at = Duration::from_secs;
        let cookies: Vec<Secret> = (0..64).map(|n| sessions.open(admin, at(n)).unwrap()).collect();
        assert!(sessions.find(&cookies[0], Some(&admin), at(70)).is_some());
        sessions.open(admin, at(71)).unwrap();
        assert_eq!(sessions.held().len(), MAX_SESSIONS);
        assert!(sessions.find(&cookies[0], Some(&admin), at(72)).is_some());
        assert!(sessions.find(&cookies[1], Some(&admin), at(72)).is_none());
    }

    #[test]
    fn a_form_counts_once_and_shows_nothing() {
        let (sessions, admin) = (Sessions::default(), hash("a"));
        let cookie = sessions.open(admin, Duration::ZERO).unwrap();
        let session = sessions.find(&cookie, Some(&admin), Duration::ZERO).unwrap();
        let form = |n: usize| Secret::new(n.to_string());
        assert!(sessions.spend(&session, &form(0)));
        assert!(!sessions.spend(&session, &form(0)));
        for n in 1..200 {
            assert!(sessions.spend(&session, &form(n)));
        }
        assert_eq!(sessions.held()[0].spent.len(), MAX_SPENT);
        assert!(session.is_word(session.word.reveal()) && !session.is_word(""));
        let shown = format!("{sessions:?} {session:?}");
        assert!(!shown.contains(cookie.reveal()) && !shown.contains(session.word.reveal()));
        sessions.close(&session);
        assert!(!sessions.spend(&session, &form(999)));
    }
}
