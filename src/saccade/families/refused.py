"""Classes of diffusers that are no hosts, and why. What is in no list is unknown; `attach` says how to read it."""

FLEX = "attends by flex attention alone, over padded buffers with a cache of its own and a map made of code; attach {}"
WRAPPER = "holds several models and attends by itself nowhere; attach those in its `nets`"

REFUSED: dict[str, str] = {
    "AnyFlowFARTransformer3DModel": FLEX.format("AnyFlowTransformer3DModel, which makes whole videos"),
    "FluxMultiControlNetModel": WRAPPER,
    "HunyuanDiT2DMultiControlNetModel": WRAPPER,
    "MultiControlNetModel": WRAPPER,
    "MultiControlNetUnionModel": WRAPPER,
    "QwenImageMultiControlNetModel": WRAPPER,
    "SD3MultiControlNetModel": WRAPPER,
    "WanAnimate2Transformer3DModel": FLEX.format("WanAnimateTransformer3DModel"),
}
