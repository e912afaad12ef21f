#include <bnff/optim.h>

#include <math.h>

#include "base/error.h"

static bnff_status check(const float *logits, int batch, int classes, const int32_t *labels, const float *soft, float smoothing,
                         bnff_error *error)
{
    if (!logits || batch < 1 || classes < 1)
        return bf_fail(error, BNFF_E_ARG, "softmax_cross_entropy: batch %d, classes %d, both must be at least 1", batch, classes);
    if (!labels == !soft) return bf_fail(error, BNFF_E_ARG, "softmax_cross_entropy: either labels or soft targets are given");
    if (!(smoothing >= 0 && smoothing <= 1))
        return bf_fail(error, BNFF_E_ARG, "softmax_cross_entropy: label smoothing %g is outside [0, 1]", (double)smoothing);
    for (int n = 0; labels && n < batch; n++)
        if (labels[n] < 0 || labels[n] >= classes) {
            bf_fail(error, BNFF_E_ARG, "softmax_cross_entropy: label %d of sample %d is outside [0, %d)", (int)labels[n], n, classes);
            return bf_hint(error, BNFF_E_ARG, "the network needs an output for every class of the data");
        }
    return BNFF_OK;
}

/* log sum_k exp(z[k]), with the maximum taken out so that no exponential overflows. */
static double log_sum_exp(const float *z, int classes)
{
    float max = z[0];
    for (int k = 1; k < classes; k++)
        if (z[k] > max) max = z[k];
    double sum = 0;
    for (int k = 0; k < classes; k++) sum += exp((double)z[k] - max);
    return (double)max + log(sum);
}

bnff_status bnff_softmax_cross_entropy(const float *logits, int batch, int classes, const int32_t *labels, const float *soft,
                                       float smoothing, double *loss, float *gradient, bnff_error *error)
{
    BF_TRY(check(logits, batch, classes, labels, soft, smoothing, error));
    const double keep = 1 - (double)smoothing, share = (double)smoothing / classes;
    double total = 0;
    for (int n = 0; n < batch; n++) {
        const float *z = logits + (size_t)n * (size_t)classes, *target = soft ? soft + (size_t)n * (size_t)classes : NULL;
        const double lse = log_sum_exp(z, classes);
        double mass = 0; /* sum_k q */
        for (int k = 0; k < classes; k++) {
            const double q = keep * (target ? (double)target[k] : k == labels[n]) + share;
            mass += q;
            if (q != 0) total -= q * (z[k] - lse); /* q = 0: a logit of -infinity costs nothing */
        }
        if (!gradient) continue;
        float *g = gradient + (size_t)n * (size_t)classes;
        for (int k = 0; k < classes; k++) {
            const double q = keep * (target ? (double)target[k] : k == labels[n]) + share;
            g[k] = (float)((exp(z[k] - lse) * mass - q) / batch);
        }
    }
    if (loss) *loss = total / batch;
    return BNFF_OK;
}
