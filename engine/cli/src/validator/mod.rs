//! `evaltasks validate`: follows a subnet, measures what miners commit, and
//! sets weights, for months unattended.

pub mod limits;
pub mod state;
