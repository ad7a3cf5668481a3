"""Names of the data sets that can be read; `datasets.DATASETS` has their readers, which need more libraries."""

DATASET_NAMES = ("mpii", "lsp", "crowdpose", "yolo", "coco", "custom")
