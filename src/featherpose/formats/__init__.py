"""Poses and boxes as plain dicts that JSON can hold: our own format, and COCO's. One file each."""
