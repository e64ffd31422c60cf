"""Who asks: JSON Web Tokens of an issuer whose key the service knows, and how often one may ask."""

import datetime as dt
import ipaddress
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jwt
import sqlalchemy as sa

from backgrid.errors import BackgridError, ParameterError, shown
from backgrid.jobs import store
from backgrid.settings import setting

LEAST_SECRET = 32  # bytes of an HS256 key, RFC 7518
LEAST_RSA = 2048  # bits of an RS256 key, RFC 7518
LEEWAY = 30  # that clocks may differ by [seconds]
MINUTE = dt.timedelta(minutes=1)
LONGEST_NAME = 200
NOBODY = ""  # whose jobs they are where no token is asked for


class UnauthorizedError(BackgridError):
    """A token that is missing, or not to be trusted."""


class TooManyError(BackgridError):
    """More jobs in a minute than one may enter.

    Attributes
    ----------
    wait : int
        Until the next may be entered. [seconds]
    """

    def __init__(self, message: str, wait: int):
        super().__init__(message, wait)
        self.wait = wait

    def __str__(self) -> str:
        return self.args[0]


class Issuer(NamedTuple):
    """How tokens are checked: one algorithm and its key."""

    algorithm: str
    key: bytes
    audience: str | None = None  # whom a token must be meant for


def find_issuer() -> Issuer | None:
    """That of the settings; None where no token is asked for.

    Raises
    ------
    ParameterError
        For a secret of less than 32 bytes, a public key that is none or has less than 2,048 bits, or both at once.
    """
    secret, public = setting("BACKGRID_JWT_SECRET"), setting("BACKGRID_JWT_PUBLIC_KEY")
    audience = setting("BACKGRID_JWT_AUDIENCE") or None
    if secret and public:
        raise ParameterError("give BACKGRID_JWT_SECRET or BACKGRID_JWT_PUBLIC_KEY, not both")
    if secret:
        key = os.fsencode(secret)  # whatever bytes the environment holds
        if len(key) < LEAST_SECRET:
            raise ParameterError(f"BACKGRID_JWT_SECRET must have {LEAST_SECRET} bytes or more, got {len(key)}")
        return Issuer("HS256", key, audience)
    return Issuer("RS256", _read_public_key(public), audience) if public else None


def _read_public_key(path: str) -> bytes:
    try:
        key = Path(path).read_bytes()
        bits = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).prepare_key(key).key_size
    except (OSError, ValueError, TypeError, jwt.InvalidKeyError) as error:
        raise ParameterError(f"BACKGRID_JWT_PUBLIC_KEY must be the path of an RSA key in PEM: {error}") from None
    if b"PRIVATE" in key:
        raise ParameterError("BACKGRID_JWT_PUBLIC_KEY holds a private key: give its public half")
    if bits < LEAST_RSA:
        raise ParameterError(f"BACKGRID_JWT_PUBLIC_KEY must have {LEAST_RSA:,} bits or more, got {bits:,}")
    return key


def check_host(host: str, issuer: Issuer | None) -> None:
    """ParameterError where a service without tokens would listen to others than this machine."""
    try:
        own = ipaddress.ip_address(host).is_loopback
    except ValueError:
        own = host == "localhost"
    if not own and issuer is None:
        raise ParameterError(
            f"to listen on {shown(host)}, set BACKGRID_JWT_SECRET or BACKGRID_JWT_PUBLIC_KEY; "
            "without them only on 127.0.0.1"
        )


def own_names(host: str) -> frozenset[str]:
    """What a service on this machine may be called; a page of elsewhere that calls it otherwise is after its jobs."""
    return frozenset({"localhost", "127.0.0.1", "::1", host})


def identify(issuer: Issuer, headers: Mapping[str, str]) -> str:
    """The subject of the token that a request carries.

    Raises
    ------
    UnauthorizedError
        If there is none, or it is signed otherwise, has expired, is not yet valid, never expires or names nobody.
    """
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise UnauthorizedError("a token is needed: Authorization: Bearer TOKEN")
    try:
        claims = jwt.decode(
            token.strip(),
            issuer.key,
            algorithms=[issuer.algorithm],
            audience=issuer.audience,
            leeway=LEEWAY,
            options={"require": ["exp", "sub"]},
        )
    except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:  # older ones let the latter through
        raise UnauthorizedError(f"the token is not valid: {error}") from None
    name = claims["sub"]
    # printable: a database holds neither a zero byte nor half a surrogate pair
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise UnauthorizedError(
            f"the token is not valid: sub must be a name of 1 to {LONGEST_NAME} printable characters"
        )
    return name


def read_limit() -> int | None:
    """How many jobs one may enter in a minute; None for any number."""
    text = setting("BACKGRID_RATE_LIMIT")
    if not text:
        return None
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise ParameterError(f"BACKGRID_RATE_LIMIT must be a whole number of jobs a minute, got {shown(text)}")
    return int(text)


def check_rate(engine: sa.Engine, owner: str, limit: int) -> None:
    """TooManyError where an owner has entered so many jobs within the last minute."""
    first = store.entered_at(engine, owner, limit)  # of as many as a minute may have
    now = store.utc_now()
    if first and first + MINUTE > now:
        wait = math.ceil(min((first + MINUTE - now).total_seconds(), 60.0))  # a clock may have been set back
        raise TooManyError(f"{limit:,} job{'s' * (limit > 1)} a minute may be entered; wait {wait} s", wait)
