//! The processor's kernels: every one is written once over
//! [`lanes::Lanes`] and returns the same bits at every [`lanes::Level`].

pub mod attention;
pub mod functions;
pub mod head;
pub mod key_values;
pub mod lanes;
pub mod product;
pub mod rows;

#[cfg(test)]
mod tests;
