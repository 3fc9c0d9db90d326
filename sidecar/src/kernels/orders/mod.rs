//! The order kernel: risk checks, one price-time book a symbol, and positions. Pure: the same records give the same bits.
