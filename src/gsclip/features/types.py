"""Names for objects of open_clip, which is not annotated: modules whose attributes a type checker cannot see."""

from typing import Any, TypeAlias

ClipModel: TypeAlias = Any  # open_clip.CLIP
Tokenizer: TypeAlias = Any  # maps a list of strings to (i, context) token ids
VisualEncoder: TypeAlias = Any  # open_clip's VisionTransformer, with or without LoRA injected by PEFT
