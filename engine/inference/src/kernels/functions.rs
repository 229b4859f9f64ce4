//! Elementary functions on [`Lanes`]. Errors are bounds over the stated
//! range, measured by the tests against `f64`.

use super::lanes::Lanes;

/// `e^x`, relative error at most 2e-7; `x` is clamped to [-87, 88], so that
/// the result is never zero, subnormal or infinite.
///
/// `e^x = 2^n * e^r` with `n = round(x / ln 2)`; `e^r` by its Taylor
/// polynomial of degree 7 on |r| <= ln 2 / 2.
#[inline(always)]
pub unsafe fn exp<L: Lanes>(x: L) -> L {
    // 1.5 * 2^23: adding it rounds to an integer, left in the low bits.
    const ROUNDER: f32 = 12_582_912.0;
    // ln 2 in two parts; the first has few enough bits that n times it is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // SAFETY: the caller promises that the processor can run `L`.
    unsafe {
        let x = x.max(L::splat(-87.0)).min(L::splat(88.0));
        let rounded = x.fused(L::splat(std::f32::consts::LOG2_E), L::splat(ROUNDER));
        let n = rounded.sub(L::splat(ROUNDER));
        let r = n.fused(L::splat(-LN_2_HIGH), x);
        let r = n.fused(L::splat(-LN_2_LOW), r);
        let mut sum = L::splat(1.0 / 5040.0);
        for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            sum = sum.fused(r, L::splat(coefficient));
        }
        sum.mul(rounded.power_of_two())
    }
}

/// `tanh(x) = 1 - 2 / (e^(2x) + 1)`, absolute error at most 3e-7.
#[inline(always)]
pub unsafe fn tanh<L: Lanes>(x: L) -> L {
    // SAFETY: the caller promises that the processor can run `L`.
    unsafe {
        let power = exp(x.add(x));
        L::splat(1.0).sub(L::splat(2.0).div(power.add(L::splat(1.0))))
    }
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub unsafe fn silu<L: Lanes>(x: L) -> L {
    // SAFETY: the caller promises that the processor can run `L`.
    unsafe { x.div(exp(L::splat(0.0).sub(x)).add(L::splat(1.0))) }
}

/// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
#[inline(always)]
pub unsafe fn gelu_tanh<L: Lanes>(x: L) -> L {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    // SAFETY: the caller promises that the processor can run `L`.
    unsafe {
        let cube = x.mul(x).mul(x);
        let inner = cube.fused(L::splat(0.044_715), x).mul(L::splat(SQRT_2_OVER_PI));
        x.mul(L::splat(0.5)).mul(tanh(inner).add(L::splat(1.0)))
    }
}

/// `0.5 x (1 + erf(x / sqrt 2))`, absolute error at most 5e-7 within |x| <= 10.
///
/// The error function by formula 7.1.26 of Abramowitz and Stegun, *Handbook
/// of Mathematical Functions* (absolute error 1.5e-7).
#[inline(always)]
pub unsafe fn gelu_erf<L: Lanes>(x: L) -> L {
    const COEFFICIENTS: [f32; 5] =
        [1.061_405_4, -1.453_152_1, 1.421_413_8, -0.284_496_74, 0.254_829_6];
    // SAFETY: the caller promises that the processor can run `L`.
    unsafe {
        let zero = L::splat(0.0);
        let scaled = x.mul(L::splat(std::f32::consts::FRAC_1_SQRT_2));
        let magnitude = scaled.max(zero.sub(scaled));
        let t = L::splat(1.0).div(magnitude.fused(L::splat(0.327_591_1), L::splat(1.0)));
        let mut sum = L::splat(COEFFICIENTS[0]);
        for &coefficient in &COEFFICIENTS[1..] {
            sum = sum.fused(t, L::splat(coefficient));
        }
        // 1 - erf(|x / sqrt 2|), halved.
        let half_tail = sum.mul(t).mul(exp(zero.sub(magnitude.mul(magnitude)))).mul(L::splat(0.5));
        // x (1 - tail) for positive x, x * tail for negative.
        x.max(zero).sub(x.max(zero.sub(x)).mul(half_tail))
    }
}
