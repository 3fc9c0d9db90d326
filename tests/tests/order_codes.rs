//! The numbers that stand in recordings and in programs elsewhere: a line may be added here, none may be changed or taken away.

use ringlane_layout::orders::{CancelReason, EventKind, RejectCode};
use ringlane_layout::record::EnumSchema;
use ringlane_sidecar::explain::STAGES;

const REJECT_CODES: &[(u64, &str)] = &[
    (101, "UNKNOWN_OP"),
    (102, "UNKNOWN_SIDE"),
    (103, "UNKNOWN_ORDER_TYPE"),
    (104, "UNKNOWN_TIME_IN_FORCE"),
    (105, "UNKNOWN_FLAG"),
    (106, "RESERVED_NOT_ZERO"),
    (107, "BAD_COMBINATION"),
    (201, "UNKNOWN_SYMBOL"),
    (202, "UNKNOWN_ACCOUNT"),
    (203, "ACCOUNT_NOT_PERMITTED"),
    (204, "QUANTITY_NOT_POSITIVE"),
    (205, "QUANTITY_TOO_LARGE"),
    (206, "OFF_LOT"),
    (207, "PRICE_NOT_POSITIVE"),
    (208, "PRICE_TOO_LARGE"),
    (209, "OFF_TICK"),
    (210, "DUPLICATE_ORDER_ID"),
    (211, "UNKNOWN_ORDER_ID"),
    (212, "OVER_REDUCTION"),
    (213, "SIDE_MISMATCH"),
    (214, "TYPE_MISMATCH"),
    (215, "BAD_STOP_PRICE"),
    (216, "BAD_DISPLAY_QUANTITY"),
    (217, "ALREADY_EXPIRED"),
    (301, "ORDER_SIZE_LIMIT"),
    (302, "PRICE_COLLAR"),
    (303, "POSITION_LIMIT"),
    (304, "BOOK_FULL"),
    (305, "NOTIONAL_LIMIT"),
    (306, "EXPOSURE_LIMIT"),
    (307, "OPEN_ORDERS_LIMIT"),
    (308, "ORDER_RATE"),
    (401, "WOULD_CROSS"),
    (402, "NOT_FILLABLE"),
    (403, "SYMBOL_HALTED"),
    (404, "NOT_REDUCING"),
    (501, "VOIDED"),
];

const CANCEL_REASONS: &[(u64, &str)] =
    &[(1, "OTHER_LANE"), (3, "MASS_CANCEL"), (4, "ADMINISTRATOR"), (5, "EXPIRED"), (6, "SELF_TRADE"), (7, "REDUCE_ONLY"), (8, "IMMEDIATE")];

const EVENT_KINDS: &[(u64, &str)] = &[(1, "FILL"), (2, "CANCEL"), (3, "GAP"), (4, "TRADE_PREVENTED"), (5, "TRIGGERED"), (6, "TAKER_FILL")];

/// Numbers that meant something once, and so may never mean anything else.
const RETIRED_REASONS: &[u64] = &[2];

/// The stages' bands, in the order in which a request goes through them.
const BANDS: &[(u16, &str)] = &[(100, "structure"), (200, "validate"), (300, "risk"), (400, "business rules"), (500, "operation")];

fn assert_pinned(schema: &EnumSchema, pinned: &[(u64, &str)]) {
    let members: Vec<(u64, &str)> = schema.members.iter().map(|member| (member.value, member.name)).collect();
    assert_eq!(members, pinned, "{}: numbers are never changed, removed or reused; a new one stands behind those of its band", schema.name);
}

#[test]
fn numbers_stay_what_they_are() {
    assert_pinned(RejectCode::SCHEMA, REJECT_CODES);
    assert_pinned(CancelReason::SCHEMA, CANCEL_REASONS);
    assert_pinned(EventKind::SCHEMA, EVENT_KINDS);
    assert!(CANCEL_REASONS.iter().all(|(number, _)| !RETIRED_REASONS.contains(number)));
}

#[test]
fn codes_are_banded_by_stage_and_have_no_gap() {
    assert_eq!(STAGES.map(|(first, name, _)| (first, name)), BANDS);
    let mut expected = 0;
    for (number, name) in REJECT_CODES {
        expected = if number / 100 == expected / 100 { expected + 1 } else { number / 100 * 100 + 1 };
        assert_eq!(*number, expected, "{name} stands behind the codes of its band");
        assert!(BANDS.iter().any(|(first, _)| number / 100 * 100 == u64::from(*first)), "{name} belongs to no stage");
    }
}
