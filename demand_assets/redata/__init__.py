"""The REData client: days in; for each day the operator's answer or a typed error out.

Red Eléctrica publishes peninsular demand, measured and forecast, at
``{base}/{lang}/datos/demanda/demanda-tiempo-real``, without authentication. A request names a span
of Madrid's local time, both ends included; samples come every 5 or 10 minutes in MW, whatever
``time_trunc`` says. How samples become hours belongs in `demand`.

>>> client = REDataClient("https://apidatos.ree.es")
>>> client.fetch([date(2023, 2, 19)])  # doctest: +SKIP
{datetime.date(2023, 2, 19): {'data': {...}, 'included': [...]}}
"""

from demand_assets.redata.client import REDataClient
from demand_assets.redata.errors import (
    AddressError,
    BlockedError,
    MalformedAnswerError,
    NoDataError,
    REDataError,
    RefusedError,
    ThrottledError,
    UnansweredError,
    UnavailableError,
)
from demand_assets.redata.responses import Answer, last_update, read_samples, read_series

__all__ = [
    "AddressError",
    "Answer",
    "BlockedError",
    "MalformedAnswerError",
    "NoDataError",
    "REDataClient",
    "REDataError",
    "RefusedError",
    "ThrottledError",
    "UnansweredError",
    "UnavailableError",
    "last_update",
    "read_samples",
    "read_series",
]
