/* The trainer: data set in, trained and resumable model out. `bnff train` is a thin client of this header. */
#ifndef BNFF_TRAIN_H
#define BNFF_TRAIN_H

#include <bnff/data.h>
#include <bnff/model.h>
#include <bnff/optim.h>
#include <bnff/plan.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Everything that determines a training. Field names are the command line's flags. Strings are borrowed while the trainer lives. */
typedef struct bnff_train_options {
    size_t size;
    const char *data;           /* data set spec, data.h */
    const char *model;          /* name in the zoo; NULL: chosen from the data (densenet-bc-22-12 for <= 40 pixels, else resnet18) */
    const char *weights;        /* file to fine-tune from, or NULL */
    int epochs, batch;          /* 0: defaults; batch < 0: the largest that fits in memory */
    int64_t max_steps;          /* stop after so many optimizer steps in all; 0: no limit */
    int train_crop_size, val_resize_size, val_crop_size; /* 0: from the model and the data */
    bnff_interpolation interpolation;
    double hflip;               /* < 0: by the data set (0.5 for photographs) */
    double vflip;
    double scale[2], ratio[2];  /* RandomResizedCrop: area and aspect ratio; 0: .25 1, 3/4 4/3; all 1 for whole images of <= 40 pixels */
    int crop_padding;           /* > 0: pad by this and crop at random instead; < 0: 4 for colour images of <= 40 pixels used whole, else 0 */
    int in_channels;            /* 0: by the data set */
    double val_ratio;
    bnff_optimizer_options optimizer; /* weight_decay < 0: SGD 5e-4, or 1e-4 fine-tuning; Adam 0; AdamW .01 */
    bnff_schedule schedule;     /* lr 0: by optimizer and batch, 0.01 for SGD fine-tuning; kind (bnff_schedule_kind)-1: one-cycle, or
                                   cosine when fine-tuning; epochs and steps_per_epoch are filled in */
    float label_smoothing;
    int grad_accum_steps;       /* micro-batches per optimizer step */
    double clip_grad_norm;      /* 0: none */
    const char *freeze;         /* "backbone", a count of leading layers, or a POSIX regex on parameter names; NULL: nothing */
    int freeze_epochs;          /* `freeze` holds for so many epochs, then all is trained; 0: for good */
    const char *freeze_bn;      /* all batch normalizations, for good: "stats" use running statistics, "all" learn nothing; NULL: none */
    const char *level, *algorithm;
    int cells;                  /* 0: threads */
    int workers;                /* loader threads, -1: default */
    uint64_t seed;
    int64_t max_bad;            /* damaged files tolerated, < 0: 1 % */
    const char *output_dir, *name; /* run folder is output_dir/name, "runs" and "train"; a number is appended if it exists */
    bool exist_ok;
    int save_period;            /* keep the network every so many epochs; 0: only last and best */
    int checkpoint_hist;        /* of those, keep the newest so many; 0: all */
    const char *eval_metric;    /* best by "acc1" (NULL), ties by loss; or by "loss" */
    double checkpoint_seconds;  /* also save `last` in mid-epoch this often; 0: 300, negative: never */
    bool report;                /* write report.html at the end */
} bnff_train_options;

/** Fill with defaults (sizes set). */
BNFF_API void bnff_train_options_init(bnff_train_options *options);

/** A moment of a training, for progress display and logs. */
typedef enum bnff_event_kind { BNFF_EVENT_START, BNFF_EVENT_STEP, BNFF_EVENT_VALIDATE, BNFF_EVENT_EPOCH, BNFF_EVENT_CHECKPOINT,
                               BNFF_EVENT_WARNING, BNFF_EVENT_END } bnff_event_kind;
typedef struct bnff_event {
    bnff_event_kind kind;
    int epoch, epochs;
    int64_t step, steps;        /* optimizer step within the epoch (1-based), steps of the epoch */
    int64_t total_step;
    double loss, acc1, acc5;    /* STEP: running over the epoch; EPOCH: training; VALIDATE: validation; percent */
    double val_loss, val_acc1, val_acc5; /* START of a resumed run: of its newest whole epoch, as images_per_s is */
    double best_acc1;           /* of weights/best.safetensors, from whichever process wrote it */
    int best_epoch;             /* 0: none yet */
    double lr, images_per_s, wait_share; /* wait_share: part of the time spent waiting for data, 0..1 */
    double elapsed_s, eta_s;
    size_t rss_bytes;
    const bnff_run *profile;    /* STEP: the run of the step that bnff_trainer_profile asked for, for the time of the call; else NULL */
    const char *text;           /* WARNING, CHECKPOINT, START, END: a line, or several, for people */
} bnff_event;

typedef struct bnff_trainer bnff_trainer;
/**
 * Prepare a training: opens the data, builds and plans the model, makes the run folder with args.json.
 * @return any status; BNFF_E_MEMORY when the plan needs more than there is: the hint names the batch that fits.
 */
BNFF_API bnff_status bnff_trainer_create(bnff_context *context, const bnff_train_options *options, bnff_trainer **trainer, bnff_error *error);
/** What bnff_trainer_create would set up, in words: model, data, recipe, plan, memory, and the least time it can take. Fails as that does,
 *  and writes nothing. The caller frees *text with bnff_free. */
BNFF_API bnff_status bnff_trainer_describe(bnff_context *context, const bnff_train_options *options, char **text, bnff_error *error);
/** Continue the run in a folder, bit-exactly: everything comes from its args.json and newest checkpoint. */
BNFF_API bnff_status bnff_trainer_resume(bnff_context *context, const char *run_dir, const bnff_train_options *overrides,
                                         bnff_trainer **trainer, bnff_error *error);
BNFF_API void bnff_trainer_destroy(bnff_trainer **trainer);
/**
 * Train to the end. on_event may be NULL. *stop (may be NULL) is polled between steps: nonzero ends after the step, saves a
 * checkpoint and returns BNFF_E_INTERRUPTED, with the command line that goes on as its hint. *save likewise saves and goes on; it is reset to 0.
 * @return BNFF_OK; BNFF_E_DIVERGED: step and first bad layer in the message; BNFF_E_IO: the earlier checkpoints stay.
 */
BNFF_API bnff_status bnff_trainer_run(bnff_trainer *trainer, void (*on_event)(void *user, const bnff_event *event), void *user,
                                      volatile int *stop, volatile int *save, bnff_error *error);
/** Record the profile (plan.h) of one optimizer step: the step-th from here on, from 1, or the last one if there are fewer. Its event has it. */
BNFF_API void bnff_trainer_profile(bnff_trainer *trainer, int64_t step);
BNFF_API const char *bnff_trainer_run_dir(const bnff_trainer *trainer);

/* -- Evaluation ---------------------------------------------------------------------------------------------------- */

/** A trained network read back from a file written by the trainer, or any state dict plus model name. */
typedef struct bnff_classifier bnff_classifier;
typedef struct bnff_classifier_options {
    size_t size;
    const char *model;   /* NULL: from the file's metadata */
    int batch;           /* 0: 32 */
    int crop_size, resize_size; /* 0: from metadata, else the model's */
    int workers;         /* loader threads, -1: default */
    const char *algorithm; /* how convolutions multiply, see bnff_algorithm_name; NULL: the default */
} bnff_classifier_options;
BNFF_API bnff_status bnff_classifier_open(bnff_context *context, const char *weights, const bnff_classifier_options *options,
                                          bnff_classifier **classifier, bnff_error *error);
BNFF_API void bnff_classifier_destroy(bnff_classifier **classifier);
BNFF_API int bnff_classifier_classes(const bnff_classifier *classifier);
BNFF_API const char *bnff_classifier_class_name(const bnff_classifier *classifier, int label);
/** Channels of the images it was trained on, 1 or 3: what to decode files to. */
BNFF_API int bnff_classifier_channels(const bnff_classifier *classifier);
BNFF_API const char *bnff_classifier_model(const bnff_classifier *classifier);
/** Does the file say how images are prepared? If not, evaluations prepare them as a training on their data set does, and predictions
 *  as ImageNet's are. */
BNFF_API bool bnff_classifier_knows_images(const bnff_classifier *classifier);

typedef struct bnff_evaluation {
    double acc1, acc5, loss;    /* percent, percent, nats */
    int64_t images, bad;
    double seconds;
    int classes;
    int64_t *confusion;         /* classes x classes, [label][predicted]; free with bnff_free */
} bnff_evaluation;
BNFF_API bnff_status bnff_classifier_evaluate(bnff_classifier *classifier, const char *data, bnff_evaluation *result, bnff_error *error);
/** Probabilities (classes floats) of one image. */
BNFF_API bnff_status bnff_classifier_predict(bnff_classifier *classifier, const bnff_image *image, float *probabilities, bnff_error *error);

#ifdef __cplusplus
}
#endif
#endif
