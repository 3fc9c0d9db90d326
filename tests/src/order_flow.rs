//! A seeded flow of orders.
