"""Borders of windows without a step, and fades between windows that overlap.

A window continues frames that were encoded and decoded once more, which loses a little detail. The frames that follow
lack it too, so where they take over, the picture would change at once. What was lost is therefore given back to them,
less and less from frame to frame.
"""

import torch
from torch import Tensor

from infinitetalk.core.sizes import TEMPORAL_STRIDE
from infinitetalk.engine.codec import latent_count


def soften(video: Tensor, tail: Tensor, keep_from: int, frames: int) -> Tensor:
    """The window with its first new frames fitted to the window before.

    Args:
        video: decoded frames of the window in [-1, 1], [3, F, H, W]; the first `keep_from` repeat `tail`.
        tail: frames that the window before handed on, as they were shown, [3, keep_from, H, W].
        keep_from: the first new frame.
        frames: new frames that are changed; 0 leaves all as they are.

    Returns:
        [3, F, H, W] in [-1, 1].
    """
    if not frames:
        return video
    # The last frame that both windows show; those behind it were not told to the network (see `codec.encode`).
    common = TEMPORAL_STRIDE * (latent_count(keep_from) - 1)
    lost = (tail[:, common] - video[:, common])[:, None]
    share = torch.arange(frames, 0, -1, device=video.device) / (frames + 1)
    changed = video[:, keep_from : keep_from + frames]
    fitted = (changed + lost * share[: changed.shape[1], None, None]).clamp(-1, 1)
    return torch.cat([video[:, :keep_from], fitted, video[:, keep_from + frames :]], dim=1)


def crossfade(video: Tensor, before: Tensor, keep_from: int) -> Tensor:
    """The window with its first new frames faded in from what the window before made of them.

    Args:
        video: frames of the window in [-1, 1], [3, F, H, W].
        before: the same stretch as the window before made it, [3, n, H, W].
        keep_from: where that stretch begins.

    Returns:
        [3, F, H, W] in [-1, 1].
    """
    count = before.shape[1]
    share = (torch.arange(1, count + 1, device=video.device) / (count + 1))[:, None, None]
    mixed = torch.lerp(before.to(video), video[:, keep_from : keep_from + count], share.to(video))
    return torch.cat([video[:, :keep_from], mixed, video[:, keep_from + count :]], dim=1)
