//! A token bucket in virtual time.

use crate::time::Millis;

/// Lets `per_second` events a second pass, and `burst` at once.
#[derive(Debug)]
pub(crate) struct Limiter {
    per_second: u64,
    /// Thousandths of a token.
    level: u64,
    full: u64,
    at: Millis,
}

impl Limiter {
    pub(crate) fn new(per_second: u64, burst: u64) -> Limiter {
        Limiter {
            per_second,
            level: burst * 1000,
            full: burst * 1000,
            at: Millis(0),
        }
    }

    /// Whether one more event may pass now.
    pub(crate) fn pass(&mut self, now: Millis) -> bool {
        self.pass_several(now, 1)
    }

    /// Whether as many events may pass now, or, if that is more than ever do at once, as many as do.
    pub(crate) fn pass_several(&mut self, now: Millis, count: u64) -> bool {
        let wanted = count.saturating_mul(1000).min(self.full);
        let gained = now.since(self.at).saturating_mul(self.per_second);
        self.level = self.level.saturating_add(gained).min(self.full);
        self.at = now;
        let passes = self.level >= wanted;
        if passes {
            self.level -= wanted;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut limiter = Limiter::new(10, 3);
        let passed =
            |limiter: &mut Limiter, at| (0..10).filter(|_| limiter.pass(Millis(at))).count();
        assert_eq!(passed(&mut limiter, 0), 3);
        assert_eq!(passed(&mut limiter, 99), 0);
        assert_eq!(passed(&mut limiter, 199), 1);
        assert_eq!(passed(&mut limiter, 100_000), 3);
        assert!(limiter.pass_several(Millis(200_000), 2));
        assert!(!limiter.pass_several(Millis(200_000), 2));
        assert!(limiter.pass_several(Millis(300_000), 4), "all there are");
        assert!(!limiter.pass(Millis(300_000)));
    }
}
