"""Knee angles over time, of everybody in a video: a table, OUT.csv, and a plot, OUT.svg (left solid, right dashed).

python examples/knee_angles.py clip.mp4 knees
"""

import sys
from collections import defaultdict
from pathlib import Path

import featherpose

COLORS = ("#d1495b", "#00798c", "#edae49", "#5b5f97")


def main(video: str, out: str, whole_image: bool = False) -> None:
    """Write both files."""
    rows = ["timestamp,id,left_knee,right_knee"]
    curves: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
    for frame, poses in featherpose.stream(video, whole_image=whole_image):
        angles = {side: poses.angles(f"{side}_hip", f"{side}_knee", f"{side}_ankle") for side in ("left", "right")}
        for row, person in enumerate(poses.ids.tolist()):
            # NaN where a keypoint is not sure: an empty field, and no point of the curve.
            texts = {side: "" if (angle := found[row]) != angle else f"{angle:.1f}" for side, found in angles.items()}
            rows.append(f"{frame.timestamp:.3f},{person},{texts['left']},{texts['right']}")
            for side, text in texts.items():
                if text:
                    curves[person, side].append(f"{100 * frame.timestamp:.1f},{180 - float(text):.1f}")
    Path(f"{out}.csv").write_text("\n".join([*rows, ""]))
    lines = ['<svg xmlns="http://www.w3.org/2000/svg" style="background: white"><g fill="none">']
    for (person, side), points in curves.items():
        style = f'stroke="{COLORS[person % len(COLORS)]}" stroke-dasharray="{4 if side == "right" else 0}"'
        lines.append(f'<polyline {style} points="{" ".join(points)}"/>')
    Path(f"{out}.svg").write_text("\n".join([*lines, "</g></svg>", ""]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "--whole-image" in sys.argv)
