/* Images in: data sets, decoding, augmentation, and a loader that keeps the engine fed. */
#ifndef BNFF_DATA_H
#define BNFF_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <bnff/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* -- Images ------------------------------------------------------------------------------------------------------ */

/** 8-bit interleaved pixels, height rows of width * channels bytes; channels is 1 or 3. Owned: free with bnff_image_free. */
typedef struct bnff_image {
    int width, height, channels;
    uint8_t *pixels;
} bnff_image;

/**
 * Decode JPEG, PNG, PPM/PGM or BMP, told from the bytes, not the name, with the semantics of Pillow's convert("RGB") (channels = 3)
 * or convert("L") (1): gray replicated, palette expanded, alpha dropped, 16 bits cut to the high byte, CMYK inverted as Adobe's,
 * EXIF orientation not obeyed. `name` is used in messages only. Other formats are refused by their names.
 * More than 1e8 pixels are refused, and so is a file that is damaged: cut off (JPEG's end marker alone may be missing), with codes
 * that cannot be or a wrong checksum, or with fewer bytes than its pixels can take.
 */
BNFF_API bnff_status bnff_image_decode(const void *bytes, size_t size, const char *name, int channels, bnff_image *image, bnff_error *error);
BNFF_API bnff_status bnff_image_read(const char *path, int channels, bnff_image *image, bnff_error *error);
BNFF_API void bnff_image_free(bnff_image *image);
/** Resample the box (x, y, width, height) of src to out_width x out_height, antialiased bilinear or bicubic, equal to Pillow's
 *  Image.resize(size, resample, box=...) on 8-bit images: two passes, rounded to 8 bits between, their order Pillow 13's
 *  (earlier versions never began with the vertical one: theirs differ by a level or two where the height shrinks the most). */
typedef enum bnff_interpolation { BNFF_BILINEAR, BNFF_BICUBIC } bnff_interpolation;
BNFF_API bnff_status bnff_image_resize(const bnff_image *src, double x, double y, double width, double height,
                                       int out_width, int out_height, bnff_interpolation interpolation,
                                       bnff_image *dst, bnff_error *error);

/* -- Data sets --------------------------------------------------------------------------------------------------- */

typedef struct bnff_dataset bnff_dataset;
/** TRAIN and VAL are disjoint: the data's own split, or a stratified one where it has none. ALL is every image, divided or not. */
typedef enum bnff_split { BNFF_SPLIT_TRAIN, BNFF_SPLIT_VAL, BNFF_SPLIT_ALL } bnff_split;

typedef struct bnff_dataset_options {
    size_t size;
    int channels;        /* 1 or 3; 0: 1 for idx files, 3 for everything else */
    double val_ratio;    /* share held out, stratified, where the data has no val split; 0 means 0.2 */
    uint64_t seed;       /* of that split */
} bnff_dataset_options;

/**
 * Open one split of a data set. spec:
 *   DIR                folder of class folders, or DIR/train and DIR/{val,valid,validation,test} (training, testing; in any case);
 *                      classes are the bytewise sorted names. All .jpg .jpeg .jpe .jfif .png .ppm .pgm .pbm .pnm .bmp below a class
 *                      folder count, in any case, hidden ones not; links are followed. Also a folder of idx files or CIFAR batches
 *   fashion-mnist      Debian's dataset-fashion-mnist, or fashion-mnist:DIR / mnist:DIR with idx files (.gz or not)
 *   cifar10:DIR        data_batch_{1..5}.bin and test_batch.bin
 *   synthetic[:COUNTxSIZExCLASSES]  made up, learnable, no files (also for selftest)
 * Files are listed, not decoded.
 * @return BNFF_E_IO, BNFF_E_FORMAT: missing or empty folder, no class folders, one class, an empty class, labels out of range:
 *         the message names the place, the hint the remedy.
 */
BNFF_API bnff_status bnff_dataset_open(const char *spec, bnff_split split, const bnff_dataset_options *options,
                                       bnff_dataset **dataset, bnff_error *error);
BNFF_API void bnff_dataset_destroy(bnff_dataset **dataset);
BNFF_API int64_t bnff_dataset_size(const bnff_dataset *dataset);
BNFF_API int bnff_dataset_classes(const bnff_dataset *dataset);
BNFF_API const char *bnff_dataset_class_name(const bnff_dataset *dataset, int label);
BNFF_API int bnff_dataset_channels(const bnff_dataset *dataset);
/** Label and path ("train-images-idx3-ubyte[17]" for arrays) of an item. */
BNFF_API int bnff_dataset_label(const bnff_dataset *dataset, int64_t index);
BNFF_API const char *bnff_dataset_item_name(const bnff_dataset *dataset, int64_t index);
/** Images below the class folders whose format is not read (.webp, .tif, ...); *path, if asked for, is the first of them or NULL. */
BNFF_API int64_t bnff_dataset_unsupported(const bnff_dataset *dataset, const char **path);
/** Side of the images when all are square and equal (arrays), else 0. */
BNFF_API int bnff_dataset_image_size(const bnff_dataset *dataset);
/** Mean and standard deviation per channel in 0..1 that suit the data set (ImageNet's for photographs). */
BNFF_API void bnff_dataset_normalization(const bnff_dataset *dataset, float mean[3], float std[3]);
/** Decode an item, whole. */
BNFF_API bnff_status bnff_dataset_image(const bnff_dataset *dataset, int64_t index, bnff_image *image, bnff_error *error);
/**
 * Decode every image below a folder (or one file, or any other data set) through the code that training uses; report(user, path, reason)
 * from this thread for each that training would skip and for each whose format is not read. report may be NULL.
 * @param[out] good, bad  counts, valid after a failure too
 * @return BNFF_OK, also when files are bad; else what bnff_dataset_open would fail with (a folder of nothing but images is accepted).
 */
BNFF_API bnff_status bnff_data_check(const char *spec, void (*report)(void *user, const char *path, const char *reason), void *user,
                                     int64_t *good, int64_t *bad, bnff_error *error);

/* -- Transforms and loading --------------------------------------------------------------------------------------- */

/** What happens to an image between the decoder and the network. */
typedef struct bnff_transform {
    size_t size;
    int width, height;      /* of the result */
    bool augment;           /* training: random crop and flip; otherwise resize the shorter side, centre crop */
    double scale[2];        /* RandomResizedCrop: area (.08, 1) and aspect ratio (3/4, 4/3) */
    double ratio[2];
    int crop_padding;       /* > 0: pad by this with black and crop at random instead of RandomResizedCrop (CIFAR, MNIST); images of
                               another size are resized to cover the result before */
    double hflip;           /* probability (.5) */
    double vflip;           /* probability (0) */
    int resize;             /* evaluation: shorter side before the centre crop; 0: just enough to cover the result. What the crop
                               lacks then is black */
    bnff_interpolation interpolation;
    float mean[3], std[3];
} bnff_transform;
/** Apply to one image, reproducibly from seed; dst is height x width x channels, normalised float32. */
BNFF_API bnff_status bnff_transform_apply(const bnff_transform *transform, const bnff_image *image, uint64_t seed, float *dst, bnff_error *error);

typedef struct bnff_loader bnff_loader;
typedef struct bnff_loader_options {
    size_t size;
    int batch;
    int threads;        /* loader threads; 0: decode in the caller's thread */
    bool shuffle;       /* a new permutation each epoch, from seed and epoch alone */
    bool drop_last;
    uint64_t seed;
    int64_t max_bad;    /* damaged files tolerated before BNFF_E_FORMAT; < 0: 1 % of the data set, at least 1 */
    void (*on_bad)(void *user, const char *path, const char *reason); /* called from bnff_loader_next's thread, once a file */
    void *on_bad_user;
} bnff_loader_options;

typedef struct bnff_batch {
    int count;               /* images in it; damaged ones are left out */
    const float *images;     /* count x H x W x C */
    const int32_t *labels;
    const int64_t *indices;  /* data set index of each */
    double wait_s;           /* how long next() waited for the loader threads */
    int64_t index;           /* of the batch in its epoch: start(epoch, index + 1) goes on after it. Batches with no whole image are left out */
} bnff_batch;

/**
 * The same seed gives the same batches whatever the number of threads: what happens to an image follows from seed, epoch and position.
 * A few batches are prepared ahead; while next() waits it works too. A JPEG of which a random crop takes at least twice the result's
 * size is decoded at a half, quarter or eighth of its size. The data set must outlive the loader.
 */
BNFF_API bnff_status bnff_loader_create(const bnff_dataset *dataset, const bnff_transform *transform, const bnff_loader_options *options,
                                        bnff_loader **loader, bnff_error *error);
BNFF_API void bnff_loader_destroy(bnff_loader **loader);
/** Begin an epoch at batch `first` (0, or later when resuming). */
BNFF_API bnff_status bnff_loader_start(bnff_loader *loader, int64_t epoch, int64_t first, bnff_error *error);
BNFF_API int64_t bnff_loader_batches(const bnff_loader *loader);
/** The next batch, valid until the next call; count = 0 after the last one of the epoch. */
BNFF_API bnff_status bnff_loader_next(bnff_loader *loader, bnff_batch *batch, bnff_error *error);
/** Bytes the loader holds while it runs, all batches together. */
BNFF_API size_t bnff_loader_bytes(const bnff_loader *loader);
/** Damaged files met so far. */
BNFF_API int64_t bnff_loader_bad(const bnff_loader *loader);

#ifdef __cplusplus
}
#endif
#endif
