"""Recipe files: what is bundled, and what whoever runs the server has put beside it.

    book = Cookbook(home / "recipes")
    book.all()           what can be started
    book.find("debug")   one of them; raises `NoRecipe`, with all that is wrong with its file if that is why

1. A recipe is a file of TOML or YAML. Whatever is wrong with it is told at once, each time with the member's path.
2. A recipe of the user's takes the place of a bundled one of its name. If its file is broken, there is none of that name:
   the bundled one would not be what was meant.
3. Files are read again when they have changed, and never written.
"""

from ._cookbook import Broken as Broken, Cookbook as Cookbook, NoRecipe as NoRecipe
from ._documents import LARGEST as LARGEST, Unreadable as Unreadable
from ._placeholders import fill as fill, placeholders as placeholders
from ._reading import check_file as check_file
