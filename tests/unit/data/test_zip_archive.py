from collections.abc import Iterator
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import pytest

from temper.data.images import zip_archive
from temper.data.images.zip_archive import Archive, write_archive


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Write files with different contents and names, one of them empty."""
    made = {}
    for number, name in enumerate(("dog/b.jpg", "cat/ä ö.png", "cat/a#1.jpg", "empty")):
        made[name] = tmp_path / f"{number}"
        made[name].write_bytes(bytes(range(50)) * (number * 7 + 7) if name != "empty" else b"")
    return made


def test_the_bytes_are_those_of_pythons_zipfile(files: dict[str, Path], tmp_path: Path) -> None:
    write_archive(list(files), files.__getitem__, tmp_path / "ours.zip")
    with ZipFile(tmp_path / "theirs.zip", "w", ZIP_STORED) as theirs:
        for name in sorted(files):
            info = ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr, info.create_system = 0o644 << 16, 3
            theirs.writestr(info, files[name].read_bytes())
    assert (tmp_path / "ours.zip").read_bytes() == (tmp_path / "theirs.zip").read_bytes()


def test_members_come_back_by_name(files: dict[str, Path], tmp_path: Path) -> None:
    write_archive(list(files), files.__getitem__, tmp_path / "a.zip")
    opened = Archive(tmp_path / "a.zip")
    assert all(opened.read(name) == file.read_bytes() for name, file in files.items())
    with pytest.raises(ValueError, match="has no member 'cat'"):
        opened.read("cat")
    opened.close()


def test_more_members_and_bytes_than_old_zips_can_count(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limits are so low that the fields of 64 bits are used; any zip program must read such an archive.
    monkeypatch.setattr(zip_archive, "_MOST_16", 3)
    write_archive(list(files), files.__getitem__, tmp_path / "many.zip")
    monkeypatch.undo()
    one = files["dog/b.jpg"]
    write_archive([f"{number:05d}" for number in range(66_000)], lambda _: one, tmp_path / "more.zip")
    for name, members in (("many.zip", files), ("more.zip", {"00000": one, "65999": one})):
        opened = Archive(tmp_path / name)
        with ZipFile(tmp_path / name) as theirs:
            for member, file in members.items():
                assert opened.read(member) == theirs.read(member) == file.read_bytes()
        opened.close()


def test_places_beyond_32_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive is a sparse file with a hole of 4 GiB before the second member."""
    (tmp_path / "a").write_bytes(b"first")
    (tmp_path / "b").write_bytes(b"second")
    streams = []
    opener = Path.open

    def remember(self: Path, mode: str) -> object:
        streams.append(opener(self, mode))
        return streams[-1]

    def with_a_hole(names: list[str], *_: object) -> Iterator[str]:
        for name in names:
            if name == "b":
                streams[0].seek((1 << 32) + 11)
            yield name

    monkeypatch.setattr(Path, "open", remember)
    monkeypatch.setattr(zip_archive, "track", with_a_hole)
    write_archive(["a", "b", "c"], lambda name: tmp_path / name.replace("c", "a"), tmp_path / "far.zip")
    monkeypatch.undo()
    opened = Archive(tmp_path / "far.zip")
    with ZipFile(tmp_path / "far.zip") as theirs:
        assert [opened.read(name) for name in "abc"] == [theirs.read("a"), b"second", theirs.read("c")]
    opened.close()


def test_damage_is_found(files: dict[str, Path], tmp_path: Path) -> None:
    write_archive(list(files), files.__getitem__, tmp_path / "a.zip")
    whole = (tmp_path / "a.zip").read_bytes()
    place = whole.rindex(files["cat/ä ö.png"].read_bytes())
    (tmp_path / "a.zip").write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
    with pytest.raises(ValueError, match=r"bad checksum of 'cat/ä ö.png'"):
        Archive(tmp_path / "a.zip").read("cat/ä ö.png")
    (tmp_path / "a.zip").write_bytes(whole[:-30])
    with pytest.raises(ValueError, match=r"a\.zip is not a zip, or is cut off"):
        Archive(tmp_path / "a.zip")
    with ZipFile(tmp_path / "pressed.zip", "w", ZIP_DEFLATED) as pressed:
        pressed.writestr("a", bytes(1000))
    with pytest.raises(ValueError, match=r"pressed\.zip has compressed members"):
        Archive(tmp_path / "pressed.zip")
