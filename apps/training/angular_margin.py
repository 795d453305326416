"""The loss that tells voices apart: additive angular margin."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, one_hot


def angular_margin_loss(voices: Tensor, centres: Tensor, owners: Tensor, margin: float, scale: float) -> Tensor:
    """The cross-entropy of cosines, the own one's angle made larger by a margin (Deng et al. 2019, equation 3)."""
    cosines = voices @ normalize(centres, dim=1).T
    own = cosines.gather(1, owners[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
    harder = torch.cos(own.acos() + margin)
    # Beyond pi the cosine would grow again; a line goes on there.
    harder = torch.where(own > -torch.cos(torch.tensor(margin)), harder, own - margin * np.sin(margin))
    return cross_entropy(scale * (cosines + one_hot(owners, len(centres)) * (harder - own)), owners)
