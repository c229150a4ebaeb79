"""From a name in an OCI layout to proven manifest, config and blobs (docs/format.md sections 1 and 8).

index.json is the only file that is believed: it names the digest of the manifest, and that is what the caller
pins. Every other byte is compared with a digest that was itself proven.
"""

import hashlib
import json
import mmap
import os
import re
from dataclasses import dataclass

import limits
from errors import ReaderError, require, require_equal

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
PACK_TYPE = "application/vnd.oci.image.layer.dimsum.pack.v1+zstd"
META_TYPE = "application/vnd.oci.image.layer.dimsum.meta.v1+zstd"
META_KEY = "containerd.io/snapshot/dimsum.meta"
ROOT_KEY = "containerd.io/snapshot/dimsum.root"
REF_NAME = "org.opencontainers.image.ref.name"


@dataclass
class Blob:
    """A layer whose bytes have the digest that the manifest names."""
    name: str       # for messages: "pack 0", "meta"
    digest: str
    path: str
    data: memoryview
    diff_id: str


@dataclass
class Image:
    """Everything of an image that SHA-256 proves."""
    manifest_digest: str
    packs: list
    meta: Blob
    meta_root: bytes
    slice_size: int
    bundle_size: int


def names(layout):
    """The names that index.json offers: the reference name, or the digest of an image without one."""
    return [d.get("annotations", {}).get(REF_NAME, d["digest"]) for d in _index(layout)]


def open_image(layout, name):
    """Proves manifest, config and layer blobs of the image `name`."""
    found = [d for d in _index(layout) if name in (d.get("annotations", {}).get(REF_NAME), d["digest"])]
    require(len({d["digest"] for d in found}) == 1, f"index.json of {layout}",
            f"has {len(found)} images named {name!r}, not one")
    _, raw = _read(layout, found[0], "manifest", limits.MANIFEST_BYTES)
    manifest = _json(raw, "manifest")
    _check_manifest(manifest)
    config = _json(_read(layout, manifest["config"], "config", limits.CONFIG_BYTES)[1], "config")
    layers = manifest["layers"]
    diff_ids = config.get("rootfs", {}).get("diff_ids", [])
    require_equal("config", "number of diff_ids", len(diff_ids), len(layers))
    filled = [entry for entry in config.get("history", []) if not entry.get("empty_layer")]
    require_equal("config", "number of history entries with a layer", len(filled), len(layers))
    blobs = []
    for number, (layer, diff_id) in enumerate(zip(layers, diff_ids)):
        label = "meta" if number == len(layers) - 1 else f"pack {number}"
        path, data = _read(layout, layer, label)
        blobs.append(Blob(label, layer["digest"], path, data, diff_id))
    slice_size, bundle_size = _options(manifest["annotations"])
    root = layers[-1]["annotations"][ROOT_KEY]
    return Image(found[0]["digest"], blobs[:-1], blobs[-1], bytes.fromhex(root.removeprefix("blake3:")),
                 slice_size, bundle_size)


def _index(layout):
    path = os.path.join(layout, "index.json")
    try:
        with open(path, "rb") as file:
            return _json(file.read(), path)["manifests"]
    except (OSError, KeyError) as error:
        raise ReaderError(path, f"is not the index of an OCI layout: {error}") from error


def _json(raw, what):
    try:
        value = json.loads(bytes(raw))
    except ValueError as error:
        raise ReaderError(what, f"is not JSON: {error}") from error
    require(isinstance(value, dict), what, "is not a JSON object")
    return value


def _check_manifest(manifest):
    require_equal("manifest", "mediaType", manifest.get("mediaType"), MANIFEST_TYPE)
    require_equal("manifest", "schemaVersion", manifest.get("schemaVersion"), 2)
    require_equal("manifest", "media type of the config", manifest.get("config", {}).get("mediaType"), CONFIG_TYPE)
    annotations = manifest.get("annotations", {})
    require_equal("manifest", "annotation io.dimsum.format", annotations.get("io.dimsum.format"), "1")
    require(re.fullmatch(r"zstd-[0-9.]+-[0-9]+", annotations.get("io.dimsum.encoder", "")), "manifest",
            "annotation io.dimsum.encoder is not an encoder id")
    layers = manifest.get("layers", [])
    require(layers, "manifest", "has no layers, so no meta")
    require(len(layers) - 1 <= limits.PACKS, "manifest", f"lists more than {limits.PACKS} packs")
    meta = layers[-1]
    root = meta.get("annotations", {}).get(ROOT_KEY, "")
    require(re.fullmatch("blake3:[0-9a-f]{64}", root), "manifest", f"meta root {root!r} is not a BLAKE3 digest")
    for number, layer in enumerate(layers):
        what = f"manifest, layer {number}"
        require_equal(what, "mediaType", layer.get("mediaType"), META_TYPE if layer is meta else PACK_TYPE)
        require_equal(what, META_KEY, layer.get("annotations", {}).get(META_KEY), meta["digest"])
        require_equal(what, ROOT_KEY, layer.get("annotations", {}).get(ROOT_KEY), root)


def _options(annotations):
    """(slice size, bundle size) in bytes."""
    text = annotations.get("io.dimsum.options", "")
    match = re.fullmatch(r"slice=([0-9]+),bundle=([0-9]+)", text)
    require(match, "manifest", f"annotation io.dimsum.options is {text!r}")
    slice_size, bundle_size = int(match[1]), int(match[2])
    power = lambda n: n & (n - 1) == 0
    require(power(slice_size) and 64 * limits.KIB <= slice_size <= 4 * limits.MIB
            and power(bundle_size) and 32 * limits.KIB <= bundle_size <= min(slice_size, limits.MIB),
            "manifest", f"options {text!r} are outside section 7")
    return slice_size, bundle_size


def _read(layout, descriptor, what, limit=None):
    """(path, bytes) of a blob, after its length and SHA-256 were found right."""
    digest = descriptor.get("digest", "")
    require(re.fullmatch("sha256:[0-9a-f]{64}", digest), what, f"digest {digest!r} is not a SHA-256 digest")
    what = f"{what} {digest}"
    require(limit is None or descriptor["size"] <= limit, what, f"is longer than {limit} bytes")
    path = os.path.join(layout, "blobs", "sha256", digest.removeprefix("sha256:"))
    try:
        size = os.path.getsize(path)
        require_equal(what, "size", size, descriptor.get("size"))
        with open(path, "rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
    except OSError as error:
        raise ReaderError(what, f"cannot be read: {error}") from error
    require_equal(what, "SHA-256", "sha256:" + hashlib.sha256(data).hexdigest(), digest)
    return path, data
