"""Words for the settings of a pool of servers, which tests/cli/test_pool_options.py tries."""

from __future__ import annotations

POOL = {
    "pool.urls": ("--pool.urls", "[BOTH]"),
    "pool.api_key_env": ("--pool.api_key_env", "POOL_KEY"),
    "pool.concurrency": ("--pool.concurrency", "2"),
    "pool.timeout": ("--pool.timeout", "500"),
    "pool.patience": ("--pool.patience", "700"),
    "pool.most_difference": ("--pool.most_difference", "0.3"),
    "pool.importance_cap": ("--pool.importance_cap", "3"),
}
