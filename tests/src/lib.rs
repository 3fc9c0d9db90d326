//! Tools that more than one test needs. Nothing here ships.

pub mod book_flow;
pub mod coverage;
pub mod fuzz;
pub mod market_reader;
pub mod order_flow;
pub mod order_mix;
pub mod order_pair;
pub mod order_twin;
