"""An image in front of a prompt: an encoder's tokens and the text's embeddings into one prefill.

The image's tokens take the first positions and are seen as text tokens are. The encoder runs once an image
and is a graph of its own; what it adds to the decoder is a longer prefill. Decoding goes on as after any
prompt.
"""

import torch
from torch import Tensor, nn

from reference_impl.decoder import Decoder
from reference_impl.encoder import ImageEncoder


class ImagePrompt(nn.Module):
    """A decoder that reads images through an encoder whose head has the decoder's width."""

    def __init__(self, encoder: ImageEncoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, pixels_BIP: Tensor, ids_BS: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The decoder's logits, hidden states and caches over image, then text tokens [B, I + S, ..]."""
        n_batch, n_image, _ = pixels_BIP.shape
        n_tokens = n_image + ids_BS.shape[1]
        positions_BT = torch.arange(n_tokens, device=ids_BS.device).expand(n_batch, -1)
        image_BID, _ = self.encoder(pixels_BIP)
        text_BSD = self.decoder.embed(ids_BS, positions_BT[:, n_image:])
        return self.decoder.run(torch.cat([image_BID, text_BSD], 1), positions_BT)
