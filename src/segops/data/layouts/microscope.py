"""Draws a field of view: where nuclei lie, and how fluorescence and stained tissue show them.

Axes: H height, W width, C channels. Everything is drawn with one generator per field, in a fixed order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

_STAINED_EVERY = 3
# Optical density in RGB: haematoxylin as in Ruifrok and Johnston 2001, eosin as in Macenko et al. 2009.
_HAEMATOXYLIN = np.array([0.650, 0.704, 0.286])
_EOSIN = np.array([0.216, 0.801, 0.558])


@dataclass(frozen=True)
class Nucleus:
    """A nucleus: centre and radius in pixels, elongation, turn and outline (Fourier terms 2..4 of the radius)."""

    row: float
    column: float
    radius_px: float
    elongation: float
    turn_rad: float
    outline: np.ndarray

    def gap(self, other: Nucleus) -> float:
        """Return the distance of two centres over the sum of the radii: 1 where circles touch."""
        return math.hypot(self.row - other.row, self.column - other.column) / (self.radius_px + other.radius_px)

    def depth(self, rows_H1: np.ndarray, columns_1W: np.ndarray) -> np.ndarray:
        """Return the signed share of the radius by which a pixel lies inside, HW: 1 at the centre, 0 on the outline."""
        y_HW, x_HW = rows_H1 - self.row, columns_1W - self.column
        along_HW = (np.cos(self.turn_rad) * x_HW + np.sin(self.turn_rad) * y_HW) / self.elongation
        across_HW = (np.cos(self.turn_rad) * y_HW - np.sin(self.turn_rad) * x_HW) * self.elongation
        angle_HW = np.arctan2(across_HW, along_HW)
        reach_HW = 1 + sum(a * np.cos((k + 2) * angle_HW + phase) for k, (a, phase) in enumerate(self.outline))
        depth: np.ndarray = 1 - np.hypot(along_HW, across_HW) / (self.radius_px * reach_HW)
        return depth


def draw_field(number: int, size_px: int, seed: int, channels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw field `number` of the world named by `seed`.

    Args:
        channels: 0: as the field is; else that many fluorescent stains of it, each of its own strength and noise.

    Returns: the image, HWC uint8, C 1 (fluorescence), 3 (stained tissue) or `channels`, and the labels, HW uint16, 0
    outside nuclei and a number per nucleus; each quarter of the field holds a nucleus.
    """
    rng = np.random.default_rng([seed, number])
    stained = not channels and number % _STAINED_EVERY == _STAINED_EVERY - 1
    nuclei = _place(rng, size_px, stained)
    labels_HW, depth_HW = _label(nuclei, size_px)
    draw = _draw_stained if stained else _draw_fluorescence
    drawn = [draw(rng, nuclei, labels_HW, depth_HW) for _ in range(channels or 1)]
    return np.concatenate(drawn, axis=-1), labels_HW


def _place(rng: np.random.Generator, size_px: int, stained: bool) -> list[Nucleus]:
    """Scatter nuclei, some in clumps; neighbours may touch and overlap a little."""
    mean_px = rng.uniform(5.0, 8.5) if stained else rng.uniform(5.0, 11.0)
    coverage = rng.uniform(0.12, 0.30) if stained else rng.uniform(0.06, 0.26)
    clumped = rng.uniform(0.2, 0.7)
    wanted = max(4, int(coverage * size_px**2 / (np.pi * mean_px**2)))
    quarter = size_px / 4
    nuclei = [
        _nucleus(rng, quarter * (1 + 2 * i) + rng.uniform(-0.5, 0.5, 2) * quarter, mean_px)
        for i in np.array([(0, 0), (0, 1), (1, 0), (1, 1)])
    ]
    for _ in range(20 * wanted):
        if len(nuclei) >= wanted:
            break
        if rng.random() < clumped:
            beside = nuclei[rng.integers(len(nuclei))]
            angle = rng.uniform(0, 2 * np.pi)
            centre = np.array([beside.row, beside.column]) + 1.9 * mean_px * np.array([np.sin(angle), np.cos(angle)])
        else:
            centre = rng.uniform(-mean_px, size_px + mean_px, 2)
        new = _nucleus(rng, centre, mean_px)
        if all(new.gap(old) > 0.85 for old in nuclei):
            nuclei.append(new)
    return nuclei


def _nucleus(rng: np.random.Generator, centre: np.ndarray, mean_px: float) -> Nucleus:
    """Draw a nucleus of random size, shape and turn at `centre`."""
    outline = np.stack([rng.normal(0, [0.06, 0.04, 0.025]), rng.uniform(0, 2 * np.pi, 3)], axis=1)
    radius_px = mean_px * float(np.clip(rng.lognormal(0, 0.2), 0.6, 1.6))
    return Nucleus(float(centre[0]), float(centre[1]), radius_px, rng.uniform(1.0, 1.3), rng.uniform(0, np.pi), outline)


def _label(nuclei: list[Nucleus], size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the nuclei's labels (earlier nuclei lie on top) and, inside them, the depth below the outline."""
    labels_HW = np.zeros((size_px, size_px), np.uint16)
    depth_HW = np.zeros((size_px, size_px))
    for label, nucleus in enumerate(nuclei, start=1):
        reach_px = 2 * nucleus.radius_px
        top, left = (max(0, int(at - reach_px)) for at in (nucleus.row, nucleus.column))
        bottom, right = (max(0, min(size_px, int(at + reach_px) + 2)) for at in (nucleus.row, nucleus.column))
        window = np.s_[top:bottom, left:right]
        depth = nucleus.depth(np.arange(top, bottom)[:, None], np.arange(left, right)[None])
        new = (depth > 0) & (labels_HW[window] == 0)
        labels_HW[window][new] = label
        depth_HW[window][new] = depth[new]
    return labels_HW, depth_HW


def _noise(rng: np.random.Generator, size_px: int, sigma_px: float) -> np.ndarray:
    """Return smooth noise of unit deviation, HW, features about `sigma_px` wide."""
    spectrum = np.fft.rfft2(rng.standard_normal((size_px, size_px)))
    smooth_HW = np.fft.irfft2(ndimage.fourier_gaussian(spectrum, sigma_px, n=size_px), s=(size_px, size_px))
    noise_HW: np.ndarray = (smooth_HW - smooth_HW.mean()) / smooth_HW.std()
    return noise_HW


def _light(rng: np.random.Generator, size_px: int, strength: float) -> np.ndarray:
    """Return uneven illumination, HW, about 1: brightest somewhere in the field, falling off from there."""
    y_H1, x_1W = np.linspace(-1, 1, size_px)[:, None], np.linspace(-1, 1, size_px)[None]
    row, column = rng.uniform(-0.8, 0.8, 2)
    light: np.ndarray = 1 - strength * ((y_H1 - row) ** 2 + (x_1W - column) ** 2) / 3
    return light


def _blobs(rng: np.random.Generator, size_px: int, count: int, radius_px: tuple[float, float]) -> np.ndarray:
    """Draw soft discs of random size and brightness, HW, 0..1: what isn't a nucleus and looks a little like it."""
    blobs_HW = np.zeros((size_px, size_px))
    for _ in range(count):
        row, column = rng.uniform(0, size_px, 2)
        width_px = rng.uniform(*radius_px)
        top, left = max(0, int(row - 2 * width_px)), max(0, int(column - 2 * width_px))
        window_HW = blobs_HW[top : int(row + 2 * width_px) + 1, left : int(column + 2 * width_px) + 1]
        rows, columns = np.ogrid[: window_HW.shape[0], : window_HW.shape[1]]
        distance_HW = np.hypot(rows + top - row, columns + left - column) / width_px
        np.maximum(window_HW, rng.uniform(0.3, 1) * np.exp(-(distance_HW**4)), out=window_HW)
    return blobs_HW


def _draw_fluorescence(
    rng: np.random.Generator, nuclei: list[Nucleus], labels_HW: np.ndarray, depth_HW: np.ndarray
) -> np.ndarray:
    """Show nuclei as bright on dark, HWC uint8, C 1: debris, haze, uneven light, photon and read-out noise."""
    size_px = len(labels_HW)
    photons = np.exp(rng.uniform(np.log(25), np.log(250)))
    brightness = np.append(0, np.clip(rng.lognormal(-0.35, rng.uniform(0.15, 0.5), len(nuclei)), 0.18, 1.4))
    chromatin_HW = 1 + 0.16 * _noise(rng, size_px, 1.2) + 0.12 * _noise(rng, size_px, 3.0)
    rounded_HW = 0.55 + 0.45 * np.sqrt(np.clip(depth_HW, 0, 1))
    nuclei_HW = brightness[labels_HW] * chromatin_HW * rounded_HW * (labels_HW > 0)
    debris_HW = _blobs(rng, size_px, rng.poisson(size_px / 40), (0.8, 2.2)) * rng.uniform(0.3, 0.9)
    ghosts_HW = ndimage.gaussian_filter(_blobs(rng, size_px, rng.poisson(4), (5, 10)), 4) * rng.uniform(0.05, 0.3)
    sharp_HW = ndimage.gaussian_filter(np.maximum(nuclei_HW, debris_HW), rng.uniform(0.7, 1.7))
    haze_HW = rng.uniform(0.08, 0.3) * ndimage.gaussian_filter(nuclei_HW, 9.0)
    cytoplasm_HW = rng.uniform(0, 0.12) * np.clip(1 + 0.5 * _noise(rng, size_px, 6.0), 0, None)
    signal_HW = (sharp_HW + haze_HW + ghosts_HW + cytoplasm_HW) * _light(rng, size_px, rng.uniform(0.1, 0.75))
    counts_HW = rng.poisson(photons * (np.clip(signal_HW, 0, None) + rng.uniform(0.01, 0.08))) / photons
    counts_HW += rng.normal(0, rng.uniform(0.005, 0.03), labels_HW.shape)
    gain = rng.uniform(90, 230)
    return _to_bytes(gain * counts_HW + rng.uniform(2, 14))[..., None]


def _draw_stained(
    rng: np.random.Generator, nuclei: list[Nucleus], labels_HW: np.ndarray, depth_HW: np.ndarray
) -> np.ndarray:
    """Show nuclei in tissue stained with haematoxylin and eosin, HWC uint8 RGB."""
    size_px = len(labels_HW)
    uptake = np.append(0, np.clip(rng.normal(0.72, 0.16, len(nuclei)), 0.3, 1.2)) * rng.uniform(0.75, 1.25)
    rim_HW = 1 + 0.35 * np.exp(-np.clip(depth_HW, 0, 1) * 5)
    chromatin_HW = 1 + 0.22 * _noise(rng, size_px, 1.0) + 0.14 * _noise(rng, size_px, 2.2)
    inside_HW = labels_HW > 0
    blue_HW = uptake[labels_HW] * chromatin_HW * rim_HW * inside_HW
    smears_HW = _blobs(rng, size_px, rng.poisson(size_px / 30), (2, 6)) * rng.uniform(0.15, 0.45)
    blue_HW = np.maximum(blue_HW, smears_HW) + 0.06 * np.clip(1 + _noise(rng, size_px, 5.0), 0, None)
    tissue_HW = 0.22 * _fibres(rng, size_px) + 0.22 * _noise(rng, size_px, 8.0) + 0.08 * _noise(rng, size_px, 1.5)
    pink_HW = rng.uniform(0.25, 0.45) * np.clip(1 + tissue_HW, 0.15, None)
    lumen_HW = ndimage.gaussian_filter((_noise(rng, size_px, 14.0) > rng.uniform(1.1, 2.2)).astype(float), 1.5)
    pink_HW = pink_HW * (1 - 0.9 * lumen_HW * ~inside_HW) * (1 - 0.35 * inside_HW)
    cells_HW = _blobs(rng, size_px, rng.poisson(size_px / 50), (3, 5))  # red blood cells
    pink_HW = np.maximum(pink_HW, 0.75 * cells_HW * ~inside_HW)
    blur_px = rng.uniform(0.6, 1.3)
    blue_HW, pink_HW = (ndimage.gaussian_filter(stain_HW, blur_px) for stain_HW in (blue_HW, pink_HW))
    haematoxylin, eosin = (_tilt(rng, stain) for stain in (_HAEMATOXYLIN, _EOSIN))
    density_HWC = blue_HW[..., None] * haematoxylin + pink_HW[..., None] * eosin
    lamp_C = rng.uniform(0.9, 1.0) * np.array([1.0, rng.uniform(0.96, 1.0), rng.uniform(0.95, 1.0)])
    light_HWC = lamp_C * _light(rng, size_px, rng.uniform(0.05, 0.35))[..., None]
    rgb_HWC = light_HWC * np.exp(-density_HWC) + rng.normal(0, rng.uniform(0.008, 0.025), density_HWC.shape)
    return _to_bytes(250 * rgb_HWC)


def _to_bytes(levels: np.ndarray) -> np.ndarray:
    """Round levels to uint8, cut off at 0 and 255."""
    rounded: np.ndarray = np.clip(levels, 0, 255).round().astype(np.uint8)
    return rounded


def _fibres(rng: np.random.Generator, size_px: int) -> np.ndarray:
    """Return strands that follow a slowly turning direction, HW, of about unit deviation: connective tissue's weave."""
    angle_rad, period_px = rng.uniform(0, np.pi), rng.uniform(9, 18)
    y_H1, x_1W = np.arange(size_px)[:, None], np.arange(size_px)[None]
    across_HW = np.cos(angle_rad) * y_H1 + np.sin(angle_rad) * x_1W + 12 * _noise(rng, size_px, 24.0)
    frayed_HW = 2 * np.pi * across_HW / period_px + 1.3 * _noise(rng, size_px, 3.0)
    fibres: np.ndarray = np.sin(frayed_HW) * (1 + 0.7 * _noise(rng, size_px, 12.0))
    return fibres


def _tilt(rng: np.random.Generator, stain_C: np.ndarray) -> np.ndarray:
    """Vary a stain's colour and strength a little, as another laboratory would see it."""
    tilted_C = np.clip(stain_C + rng.normal(0, 0.035, 3), 0.02, None)
    strength: np.ndarray = rng.uniform(0.9, 1.35) * tilted_C / np.linalg.norm(tilted_C)
    return strength
