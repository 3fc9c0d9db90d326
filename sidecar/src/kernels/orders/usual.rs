//! What most requests are, seen at once: a NEW, CANCEL, REDUCE or REPLACE whose codes belong together and whose numbers may
//! stand in a book. Kinds of requests come in no order that a processor could foresee, so the kind is looked up, and not asked
//! for: a table says what the codes mean and what they need. What is not usual is not wrong: `check` then asks one by one.

use ringlane_layout::limits::{ORDER_PRICE_MAX, ORDER_QUANTITY_MAX};
use ringlane_layout::orders::{Op, OrderFlag, OrderRequest, OrderType, Side, TimeInForce};

use super::book::Book;
use super::check::{Terms, terms};

/// Codes below this have a place in the table.
const CODES: usize = 8;
const PLACES: usize = 2 * CODES * CODES * CODES;

// What must fit, above the bits of `terms`; a MARKET order's price must be 0.
const SIDE: u16 = 1 << 8;
const QUANTITY: u16 = 1 << 9;
const PRICE: u16 = 1 << 10;
const UNUSUAL: u16 = 1 << 15;

/// Bits of the terms and what must fit, by place.
static MEANINGS: [u16; PLACES] = {
    let mut meanings = [UNUSUAL; PLACES];
    let mut place = 0;
    while place < PLACES {
        let codes = place / 2;
        let (op, order_type, time_in_force) = (codes / CODES / CODES, codes / CODES % CODES, codes % CODES);
        meanings[place] = meaning(op as u8, order_type as u8, time_in_force as u8, !place.is_multiple_of(2));
        place += 1;
    }
    meanings
};

const fn meaning(op: u8, order_type: u8, time_in_force: u8, post_only: bool) -> u16 {
    const NEW: u8 = Op::New as u8;
    const CANCEL: u8 = Op::Cancel as u8;
    const REDUCE: u8 = Op::Reduce as u8;
    const REPLACE: u8 = Op::Replace as u8;
    const LIMIT: u8 = OrderType::Limit as u8;
    const MARKET: u8 = OrderType::Market as u8;
    const GTC: u8 = TimeInForce::Gtc as u8;
    const IOC: u8 = TimeInForce::Ioc as u8;
    const FOK: u8 = TimeInForce::Fok as u8;
    let post = if post_only { terms::POST_ONLY } else { 0 };
    let (needs, bits) = match (op, order_type, time_in_force, post_only) {
        (CANCEL, ..) => (0, 0),
        (REDUCE, ..) => (QUANTITY, 0),
        (REPLACE, ..) | (NEW, LIMIT, GTC, _) => (SIDE | QUANTITY | PRICE, terms::MAY_REST | post),
        (NEW, LIMIT, IOC, false) => (SIDE | QUANTITY | PRICE, 0),
        (NEW, LIMIT, FOK, false) => (SIDE | QUANTITY | PRICE, terms::FOK),
        (NEW, MARKET, IOC, false) => (SIDE | QUANTITY, terms::MARKET),
        (NEW, MARKET, FOK, false) => (SIDE | QUANTITY, terms::MARKET | terms::FOK),
        _ => (UNUSUAL, 0),
    };
    needs | bits as u16
}

/// The op and the terms of a usual request; none: it is another one, or something in it is wrong.
#[inline(always)]
pub(super) fn usual(request: &OrderRequest, book: &Book) -> Option<(Op, Terms)> {
    let (op, order_type, time_in_force) = (usize::from(request.op), usize::from(request.order_type), usize::from(request.time_in_force));
    let place = ((op % CODES * CODES + order_type % CODES) * CODES + time_in_force % CODES) * 2;
    let meaning = MEANINGS[(place + (request.flags & OrderFlag::POST_ONLY) as usize) % PLACES];
    let (price, quantity) = (request.price as u64, request.quantity as u64);
    let set = |need: u16, is: bool| if is { need } else { 0 };
    let side_fits = request.side.wrapping_sub(Side::Buy as u8) < 2;
    let price_fits = price.wrapping_sub(1) < ORDER_PRICE_MAX as u64 && price.is_multiple_of(book.tick);
    let quantity_fits = quantity.wrapping_sub(1) < ORDER_QUANTITY_MAX as u64 && (quantity as u32).is_multiple_of(book.lot);
    let wrong =
        UNUSUAL | set(SIDE, !side_fits) | set(QUANTITY, !quantity_fits) | set(PRICE, !price_fits) | set(terms::MARKET.into(), price != 0);
    let rest = request.stop_price as u64 | request.expires_ns | u64::from(request.display_quantity | u32::from_ne_bytes(request.reserved));
    let others = ((op | order_type | time_in_force) / CODES) | (request.flags & !OrderFlag::POST_ONLY) as usize;
    if (meaning & wrong != 0) | (others != 0) | (rest != 0) {
        return None;
    }
    let side = if request.side == Side::Sell as u8 { Side::Sell } else { Side::Buy };
    // Only these four have a meaning that gets here.
    let op = [Op::Replace, Op::New, Op::Cancel, Op::Reduce][op % 4];
    Some((op, Terms { side, bits: meaning as u8, quantity: quantity as u32, price: request.price }))
}

#[cfg(test)]
mod tests {
    use ringlane_layout::orders::Instrument;

    use super::super::accounts::Accounts;
    use super::super::check::{Rules, op_and_terms};
    use super::super::lanes::Grant;
    use super::super::limits::Limits;
    use super::*;

    /// Every combination of codes and telling numbers: what is usual is what asking one by one says, and what should be usual is.
    #[test]
    fn the_usual_request_means_what_asking_one_by_one_says() {
        let instrument = Instrument { symbol: 1, tick: 5, lot: 10, ..Instrument::default() };
        let books = [Book::new(&instrument, 1)];
        let mut accounts = Accounts::new();
        accounts.set(1, 1, Limits::NONE).expect("one class");
        let rules = Rules { accounts: &accounts, grant: Grant::ALL, now_ns: 1 };
        let mut usual_ones = 0;
        let prices = [i64::MIN, -5, 0, 4, 5, ORDER_PRICE_MAX - ORDER_PRICE_MAX % 5, ORDER_PRICE_MAX + 5 - ORDER_PRICE_MAX % 5];
        let quantities = [-10, 0, 9, 10, ORDER_QUANTITY_MAX - ORDER_QUANTITY_MAX % 10, ORDER_QUANTITY_MAX + 10, (1 << 32) + 10];
        let mut codes = Vec::new();
        for op in 0..=9 {
            for order_type in 0..=9 {
                codes.extend((0..=9).map(|time_in_force| (op, order_type, time_in_force)));
            }
        }
        for (op, order_type, time_in_force) in codes {
            for (side, flags, more) in (0..4).flat_map(|side| (0..4).flat_map(move |flags| (0..5).map(move |more| (side, flags, more)))) {
                for (price, quantity) in prices.iter().flat_map(|price| quantities.iter().map(move |quantity| (*price, *quantity))) {
                    let mut request =
                        OrderRequest { op, side, order_type, time_in_force, symbol: 1, account: 1, flags, ..OrderRequest::default() };
                    (request.price, request.quantity) = (price, quantity);
                    match more {
                        0 => {}
                        1 => request.stop_price = 5,
                        2 => request.expires_ns = 9,
                        3 => request.display_quantity = 10,
                        _ => request.reserved[3] = 1,
                    }
                    let Some((op, terms)) = usual(&request, &books[0]) else { continue };
                    usual_ones += 1;
                    let (expected_op, expected) = op_and_terms(&request, &books, &rules).expect("what is usual is right");
                    assert_eq!(op, expected_op, "{request:?}");
                    match op {
                        Op::New | Op::Replace => assert_eq!(terms, expected, "{request:?}"),
                        _ => assert!(op == Op::Cancel || terms.quantity == expected.quantity, "{request:?}"),
                    }
                }
            }
        }
        // Flags 0 and POST_ONLY, codes below 8: CANCEL with anything else; REDUCE with 2 right quantities of 7; and so on.
        let cancels = 8 * 8 * 4 * 2 * 49;
        let reduces = 8 * 8 * 4 * 2 * 7 * 2;
        let replaces = 8 * 8 * 2 * 2 * 2 * 2;
        let news = 2 * 2 * 2 * 4 + 2 * 2 * 2;
        assert_eq!(usual_ones, cancels + reduces + replaces + news);
    }
}
