"""What an API server refuses, as an exception and as the ``Status`` object that clients read.

Codes, reasons and words are Kubernetes' own (apimachinery's ``api/errors``), since clients act on
the reason and people know the words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mininetes.errors import MininetesError


class NamedResource(Protocol):
    """A kind of object, as far as errors name it: ``pods``, ``deployments.apps``."""

    @property
    def resource_name(self) -> str:
        """Plural and group, the group left out for the core one."""
        ...


Named = NamedResource | str


@dataclass(frozen=True)
class Cause:
    """One field that is wrong: its path, a reason (``FieldValueInvalid``, ...) and the message after the path."""

    field: str
    reason: str
    message: str


class ApiError(MininetesError):
    """A request that was refused. Its text is what ``kubectl`` shows after "Error from server"."""

    def __init__(self, code: int, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = dict(details or {})
        self._says_details = details is not None

    def to_status(self) -> dict[str, Any]:
        """The Kubernetes Status object."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self._says_details:
            status["details"] = self.details
        status["code"] = self.code
        return status

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> ApiError:
        """The error behind a Status object that a server sent; missing fields are borne with."""
        return cls(
            int(status.get("code") or 500),
            str(status.get("reason") or "Unknown"),
            str(status.get("message") or "unknown"),
            status.get("details"),
        )

    @classmethod
    def not_found(cls, resource: Named, name: str) -> ApiError:
        """404: no object of that name."""
        return cls(404, "NotFound", f'{_text(resource)} "{name}" not found', _details(resource, name))

    @classmethod
    def no_such_path(cls) -> ApiError:
        """404: nothing is served at that path."""
        return cls(404, "NotFound", "the server could not find the requested resource", {})  # kubectl debug reads them

    @classmethod
    def already_exists(cls, resource: Named, name: str) -> ApiError:
        """409: the name is taken."""
        return cls(409, "AlreadyExists", f'{_text(resource)} "{name}" already exists', _details(resource, name))

    @classmethod
    def conflict(cls, resource: Named, name: str, why: str) -> ApiError:
        """409: the object is not what the client thinks it is."""
        message = f'Operation cannot be fulfilled on {_text(resource)} "{name}": {why}'
        return cls(409, "Conflict", message, _details(resource, name))

    @classmethod
    def modified(cls, resource: Named, name: str) -> ApiError:
        """409: the object changed since the client read it."""
        why = "the object has been modified; please apply your changes to the latest version and try again"
        return cls.conflict(resource, name, why)

    @classmethod
    def invalid(cls, kind: str, name: str, causes: Sequence[Cause], group: str = "") -> ApiError:
        """422: fields that are wrong. ``group`` is the kind's API group; "" is the core one."""
        shown = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes]
        listed = shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"
        details: dict[str, Any] = {"name": name, **({"group": group} if group else {}), "kind": kind}
        details["causes"] = [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes]
        qualified = f"{kind}.{group}" if group else kind
        return cls(422, "Invalid", f'{qualified} "{name}" is invalid: {listed}', details)

    @classmethod
    def bad_request(cls, message: str) -> ApiError:
        """400: what was sent cannot be understood."""
        return cls(400, "BadRequest", message)

    @classmethod
    def unauthorized(cls) -> ApiError:
        """401: no token, or one that nobody has."""
        return cls(401, "Unauthorized", "Unauthorized")

    @classmethod
    def forbidden(cls, resource: Named, name: str, why: str, causes: Sequence[Cause] = ()) -> ApiError:
        """403: understood, and not allowed."""
        details = _details(resource, name)
        if causes:
            details["causes"] = [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes]
        return cls(403, "Forbidden", f'{_text(resource)} "{name}" is forbidden: {why}', details)

    @classmethod
    def expired(cls, message: str) -> ApiError:
        """410: a resourceVersion or continue token that is too old."""
        return cls(410, "Expired", message)

    @classmethod
    def method_not_allowed(
        cls, message: str = "the server does not allow this method on the requested resource"
    ) -> ApiError:
        """405."""
        return cls(405, "MethodNotAllowed", message)

    @classmethod
    def not_acceptable(cls, offered: Sequence[str]) -> ApiError:
        """406: the client takes none of the formats there are."""
        message = f"only the following media types are accepted: {', '.join(offered)}"
        return cls(406, "NotAcceptable", message)

    @classmethod
    def unsupported_media_type(cls, media_type: str, accepted: Sequence[str]) -> ApiError:
        """415: the body's format is none of those taken."""
        message = (
            f"the body of the request was in an unknown format ({media_type or 'no Content-Type'}) - "
            f"accepted media types include: {', '.join(accepted)}"
        )
        return cls(415, "UnsupportedMediaType", message)

    @classmethod
    def too_large(cls, limit: int) -> ApiError:
        """413: a body of more than ``limit`` bytes."""
        return cls(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")

    @classmethod
    def internal(cls, message: str) -> ApiError:
        """500."""
        causes = [{"message": message}]
        return cls(500, "InternalError", f"Internal error occurred: {message}", {"causes": causes})

    @classmethod
    def service_unavailable(cls, message: str) -> ApiError:
        """503: what the server needs (its store, a kubelet) does not answer."""
        return cls(503, "ServiceUnavailable", message)


def _text(resource: Named) -> str:
    return resource if isinstance(resource, str) else resource.resource_name


def _details(resource: Named, name: str) -> dict[str, Any]:
    plural, _, group = _text(resource).partition(".")
    return {**({"name": name} if name else {}), **({"group": group} if group else {}), "kind": plural}
