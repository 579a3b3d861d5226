"""The programs of connectors: found in a few folders, run as child processes (`docs/connectors.md`).

`LocalPrograms(folders, url)` is what a server gives to `open_fleet`.
"""

from ._local import LocalPrograms as LocalPrograms, folders as folders
