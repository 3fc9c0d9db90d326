//! Tools that more than one test needs. Nothing here ships.
