"""The promises of the independent reader: golden images read as recorded, and no flipped byte goes unseen.

    python3 -m unittest discover -s tests/reader
"""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest
from unittest import mock
from urllib.parse import unquote_to_bytes

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(os.path.dirname(HERE), "golden")
sys.path.insert(0, HERE)

import b3
import chunking
import dimsum_reader
import erofs
import flat
import hashing
import layout
import limits
import parts
import tree_json

PROGRAM = os.path.join(HERE, "dimsum_reader.py")


def run(*arguments):
    return subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True)


def golden_images():
    """(folder, name) of every Dimsum image under tests/golden; other images there are sources."""
    found = []
    for entry in sorted(os.listdir(GOLDEN)) if os.path.isdir(GOLDEN) else []:
        folder = os.path.join(GOLDEN, entry)
        if os.path.exists(os.path.join(folder, "index.json")):
            found.extend((folder, name) for name in layout.names(folder) if is_dimsum(folder, name))
    return found


def is_dimsum(folder, name):
    with open(os.path.join(folder, "index.json")) as file:
        for descriptor in json.load(file)["manifests"]:
            if name in (descriptor.get("annotations", {}).get(layout.REF_NAME), descriptor["digest"]):
                with open(blob_path(folder, descriptor["digest"])) as manifest:
                    return "io.dimsum.format" in json.load(manifest).get("annotations", {})
    return False


def blob_path(folder, digest):
    return os.path.join(folder, "blobs", *digest.split(":"))


def skip_unless(test, condition, why):
    """Skips where a tool is missing; the CI installs all of them, so there it is a failure."""
    if not condition:
        if os.environ.get("CI") == "true":
            test.fail(why)
        test.skipTest(why)


class GoldenImages(unittest.TestCase):
    def setUp(self):
        self.images = golden_images()
        skip_unless(self, self.images, "tests/golden holds no image")

    def test_every_golden_image_verifies(self):
        for folder, name in self.images:
            with self.subTest(folder):
                result = run("verify", folder, name)
                self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_every_tree_is_the_recorded_tree(self):
        for folder, name in self.images:
            with self.subTest(folder):
                result = run("tree", folder, name)
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                recorded = folder + ".tree"
                if os.path.exists(recorded):
                    with open(recorded) as file:
                        self.assertEqual(result.stdout.splitlines(), file.read().splitlines())

    def test_a_flipped_byte_in_any_blob_is_refused_by_name(self):
        for folder, name in self.images:
            for digest in sorted(os.listdir(os.path.join(folder, "blobs", "sha256"))):
                size = os.path.getsize(blob_path(folder, "sha256:" + digest))
                for at in {0, size // 2, size - 1}:
                    with self.subTest(folder, blob=digest, byte=at), tempfile.TemporaryDirectory() as scratch:
                        copy = shutil.copytree(folder, os.path.join(scratch, "copy"))
                        flip(blob_path(copy, "sha256:" + digest), at)
                        result = run("tree", copy, name)
                        self.assertEqual(result.returncode, 3, result.stderr)
                        self.assertIn(digest, result.stderr)

    def test_a_flipped_byte_is_refused_without_the_digests_of_the_blobs(self):
        """The inner chain alone (meta root, index, maps, chunk digests, footers) must see every flip."""
        for folder, name in self.images:
            for layer in manifest_layers(folder, name):
                size = os.path.getsize(blob_path(folder, layer["digest"]))
                for at in sorted({*range(0, size, max(1, size // 7)), size - 1, size - 20, size - 60, size - 100}):
                    with self.subTest(folder, layer=layer["digest"], byte=at):
                        self.assert_inner_chain_refuses(folder, name, layer["digest"], at)

    def assert_inner_chain_refuses(self, folder, name, digest, at):
        with tempfile.TemporaryDirectory() as scratch:
            copy = shutil.copytree(folder, os.path.join(scratch, "copy"))
            path = blob_path(copy, digest)
            flip(path, at)
            compare = layout.require_equal
            blind = lambda what, field, *values: None if field == "SHA-256" else compare(what, field, *values)
            no_diff_id = lambda what, field, *values: None if field == "diff_id" else compare(what, field, *values)
            with mock.patch.object(layout, "require_equal", blind), \
                    mock.patch.object(parts, "require_equal", no_diff_id), \
                    mock.patch("builtins.print"), self.assertRaises(layout.ReaderError):
                dimsum_reader.verify(copy, name)

    def test_extract_gives_the_files_of_the_tree(self):
        for folder, name in self.images:
            with self.subTest(folder), tempfile.TemporaryDirectory() as scratch:
                target = os.fsencode(os.path.join(scratch, "root"))
                self.assertEqual(run("extract", folder, name, os.fsdecode(target)).returncode, 0)
                for line in map(json.loads, run("tree", folder, name).stdout.splitlines()):
                    path = os.path.join(target, unescape(line["path"]))
                    if line["kind"] == "f":
                        with open(path, "rb") as file:
                            self.assertEqual(hashlib.sha256(file.read()).hexdigest(), line["sha256"], line["path"])
                    elif line["kind"] == "l":
                        self.assertEqual(os.readlink(path), unescape(line["target"]))
                    elif line["kind"] == "d":
                        self.assertTrue(os.path.isdir(path))


def manifest_layers(folder, name):
    with open(os.path.join(folder, "index.json")) as file:
        for descriptor in json.load(file)["manifests"]:
            if name in (descriptor.get("annotations", {}).get(layout.REF_NAME), descriptor["digest"]):
                with open(blob_path(folder, descriptor["digest"])) as manifest:
                    return json.load(manifest)["layers"]


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


def unescape(text):
    return unquote_to_bytes(text)


class Blake3(unittest.TestCase):
    # Input bytes i % 251, the pattern of the official test vectors.
    PATTERN = bytes(i % 251 for i in range(103000))
    LENGTHS = (0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 3073, 16384, 16385, 32769, 102400)

    def test_the_empty_input_has_the_published_digest(self):
        self.assertEqual(b3.digest(b"").hex(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262")

    def test_the_chaining_values_of_groups_combine_to_the_digest(self):
        for length in self.LENGTHS:
            data = self.PATTERN[:length]
            self.assertEqual(b3.combine(b3.group_values(data)), b3.digest(data), length)

    def test_b3sum_agrees(self):
        skip_unless(self, shutil.which("b3sum"), "b3sum is not installed")
        items = [self.PATTERN[:length] for length in self.LENGTHS]
        self.assertEqual(b3.digest_many(items), hashing._b3sum(items))


class Slices(unittest.TestCase):
    def test_a_short_last_slice_is_joined_to_the_one_before(self):
        size = 256 * limits.KIB
        self.assertEqual(chunking.cut(2 * size + size // 4 - 1, size), [size, size + size // 4 - 1])
        self.assertEqual(chunking.cut(2 * size + size // 4, size), [size, size, size // 4])
        self.assertEqual(chunking.cut(size // 4 - 1, size), [size // 4 - 1])


class OtherWriters(unittest.TestCase):
    """Images of mkfs.erofs: the format is the kernel's, so a reader of it must read these too."""

    def test_images_of_mkfs_erofs_read_as_their_source(self):
        skip_unless(self, shutil.which("mkfs.erofs"), "mkfs.erofs is not installed")
        for option in ([], ["--chunksize=4096"], ["-Enoinline_data"], ["-x", "2", "-T", "1234567890"]):
            with self.subTest(option), tempfile.TemporaryDirectory() as scratch:
                source = os.path.join(scratch, "source")
                make_source(source)
                image = os.path.join(scratch, "image")
                subprocess.run(["mkfs.erofs", *option, image, source], check=True, capture_output=True)
                self.assert_same(source, image)

    def assert_same(self, source, image):
        with open(image, "rb") as file:
            data = file.read()
        # To a foreign image everything is "meta" and everything is data: both parts are the whole image.
        space = flat.Flat([("image", data, 0), ("image", data, len(data) // 4096)])
        reader = erofs.Erofs(space, "image", strict=False)
        lines = {line["path"]: line for line in map(json.loads, tree_json.lines(reader))}
        expected = {""}
        for folder, directories, files in os.walk(source):
            for name in directories + files:
                path = os.path.join(folder, name)
                line = lines[tree_json.escape(os.fsencode(os.path.relpath(path, source)))]
                expected.add(line["path"])
                status = os.lstat(path)
                self.assertEqual(int(line["mode"], 8), stat.S_IMODE(status.st_mode))
                self.assertEqual((line["uid"], line["gid"]), (status.st_uid, status.st_gid))
                if line["kind"] == "f":
                    with open(path, "rb") as file:
                        self.assertEqual(hashlib.sha256(file.read()).hexdigest(), line["sha256"], path)
                    self.assertEqual(line["nlink"], status.st_nlink)
                if line["kind"] == "l":
                    self.assertEqual(line["target"], os.readlink(path))
        self.assertEqual(set(lines), expected)


def make_source(source):
    os.makedirs(os.path.join(source, "many"))
    for number in range(600):
        with open(os.path.join(source, "many", f"a name of some length {number}"), "wb") as file:
            file.write(bytes([number % 256]) * (number * 37))
    for name, size in (("empty", 0), ("block", 4096), ("big", 1234567)):
        with open(os.path.join(source, name), "wb") as file:
            file.write(bytes(i % 251 for i in range(size)))
    os.link(os.path.join(source, "big"), os.path.join(source, "zz second name"))
    os.symlink("x" * 3000, os.path.join(source, "long"))
    os.symlink("big", os.path.join(source, "short"))
    os.mkfifo(os.path.join(source, "fifo"))


if __name__ == "__main__":
    unittest.main()
