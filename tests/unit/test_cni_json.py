"""The JSON tokenizer of the CNI scripts (cni_scripts/cni-json.bash), against jq and Python."""

from __future__ import annotations

import json
import random
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

CNI_JSON = Path(__file__).parents[2] / "cni_scripts" / "cni-json.bash"
# One bash for many documents: each comes as a line of JSON inside a file, separated by NUL bytes. What was read is
# written again, or "!" and the reason.
READ_AND_WRITE = f"""
set -euo pipefail
source {CNI_JSON} rarely
declare -A DOCUMENT
while IFS= read -r -d '' text; do
    if json_parse DOCUMENT "$text"; then
        json_dump out DOCUMENT .
        printf '%s\\0' "$out"
    else
        printf '!%s\\0' "$JSON_ERROR"
    fi
done
"""


def read_and_write(documents: list[str | bytes]) -> list[str]:
    raw = b"".join((d.encode() if isinstance(d, str) else d) + b"\0" for d in documents)
    done = subprocess.run(["bash", "-c", READ_AND_WRITE], input=raw, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    return [text.decode() for text in done.stdout.split(b"\0")[:-1]]


def by_jq(document: str | bytes) -> Any:
    """The value that jq reads; it raises when jq refuses the text."""
    raw = document.encode() if isinstance(document, str) else document
    done = subprocess.run(["jq", "-c", "."], input=raw, capture_output=True, check=True, timeout=10)
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 1
    return json.loads(lines[0])


GOOD = [
    "{}",
    "[]",
    '""',
    "0",
    "-0",
    "-12.5e-3",
    "1E5",
    "true",
    "false",
    "null",
    " \t\r\n { } \n",
    "[ [ ] , [ [ ] ] , { } ]",
    '{"a":1}',
    '{"a":{"b":{"c":[1,2,{"d":"e"}]}}}',
    '{"a":[],"b":{},"c":""}',
    '[1,"a",true,null,{"x":[]},[0]]',
    '["a","b","c"]',
    "[true,false,null]",
    '{"":1," ":2}',
    '{".":1,"@":2,"*":3,"~":4,"/":5,"a/b":6,"a~b":7,"~0":8,"~1":9,"~.":10}',
    '{"a":{"":{"":1}}}',
    '{"$HOME":"$(id)","`id`":"${x}","]":"[","a]b":"!"}',
    '{"a b":"c d","tab":"x\\ty"}',
    '"\\" \\\\ \\/ \\b \\f \\n \\r \\t"',
    '"ends with a backslash \\\\"',
    '["\\\\","\\"","\\\\\\"","\\\\\\\\"]',
    '{"a\\"b":"c\\"d","e\\\\":"f"}',
    '"\\u0041\\u00e9\\u20ac\\ud83d\\ude00\\u001f"',
    '"é € 😀 \x7f"',
    '"a,b:c{d}e[f]g"',
    '{"a":"1,2","b":"{","c":"]"}',
    '{"a":1,"a":2}',
    '{"a":{"b":1,"c":2},"a":{"d":3}}',
    '{"a":{"b":1},"a":"x","c":[{"a":1},{"a":1}]}',
    '{"a":true,"b":false,"c":null,"d":"x","e":"y","f":1,"g":"z"}',
    '{ "a" : true , "b" : "x" , "c" : "y" }',
    '{"a":"x"\n,"b":true\n}',
    '{"a":"-n","b":"-e","c":"--"}',
    "[" * 60 + "]" * 60,
    '{"cniVersion":"1.0.0","name":"n","type":"bridge","ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}]]}}',
]

# Each with a part of what the error says.
BROKEN = {
    "": "end of the text",
    "   ": "end of the text",
    "{": "end of the text",
    "[": "end of the text",
    '{"a"': "colon",
    '{"a":': "value",
    '{"a":1': "comma",
    '{"a":1,': "key",
    '{"a":1,}': "key",
    "[1,]": "value",
    "[,1]": "value",
    "[1 2]": "comma",
    '["a" "b"]': "comma",
    '{"a" "b"}': "colon",
    '{"a":"b" "c":"d"}': "comma",
    '{"a":"b","c"}': "colon",
    "{1:2}": "key",
    "{a:1}": "key",
    '{"a":1]': "unexpected ]",
    '["a":1]': "unexpected :",
    "[1}": "unexpected }",
    "]": "value",
    "}": "value",
    '{"a":}': "value",
    "{} {}": "after the end",
    "{}}": "after the end",
    '"a" "b"': "after the end",
    "1 2": "after the end",
    '"a': "inside a string",
    '"a\\"': "inside a string",
    '{"a":"b\\"}': "inside a string",
    "'a'": "value",
    "True": "value",
    "nul": "value",
    "01": "value",
    "+1": "value",
    ".5": "value",
    "1.": "value",
    "1e": "value",
    "- 1": "value",
    "0x10": "value",
    '{"a":true"b":1}': "comma",
    '{"a":tru,"b":1}': "value",
    '"\\x"': "escape",
    '"\\u12"': "escape",
    '"\\u12G4"': "escape",
    '"a\nb"': "control character",
    '"a\tb"': "control character",
    '{"a\x01":1}': "control character",
    '"\\u0000"': "u0000",
    "// x\n1": "value",
}


def test_documents_are_read_as_jq_reads_them() -> None:
    written = read_and_write(GOOD)
    for document, text in zip(GOOD, written, strict=True):
        assert not text.startswith("!"), (document, text)
        assert json.loads(text, strict=True) == by_jq(document), document


def test_broken_documents_are_refused_with_the_reason() -> None:
    written = read_and_write(list(BROKEN))
    for (document, reason), text in zip(BROKEN.items(), written, strict=True):
        assert text.startswith("!"), (document, text)
        assert reason in text, (document, text)


@pytest.mark.parametrize("document", [d for d in BROKEN if d.strip()])
def test_what_is_refused_is_no_json_for_python_either(document: str) -> None:
    if document != '"\\u0000"':  # JSON, but nothing that bash can hold
        with pytest.raises(json.JSONDecodeError):
            json.loads(document)


def test_half_a_character_becomes_the_replacement_character() -> None:
    # jq 1.6 does so for some of these, and refuses others
    halves = {r'"\ud83d"': "\ufffd", r'"\ude00x"': "\ufffdx", r'"\ud83dx"': "\ufffdx", r'"\ud83d\u0041"': "\ufffdA"}
    assert [json.loads(text) for text in read_and_write(list(halves))] == list(halves.values())


def test_a_deep_document_needs_no_stack() -> None:
    assert read_and_write(["[" * 500 + "]" * 500]) == ["[" * 500 + "]" * 500]


def without_half_characters(value: Any) -> Any:
    """Halves of surrogate pairs, which Python keeps, become U+FFFD."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [without_half_characters(item) for item in value]
    if isinstance(value, dict):
        return {without_half_characters(key): without_half_characters(item) for key, item in value.items()}
    return value


def generated(random_: random.Random, depth: int = 0) -> Any:
    kind = random_.randrange(4 if depth > 4 else 7)
    if kind == 0:
        return random_.choice([True, False, None])
    if kind == 1:
        return random_.choice([0, -1, 7, 1500, 12345678901, 0.5, -2.25, 1e21])
    if kind in (2, 3):
        return generated_text(random_)
    if kind in (4, 5):
        return {generated_text(random_): generated(random_, depth + 1) for _ in range(random_.randrange(5))}
    return [generated(random_, depth + 1) for _ in range(random_.randrange(5))]


def generated_text(random_: random.Random) -> str:
    alphabet = 'abc019 _-./~@*$`"\\[]{}:,#!?\n\t\r\x01\x1f\x7fäß€漢😀'
    return "".join(random_.choice(alphabet) for _ in range(random_.randrange(9)))


def spelled(random_: random.Random, value: Any) -> str:
    """The document in one of its spellings: with and without white space, escaped and not."""
    return json.dumps(
        value,
        ensure_ascii=random_.random() < 0.5,
        indent=random_.choice([None, None, 0, 1, "\t"]),
        separators=random_.choice([(",", ":"), (", ", ": "), (" ,", " :")]),
    )


@pytest.mark.parametrize("seed", range(8))
def test_generated_documents_survive(seed: int) -> None:
    random_ = random.Random(seed)
    documents = [spelled(random_, generated(random_)) for _ in range(60)]
    for document, text in zip(documents, read_and_write(documents), strict=True):
        assert not text.startswith("!"), (document, text)
        assert json.loads(text) == json.loads(document), document
    # jq is a process a document: a few of them are enough
    for document in documents[:10]:
        assert json.loads(document) == by_jq(document), document


@pytest.mark.parametrize("seed", range(4))
def test_documents_broken_at_random_are_refused_or_read_as_python_reads_them(seed: int) -> None:
    random_ = random.Random(1000 + seed)
    documents = []
    for _ in range(100):
        text = spelled(random_, generated(random_))
        at = random_.randrange(len(text) + 1)
        documents.append(random_.choice([text[:at], text[:at] + text[at + 1 :], text[:at] + '"' + text[at:]]))
    for document, text in zip(documents, read_and_write(documents), strict=True):
        try:
            expected = json.loads(document)
        except json.JSONDecodeError:
            assert text.startswith("!"), (document, text)
        else:
            assert text.startswith("!\\u0000") or json.loads(text) == without_half_characters(expected), (
                document,
                text,
            )


def test_the_parser_leaves_globbing_as_it_was(tmp_path: Path) -> None:
    script = f"""
    set -euo pipefail; source {CNI_JSON} rarely; declare -A D
    json_parse D '{{"a*":["*","?"]}}'; json_dump out D .; echo "$out"; [[ $- != *f* ]] && echo glob on
    set -f; json_parse D '["*"]'; json_dump out D .; echo "$out"; [[ $- == *f* ]] && echo glob off
    """
    (tmp_path / "file").touch()
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ['{"a*":["*","?"]}', "glob on", '["*"]', "glob off"]


def test_scripts_are_shellcheck_clean() -> None:
    folder = CNI_JSON.parent
    scripts = sorted(str(p) for p in folder.iterdir() if p.suffix != ".conflist" and p.is_file())
    done = subprocess.run(["shellcheck", "-x", *scripts], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout
