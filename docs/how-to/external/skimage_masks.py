"""A pipeline of scikit-image as an external candidate of SegOps: python skimage_masks.py [SMALLEST_PX].

It needs no weights: a smoothed image is cut by Otsu's threshold, the smaller part is objects, and a watershed from the
peaks of the distance to the border parts those that touch.
"""

import sys

import numpy as np
import tifffile
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import watershed

smallest_px = int(sys.argv[1]) if len(sys.argv) > 1 else 20


def segment(image):
    """Return numbered objects, 0 for background, of a uint16 image H, W or H, W, C."""
    grey = rgb2gray(image) if image.ndim == 3 and image.shape[-1] == 3 else image.reshape(*image.shape[:2], -1).mean(-1)
    smooth = gaussian(grey, 1)
    found = smooth > threshold_otsu(smooth) if smooth.min() < smooth.max() else np.zeros(smooth.shape, bool)
    found = ndimage.binary_fill_holes(~found if found.mean() > 0.5 else found)
    pieces, _ = ndimage.label(found)
    found &= np.bincount(pieces.ravel())[pieces] >= smallest_px
    depth = gaussian(ndimage.distance_transform_edt(found), 1)
    seeds = np.zeros(found.shape, np.int32)
    peaks = peak_local_max(depth, min_distance=4, labels=ndimage.label(found)[0])
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-depth, seeds, mask=found)


for line in sys.stdin:
    source, target = line.rstrip("\n").split("\t")
    tifffile.imwrite(target, segment(tifffile.imread(source)).astype(np.int32))
    print("done", flush=True)
