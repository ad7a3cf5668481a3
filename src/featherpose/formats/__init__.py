"""Poses and boxes to and from plain dicts for JSON: featherpose's own format and COCO's, one module each."""
