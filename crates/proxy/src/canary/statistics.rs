//! What two counts say about each other, also where they are small.

/// What became of some requests: how many there were, and how many of them were bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) bad: u64,
    pub(super) all: u64,
}

impl Share {
    /// Returns the bad ones of one.
    #[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^53")]
    pub(super) fn rate(self) -> f64 {
        if self.all == 0 { 0.0 } else { self.bad as f64 / self.all as f64 }
    }
}

/// Returns the probability that chance alone gives the first share so many of all the bad ones, or more: Fisher's exact test,
/// one-sided. It needs no least number of requests and no assumption about rates.
/// <https://en.wikipedia.org/wiki/Fisher%27s_exact_test>
#[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^53")]
pub(super) fn chance(tried: Share, own: Share) -> f64 {
    let (all, bad, drawn) = (tried.all + own.all, tried.bad + own.bad, tried.all);
    let most = bad.min(drawn);
    let mut at = tried.bad;
    let first = ln_choose(bad, at) + ln_choose(all - bad, drawn - at) - ln_choose(all, drawn);
    let mut term = first.exp();
    let mut sum = term;
    while at < most {
        let ways = (bad - at) as f64 * (drawn - at) as f64;
        at += 1;
        term *= ways / (at as f64 * (all + at - bad - drawn) as f64);
        sum += term;
        if term < sum * 1e-12 {
            break;
        }
    }
    sum.min(1.0)
}

fn ln_choose(from: u64, count: u64) -> f64 {
    ln_factorial(from) - ln_factorial(count) - ln_factorial(from.saturating_sub(count))
}

/// By Stirling's series above a few, whose error is below 1e-13 there.
#[expect(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^53")]
fn ln_factorial(number: u64) -> f64 {
    if number < 16 {
        return (2..=number).map(|factor| (factor as f64).ln()).sum();
    }
    let number = number as f64;
    let inverse = 1.0 / number;
    let square = inverse * inverse;
    (number + 0.5) * number.ln() - number
        + 0.918_938_533_204_672_8
        + inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)))
}

/// How sure a look must be: each may err by its part of the whole, and all of them, however many there are, by no more than
/// the whole. (1/2 + 1/6 + 1/12 + ... = 1.)
pub(super) fn part_of_look(whole: f64, look: u32) -> f64 {
    let look = f64::from(look.max(1));
    whole / (look * (look + 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(bad: u64, all: u64) -> Share {
        Share { bad, all }
    }

    #[test]
    fn the_probabilities_are_those_of_the_tables() {
        // Sums of products of binomial coefficients in whole numbers, by Python's `math.comb`.
        for (tried, own, wanted) in [
            (share(3, 4), share(1, 4), 0.242_857_142_9),
            (share(8, 10), share(1, 6), 0.024_475_524_5),
            (share(5, 10), share(1, 90), 0.000019202176),
            (share(0, 10), share(0, 90), 1.0),
            (share(0, 10), share(5, 90), 1.0),
            (share(1, 1), share(0, 99), 0.01),
        ] {
            let found = chance(tried, own);
            assert!((found - wanted).abs() < 1e-6 * wanted, "{tried:?} {own:?}: {found}");
        }
    }

    #[test]
    fn great_counts_are_no_trouble() {
        let found = chance(share(60_000, 1_000_000), share(500_000, 9_000_000));
        assert!(found > 0.0 && found < 1e-50, "{found}");
        let found = chance(share(50_000, 1_000_000), share(450_000, 9_000_000));
        assert!((found - 0.5).abs() < 0.01, "{found}");
    }

    #[test]
    fn all_looks_together_stay_below_the_whole() {
        let sum: f64 = (1..=64).map(|look| part_of_look(0.01, look)).sum();
        assert!(sum < 0.01 && sum > 0.0098);
    }

    proptest! {
        #[test]
        fn it_is_the_sum_of_all_ways(bad_tried in 0u64..12, good_tried in 0u64..12, bad_own in 0u64..12, good_own in 0u64..12) {
            let (tried, own) = (share(bad_tried, bad_tried + good_tried), share(bad_own, bad_own + good_own));
            let choose = |from: u64, count: u64| -> f64 {
                if count > from { return 0.0; }
                (0..count).map(|step| (from - step) as f64 / (step + 1) as f64).product()
            };
            let (all, bad) = (tried.all + own.all, tried.bad + own.bad);
            let ways: f64 = (tried.bad..=bad.min(tried.all))
                .map(|count| choose(bad, count) * choose(all - bad, tried.all - count)).sum();
            let wanted = ways / choose(all, tried.all);
            prop_assert!((chance(tried, own) - wanted).abs() < 1e-9, "{} {wanted}", chance(tried, own));
        }

        #[test]
        fn more_bad_ones_are_less_likely(all in 1u64..500, own_all in 1u64..500, own_bad in 0u64..500, bad in 0u64..499) {
            let own = share(own_bad.min(own_all), own_all);
            let less = share(bad.min(all - 1), all);
            let more = share(less.bad + 1, all);
            // The sum of bad ones grows, too; what is compared is how the bad ones are spread.
            prop_assert!(chance(more, own) <= chance(less, own) + 1e-9);
        }
    }
}
