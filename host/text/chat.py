"""Chat templates: messages to the text that a model was trained on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from host.text.sentence import printable
from spec.errors import UserError

MAX_TEMPLATE = 1 << 17
"""Longest template, characters; those with tools have some 20,000."""
CPU_SECONDS = 5
"""Processor time that a template may take; an honest one takes milliseconds."""
TIMEOUT = 60
"""Seconds on the clock until a template is given up, for a machine that is very busy."""


class ChatError(UserError):
    """A chat template that is damaged, refuses the messages or asks for too much."""

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


@dataclass(frozen=True)
class ChatTemplate:
    """A model's chat template.

    Raises:
        ChatError: the template is too long.
    """

    template: str | None
    """Jinja source in Hugging Face's dialect; None: messages are put one after the other."""
    bos_token: str = ""
    eos_token: str = ""

    def __post_init__(self) -> None:
        if self.template is not None and len(self.template) > MAX_TEMPLATE:
            raise ChatError(
                f"the chat template has {len(self.template)} characters, more than {MAX_TEMPLATE}:"
                " not a template that a model was trained with"
            )

    @property
    def note(self) -> str | None:
        """What a user should know: None if there is a template."""
        if self.template is not None:
            return None
        return "the model has no chat template; the prompt is given to it as it is"

    def render(self, messages: Sequence[dict[str, str]], answer: bool = True) -> str:
        """The text of a conversation.

        Args:
            messages: each with ``role`` (system, user, assistant) and ``content``.
            answer: end with the words that begin the model's answer.

        Raises:
            ChatError: the template is wrong, refuses these messages, or takes too much.
        """
        if self.template is None:
            return "\n".join(message["content"] for message in messages)
        variables = {
            "messages": list(messages),
            "add_generation_prompt": answer,
            "bos_token": self.bos_token,
            "eos_token": self.eos_token,
        }
        return _render_apart(self.template, variables)


def _render_apart(template: str, variables: dict) -> str:
    """Runs ``host.text.chat_render`` in a process of its own."""
    request = {"template": template, "variables": variables, "seconds": CPU_SECONDS}
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "host.text.chat_render"],
            input=json.dumps(request),
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise ChatError(f"the chat template did not end within {TIMEOUT} s") from None
    if done.returncode < 0:
        raise ChatError("the chat template was stopped: it takes too much time or memory")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise ChatError(f"the chat template's renderer failed: {lines[-1]}")
    answer = json.loads(done.stdout)
    if "error" in answer:
        reason = " ".join(answer["error"].split())[:300]
        raise ChatError(f"the chat template cannot be used: {reason}")
    return answer["text"]
