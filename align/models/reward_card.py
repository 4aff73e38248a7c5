"""What the card of a reward model says of scoring a dialogue elsewhere: where it is read is not what others assume."""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError

from align.errors import shorten
from align.records import PromptFormat

TITLE = "\n## Scoring without align\n\n"
ASKED = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]


def scored_by(tokenizer: Any, prompt_format: PromptFormat | None) -> str:
    """Return a section with the lines that score a dialogue with transformers alone.

    The reward is read at the token that ends the last response; other programs read the last token of what the chat
    template writes, which may lack that token, or have a line break after it.

    Args:
        tokenizer: As it is written, with the chat template of the folder.
        prompt_format: How prompts were written in training; nothing is said without it.
    """
    if prompt_format is None:
        return ""
    end = prompt_format.eos_id
    token = tokenizer.convert_ids_to_tokens(end)
    shown = f"The reward stands at the token {token!r} ({end}) at the end of the last response"
    try:
        text = tokenizer.apply_chat_template(ASKED, tokenize=False, chat_template=prompt_format.chat_template)
    except TemplateError as error:  # it may want what only the data bring
        return f"{TITLE}{shown}. The chat template wants more than a question and an answer ({shorten(error, 80)}).\n"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    if ids[-1:] == [end]:
        how, line = "with which this folder's chat template ends a dialogue", ""
    elif end in ids:
        how = "after which this folder's chat template writes more: that is left out"
        line = f"ids = ids[: len(ids) - ids[::-1].index({end})]\n"
    else:
        how, line = "which this folder's chat template does not write", f"ids = [*ids, {end}]\n"
    return f"""{TITLE}{shown}, {how}.

```python
text = tokenizer.apply_chat_template(messages, tokenize=False)
ids = tokenizer(text, add_special_tokens=False).input_ids
{line}rewards = model(input_ids=torch.tensor([ids])).logits[0]
```
"""
