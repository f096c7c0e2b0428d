//! Random numbers that are as good as they need to be here.

/// Its state.
pub struct Dice(pub u32);

impl Dice {
    /// A number below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % sides.max(1)
    }

    /// One of `all`.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())]
    }

    /// A number that names something: most often one that is there.
    pub fn id(&mut self) -> u32 {
        match self.roll(8) {
            0 => u32::MAX,
            1 => 1 << 16,
            _ => self.roll(10) as u32,
        }
    }

    /// A number of bytes, blocks or milliseconds.
    pub fn number(&mut self) -> u64 {
        match self.roll(8) {
            0 => u64::MAX,
            1 => 1 << 63,
            2 => 0,
            3..=4 => 1 << self.roll(60),
            _ => self.roll(1 << 20) as u64,
        }
    }
}
