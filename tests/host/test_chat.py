"""Chat templates: what models expect, and programs that must not run."""

from __future__ import annotations

import json

import pytest

from host import checkpoint
from host.text.chat import ChatError, ChatTemplate
from tests.host.checkpoint_files import DENSE, TEMPLATE, copy

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi <b>"}]


def test_chatml():
    text = ChatTemplate(TEMPLATE).render(MESSAGES)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <b><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert not ChatTemplate(TEMPLATE).render(MESSAGES, answer=False).endswith("assistant\n")


def test_dialect_of_hugging_face():
    """Blocks take their line's white space along, loops can be left, JSON is not escaped."""
    template = (
        "{{ bos_token }}\n"
        "    {% for message in messages %}\n"
        "{% if loop.index0 == 1 %}{% break %}{% endif %}\n"
        "{{ message | tojson }}\n"
        "    {% endfor %}\n"
        "{{ eos_token }}"
    )
    found = ChatTemplate(template, bos_token="<s>", eos_token="</s>").render(MESSAGES[::-1])
    assert found == '<s>\n{"role": "user", "content": "Hi <b>"}\n</s>'


def test_without_a_template_the_prompt_is_plain():
    plain = ChatTemplate(None)
    assert plain.render(MESSAGES[1:]) == "Hi <b>"
    assert "no chat template" in plain.note
    assert ChatTemplate(TEMPLATE).note is None


HOSTILE = {
    "insides of Python": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
    "through a format": ("{{ '{0.__class__.__mro__}'.format(1).x.y }}", "cannot be used"),
    "changing the input": ("{{ messages.append(1) }}", "SecurityError"),
    "a long range": ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
    "a long text": ("{{ 'x' * 2000000 }}", "more than 1048576 characters"),
    "much memory": ("{{ 'x' * 10**10 }}", "more than 512 MB"),
    "doubling": (
        "{% set n = namespace(x='xxxx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}"
        "{% endfor %}",
        "more than 512 MB|stopped",
    ),
    "not a template": ("{% if %}", "TemplateSyntaxError"),
    "a key that is missing": ("{{ messages[9].content.x }}", "UndefinedError"),
    "a division": ("{{ 1 // 0 }}", "ZeroDivisionError"),
    "refused by the template": ("{{ raise_exception('roles must alternate') }}", "alternate"),
    "recursion": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested too deeply"),
    "an include": ("{% include '/etc/passwd' %}", "cannot be used"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_templates_end_in_a_sentence(case):
    template, words = HOSTILE[case]
    with pytest.raises(ChatError, match=words) as refusal:
        ChatTemplate(template).render(MESSAGES)
    assert "\n" not in str(refusal.value)


def test_endless_templates_are_stopped(monkeypatch):
    nested = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    monkeypatch.setattr("host.text.chat.CPU_SECONDS", 1)
    with pytest.raises(ChatError, match="too much time or memory"):
        ChatTemplate(nested).render(MESSAGES)
    monkeypatch.setattr("host.text.chat.TIMEOUT", 0.5)
    with pytest.raises(ChatError, match=r"did not end within 0\.5 s"):
        ChatTemplate(nested).render(MESSAGES)


def test_templates_have_a_length():
    with pytest.raises(ChatError, match="200000 characters"):
        ChatTemplate("x" * 200_000)


def test_places_of_the_template(tmp_path):
    folder = copy(DENSE, tmp_path)
    assert checkpoint.find(folder).chat().template is None
    settings = {"chat_template": "one", "bos_token": {"content": "<s>"}, "eos_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    found = checkpoint.find(folder).chat()
    assert (found.template, found.bos_token, found.eos_token) == ("one", "<s>", "")
    several = [{"name": "tools", "template": "t"}, {"name": "default", "template": "two"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    assert checkpoint.find(folder).chat().template == "two"
    (folder / "chat_template.jinja").write_text("three")
    assert checkpoint.find(folder).chat().template == "three"
