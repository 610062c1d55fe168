"""Defects on good parts of the user's own: the kinds of :mod:`gsclip.data.procedural` on meshes, clouds and scans."""
