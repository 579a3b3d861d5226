"""The docstring of `relay.fleet` says where what is."""

import re
from pathlib import Path

from relay import fleet


def test_the_index_names_each_module_once() -> None:
    modules = sorted(
        path.stem for path in Path(fleet.__file__).parent.glob("*.py") if path.stem != "__init__"
    )
    lists = re.findall(r"^- [^:]+:((?:.*\n)(?:  .*\n)*)", fleet.__doc__ or "", re.MULTILINE)
    named = [word.strip() for words in lists for word in re.split(r"[,;]", words)]
    assert sorted(named) == modules
