"""Small data sets in the layouts in which the large ones are published, with images of our own.

Each function writes one into a folder and returns what `find_dataset` takes. Every image is 200x120 pixels (width x
height), and the persons in it have keypoints on a line.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from featherpose import images
from featherpose.size import Size
from featherpose.skeleton import COCO17, CROWDPOSE14, LSP14, MPII16, Skeleton
from tests.data.conftest import random_image

SIZE = Size(height=120, width=200)
BOX = [60.0, 20.0, 40.0, 80.0]


def line(num_keypoints: int) -> np.ndarray:
    """(K, 2) points on the diagonal of BOX."""
    steps = np.linspace(0.1, 0.9, num_keypoints)
    return np.column_stack([BOX[0] + BOX[2] * steps, BOX[1] + BOX[3] * steps]).round(2)


def flat(num_keypoints: int) -> list[float]:
    """x, y, v of the points of `line`, all visible."""
    return [float(value) for x, y in line(num_keypoints) for value in (x, y, 2)]


def write_images(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        images.write(folder / name, random_image(SIZE, seed))


def coco_document(names: list[str], skeleton: Skeleton, first_id: int = 1, **of_image: Any) -> dict[str, Any]:
    """Content of an annotation file with one person per image."""
    ids = range(first_id, first_id + len(names))
    records = [{"id": i, "file_name": name, **SIZE.to_dict(), **of_image} for i, name in zip(ids, names, strict=True)]
    num_keypoints = skeleton.num_keypoints
    persons = [
        {"id": 10 * i, "image_id": i, "category_id": 1, "iscrowd": 0, "bbox": BOX, "keypoints": flat(num_keypoints)}
        for i in ids
    ]
    category = {"id": 1, "name": "person", "keypoints": list(skeleton.keypoint_names), "skeleton": []}
    return {"images": records, "annotations": persons, "categories": [category]}


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def coco(root: Path, num_images: int = 3) -> Path:
    """COCO's layout: train2017, val2017, and test-dev2017 without annotations."""
    for first_id, split in ((1, "train2017"), (1001, "val2017"), (2001, "test-dev2017")):
        names = [f"{first_id + index:012}.jpg" for index in range(num_images)]
        write_images(root / split.replace("-dev", ""), names)
        document = coco_document(names, COCO17, first_id)
        if split == "test-dev2017":
            del document["annotations"], document["categories"]
            write_json(root / f"annotations/image_info_{split}.json", document)
        else:
            write_json(root / f"annotations/person_keypoints_{split}.json", document)
    return root / "train2017"


def crowdpose(root: Path) -> Path:
    """CrowdPose's layout (github.com/Jeff-sjtu/CrowdPose): 14 keypoints, a crowdIndex for each image, no area."""
    names = [f"{100 + index}.jpg" for index in range(3)]
    write_images(root / "images", names)
    for split in ("train", "val"):
        write_json(root / f"json/crowdpose_{split}.json", coco_document(names, CROWDPOSE14, 100, crowdIndex=0.5))
    return root / "train"


def mpii_json(root: Path) -> Path:
    """HRNet's annot/*.json: coordinates from 1, no head sizes."""
    names = [f"{5000 + index:09}.jpg" for index in range(3)]
    write_images(root / "images", names)
    record = {
        "joints": (line(16) + 1).tolist(),
        "joints_vis": [1] * 15 + [0],
        "center": [81.0, 61.0],
        "scale": 0.4,
    }
    people = [{"image": name, **record} for name in names]
    hidden = [{key: person[key] for key in ("image", "center", "scale")} for person in people]
    for split in ("train", "valid", "trainval"):
        write_json(root / f"annot/{split}.json", people)
    write_json(root / "annot/test.json", hidden)
    # Head boxes 30 x 40: a diagonal of 50, of which MPII's head size is 0.6.
    boxes = np.array([[[10.0, 20.0], [40.0, 60.0]]] * 3).transpose(1, 2, 0)
    savemat(root / "annot/gt_valid.mat", {"headboxes_src": boxes})
    return root / "train"


def struct(fields: dict[str, list[Any]]) -> np.ndarray:
    """Fields with one value for each element -> a MATLAB struct array (1, N), as savemat writes it."""
    count = len(next(iter(fields.values())))
    found = np.empty((1, count), [(name, object) for name in fields])
    for name, values in fields.items():
        for index, value in enumerate(values):
            found[name][0, index] = value
    return found


def mpii_person(num_keypoints: int = 16) -> dict[str, Any]:
    """annorect of a person: coordinates from 1; the first keypoint is hidden, the second does not say it."""
    points = line(16)[:num_keypoints] + 1
    visible: list[Any] = [0.0, np.zeros((0, 0)), *[1.0] * (num_keypoints - 2)]
    fields = {"x": points[:, 0].tolist(), "y": points[:, 1].tolist(), "id": [float(i) for i in range(num_keypoints)]}
    return {
        **{"x1": 10.0, "y1": 20.0, "x2": 40.0, "y2": 60.0},
        **{"annopoints": {"point": struct(fields | {"is_visible": visible})}},
        **{"scale": 0.4, "objpos": {"x": 81.0, "y": 61.0}},
    }


def mpii_mat(root: Path) -> Path:
    """mpii_human_pose_v1_u12_1.mat with the fields that its README names (human-pose.mpi-inf.mpg.de, "Annotation
    description"): two training images, one of them with a person without keypoints, and two test images."""
    names = [f"{6000 + index:09}.jpg" for index in range(4)]
    write_images(root / "images", names)
    without_keypoints = {**mpii_person(), "annopoints": np.zeros((0, 0))}
    hidden = [{"scale": 0.4, "objpos": {"x": 81.0, "y": 61.0}} for _ in range(3)]
    people = [[mpii_person()], [mpii_person(15), without_keypoints], hidden[:1], hidden[1:]]
    rectangles = [
        struct({field: [person[field] for person in of_image] for field in of_image[0]}) for of_image in people
    ]
    annolist = struct({"image": [{"name": name} for name in names], "annorect": rectangles})
    singles = np.empty((4, 1), object)
    for index, numbers in enumerate(([1.0], [1.0], [1.0], [2.0])):
        singles[index, 0] = np.array([numbers])
    release = {"annolist": annolist, "img_train": np.array([[1, 1, 0, 0]], np.uint8), "single_person": singles}
    savemat(root / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": release})
    return root / "trainval"


def lsp_json(root: Path) -> Path:
    names = ["im1.png", "im2.png"]
    write_images(root / "images", names)
    joints = np.column_stack([line(14), np.full(14, 2)]).tolist()
    people = [{"image": name, **SIZE.to_dict(), "box_xywh": BOX, "joints": joints} for name in names]
    write_json(root / "joints.json", {"joint_names": list(LSP14.keypoint_names), "people": people})
    return root


def lsp_mat(root: Path) -> Path:
    """LSP's joints.mat (sam.johnson.io/research/lsp.html): 3 x 14 x 2000, of which three images are here."""
    write_images(root / "images", ["im0001.jpg", "im0002.jpg", "im1001.jpg"])
    joints = np.zeros((3, 14, 2000))
    joints[:2] = (line(14) + 1).T[..., None]
    joints[2, 0] = 1
    savemat(root / "joints.mat", {"joints": joints})
    return root / "train"


def lspet(root: Path) -> Path:
    """LSP Extended's joints.mat: 14 x 3 x 10000 in the published file, here three persons; coordinates from 0."""
    write_images(root / "images", ["im00001.jpg", "im00002.jpg", "im00003.jpg"])
    joints = np.zeros((14, 3, 3))
    joints[:, :2] = line(14)[..., None]
    joints[:10, 2] = 1
    savemat(root / "joints.mat", {"joints": joints})
    return root


YOLO_YAML = """\
path: ../yolo
train: images/train
val: images/val
test:
kpt_shape: [5, 3]
flip_idx: [1, 0, 2, 4, 3]
names:
  0: face
"""
"""As in docs.ultralytics.com/datasets/pose ("Dataset YAML format"), with its example of five keypoints of a face."""


def yolo(root: Path) -> Path:
    """An Ultralytics pose data set, as docs.ultralytics.com/datasets/pose describes it: a .txt for each image, a line
    `class x y width height px1 py1 v1 ...` for each person, in fractions of the image."""
    sides = np.array(SIZE.xy)
    center = (np.array(BOX[:2]) + np.array(BOX[2:]) / 2) / sides
    numbers = [*center, *(np.array(BOX[2:]) / sides)]
    for point in line(5):
        numbers += [*(point / sides), 2]
    for split in ("train", "val"):
        names = ["a.jpg", "b.jpg", "empty.jpg"]
        write_images(root / "images" / split, names)
        (root / "labels" / split).mkdir(parents=True)
        for name in names[:2]:
            text = " ".join(f"{number:.8g}" for number in [0, *numbers])
            (root / "labels" / split / name).with_suffix(".txt").write_text(text + "\n")
    (root / "data.yaml").write_text(YOLO_YAML)
    return root / "train"


def cvat(root: Path) -> Path:
    """CVAT's export COCO Keypoints 1.0, as docs.cvat.ai/docs/dataset_management/formats/format-coco-keypoints shows it:
    images/SUBSET/ and annotations/person_keypoints_SUBSET.json; attributes are kept in `attributes`."""
    names = ["a.jpg", "b.jpg"]
    write_images(root / "images/default", names)
    document = coco_document(names, COCO17)
    for person in document["annotations"]:
        person |= {"attributes": {"occluded": False, "track_id": 4}, "segmentation": [], "area": 0.0}
    write_json(root / "annotations/person_keypoints_default.json", document)
    return root


SKELETON_YAML = """\
keypoints: [helmet, left_glove, right_glove, belt]
limbs: [[helmet, belt], [left_glove, belt]]
sigmas: {helmet: 0.05}
"""


def custom(root: Path) -> Path:
    """A file in COCO's format whose category lists no keypoints, and `skeleton.yaml` beside it."""
    names = ["a.jpg", "b.jpg"]
    write_images(root, names)
    (root / "skeleton.yaml").write_text(SKELETON_YAML)
    document = coco_document(names, Skeleton.from_names("four", ["a", "b", "c", "d"]))
    document["categories"] = [{"id": 1, "name": "worker"}]
    write_json(root / "mine.json", document)
    return root / "mine.json"


LAYOUTS: dict[str, tuple[str, Callable[[Path], Path], Skeleton | None, int]] = {
    "coco": ("coco", coco, COCO17, 3),
    "cvat": ("coco", cvat, COCO17, 2),
    "crowdpose": ("crowdpose", crowdpose, CROWDPOSE14, 3),
    "mpii-json": ("mpii", mpii_json, MPII16, 3),
    "mpii-mat": ("mpii", mpii_mat, MPII16, 2),
    "lsp-json": ("lsp", lsp_json, LSP14, 2),
    "lsp-mat": ("lsp", lsp_mat, LSP14, 2),
    "lsp-extended": ("lsp", lspet, LSP14, 3),
    "yolo": ("yolo", yolo, None, 2),
    "custom": ("coco", custom, None, 2),
}
"""Id -> name in DATASETS, writer, skeleton and number of samples."""
