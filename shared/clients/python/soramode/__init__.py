"""Client of soramoded's control socket, for signalling servers.

`Soramode` asks for the admission of each client, and keeps soramoded informed over restarts on both sides; `follow` reads events.
"""

from .client import Soramode
from .events import follow
from .wire import (
    Announce,
    Claim,
    Decision,
    Disconnected,
    End,
    Event,
    Fence,
    Gap,
    Offer,
    Redirect,
    Reject,
    ReportedConnection,
    SoramodeError,
)

__all__ = [
    "Announce",
    "Claim",
    "Decision",
    "Disconnected",
    "End",
    "Event",
    "Fence",
    "Gap",
    "Offer",
    "Redirect",
    "Reject",
    "ReportedConnection",
    "Soramode",
    "SoramodeError",
    "follow",
]
