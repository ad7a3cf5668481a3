"""Count repetitions of everybody in a video, such as squats, by an angle that becomes small and large again.

python examples/count_repetitions.py squats.mp4
python examples/count_repetitions.py curls.mp4 --keypoints left_shoulder left_elbow left_wrist --bent 60
"""

import argparse
from collections import defaultdict

import featherpose


def main() -> None:
    """Print a line for each repetition."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", help="file, address or index of a camera")
    parser.add_argument("--keypoints", nargs=3, default=["left_hip", "left_knee", "left_ankle"])
    parser.add_argument("--bent", type=float, default=100, help="degrees below which the position is bent")
    parser.add_argument("--straight", type=float, default=150, help="degrees above which it is straight again")
    parser.add_argument("--whole-image", action="store_true", help="one person fills the frames: no detector")
    args = parser.parse_args()

    is_bent: defaultdict[int, bool] = defaultdict(bool)
    counts: defaultdict[int, int] = defaultdict(int)
    for frame, poses in featherpose.stream(args.video, whole_image=args.whole_image):
        angles = poses.angles(*args.keypoints)
        for person, angle in zip(poses.ids.tolist(), angles.tolist(), strict=True):
            # Two thresholds: an angle that trembles around one of them counts once. NaN, unknown, changes nothing.
            if angle < args.bent:
                is_bent[person] = True
            elif angle > args.straight and is_bent[person]:
                is_bent[person] = False
                counts[person] += 1
                print(f"{frame.timestamp:.2f} s: person {person}, repetition {counts[person]}")


if __name__ == "__main__":
    main()
