"""Who may open which page: links, sessions and form tokens, all of which follow from one secret of the store."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from align.annotation.annotation_store import Rater


class Access:
    """Derives what a rater must show (HMAC-SHA256), so that links and open pages stay valid over a restart."""

    def __init__(self, secret: str, raters: Sequence[Rater]) -> None:
        """Take the store's secret and its raters."""
        self._secret = secret.encode()
        self._raters = {rater.id: rater for rater in raters}

    def link_token(self, rater: Rater) -> str:
        """Return what the rater's link ends in."""
        return self._derive("link", rater)

    def session(self, rater: Rater) -> str:
        """Return the value of the rater's cookie."""
        return self._derive("session", rater)

    def form_token(self, rater: Rater) -> str:
        """Return what every submission must carry beside the cookie; a foreign page cannot read it."""
        return self._derive("form", rater)

    def enter(self, token: str) -> Rater | None:
        """Return the rater whose link this is."""
        return next((r for r in self._raters.values() if same(token, self.link_token(r))), None)

    def rater(self, rater_id: str, session: str) -> Rater | None:
        """Return the rater of a page, if the cookie is that rater's."""
        rater = self._raters.get(rater_id)
        return rater if rater is not None and same(session, self.session(rater)) else None

    def _derive(self, use: str, rater: Rater) -> str:
        return hmac.new(self._secret, f"{use}:{rater.id}".encode(), hashlib.sha256).hexdigest()


def same(given: str, expected: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())
