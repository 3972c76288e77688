"""Where the book's data lives: the `data/` folder of a checkout, or the copy that travels in the wheel."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def data_path(name: str) -> Path:
    """Path of a file in `data/`, found in a checkout as well as in an installed wheel.

    Args:
        name: path below `data/`, with forward slashes, such as "page.txt".

    Returns:
        The existing file or folder.

    Raises:
        FileNotFoundError: if neither place has it; the message names both places.
    """
    places = [_PACKAGE.parent / "data" / name, _PACKAGE / "_data" / name]
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(f"no data file {name!r}: looked for {places[0]} and {places[1]}; reinstall minillama")
