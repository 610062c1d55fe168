"""Names for objects of open_clip, whose attributes a type checker cannot see, and for the encodings of images.

The embedded backbone's (:mod:`gsclip.features.embedded_clip`) have the same attributes.
"""

from typing import Any, Literal, TypeAlias

ClipModel: TypeAlias = Any  # open_clip.CLIP
Tokenizer: TypeAlias = Any  # maps a list of strings to (i, context) token ids
VisualEncoder: TypeAlias = Any  # open_clip's VisionTransformer, with or without LoRA injected by PEFT

RenderedEncoding: TypeAlias = Literal["grey", "normals"]  # see gsclip.features.images
DepthEncoding: TypeAlias = Literal["grey", "contrast"]
