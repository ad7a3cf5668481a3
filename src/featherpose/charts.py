"""SVG charts: the validation curves of a training run, and the reliability curve of keypoint scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

WIDTH = 640
HEIGHT = 300
MARGIN = 44  # around the plot, for the labels
FONT = 'font-family="sans-serif" font-size="12"'
COLORS = {
    "oks_accuracy": "#d1495b",
    "oks": "#edae49",
    "pck": "#00798c",
    "box_ap": "#d1495b",
    "box_ap50": "#edae49",
    "box_recall": "#00798c",
}
METRIC_NAMES = {
    "oks_accuracy": "OKS accuracy",
    "oks": "OKS",
    "pck": "PCK",
    "box_ap": "AP",
    "box_ap50": "AP50",
    "box_recall": "recall",
    "loss": "loss",
    "conf": "conf",
}
"""Names of the validation metrics as shown to users."""


def format_score(name: str, value: float) -> str:
    """Metric and its value -> text: percent with one decimal; a loss and a score threshold with three."""
    return f"{value:.3f}" if name in ("loss", "conf") else f"{value:.1f}"


def curves(history: Sequence[dict[str, Any]]) -> str:
    """Validation results, each with its epoch and scores by name -> SVG document; scores in percent are drawn."""
    last = max(1, history[-1]["epoch"])
    known = {name: color for name, color in COLORS.items() if name in history[-1]}
    # A score is nan where the validation set has nothing that it measures.
    curves = {name: [(r["epoch"], r[name]) for r in history if math.isfinite(r[name])] for name in known}
    top = max(10.0, *(10 * math.ceil(score / 10) for curve in curves.values() for _, score in curve))
    lines = [_line([(x / last, score / top) for x, score in curves[name]], color) for name, color in known.items()]
    names = [
        f'<text x="{MARGIN + 12 + 100 * i}" y="24" fill="{color}">{METRIC_NAMES[name]}</text>'
        for i, (name, color) in enumerate(known.items())
    ]
    grid = [_grid(part / 5, f"{top * part / 5:.0f}") for part in range(6)]
    ends = [_label(0, "epoch 1"), _label(1, str(history[-1]["epoch"] + 1))]
    return _document([*grid, *ends, *lines, *names])


def reliability(points: Sequence[tuple[float, float]]) -> str:
    """Mean score and fraction right of each bin, 0 to 1, by score -> SVG document, with the diagonal in gray."""
    grid = [_grid(part / 5, f"{20 * part} %") for part in range(6)]
    ends = [_label(part / 5, f"{part / 5:.1f}") for part in range(6)]
    title = f'<text x="{MARGIN + 12}" y="24">fraction of keypoints that is right, by score</text>'
    return _document([*grid, *ends, _line([(0, 0), (1, 1)], "#bbb"), _line(points, COLORS["oks"]), title])


def _document(parts: Sequence[str]) -> str:
    """Elements -> SVG document on a white background."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
            '<rect width="100%" height="100%" fill="white"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _to_pixels(x: float, y: float) -> tuple[float, float]:
    """Fractions of the plot, y upward -> pixels of the SVG, y downward."""
    plot_width = WIDTH - 2 * MARGIN
    plot_height = HEIGHT - 2 * MARGIN
    return MARGIN + x * plot_width, HEIGHT - MARGIN - y * plot_height


def _line(points: Sequence[tuple[float, float]], color: str) -> str:
    pixels = [_to_pixels(x, y) for x, y in points]
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{color}"/>' for x, y in pixels)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>{dots}'


def _grid(height: float, text: str) -> str:
    left, y = _to_pixels(0, height)
    right, _ = _to_pixels(1, height)
    return (
        f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#ddd"/>'
        f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#666">{text}</text>'
    )


def _label(x: float, text: str) -> str:
    left, bottom = _to_pixels(x, 0)
    return f'<text x="{left:.1f}" y="{bottom + 20:.1f}" text-anchor="middle" fill="#666">{text}</text>'
