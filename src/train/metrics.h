/* Loss and accuracy over many batches, confusion counts, and the mistakes a network was surest of. */
#ifndef BF_TRAIN_METRICS_H
#define BF_TRAIN_METRICS_H

#include <stdint.h>

/* Sums over images; all of them exact or in order, so that a resumed epoch ends with the same numbers. */
typedef struct bf_metrics {
    double loss_sum; /* loss * images */
    int64_t images, top1, top5;
} bf_metrics;

/* Add a batch of logits [batch x classes] whose mean loss is known. top5 counts the top min(5, classes). */
void bf_metrics_add(bf_metrics *metrics, const float *logits, const int32_t *labels, int batch, int classes, double loss);
double bf_metrics_loss(const bf_metrics *metrics); /* 0 when there are no images */
double bf_metrics_acc1(const bf_metrics *metrics); /* percent */
double bf_metrics_acc5(const bf_metrics *metrics);

/* Index of the greatest logit, the first among equals. */
int bf_argmax(const float *logits, int classes);
/* probabilities = softmax(logits), in double inside. */
void bf_softmax(const float *logits, int classes, float *probabilities);

enum { BF_MISTAKES = 24 };
typedef struct bf_mistake {
    int64_t index; /* in the data set */
    int label, predicted;
    float probability, label_probability; /* of the predicted class, of the true one */
} bf_mistake;

/* Keep the BF_MISTAKES surest, surest first; ties: the earlier image. */
void bf_mistakes_add(bf_mistake *mistakes, int *count, const bf_mistake *mistake);

#endif
