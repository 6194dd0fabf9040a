"""Classes of diffusers that are no hosts, and why. What is in no list is unknown; `attach` says how to read it."""

WRAPPER = "holds several models and attends by itself nowhere; attach those in its `nets`"

REFUSED: dict[str, str] = {
    "FluxMultiControlNetModel": WRAPPER,
    "HunyuanDiT2DMultiControlNetModel": WRAPPER,
    "MultiControlNetModel": WRAPPER,
    "MultiControlNetUnionModel": WRAPPER,
    "QwenImageMultiControlNetModel": WRAPPER,
    "SD3MultiControlNetModel": WRAPPER,
}
