"""Print pip constraints for the lowest version of everything that pyproject.toml names for using and testing llmlab."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
for requirement in [*project["dependencies"], *(each for name in extras if name != "dev" for each in extras[name])]:
    found = re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)", requirement)
    if found:
        print(f"{found[1]}=={found[2]}")
