"""The server process: prints a link for every rater and answers until a signal ends it."""

from __future__ import annotations

import uvicorn

from align.annotation.access import Access
from align.annotation.annotation_store import AnnotationStore
from align.annotation.listening import Listen
from align.annotation.server import application


def serve(store: AnnotationStore, listen: Listen, guidelines: str = "") -> None:
    """Print a link for every rater and serve until a signal ends it."""
    raters = store.raters()
    access = Access(store.setting("secret"), raters)
    with listen.open() as listening:
        origins = listen.origins(listening.getsockname()[1])
        for rater in raters:
            progress = store.progress(rater.id)
            done = sum(judged for _, judged in progress)
            print(f"{rater.name} ({done} of {len(progress)} judged): {origins[0]}/#{access.link_token(rater)}")
        print(f"judgments go to {store.path}; Ctrl-C stops, the same command goes on", flush=True)
        config = uvicorn.Config(
            application(store, access, origins, guidelines),
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=200,
            timeout_graceful_shutdown=2,
        )
        uvicorn.Server(config).run(sockets=[listening])
