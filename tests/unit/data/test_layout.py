"""What is said where a data set is not where it was looked for."""

import os
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


def test_hidden_files_are_left_out(tmp_path):
    folders(tmp_path, "images", "masks")
    for name in ("a.png", "._a.png", ".DS_Store"):  # macOS writes ._NAME beside every NAME
        (tmp_path / "images" / name).touch()
    assert [path.name for path in files(tmp_path)] == ["a.png"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list everything")
def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path):
    folders(tmp_path, "images/a", "images/b", "masks")
    (tmp_path / "images/a/a.png").touch()
    (tmp_path / "images/b").chmod(0)
    with pytest.raises(ValueError, match=r"images/b can't be listed: Permission denied"):
        LAYOUT.files(tmp_path, "images", "*/*.png", "PNG file")
    (tmp_path / "images/b").chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may look everywhere")
def test_a_root_that_cannot_be_reached_names_the_folder_that_is_closed(tmp_path):
    folders(tmp_path, "closed/cells/images")
    (tmp_path / "closed").chmod(0)
    with pytest.raises(ValueError, match=r"/closed can't be listed: Permission denied"):
        files(tmp_path / "closed/cells")
    (tmp_path / "closed").chmod(0o755)


def test_a_file_in_place_of_the_root(tmp_path):
    (tmp_path / "cells").touch()
    with pytest.raises(FileNotFoundError, match=r"cells is a file, and a folder is expected"):
        files(tmp_path / "cells")


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
