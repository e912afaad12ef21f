#!/usr/bin/env python3
"""The small image files of this folder, and beside each the pixels that Pillow makes of it: NAME.rgb and NAME.l, raw bytes.

Run by hand, with Pillow and numpy; made with Pillow 13.0.0. test_decode.c reads the sizes from its own table.
"""
import os

import numpy as np
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
WIDTH, HEIGHT = 19, 13


def picture():
    """A ramp, a disc and some noise in three colours."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    disc = ((x - 7) ** 2 + (y - 6) ** 2 < 25) * 120
    noise = np.random.default_rng(3).integers(0, 30, (HEIGHT, WIDTH))
    return np.stack([x * 12 + noise, 255 - y * 15 - noise, 40 + disc + noise], -1).clip(0, 255).astype(np.uint8)


def keep(name, image, **options):
    path = os.path.join(HERE, name)
    image.save(path, **options)
    opened = Image.open(path)
    opened.load()
    if opened.mode.startswith("I"):  # bnff cuts 16 bits to the high byte; Pillow's conversion would clip
        high = (np.asarray(opened).astype(np.uint32) >> 8).astype(np.uint8)
        opened = Image.fromarray(high)
    stem = os.path.splitext(path)[0]
    open(stem + ".rgb", "wb").write(opened.convert("RGB").tobytes())
    open(stem + ".l", "wb").write(opened.convert("L").tobytes())


def main():
    rgb = Image.fromarray(picture())
    gray = rgb.convert("L")
    alpha = Image.fromarray(np.dstack([picture(), np.mgrid[0:HEIGHT, 0:WIDTH][1].astype(np.uint8) * 13]), "RGBA")
    keep("jpeg420.jpg", rgb, quality=80, subsampling=2)
    keep("jpeg422_progressive.jpg", rgb, quality=60, subsampling=1, progressive=True)
    keep("jpeg_gray.jpg", gray, quality=75, optimize=True)
    keep("jpeg_cmyk.jpg", rgb.convert("CMYK"), quality=80)
    keep("png_rgb.png", rgb)
    keep("png_alpha.png", alpha)
    keep("png_gray_alpha.png", alpha.convert("LA"))
    keep("png_palette.png", rgb.quantize(16), bits=4, transparency=3)
    keep("png_one_bit.png", gray.convert("1"))
    keep("png_gray16.png", Image.fromarray((np.asarray(gray).astype(np.uint16) << 8) + 77))
    keep("bmp_rgb.bmp", rgb)
    keep("bmp_palette.bmp", rgb.quantize(16))
    keep("bmp_one_bit.bmp", gray.convert("1"))
    keep("ppm_rgb.ppm", rgb)
    keep("pgm_gray.pgm", gray)


if __name__ == "__main__":
    main()
