"""Classes of diffusers that are no hosts, and why. What is in no list is unknown; `attach` says how to read it."""

FLEX = "attends by flex attention alone, over padded buffers with a cache of its own and a map made of code; attach {}"
WRAPPER = "holds several models and attends by itself nowhere; attach those in its `nets`"

REFUSED: dict[str, str] = {
    "AnyFlowFARTransformer3DModel": FLEX.format("AnyFlowTransformer3DModel, which makes whole videos"),
    "ControlNetXSAdapter": "holds parts for a UNetControlNetXSModel and runs nothing by itself; attach that",
    "FluxMultiControlNetModel": WRAPPER,
    "HunyuanDiT2DMultiControlNetModel": WRAPPER,
    "MotionAdapter": "holds motion modules for a UNetMotionModel and runs nothing by itself; attach that",
    "MultiControlNetModel": WRAPPER,
    "MultiControlNetUnionModel": WRAPPER,
    "QwenImageMultiControlNetModel": WRAPPER,
    "SD3MultiControlNetModel": WRAPPER,
    "TransformerTemporalModel": "stands within U-Nets for video, and its batch rows are frames; attach the U-Net",
    "UNet1DModel": "multiplies q, k and v by hand, so no call can be seen; give its SelfAttention1d a forward that "
    "calls F.scaled_dot_product_attention and attach with layout=",
    "WanAnimate2Transformer3DModel": FLEX.format("WanAnimateTransformer3DModel"),
}
