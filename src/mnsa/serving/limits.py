"""How much one request may ask for. What is beyond is refused with a code that says which limit it was."""

from dataclasses import dataclass

MIB = 2**20
MEGAPIXEL = 10**6


@dataclass(frozen=True, slots=True)
class Limits:
    """max_bytes: of a whole request. max_pixels: of an image. max_images: in a request.

    places: requests that are being received, waiting or answered at a time, so that memory has a bound of about
    places x max_bytes plus one decoded image. upload_s, answer_s: seconds for receiving, and for waiting and answering.
    """

    max_bytes: int = 64 * MIB
    max_pixels: int = 60 * MEGAPIXEL
    max_images: int = 16
    places: int = 16
    upload_s: float = 60.0
    answer_s: float = 120.0
