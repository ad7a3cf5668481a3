"""Make faces in a video unrecognizable. Look through the result: a face that was not found stays as it is.

python examples/blur_faces.py clip.mp4 blurred.mp4
"""

import sys
from pathlib import Path

import cv2
import numpy as np

import featherpose
from featherpose.runtime.video_sinks import DrawnVideo

HEAD = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")


def pixelate(image: np.ndarray, center: np.ndarray, radius: float) -> None:
    """Leave 6 x 6 colors of a square, in place."""
    left, top, right, bottom = np.clip([*(center - radius), *(center + radius)], 0, image.shape[1::-1] * 2).astype(int)
    part = image[top:bottom, left:right]
    if part.size:
        part[:] = cv2.resize(cv2.resize(part, (6, 6), interpolation=cv2.INTER_AREA), part.shape[1::-1])


def main(video: str, out: str, whole_image: bool = False) -> None:
    """Write the video with its sound, if ffmpeg is there."""
    sink = DrawnVideo(Path(out), cv2.VideoCapture(video).get(cv2.CAP_PROP_FPS), audio_from=Path(video))
    for frame, poses in featherpose.stream(video, whole_image=whole_image):
        for head in np.stack([poses.keypoint(name) for name in HEAD], axis=1):  # (5, 3)
            sure = head[head[:, 2] > 0.2, :2]
            if len(sure) > 1:
                pixelate(frame.image, sure.mean(axis=0), 1.5 * np.ptp(sure, axis=0).max())
        sink.write(frame.image, frame.timestamp)
    sink.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "--whole-image" in sys.argv)
