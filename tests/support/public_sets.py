"""Draws sets of images and masks as public ones lie on a disk: their folders, names, formats and kinds of objects.

Axes: H height, W width, C channels.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

from tests.support.factories import write_image, zip_folder


class Drawing:
    """Draws fields of objects with a generator of its own, `count` images of about `size` pixels a side."""

    def __init__(self, seed: int, count: int, size: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.count = count
        self.size = size

    def discs(self, number: int, radius: tuple[float, float], shape: tuple[int, int] | None = None) -> np.ndarray:
        """Labels HW of discs, 1.. in the order of drawing; each is in one piece."""
        height, width = shape or (self.size, self.size)
        y, x = np.ogrid[:height, :width]
        labels_HW = np.zeros((height, width), np.uint16)
        for _ in range(number):
            r = self.rng.uniform(*radius)
            row, column = self.rng.uniform(r, height - r), self.rng.uniform(r, width - r)
            disc = np.hypot(y - row, x - column) <= r
            if not labels_HW[ndimage.binary_dilation(disc, iterations=2)].any():
                labels_HW[disc] = labels_HW.max() + 1
        return labels_HW

    def curves(self, number: int, width_px: int, shape: tuple[int, int] | None = None) -> np.ndarray:
        """Mask HW of thin curves from side to side."""
        height, width = shape or (self.size, self.size)
        mask_HW = np.zeros((height, width), bool)
        x = np.arange(width)
        for _ in range(number):
            phase, waves, bend = self.rng.uniform(0, 6), self.rng.uniform(0.5, 2), self.rng.uniform(3, height / 8)
            rows = self.rng.uniform(0, height) + bend * np.sin(phase + waves * 2 * np.pi * x / width)
            for offset in range(width_px):
                mask_HW[np.clip(rows + offset, 0, height - 1).astype(int), x] = True
        return mask_HW

    def grey(self, signal_HW: np.ndarray, low: float = 40, high: float = 170, noise: float = 18) -> np.ndarray:
        """Image HW uint8: background and signal, a little blurred, with noise."""
        level_HW = ndimage.gaussian_filter(low + (high - low) * signal_HW.astype(float), 1.0)
        noisy = level_HW + self.rng.normal(0, noise, level_HW.shape)
        image: np.ndarray = np.clip(noisy, 0, 255).astype(np.uint8)
        return image

    def rgb(self, signal_HW: np.ndarray) -> np.ndarray:
        """Image HWC uint8: dark violet on pink."""
        pink, violet = np.array([230.0, 180.0, 205.0]), np.array([90.0, 60.0, 140.0])
        share_HW1 = ndimage.gaussian_filter(signal_HW.astype(float), 1.0)[..., None]
        noisy = pink + (violet - pink) * share_HW1 + self.rng.normal(0, 15, (*signal_HW.shape, 3))
        image: np.ndarray = np.clip(noisy, 0, 255).astype(np.uint8)
        return image


def binary(labels_HW: np.ndarray, value: int = 255) -> np.ndarray:
    """Mask HW uint8 of 0 and a value."""
    return np.where(labels_HW > 0, value, 0).astype(np.uint8)


def write_tiff(path: Path, array: np.ndarray, **options: object) -> None:
    """Write an array as TIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, **options)


def nuclei(folder: Path, draw: Drawing) -> str:
    """Folders images and masks; three images of each patient, by name."""
    for i in range(draw.count):
        labels_HW = draw.discs(10, (4, 8))
        name = f"patient{i // 3:02d}_{i % 3}.png"
        write_image(folder / "nuclei/images" / name, draw.grey(labels_HW > 0))
        write_image(folder / "nuclei/masks" / name, binary(labels_HW))
    return str(folder / "nuclei")


def vessels(folder: Path, draw: Drawing) -> str:
    """DRIVE's folders and names, RGB TIFF, thin curves."""
    for i in range(21, 21 + draw.count):
        mask_HW = draw.curves(5, 2)
        write_tiff(folder / f"vessels/training/images/{i}_training.tif", draw.rgb(mask_HW), photometric="rgb")
        write_image(folder / f"vessels/training/1st_manual/{i}_manual1.png", binary(mask_HW))
    return str(folder / "vessels")


def spots(folder: Path, draw: Drawing) -> str:
    """Ids of many small objects, uint16 TIFF, beside images with the same names."""
    for i in range(draw.count):
        labels_HW = draw.discs(40, (1.5, 3))
        write_tiff(folder / f"spots/img/f{i:02d}.tif", draw.grey(labels_HW > 0))
        write_tiff(folder / f"spots/labels/f{i:02d}.tif", labels_HW)
    return str(folder / "spots")


def rings(folder: Path, draw: Drawing) -> str:
    """Three classes as 0, 1, 2."""
    for i in range(draw.count):
        outer_HW = draw.discs(3, (9, 14)) > 0
        inner_HW = ndimage.binary_erosion(outer_HW, iterations=4)
        mask_HW = outer_HW.astype(np.uint8) + inner_HW
        write_image(folder / f"rings/images/{i:02d}.png", draw.grey(mask_HW / 2))
        write_image(folder / f"rings/annotations/{i:02d}.png", mask_HW)
    return str(folder / "rings")


def sixteen_bits(folder: Path, draw: Drawing) -> str:
    """12-bit values in uint16 TIFF; masks of 0 and 1."""
    for i in range(draw.count):
        labels_HW = draw.discs(8, (4, 8))
        write_tiff(folder / f"camera/raw/s{i:02d}.tif", draw.grey(labels_HW > 0).astype(np.uint16) * 16)
        write_image(folder / f"camera/gt/s{i:02d}.png", binary(labels_HW, 1))
    return str(folder / "camera")


def tiny(folder: Path, draw: Drawing) -> str:
    """Images of 24x24 pixels whose masks are called x_mask."""
    for i in range(draw.count):
        labels_HW = draw.discs(1, (5, 8), (24, 24))
        write_image(folder / f"tiny/c{i:02d}.png", draw.grey(labels_HW > 0))
        write_image(folder / f"tiny/c{i:02d}_mask.png", binary(labels_HW))
    return str(folder / "tiny")


def large(folder: Path, draw: Drawing) -> str:
    """Large images with thin fibres."""
    shape = (9 * draw.size, 10 * draw.size)
    for i in range(draw.count):
        mask_HW = draw.curves(12, 4, shape)
        write_image(folder / f"large/images/{i:02d}.png", draw.grey(mask_HW))
        write_image(folder / f"large/masks/{i:02d}.png", binary(mask_HW))
    return str(folder / "large")


def by_object(folder: Path, draw: Drawing) -> str:
    """The Data Science Bowl's layout in a zip: a mask a nucleus, RGBA images with equal channels."""
    for i in range(draw.count):
        labels_HW = draw.discs(6, (4, 8))
        home = folder / f"bowl/id{i:02d}"
        alpha_HW = np.full(labels_HW.shape, 255, np.uint8)
        grey_HW = draw.grey(labels_HW > 0, low=10, high=60, noise=5)
        write_image(home / f"images/id{i:02d}.png", np.dstack([grey_HW, grey_HW, grey_HW, alpha_HW]))
        for label in range(1, labels_HW.max() + 1):
            write_image(home / f"masks/{label}.png", binary(labels_HW == label))
    return str(zip_folder(folder / "bowl", folder / "bowl.zip"))


def nnunet(folder: Path, draw: Drawing) -> str:
    """nnU-Net's raw folders, two channels in files of their own, classes named in dataset.json."""
    home = folder / "Dataset007_Tumour"
    for i in range(draw.count):
        tumour_HW = draw.discs(2, (6, 10)) > 0
        core_HW = ndimage.binary_erosion(tumour_HW, iterations=3)
        write_image(home / f"imagesTr/case_{i:03d}_0000.png", draw.grey(tumour_HW))
        write_image(home / f"imagesTr/case_{i:03d}_0001.png", draw.grey(core_HW))
        write_image(home / f"labelsTr/case_{i:03d}.png", tumour_HW.astype(np.uint8) + core_HW)
        write_image(home / f"imagesTs/case_{100 + i}_0000.png", draw.grey(tumour_HW))
    about = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "oedema": 1, "core": 2}}
    (home / "dataset.json").write_text(json.dumps(about))
    return str(home)


def lesions(folder: Path, draw: Drawing) -> str:
    """ISIC's names in one folder: JPEG images of several aspect ratios, PNG masks, one large object each."""
    for i in range(draw.count):
        shape = (draw.size, draw.size + draw.size // 2 * (i % 2))
        mask_HW = draw.discs(1, (draw.size / 5, draw.size / 3), shape) > 0
        path = folder / f"isic/ISIC_{i:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.rgb(mask_HW)).save(path, quality=95)
        write_image(folder / f"isic/ISIC_{i:07d}_segmentation.png", binary(mask_HW))
    return str(folder / "isic")


def csv_table(folder: Path, draw: Drawing) -> str:
    """A table with groups, beside files whose names say nothing."""
    rows = ["image,mask,group"]
    for i in range(draw.count):
        labels_HW = draw.discs(6, (4, 8))
        write_image(folder / f"table/pixels/a{i:02d}.png", draw.grey(labels_HW > 0))
        write_image(folder / f"table/pixels/b{i:02d}.png", binary(labels_HW))
        rows.append(f"pixels/a{i:02d}.png,pixels/b{i:02d}.png,mouse{i // 2}")
    (folder / "table/table.csv").write_text("\n".join(rows) + "\n")
    return str(folder / "table")


def bids(folder: Path, draw: Drawing) -> str:
    """Microscopy in BIDS, with the pixel size in a sidecar."""
    for i in range(draw.count):
        labels_HW = draw.discs(6, (4, 8))
        stem = f"sub-rat{i // 2:02d}/micr/sub-rat{i // 2:02d}_sample-{i:02d}_SEM"
        write_image(folder / f"axons/{stem}.png", draw.grey(labels_HW > 0))
        write_image(folder / f"axons/derivatives/labels/{stem}_seg-axon.png", binary(labels_HW))
        (folder / f"axons/{stem}.json").write_text('{"PixelSize": [0.1, 0.1], "PixelSizeUnits": "um"}')
    return str(folder / "axons")


def jpeg_masks(folder: Path, draw: Drawing) -> str:
    """Masks saved as JPEG, which leaves other values around 0 and 255; train and val folders."""
    for i in range(draw.count):
        labels_HW = draw.discs(2, (8, 12))
        subset = "train" if i % 3 else "val"
        write_image(folder / f"polyps/{subset}/images/p{i:02d}.png", draw.rgb(labels_HW > 0))
        stream = io.BytesIO()
        Image.fromarray(binary(labels_HW)).save(stream, "JPEG", quality=90)
        path = folder / f"polyps/{subset}/masks/p{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream.getvalue())
    return str(folder / "polyps")


def eyes(folder: Path, draw: Drawing) -> str:
    """CHASE_DB1's names: left and right of each child."""
    for i in range(draw.count):
        mask_HW = draw.curves(4, 3)
        stem = f"Image_{i // 2 + 1:02d}{'LR'[i % 2]}"
        path = folder / f"chase/{stem}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.rgb(mask_HW)).save(path, quality=95)
        write_image(folder / f"chase/{stem}_1stHO.png", binary(mask_HW))
    return str(folder / "chase")


def hounsfield(folder: Path, draw: Drawing) -> str:
    """float32 values in units of their own; slices of each case in its folder; most masks empty."""
    for i in range(draw.count):
        mask_HW = (draw.discs(1, (8, 12)) > 0) if i % 2 else np.zeros((draw.size, draw.size), bool)
        values_HW = draw.grey(mask_HW).astype(np.float32) - 100
        write_tiff(folder / f"ct/case{i // 3}/slice_{i % 3}.tif", values_HW)
        write_image(folder / f"ct/case{i // 3}/slice_{i % 3}_seg.png", binary(mask_HW, 1))
    return str(folder / "ct")


def lungs(folder: Path, draw: Drawing) -> str:
    """Montgomery's folders: a mask of the left and of the right lung; the third image has no mask."""
    for i in range(draw.count):
        left_HW, right_HW = (draw.discs(1, (8, 12), (draw.size, draw.size // 2)) > 0 for _ in range(2))
        name = f"MCUCXR_{i:04d}_0.png"
        write_image(folder / "xray/CXR_png" / name, draw.grey(np.hstack([left_HW, right_HW])))
        if i == 2:
            continue
        empty_HW = np.zeros_like(left_HW)
        write_image(folder / "xray/ManualMask/leftMask" / name, binary(np.hstack([left_HW, empty_HW])))
        write_image(folder / "xray/ManualMask/rightMask" / name, binary(np.hstack([empty_HW, right_HW])))
    return str(folder / "xray")


def fundus(folder: Path, draw: Drawing) -> str:
    """A mask of arteries and one of veins beside each image, by the ends of names."""
    for i in range(draw.count):
        artery_HW, vein_HW = draw.curves(3, 2), draw.curves(3, 2)
        vein_HW &= ~artery_HW
        write_image(folder / f"fundus/{i:02d}.png", draw.rgb(artery_HW | vein_HW))
        write_image(folder / f"fundus/{i:02d}_artery.png", binary(artery_HW))
        write_image(folder / f"fundus/{i:02d}_vein.png", binary(vein_HW))
    return str(folder / "fundus")


def coloured(folder: Path, draw: Drawing) -> str:
    """Masks in colours: black, red rings, green cores."""
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 0]], np.uint8)
    for i in range(draw.count):
        outer_HW = draw.discs(3, (9, 14)) > 0
        classes_HW = outer_HW.astype(np.uint8) + ndimage.binary_erosion(outer_HW, iterations=4)
        write_image(folder / f"painted/JPEGImages/{i:02d}.png", draw.rgb(classes_HW / 2))
        write_image(folder / f"painted/SegmentationClass/{i:02d}.png", colours[classes_HW])
    return str(folder / "painted")


def coco(folder: Path, draw: Drawing) -> str:
    """COCO's JSON of boxes as polygons, two of its three categories used."""
    images: list[object] = []
    annotations: list[object] = []
    for i in range(draw.count):
        signal_HW = np.zeros((draw.size, draw.size), bool)
        for category in (1, 3):
            top, left = (int(side) for side in draw.rng.integers(4, draw.size - 20, 2))
            signal_HW[top : top + 12, left : left + 12] = True
            corners = [left, top, left + 12, top, left + 12, top + 12, left, top + 12]
            annotation = {"id": len(annotations), "image_id": i, "category_id": category, "segmentation": [corners]}
            annotations.append(annotation)
        write_image(folder / f"coco/images/{i:02d}.png", draw.grey(signal_HW))
        images.append({"id": i, "file_name": f"{i:02d}.png", "height": draw.size, "width": draw.size})
    categories = [{"id": number, "name": name} for number, name in ((1, "mitosis"), (2, "unused"), (3, "debris"))]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco/annotations.json").write_text(json.dumps(document))
    return str(folder / "coco")


def labelme(folder: Path, draw: Drawing) -> str:
    """labelme's JSON beside each image."""
    for i in range(draw.count):
        signal_HW = np.zeros((draw.size, draw.size), bool)
        top, left = (int(side) for side in draw.rng.integers(4, draw.size - 24, 2))
        signal_HW[top : top + 16, left : left + 16] = True
        write_image(folder / f"labelled/{i:02d}.png", draw.grey(signal_HW))
        corners = [[left, top], [left + 16, top], [left + 16, top + 16], [left, top + 16]]
        shape = {"label": "gland", "points": corners, "shape_type": "polygon"}
        document = {"imageHeight": draw.size, "imageWidth": draw.size, "shapes": [shape]}
        (folder / f"labelled/{i:02d}.json").write_text(json.dumps(document))
    return str(folder / "labelled")


def run_lengths(folder: Path, draw: Drawing) -> str:
    """Kaggle's table of run lengths: down the columns, counted from 1."""
    rows = ["ImageId,EncodedPixels"]
    for i in range(draw.count):
        labels_HW = draw.discs(4, (4, 8))
        write_image(folder / f"kaggle/train/a{i:02d}.png", draw.grey(labels_HW > 0))
        for label in range(1, labels_HW.max() + 1):
            flat = np.flatnonzero(label == labels_HW.T)
            starts = flat[np.insert(np.diff(flat) > 1, 0, True)]
            ends = flat[np.append(np.diff(flat) > 1, True)]
            runs = " ".join(f"{start + 1} {end - start + 1}" for start, end in zip(starts, ends, strict=True))
            rows.append(f"a{i:02d},{runs}")
    (folder / "kaggle/train.csv").write_text("\n".join(rows) + "\n")
    return str(folder / "kaggle")


SETS: dict[str, Callable[[Path, Drawing], str]] = {
    "nuclei": nuclei,
    "vessels": vessels,
    "spots": spots,
    "rings": rings,
    "sixteen_bits": sixteen_bits,
    "tiny": tiny,
    "large": large,
    "by_object": by_object,
    "nnunet": nnunet,
    "lesions": lesions,
    "csv_table": csv_table,
    "bids": bids,
    "jpeg_masks": jpeg_masks,
    "eyes": eyes,
    "hounsfield": hounsfield,
    "lungs": lungs,
    "fundus": fundus,
    "coloured": coloured,
    "coco": coco,
    "labelme": labelme,
    "run_lengths": run_lengths,
}


def write_set(name: str, folder: Path, count: int = 12, size: int = 64, seed: int = 0) -> str:
    """Write a set into a folder; return its source."""
    return SETS[name](folder, Drawing(seed, count, size))
