"""What marks a UDP probe's payload; apart, because the responder's process imports little."""

from __future__ import annotations

MAGIC = b"mn8s"
COOKIE_LENGTH = 8
"""UDP probes carry MAGIC and a cookie of this many hexadecimal digits; responders return the cookie."""
