"""Write held-out requests without harm as a file of prompts.

    python prompts.py FILE AFTER COUNT

leaves out the first AFTER of them, so that prompts to tune on and prompts of the result are different ones.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from align.world.prompts import held_out_prompts
from align.world.universe import World


def main(path: Path, after: int, count: int) -> None:
    """Write them."""
    prompts = held_out_prompts(World(), after + count, 0)[after:]
    rows = [{"messages": [{"role": m.role, "content": m.content} for m in prompt]} for prompt in prompts]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
