"""Asking a server: a JSON value there, a JSON value back, from any thread and any event loop.

Comes in: an address, headers, and what to send.  Goes out: the answer, decoded; or one exception that says what came
instead and shows no header's value.  No redirect is followed, nothing is tried twice: retries belong to whoever calls.
Plugins and policies ask their servers by it.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import json
import os
import re
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mmrl.errors import BadInput

if TYPE_CHECKING:
    import httpx2

SILENCE_S = 600.0
"""How long a server may be silent unless told otherwise: a safety net under the time limits of whoever asks."""
CONNECTIONS = 100
"""Connections of a client at once unless told otherwise; what is beyond waits."""
MAX_BODY = 32_000_000
"""An answer of more bytes than this is refused."""
EXCERPT = 200
_SECRET = 8  # shorter header values ("EMPTY", "none") are no secrets, and words that answers may well contain
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class ServerError(RuntimeError):
    """The server was not reached, refused, or answered something else than was asked for.

    Attributes:
        status: the HTTP status; None if there was no answer.
        retry_after: after how many seconds the server wants to be asked again, if it says so.
    """

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


def checked_url(argument: str, url: Any) -> str:
    """Check an address.

    Raises:
        BadInput: naming the argument, unless it is an http or https URL with a host and without a password.
    """
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        good = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, an address with one bracket
        parts, good = None, False
    if parts is not None and "@" in parts.netloc:
        raise BadInput(f"{argument}: a URL holds no user name and no password: those belong into a header")
    if not good or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise BadInput(f"{argument} is an address such as http://localhost:8000, not {url!r:.80}")
    return url


def checked_base(argument: str, url: Any) -> str:
    """Check an address that paths are put behind.

    Raises:
        BadInput: naming the argument, unless :func:`checked_url` takes it and it has neither query nor fragment.
    """
    checked = checked_url(argument, url)
    if "?" in checked or "#" in checked:  # what stands there may be a key: it is not shown
        raise BadInput(f"{argument} is an address such as http://localhost:8000, with nothing from a '?' or '#' on; a "
                       "key belongs into the environment variable that api_key_env names")  # fmt: skip
    return checked


def from_environment(argument: str, variable: Any) -> str:
    """The value of an environment variable that a header can carry.

    Raises:
        BadInput: naming the argument and the variable, never its value.
    """
    if not isinstance(variable, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
        raise BadInput(f"{argument} is the name of an environment variable, such as OPENAI_API_KEY")
    value = os.environ.get(variable, "").strip()
    if not value:
        raise BadInput(f"{argument}: the environment variable {variable} is not set")
    if not re.fullmatch(r"[\x20-\x7e]+", value):
        raise BadInput(f"{argument}: the environment variable {variable} holds characters that no header can carry")
    return value


def checked_header(argument: str, name: Any) -> str:
    """Check the name of a header.

    Raises:
        BadInput: naming the argument, if it is none.
    """
    if not isinstance(name, str) or not _HEADER.fullmatch(name):
        raise BadInput(f"{argument}: {name!r:.80} is no name of a header, such as Authorization")
    return name


@functools.cache
def _tls() -> ssl.SSLContext:
    """The certificates that are trusted: read once, for they take longer to read than most requests."""
    import httpx2

    return httpx2.create_ssl_context()


class JsonClient:
    """Sends JSON to one address, and to paths below it.

    Args:
        url: the address, checked.
        headers: sent with every request; their values appear in no message.
        silence_s: how long the server may be silent; None: :data:`SILENCE_S`.
        connections: at once.

    Raises:
        BadInput: if the package for it is missing.
    """

    def __init__(self, url: str, headers: Mapping[str, str], silence_s: float | None = None,
                 connections: int = CONNECTIONS) -> None:  # fmt: skip
        if importlib.util.find_spec("httpx2") is None:
            raise BadInput("the package httpx2 is missing: pip install 'mmrl[judge]'")
        self.url = url
        self._silence_s, self._connections = silence_s, connections
        self.shown = url.partition("?")[0]  # a query may hold a key
        self._headers = {**headers, "content-type": "application/json", "accept": "application/json"}
        words = {w for value in headers.values() for w in (value, value.split()[-1]) if len(w) >= _SECRET}
        self._secrets = sorted(words, key=len, reverse=True)
        self._open: dict[asyncio.AbstractEventLoop, tuple[httpx2.AsyncClient, int]] = {}

    async def post(self, body: Any, path: str = "") -> Any:
        """Send ``body`` and wait for the answer.

        Raises:
            ServerError: if the server is not reached, is silent, answers another status than 2xx, or no JSON.
            ValueError: if ``body`` holds NaN or an infinity, which JSON lacks.
        """
        return self._decoded(await self.ask("POST", path, body))

    async def get(self, path: str = "") -> Any:
        """Ask for what lies at ``path``; raises ServerError as :meth:`post` does."""
        return self._decoded(await self.ask("GET", path))

    async def ask(self, method: str, path: str = "", body: Any = None) -> str:
        """Send ``body``, if there is one, and wait for the answer, whatever text it is.

        Raises:
            ServerError: if the server is not reached, is silent, or answers another status than 2xx.
            ValueError: if ``body`` holds NaN or an infinity, which JSON lacks.
        """
        import httpx2

        # Lone surrogates, which UTF-8 cannot hold, become question marks.
        text = None if body is None else json.dumps(body, ensure_ascii=False, allow_nan=False)
        data = None if text is None else text.encode("utf-8", "replace")
        try:
            async with self.open() as client, client.stream(method, self.url + path, content=data) as response:
                text = await self._text(response)
        except httpx2.TimeoutException as error:
            raise self.error(f"gave no answer in {self._silence:g} s ({type(error).__name__})") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self.error(f"cannot be asked: {type(error).__name__}: {error}") from error
        status = response.status_code
        said = f"answered {status} {response.reason_phrase}"
        if response.has_redirect_location:
            place = self._without_secrets(response.headers["location"])[:EXCERPT]
            raise self.error(f"{said}, to {place}; redirects are not followed", status)
        if not response.is_success:
            raise self.error(f"{said}: {text[:EXCERPT]}", status, _seconds(response.headers.get("retry-after")))
        return text

    def _decoded(self, text: str) -> Any:
        try:
            return json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise self.error(f"answered 200 OK with what is no JSON: {text[:EXCERPT]}", 200) from error

    @property
    def _silence(self) -> float:
        return SILENCE_S if self._silence_s is None else self._silence_s

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[httpx2.AsyncClient]:
        """A client of the running loop, shared by the requests under way in it and closed with the last of them.

        A connection belongs to the loop that opened it, and nobody tells when a loop ends: what no request uses is
        therefore closed at once, and a later loop finds nothing of an earlier one.  Who asks again and again in one
        loop holds this open meanwhile.
        """
        import httpx2

        loop = asyncio.get_running_loop()
        client, users = self._open.get(loop, (None, 0))
        if client is None:
            timeout = httpx2.Timeout(self._silence, connect=min(30.0, self._silence), pool=None)
            limits = httpx2.Limits(max_connections=self._connections, max_keepalive_connections=self._connections)
            client = httpx2.AsyncClient(headers=self._headers, verify=_tls(), timeout=timeout, limits=limits,
                                        follow_redirects=False)  # fmt: skip
        self._open[loop] = (client, users + 1)
        try:
            yield client
        finally:
            users = self._open[loop][1] - 1
            self._open[loop] = (client, users)
            if not users:
                del self._open[loop]
                await client.aclose()

    async def _text(self, response: httpx2.Response) -> str:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_BODY:
                raise self.error(f"answered more than {MAX_BODY} bytes", response.status_code)
        return self._without_secrets(body.decode("utf-8", "replace"))

    def error(self, what: str, status: int | None = None, retry_after: float | None = None) -> ServerError:
        """The error that says what the server did, in one line."""
        return ServerError(self._without_secrets(" ".join(f"{self.shown} {what}".split())), status, retry_after)

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


def _seconds(header: str | None) -> float | None:
    """What ``Retry-After`` says, in seconds from now: a number, or a date."""
    if header is None:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", header.strip()):
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # neither, or a date without a zone
        return None
