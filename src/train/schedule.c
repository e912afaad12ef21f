/* Learning rates as closed forms of the step, so that resuming needs no state. */
#include <bnff/optim.h>

#include <math.h>

/* From start at t = 0 to end at t = 1 along half a cosine. */
static double cosine(double start, double end, double t) { return end + (start - end) / 2 * (cos(M_PI * t) + 1); }

/* One-cycle (Smith & Topin 2018) as torch.optim.lr_scheduler.OneCycleLR: lr/25 up to lr at 30 % of the steps, down to
 * lr/25/1e4 at the last; momentum .95 down to .85 and back. The borders lie at fractional steps, as there. */
static double one_cycle(const bnff_schedule *schedule, int64_t step, double *momentum)
{
    const double total = (double)schedule->epochs * (double)schedule->steps_per_epoch;
    const double initial = schedule->lr / 25, final = initial / 1e4, peak = 0.3 * total - 1, last = total - 1;
    double t = (double)step < last ? (double)step : last;
    const bool rising = t <= peak;
    if (rising) t = peak > 0 ? t / peak : 1;
    else t = last > peak ? (t - peak) / (last - peak) : 1;
    if (momentum) *momentum = rising ? cosine(0.95, 0.85, t) : cosine(0.85, 0.95, t);
    return rising ? cosine(initial, schedule->lr, t) : cosine(schedule->lr, final, t);
}

/* Learning rate of an epoch: torchvision's reference runs SequentialLR(warm-up, main), where main counts from 0 after the
 * warm-up and cosine's period is what the warm-up leaves of the training. */
static double epoch_lr(const bnff_schedule *schedule, int64_t epoch)
{
    const double lr = schedule->lr;
    if (epoch < schedule->warmup_epochs) {
        const double decay = schedule->warmup_decay;
        return lr * (schedule->warmup_constant ? decay : decay + (1 - decay) * (double)epoch / schedule->warmup_epochs);
    }
    epoch -= schedule->warmup_epochs > 0 ? schedule->warmup_epochs : 0;
    if (schedule->kind == BNFF_STEP && schedule->step_size > 0) return lr * pow(schedule->gamma, (double)(epoch / schedule->step_size));
    if (schedule->kind == BNFF_COSINE) {
        const double period = schedule->epochs - (schedule->warmup_epochs > 0 ? schedule->warmup_epochs : 0);
        return cosine(lr, schedule->lr_min, period > (double)epoch ? (double)epoch / period : 1);
    }
    return lr;
}

double bnff_schedule_lr(const bnff_schedule *schedule, int64_t step, double *momentum)
{
    if (step < 0) step = 0;
    if (schedule->kind == BNFF_ONECYCLE) return one_cycle(schedule, step, momentum);
    return epoch_lr(schedule, schedule->steps_per_epoch > 0 ? step / schedule->steps_per_epoch : step);
}
