/* Trees of small images for the tests of data sets and loaders. */
#ifndef BNFF_TESTS_FOLDERS_H
#define BNFF_TESTS_FOLDERS_H

#include "support.h"

/* folder/name, valid for 15 more calls. */
const char *below(const char *folder, const char *name);
/* A new folder, empty, in the temporary one; its path is valid for 15 more calls. */
const char *new_folder(const char *name);
/* Write folder/name, making the folders in between. */
void put_file(const char *folder, const char *name, const void *bytes, size_t size);
/* A PPM of width x height <= 64 x 64 pixels, each with the colour (value, value / 2, 255 - value). */
void put_image(const char *folder, const char *name, int width, int height, int value);
/* `count` images folder/class/00.ppm, 01.ppm, ... */
void put_class(const char *folder, const char *class_name, int count);

#endif
