"""What is said where a data set is not where it was looked for."""

import re

import pytest

from segframe.data.layout import Layout, contents, nearest_existing, some

LAYOUT = Layout("Cells", "{root}/\n    images/\n    masks/", markers=("images", "masks"))


def folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)
    return root


def files(root, folder="images"):
    return LAYOUT.files(root, folder, "*.png", "PNG file")


def test_files_are_found_sorted(tmp_path):
    folders(tmp_path, "images", "masks")
    for name in ("b.png", "a.png", "c.txt"):
        (tmp_path / "images" / name).touch()
    assert [path.name for path in files(tmp_path)] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("there", "root", "parts"),
    [
        ([], "cells", ["Cells: the folder .*cells/images does not exist", "Expected:\n.*cells/\n    images/"]),
        (["cell"], "cells", [r"Did you mean .*cell\?"]),
        (["cells/v2/images", "cells/v2/masks"], "cells", [r"Did you mean dataset\.root=.*cells/v2\?"]),
        (["images", "masks"], "images", [r"Did you mean dataset\.root=[^ ]*\d\?"]),
        (["cells/a/images", "cells/b/masks"], "cells", ["Move into one folder: .*a/images, .*b/masks"]),
        (["cells/images"], "cells", [r"holds no PNG file \(nothing\)", r"Set dataset\.root=\.\.\. to the folder"]),
    ],
)  # fmt: skip
def test_the_nearest_thing_is_shown(tmp_path, there, root, parts):
    folders(tmp_path, *there)
    with pytest.raises(FileNotFoundError) as error:
        files(tmp_path / root)
    assert [part for part in parts if not re.search(part, str(error.value))] == [], str(error.value)


def test_an_archive_is_named(tmp_path):
    folders(tmp_path, "cells")
    (tmp_path / "cells" / "cells.zip").touch()
    with pytest.raises(FileNotFoundError, match=r"holds archives: cells\.zip\. Unpack"):
        files(tmp_path / "cells")


def test_words(tmp_path):
    assert contents(tmp_path) == "nothing"
    folders(tmp_path, *"abcdefg")
    assert contents(tmp_path) == "a/, b/, c/, d/, e/ and 2 more"
    assert contents(tmp_path / "z") == "it cannot be listed: No such file or directory"
    assert some(["x", "y"], 1) == "x and 1 more"
    assert nearest_existing(tmp_path / "z/y").startswith(
        f"{tmp_path}/z/y does not exist; {tmp_path} does, and holds: a/"
    )
