from __future__ import annotations

import contextlib
import io
import os
import tarfile
import threading
import time
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.adapters import build
from cer_fusion.featstore.manifests.adapters.tree import Tree
from cer_fusion.featstore.pictures import archives
from cer_fusion.featstore.pictures.pictures import PictureSource
from tests.featstore.manifests.adapters.layouts import fill, tarred, tarred_and_gzipped, zipped


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


@pytest.fixture
def hostile(tmp_path) -> Path:
    """A tar file with a good picture among what should not be followed; a secret lies beside it."""
    (tmp_path / "secret.png").write_bytes(b"secret")
    path = tmp_path / "faces.tar"
    with tarfile.open(path, "w") as tar:
        for info, data in (
            member("./a/good.png", b"good"),
            member("a/link.png", kind=tarfile.SYMTYPE, link="../../secret.png"),
            member("a/hard.png", kind=tarfile.LNKTYPE, link="a/good.png"),
            member("a/pipe.png", kind=tarfile.FIFOTYPE),
            member("../secret.png", b"escaped"),
            member("/a/absolute.png", b"inside"),
        ):
            tar.addfile(info, io.BytesIO(data))
    return path


def test_links_devices_and_escapes_in_a_tar_file_are_passed_over_and_counted(hostile):
    adapted = build("folder", hostile)
    assert [s.path for s in adapted.manifest.samples] == ["a/absolute.png", "a/good.png"]
    assert adapted.left_out == {"link, device, or name that leads out of the archive": 4}
    source = PictureSource(hostile)
    assert [source.read(s.path) for s in adapted.manifest.samples] == [b"inside", b"good"]
    for name in ("a/link.png", "a/hard.png", "a/pipe.png", "secret.png", "a/../secret.png"):
        with pytest.raises(OSError, match="no such member"):
            source.read(name)


def test_names_that_lead_out_of_a_zip_file_are_passed_over_and_counted(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as out:
        for name in ("a/good.png", "../secret.png", str(secret), "a/../../secret.png"):
            out.writestr(name, b"inside")
    adapted = build("folder", tmp_path / "z.zip")
    assert [s.path for s in adapted.manifest.samples] == ["a/good.png"]
    assert adapted.left_out == {"link, device, or name that leads out of the archive": 3}


def test_a_tar_file_is_read_from_several_threads_and_along_a_path(tmp_path):
    root = fill(tmp_path / "faces", {f"a/{i:03d}.png": b"picture %d" % i * (i + 1) for i in range(60)})
    tarred(root)
    source = PictureSource(tmp_path)
    wrong: list[int] = []

    def read(start: int) -> None:
        for i in range(start, 60, 4):
            if source.read(f"faces.tar/a/{i:03d}.png") != b"picture %d" % i * (i + 1):
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_one_open_tar_file_serves_several_threads(tmp_path):
    members = {f"a/{i:03d}.png": b"picture %d" % i * (i + 1) for i in range(60)}
    archive = archives.TarArchive(tarred(fill(tmp_path / "faces", members)))
    archive._file = Slow(archive._file)
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(archive.read, members)) == list(members.values())


class Slow:
    """A file whose other users run between finding a place and reading there."""

    def __init__(self, file) -> None:
        self._file = file

    def seek(self, offset: int) -> None:
        self._file.seek(offset)
        time.sleep(0.001)

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forked processes here")
@pytest.mark.parametrize("packed", [tarred, zipped])
def test_a_forked_process_reads_an_archive_through_a_file_of_its_own(tmp_path, packed):
    """A file that was open before has one position for both: each would read at the other's place."""
    path = packed(fill(tmp_path / "faces", {"a/1.png": b"one", "a/2.png": b"two"}))
    source = PictureSource(path)
    assert source.read("a/1.png") == b"one"
    (mine,) = opened_by(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, as loaders of pictures do
        child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if source.read("a/2.png") == b"two" and mine not in opened_by(source) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert opened_by(source) == [mine]


def opened_by(source) -> list:
    return list(source._local.opened[os.getpid()].values())


def test_a_tar_file_that_is_cut_short_says_so(tmp_path):
    path = tarred(fill(tmp_path / "faces", {"a/1.png": b"x" * 5000}))
    source = PictureSource(path)
    assert len(source.read("a/1.png")) == 5000
    path.write_bytes(path.read_bytes()[: 512 * 4 + 100])
    with pytest.raises(OSError, match="not a usable tar file"):
        PictureSource(path).read("a/1.png")
    with pytest.raises(OSError, match="cut short"):
        source.read("a/1.png")
    path.write_bytes(b"no archive" * 100)
    with pytest.raises(OSError, match="not a usable tar file"):
        PictureSource(path).read("a/1.png")


def test_an_archive_that_was_replaced_is_indexed_anew(tmp_path):
    path = tarred(fill(tmp_path / "faces", {"a/1.png": b"one"}))
    assert PictureSource(path).read("a/1.png") == b"one"
    path.unlink()
    fill(tmp_path / "faces", {"a/0.png": b"zero, which stands before it"})
    assert PictureSource(tarred(tmp_path / "faces")).read("a/1.png") == b"one"


def test_a_compressed_tar_file_gives_texts_but_no_pictures(tmp_path):
    path = tarred_and_gzipped(fill(tmp_path / "faces", {"a/1.png": b"x", "a/list.txt": "\ufeffone\r\n\r\ntwo"}))
    tree = Tree(path)
    assert list(tree.lines("a/list.txt")) == [(1, "one"), (3, "two")]
    with pytest.raises(ManifestError, match=r"compressed tar file.*\n  unpack it"):
        build("folder", path)
    with pytest.raises(OSError, match="it is compressed"):
        archives.TarArchive(path)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_compressed_tar_file_that_is_cut_short_is_told_and_not_half_read(tmp_path, keep):
    rows = "".join(f"{i % 7},{' '.join(str(i * j % 256) for j in range(2304))},Training\n" for i in range(30))
    path = tarred_and_gzipped(fill(tmp_path / "f", {"fer2013.csv": "emotion,pixels,Usage\n" + rows}))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(ManifestError, match=r"damaged archive|cannot be read"):
        build("fer2013", path, archive=tmp_path / "p.zip")
    assert not (tmp_path / "p.zip").exists()


@pytest.mark.parametrize(("name", "data"), [("a.zip", b"PK\x03\x04 no more"), ("a.tar", b"x" * 2000), ("a.bin", b"x")])
def test_a_file_that_is_no_archive_is_refused(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ManifestError, match="neither a folder nor a zip file nor a tar file"):
        Tree(tmp_path / name)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, None])
def test_damage_anywhere_in_an_archive_is_an_error_of_reading(tmp_path_factory, compression):
    """What is read is what was packed, or `OSError`: that goes to quarantine, anything else would stop a run."""
    folder = tmp_path_factory.mktemp("damaged")
    contents = {f"a/{i}.png": bytes(range(256)) * 3 for i in range(3)}
    if compression is None:
        whole = tarred(fill(folder / "faces", contents)).read_bytes()
    else:
        with zipfile.ZipFile(folder / "whole.zip", "w", compression) as out:
            for name, data in contents.items():
                out.writestr(name, data)
        whole = (folder / "whole.zip").read_bytes()
    path = folder / ("damaged.tar" if compression is None else "damaged.zip")

    @settings(max_examples=80, deadline=None)
    @given(st.integers(0, len(whole) - 1), st.integers(1, 255), st.booleans())
    def damage(at: int, change: int, cut: bool) -> None:
        data = bytearray(whole[: at + 1] if cut else whole)
        data[at] ^= change
        path.write_bytes(data)
        with contextlib.suppress(OSError):
            archive = archives.open_archive(path)
            for name in archive.names:
                with contextlib.suppress(OSError):
                    found = archive.read(name)
                    assert compression is None or found == contents.get(name, found)

    damage()


def test_a_picture_larger_than_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 10)
    root = fill(tmp_path / "faces", {"1.png": b"x" * 11})
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as out:
        out.writestr("1.png", b"x" * 11)
    for source in (root, tarred(root), tmp_path / "z.zip"):
        with pytest.raises(OSError, match="larger than"):
            PictureSource(source).read("1.png")


def test_a_damaged_zip_member_is_told_by_its_name(tmp_path):
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("EmoLabel/list_patition_label.txt", "train_0001.jpg 3\n" * 9)
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.write_bytes(data)
    with pytest.raises(ManifestError, match=r"z.zip/EmoLabel/list_patition_label.txt cannot be read"):
        build("rafdb-compound", path)
