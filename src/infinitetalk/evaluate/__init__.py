"""Measures of talking videos: one module for each, and a page that shows them.

Videos are seen at 25 frames a second, one frame at a time. What is kept of a frame is a few numbers.
"""
