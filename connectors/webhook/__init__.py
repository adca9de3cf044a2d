"""The webhook sink: from lanes to HTTP calls. In one direction: sink -> lanes -> render -> signature -> http -> retry -> offsets."""
