"""Grad-CAM: where on the image a class was seen.

B batch; K classes; C_5, h, w channels and size of the deepest level.
"""

import torch
from torch import Tensor, nn

from mnsa.errors import ModelError
from mnsa.model.network import NO_CLASS_HEAD, Network, pad_to_stride


def require_explainable(network: Network) -> None:
    """Do nothing when the network's classes can be explained. Raises: ModelError saying why not."""
    if network.class_head is None:
        raise ModelError(NO_CLASS_HEAD)
    if not isinstance(network.class_head.classifier, nn.Linear):
        raise ModelError("Grad-CAM needs gradients, and boosted trees have none. Leave out --head trees, or --explain.")


def grad_cam(network: Network, images: Tensor, classes: Tensor) -> Tensor:
    """Explain one class per image by the features F' that the class head reads: float32 (B, h, w), 0 or more.

    images: (B, 3, H, W), normalized. classes: indices (B,). Each channel counts by the mean gradient of the class's
    logit over the channel's positions; what speaks against the class is 0. Only the head is differentiated.
    Raises: ModelError. Source: Selvaraju et al. 2017, Grad-CAM, equations 1 and 2.
    """
    require_explainable(network)
    if network.attention is None or network.class_head is None:
        raise ModelError(NO_CLASS_HEAD)
    with torch.inference_mode(mode=False), torch.no_grad():  # what inference mode makes can't be differentiated
        attended, _ = network.attention(network.features(pad_to_stride(images)).level5)  # F', (B, C_5, h, w)
    with torch.inference_mode(mode=False), torch.enable_grad():
        attended = attended.detach().requires_grad_()
        class_logits = network.class_head(attended)
        (slopes,) = torch.autograd.grad(class_logits.gather(1, classes[:, None]).sum(), attended)
    weights = slopes.mean(dim=(2, 3), keepdim=True)  # (B, C_5, 1, 1)
    seen: Tensor = (weights * attended.detach()).sum(dim=1).relu().float()
    return seen
