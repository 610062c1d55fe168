"""The one vocabulary of array axes and coordinate frames, used in every docstring and type of this package.

Axes
----
=====  ============================================================================
``b``  batch: objects scored or trained on together
``v``  view: camera position around one object
``n``  point of one cloud (part points only, once the background is removed)
``h``  row of an image or of an organised scan, from the top
``w``  column of an image or of an organised scan, from the left
``p``  patch of the vision transformer, row-major; ``t = 1 + p`` tokens, class token first
``d``  dimension of the joint image-text embedding
``c``  channel; where it holds classes, 0 is normal and 1 is abnormal
``k``  neighbour, or one of the most deviating points of the GDDM
``l``  context token of a prompt
=====  ============================================================================

``(b, v)`` stays two axes: a function may flatten it inside, never in what it returns.

Frames
------
Sensor frame: x to the right, y down, z away from the sensor (a scan's nearest point has the smallest z).
Camera frame: the same directions as seen in the image; a view is a rotation of the sensor frame about the
cloud's centre, and an orthographic projection along z.
Pixels are ``(row, column)``, integers, row 0 at the top.
Lengths are in the unit of the scan (metres for MVTec 3D-AD); nothing in the package assumes one.
"""

NORMAL = 0
ABNORMAL = 1
