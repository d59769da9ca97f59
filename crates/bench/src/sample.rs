//! Numbers of a run.

use std::time::Duration;

/// The middle one; of an even number the lower middle.
pub fn median(values: Vec<f64>) -> Option<f64> {
    percentile(values, 50)
}

/// The smallest value that `percent` of 100 do not exceed.
pub fn percentile(mut values: Vec<f64>, percent: usize) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied()
}

/// In milliseconds.
pub fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

/// Durations in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// One more.
    pub fn push(&mut self, took: Duration) {
        self.0.push(ms(took));
    }

    /// More.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Half of them took no longer.
    pub fn p50(&self) -> f64 {
        self.percentile(50)
    }

    /// All but one in a hundred took no longer.
    pub fn p99(&self) -> f64 {
        self.percentile(99)
    }

    /// All together divided by their number.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// Sums of `count` each that followed one another.
    pub fn sums(&self, count: usize) -> Self {
        Self(self.0.chunks_exact(count).map(|chunk| chunk.iter().sum()).collect())
    }

    /// Not a number if there is nothing in it.
    fn percentile(&self, percent: usize) -> f64 {
        percentile(self.0.clone(), percent).unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_of_the_sample() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(hundred.clone(), 50), Some(50.0));
        assert_eq!(percentile(hundred, 99), Some(99.0));
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn sums_are_of_neighbours() {
        let mut sample = Sample::default();
        for millis in [1, 2, 3, 4, 5] {
            sample.push(Duration::from_millis(millis));
        }
        assert_eq!(sample.sums(2).0, [3.0, 7.0]);
        assert_eq!(sample.mean(), 3.0);
    }
}
