"""Labelled people: where they lie, what they are, and the crops a network is trained on."""
