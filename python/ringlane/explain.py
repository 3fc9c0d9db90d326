"""Why a request was rejected, in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from .enums import RejectCode
from .schema import BUILT_IN

_CODE_INDEX = [field.name for field in BUILT_IN["OrderResult"].visible].index("code")


def explain(result: Any) -> str:
    """Says what an order's result means: a row of a result array, a tuple from `lane.call`, or a reject code.

    >>> explain(206)
    'OFF_LOT (206): The quantity is not a multiple of the symbol\\'s lot.'
    >>> explain(0)
    'accepted'
    """
    if isinstance(result, np.ndarray) and result.ndim == 0:
        result = result[()]
    if isinstance(result, np.void):
        code = int(result["code"])
    elif isinstance(result, tuple):
        if len(result) <= _CODE_INDEX:
            raise TypeError("this tuple is not an order's result")
        code = result[_CODE_INDEX]
    elif isinstance(result, (int, np.integer)):
        code = int(result)
    else:
        raise TypeError(f"explain() takes one result row, a tuple from lane.call or a code, not {type(result).__name__}")
    if code == 0:
        return "accepted"
    try:
        reason = RejectCode(code)
    except ValueError:
        return f"code {code}, which this build of ringlane does not know"
    return f"{reason.name} ({code}): {reason.__doc__}"
