"""Poses and boxes to and from files: one module per format; `outputs.FORMATS` lists those that poses are saved in."""
