//! A kernel of one's own, whole: prices and Greeks of European options after Black and Scholes, and a `main` that adds it to a
//! sidecar. `cargo build --release -p ringlane-sidecar --example black_scholes` builds it; `black_scholes.py` opens a lane on it.

use std::f64::consts::PI;
use std::process::ExitCode;

use ringlane_layout::record::EnumSchema;
use ringlane_layout::{codes, record};
use ringlane_sidecar::kernels::door::{Kernel, Kernels, NoParameters};

codes! {
    /// What the holder may do.
    pub enum Right: u32 {
        /// Buy at the strike.
        Call ("CALL") = 1,
        /// Sell at the strike.
        Put ("PUT") = 2,
    }
}

record! {
    #![floats]
    /// One European option on a stock that pays no dividend before it expires, or a steady yield.
    pub struct OptionRequest: 64 {
        /// Price of the stock, above 0.
        spot: f64,
        /// Strike, above 0.
        strike: f64,
        /// Time to expiry, years, above 0.
        years: f64,
        /// Riskless rate a year, continuously compounded.
        rate: f64,
        /// Dividend yield a year, continuously compounded.
        dividend_yield: f64,
        /// Volatility a year, above 0.
        volatility: f64,
        /// Call or put.
        right: u32 as Right,
        /// Zero.
        reserved: [u8; 12],
    }
}

record! {
    #![floats]
    /// What the option is worth, and how that changes. All NaN where the status is not 0.
    pub struct OptionResult: 64 {
        /// The option's price.
        price: f64,
        /// Its change with the spot.
        delta: f64,
        /// The change of delta with the spot.
        gamma: f64,
        /// Its change with the volatility, for a whole 1.0.
        vega: f64,
        /// Its change with time, a year.
        theta: f64,
        /// Its change with the rate, for a whole 1.0.
        rho: f64,
        /// 0; 1 when a number of the request is out of its range.
        status: u32,
        /// Zero.
        reserved: [u8; 12],
    }
}

/// Density of the normal distribution.
fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

/// The normal distribution, by the continued fraction of its tail, or its series near 0; exact to about 1e-15.
fn normal(x: f64) -> f64 {
    let z = x.abs();
    let tail = if z > 38.0 {
        0.0
    } else if z < 5.0 {
        // Marsaglia's series: x + x^3/3 + x^5/(3*5) + ...
        let (mut sum, mut term, mut n) = (z, z, 1.0);
        while term > 1e-17 * sum {
            n += 2.0;
            term *= z * z / n;
            sum += term;
        }
        0.5 - density(z) * sum
    } else {
        density(z) / (1..=60).rev().fold(z, |below, n| z + f64::from(n) / below)
    };
    if x > 0.0 { 1.0 - tail } else { tail }
}

/// The formula, for numbers in their ranges.
fn value(option: &OptionRequest, right: Right) -> OptionResult {
    let OptionRequest { spot, strike, years, rate, dividend_yield, volatility, .. } = *option;
    let (root, discount, carry) = (years.sqrt(), (-rate * years).exp(), (-dividend_yield * years).exp());
    let d1 = ((spot / strike).ln() + (rate - dividend_yield + 0.5 * volatility * volatility) * years) / (volatility * root);
    let d2 = d1 - volatility * root;
    let sign = if right == Right::Call { 1.0 } else { -1.0 };
    let (n1, n2) = (normal(sign * d1), normal(sign * d2));
    let stock = spot * carry * density(d1);
    OptionResult {
        price: sign * (spot * carry * n1 - strike * discount * n2),
        delta: sign * carry * n1,
        gamma: carry * density(d1) / (spot * volatility * root),
        vega: stock * root,
        theta: -0.5 * stock * volatility / root - sign * (rate * strike * discount * n2 - dividend_yield * spot * carry * n1),
        rho: sign * strike * years * discount * n2,
        ..OptionResult::default()
    }
}

/// The kernel. It has no state: the same option always has the same value.
struct BlackScholes;

impl Kernel for BlackScholes {
    type Parameters = NoParameters;
    type Request = OptionRequest;
    type Answer = OptionResult;
    const NAME: &'static str = "black_scholes";
    const ENUMS: &'static [&'static EnumSchema] = &[Right::SCHEMA];

    fn process(&self, _: &NoParameters, requests: &[OptionRequest], results: &mut [OptionResult]) {
        for (option, result) in requests.iter().zip(results) {
            let positive = [option.spot, option.strike, option.years, option.volatility].iter().all(|x| x.is_finite() && *x > 0.0);
            let finite = option.rate.is_finite() && option.dividend_yield.is_finite();
            *result = match Right::try_from(option.right) {
                Ok(right) if positive && finite => value(option, right),
                _ => {
                    let nan = f64::NAN;
                    OptionResult {
                        price: nan,
                        delta: nan,
                        gamma: nan,
                        vega: nan,
                        theta: nan,
                        rho: nan,
                        status: 1,
                        ..OptionResult::default()
                    }
                }
            };
        }
    }
}

record! {
    /// A number, for a kernel that breaks.
    pub struct Fragile: 64 {
        /// Any number but 13.
        number: u64,
        /// Zero.
        reserved0: [u8; 24],
        /// Zero.
        reserved1: [u8; 32],
    }
}

/// A kernel with bugs, to see what becomes of them: it panics at 13, and at numbers above a million with words that quote them.
struct Breaks;

impl Kernel for Breaks {
    type Parameters = NoParameters;
    type Request = Fragile;
    type Answer = Fragile;
    const NAME: &'static str = "breaks";

    fn process(&self, _: &NoParameters, requests: &[Fragile], results: &mut [Fragile]) {
        for (request, result) in requests.iter().zip(results) {
            assert!(request.number != 13, "13 is the number that this kernel breaks at");
            assert!(request.number <= 1_000_000, "{} is too much for this kernel", request.number);
            result.number = request.number + 1;
        }
    }
}

/// The `ringlane` command with two kernels more: `serve`, `status` and everything else work as ever.
fn main() -> ExitCode {
    ringlane_sidecar::program::run(Kernels::built_in().with(BlackScholes).with(Breaks))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hull, "Options, Futures, and Other Derivatives": the worked examples of the chapters on Black-Scholes-Merton (call 4.76, put
    /// 0.81), on stock indices (call 51.83), and on the Greeks (delta 0.522, theta -4.31 a year, gamma 0.066, vega 12.1, rho 8.91).
    #[test]
    fn published_values() {
        let option = |spot, strike, years, rate, dividend_yield, volatility| OptionRequest {
            spot,
            strike,
            years,
            rate,
            dividend_yield,
            volatility,
            ..OptionRequest::default()
        };
        let near = |found: f64, published: f64, half_a_digit: f64| {
            assert!((found - published).abs() <= half_a_digit, "{found} is not {published}");
        };
        let stock = option(42.0, 40.0, 0.5, 0.1, 0.0, 0.2);
        near(value(&stock, Right::Call).price, 4.76, 0.005);
        near(value(&stock, Right::Put).price, 0.81, 0.005);
        near(value(&option(930.0, 900.0, 2.0 / 12.0, 0.08, 0.03, 0.2), Right::Call).price, 51.83, 0.005);
        let greeks = value(&option(49.0, 50.0, 20.0 / 52.0, 0.05, 0.0, 0.2), Right::Call);
        near(greeks.price, 2.40, 0.005);
        near(greeks.delta, 0.522, 0.0005);
        near(greeks.theta, -4.31, 0.005);
        near(greeks.gamma, 0.066, 0.0005);
        near(greeks.vega, 12.1, 0.05);
        near(greeks.rho, 8.91, 0.005);
    }

    #[test]
    fn the_normal_distribution() {
        for (x, expected) in [(0.0, 0.5), (1.0, 0.841_344_746_068_543), (-1.96, 0.024_997_895_148_220), (6.0, 0.999_999_999_013_412)] {
            assert!((normal(x) - expected).abs() < 1e-14, "{x}: {}", normal(x));
        }
    }
}
