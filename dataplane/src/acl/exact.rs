//! Hash tables of single numbers, several in one piece of memory, filled once.

/// Numbers, and what is known of each.
#[derive(Debug, Default)]
pub(super) struct Exact(Vec<Slot>);

/// Where one table is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    first: u32,
    /// None if nothing is in it; else more than are taken.
    places: u32,
}

/// A number and what is known of it, or [`FREE`].
type Slot = (u32, u32);

const FREE: u32 = u32::MAX;

/// An odd number without a pattern: digits of the golden ratio. Nobody who sends packets chooses what is hashed.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Exact {
    /// A table of these numbers, all different; nothing is known of others. A third of the places stays free.
    pub(super) fn add(&mut self, known: &[Slot]) -> Part {
        let many = known.len();
        let part = Part {
            first: self.0.len() as u32,
            places: if many == 0 { 0 } else { many + many / 2 + 1 } as u32,
        };
        let slots = self.0.len() + part.places as usize;
        self.0.resize(slots, (0, FREE));
        for slot in known {
            let mut at = part.begin(slot.0);
            while self.0[at].1 != FREE {
                at = part.after(at);
            }
            self.0[at] = *slot;
        }
        part
    }

    /// Octets of memory that they take.
    pub(super) fn octets(&self) -> usize {
        self.0.capacity() * size_of::<Slot>()
    }

    /// What is known of a number.
    #[inline]
    pub(super) fn find(&self, part: Part, number: u32) -> Option<u32> {
        if part.places == 0 {
            return None;
        }
        let mut at = part.begin(number);
        loop {
            let (of, known) = self.0[at];
            if known == FREE {
                return None;
            }
            if of == number {
                return Some(known);
            }
            at = part.after(at);
        }
    }
}

impl Part {
    /// Where the search for a number begins.
    #[inline]
    fn begin(self, number: u32) -> usize {
        let hash = u64::from(number).wrapping_mul(GOLDEN) >> 32;
        let share = (hash * u64::from(self.places)) >> 32;
        (u64::from(self.first) + share) as usize
    }

    /// The place after one of them, in a ring.
    #[inline]
    fn after(self, at: usize) -> usize {
        let next = at + 1;
        let end = (self.first + self.places) as usize;
        if next == end {
            self.first as usize
        } else {
            next
        }
    }
}
