"""Step 5, streams: the depth encoder with LoRA and the refinement of both streams (stage 2)."""
