"""Grad-CAM: the parts of an image that raise the logit of a class.

B batch; K classes; C_5, h, w channels and size of the deepest level.
"""

import torch
from torch import Tensor, nn

from mnsa.errors import ModelError
from mnsa.model.network import NO_CLASS_HEAD, Network, pad_to_stride


def require_explainable(network: Network) -> None:
    """Do nothing when Grad-CAM works for a network. Raises: ModelError with the reason when it doesn't."""
    if network.class_head is None:
        raise ModelError(NO_CLASS_HEAD)
    if not isinstance(network.class_head.classifier, nn.Linear):
        raise ModelError("Grad-CAM needs gradients, and boosted trees have none. Leave out --head trees, or --explain.")


def grad_cam(network: Network, images: Tensor, classes: Tensor) -> Tensor:
    """Compute a map of one class per image from the features F' that the class head reads.

    images: normalized (B, 3, H, W). classes: class indices (B,). Each channel of F' is weighted by the mean gradient of
    the class's logit; negative sums become 0. Only the class head is differentiated.
    Returns: float32 (B, h, w), 0 or more. Raises: ModelError.
    Source: Selvaraju et al. 2017, Grad-CAM, equations 1 and 2.
    """
    require_explainable(network)
    if network.attention is None or network.class_head is None:
        raise ModelError(NO_CLASS_HEAD)
    with torch.inference_mode(mode=False), torch.no_grad():  # tensors of inference mode can't be differentiated
        features, _ = network.attention(network.features(pad_to_stride(images)).level5)  # F', (B, C_5, h, w)
    with torch.inference_mode(mode=False), torch.enable_grad():
        features = features.detach().requires_grad_()
        class_logits = network.class_head(features)
        (gradients,) = torch.autograd.grad(class_logits.gather(1, classes[:, None]).sum(), features)
    weights = gradients.mean(dim=(2, 3), keepdim=True)  # (B, C_5, 1, 1)
    maps: Tensor = (weights * features.detach()).sum(dim=1).relu().float()
    return maps
