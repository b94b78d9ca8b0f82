//! How many objects a page of a list is asked to have: fewer where they are large, so that an answer fits, and more again
//! once pages fit.

/// Objects in a page, unless they are large.
pub const LARGEST: usize = 500;
/// Pages that fit, one after the other, until twice as much is asked for again.
const FITTING: u32 = 8;

/// The size of the next page.
#[derive(Clone, Debug)]
pub struct PageSize {
    objects: usize,
    /// Pages of this size that fitted.
    fitting: u32,
}

impl Default for PageSize {
    fn default() -> Self {
        Self {
            objects: LARGEST,
            fitting: 0,
        }
    }
}

impl PageSize {
    /// Objects to ask for.
    pub fn objects(&self) -> usize {
        self.objects
    }

    /// A page was too large: half of it is asked for. False if it was of one object.
    pub fn shrink(&mut self) -> bool {
        let can = self.objects > 1;
        self.objects = (self.objects / 2).max(1);
        self.fitting = 0;
        can
    }

    /// A page fitted.
    pub fn fitted(&mut self) {
        self.fitting += 1;
        if self.fitting == FITTING {
            self.objects = (self.objects * 2).min(LARGEST);
            self.fitting = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_halves_down_to_one_object_and_doubles_after_eight_that_fit() {
        let mut size = PageSize::default();
        let mut sizes = vec![size.objects()];
        while size.shrink() {
            sizes.push(size.objects());
        }
        assert_eq!(sizes, [500, 250, 125, 62, 31, 15, 7, 3, 1]);
        (0..7).for_each(|_| size.fitted());
        assert_eq!(size.objects(), 1);
        size.fitted();
        assert_eq!(size.objects(), 2);
        (0..7).for_each(|_| size.fitted());
        assert!(size.shrink());
        (0..7).for_each(|_| size.fitted());
        assert_eq!(size.objects(), 1, "it counts anew");
        (0..100 * 8).for_each(|_| size.fitted());
        assert_eq!(size.objects(), 500);
    }
}
