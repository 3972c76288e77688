"""Hears what pages ask for and what they complain of.

Does: collects the addresses that a browser context asks for, failed requests, errors of scripts and of the console.
Does not: judge; `open_page` in `conftest.py` does.
"""

from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Response

# Pages that Sphinx makes besides those of the table of contents; of the listings of modules, one.
GENERATED = ["search", "genindex", "py-modindex", "_modules/index", "_modules/minillama/model/rope"]
OWN_HOSTS = {"127.0.0.1", "localhost"}
OWN_SCHEMES = {"data", "blob", "file", "about"}  # none of these leaves the machine


class Ear:
    """What a browser context asks for and complains of."""

    def __init__(self, context: BrowserContext):
        self.requests: list[str] = []
        self.complaints: list[str] = []
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url} {request.failure}"))
        context.on("response", self._on_response)
        context.on("weberror", lambda error: self.complaints.append(f"script: {error.error}"))
        context.on("console", self._on_console)

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status}: {response.url}")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"console: {message.text}")

    def remote_requests(self) -> list[str]:
        """The addresses asked for that are not this machine's."""
        parts = [(url, urlsplit(url)) for url in self.requests]
        return [url for url, part in parts if part.scheme not in OWN_SCHEMES and part.hostname not in OWN_HOSTS]
