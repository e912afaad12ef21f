#include "train/metrics.h"

#include <math.h>

/* How many classes rank before the label: greater logits, and equal ones of a smaller index. A label whose logit is NaN is last. */
static int rank_of(const float *logits, int label, int classes)
{
    const float own = logits[label];
    if (isnan(own)) return classes;
    int rank = 0;
    for (int k = 0; k < classes; k++) rank += logits[k] > own || (logits[k] == own && k < label);
    return rank;
}

void bf_metrics_add(bf_metrics *metrics, const float *logits, const int32_t *labels, int batch, int classes, double loss)
{
    for (int n = 0; n < batch; n++) {
        const int rank = rank_of(logits + (int64_t)n * classes, labels[n], classes);
        metrics->top1 += rank < 1;
        metrics->top5 += rank < 5 && rank < classes;
    }
    metrics->loss_sum += loss * batch;
    metrics->images += batch;
}

double bf_metrics_loss(const bf_metrics *metrics) { return metrics->images ? metrics->loss_sum / (double)metrics->images : 0; }
double bf_metrics_acc1(const bf_metrics *metrics) { return metrics->images ? 100.0 * (double)metrics->top1 / (double)metrics->images : 0; }
double bf_metrics_acc5(const bf_metrics *metrics) { return metrics->images ? 100.0 * (double)metrics->top5 / (double)metrics->images : 0; }

int bf_argmax(const float *logits, int classes)
{
    int best = 0;
    for (int k = 1; k < classes; k++)
        if (logits[k] > logits[best]) best = k;
    return best;
}

void bf_softmax(const float *logits, int classes, float *probabilities)
{
    const double top = logits[bf_argmax(logits, classes)];
    double sum = 0;
    for (int k = 0; k < classes; k++) sum += exp(logits[k] - top);
    for (int k = 0; k < classes; k++) probabilities[k] = (float)(exp(logits[k] - top) / sum);
}

void bf_mistakes_add(bf_mistake *mistakes, int *count, const bf_mistake *mistake)
{
    int at = *count < BF_MISTAKES ? (*count)++ : BF_MISTAKES;
    if (at == BF_MISTAKES && !(mistake->probability > mistakes[BF_MISTAKES - 1].probability)) return;
    if (at == BF_MISTAKES) at = BF_MISTAKES - 1; /* the least sure one falls out */
    for (; at > 0 && mistakes[at - 1].probability < mistake->probability; at--) mistakes[at] = mistakes[at - 1];
    mistakes[at] = *mistake;
}
